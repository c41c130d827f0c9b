"""Rows in the formats of other tools, with their names and units."""
