"""A simulated vLLM server: a pure scheduler that receives the time, run by `http` or by `predict`."""
