"""rocbench: a benchmark harness for vLLM on ROCm. The command is `bench`."""

__version__ = "0.1.0"
