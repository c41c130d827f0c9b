"""A plan carried out: each launch, each cell, what remains, interrupts."""
