"""YAML in, frozen values out."""
