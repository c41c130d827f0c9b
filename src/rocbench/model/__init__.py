"""A model by its Hugging Face config: family, dimensions, parameters."""
