"""How vLLM reads a variable as on or off."""

from __future__ import annotations


def truthy(text: str | None) -> bool:
    """Whether vLLM reads a variable as on: "true" or "1"."""
    return text is not None and text.strip().lower() in {"1", "true"}
