"""What is measured beside the load: the server's own metrics, its log, the GPUs, the node."""
