"""Decisions from rows: better, worse, same, cannot tell."""
