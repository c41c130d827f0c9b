"""Sweeps over several nodes on Ray. `ray` is imported only in this package, and only on request."""
