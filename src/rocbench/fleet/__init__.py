"""Sweeps over several nodes on Ray. `ray` is imported in here only, and only when it is asked for."""
