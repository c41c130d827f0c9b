"""A model from its Hugging Face config: family, dimensions, parameters."""
