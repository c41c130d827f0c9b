"""Rows in the shapes of other tools, with their names and units."""
