"""Flags and variables that a model needs on a GPU and vLLM version, with the reasons."""
