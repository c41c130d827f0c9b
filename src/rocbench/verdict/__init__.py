"""Whether a row can be believed, and by which codes."""
