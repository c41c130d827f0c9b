"""A plan in virtual time, and the efficiencies that fit it to rows."""
