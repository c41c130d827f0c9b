"""Measurements next to the load: the server's metrics, its log, the GPUs, the node."""
