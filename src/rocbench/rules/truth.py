"""Boolean value of a variable as vLLM reads it."""

from __future__ import annotations


def truthy(text: str | None) -> bool:
    """True if vLLM reads a variable as on: "true" or "1"."""
    return text is not None and text.strip().lower() in {"1", "true"}
