"""Studies: several sweeps under several methods, their published tables, and what these can and cannot tell."""
