"""A simulated vLLM server: its scheduler is pure and given the time; `http` serves it, `predict` runs it without HTTP."""
