"""Which flags and variables a model needs on this GPU and vLLM version, and why."""
