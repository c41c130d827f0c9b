"""Text that an event holds under an unusual name. Pure.

Read only for events without text and without a token count, so once or twice per answer.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import msgspec


class OtherText(Enum):
    """The kind of text found."""

    NOTHING = 0
    TEXT = 1
    """Text under a known other name."""
    UNKNOWN = 2
    """Text under an unknown name."""


_KNOWN = re.compile(r"reason|think|thought|refusal|transcript|^(content|text|audio)$")
_CALLS = re.compile(r"^(function_call|tool_calls?)$")
_NO_TEXT = re.compile(
    # Names, kinds and marks, at any depth.
    r"^(role|name|index|id|.*_id|type|object|event|status|model|created|provider|system_fingerprint|service_tier"
    r"|format|expires_at|.*signature.*|finish_reason|.*_finish_reason|stop_reason|matched_stop|logprobs"
    r"|usage|.*_usage|timings|metrics|seed"
    # Information next to the text.
    r"|annotations|citations|search_results|.*filter_results|.*_results|prompt.*|token_ids|kv_transfer_params"
    r"|warnings?|x_.*)$"
)


def other_text(payload: bytes) -> tuple[str, OtherText]:
    """Name and kind of the possible text in an event."""
    try:
        return _other_text(msgspec.json.decode(payload))
    except (ValueError, RecursionError):
        return "", OtherText.NOTHING


def _other_text(value: dict[str, Any]) -> tuple[str, OtherText]:
    place: Any = value
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        place = choices[0]
        delta = place.get("delta") or place.get("message")
        place = delta if delta is not None else place
    if not isinstance(place, dict):
        return ("delta", OtherText.TEXT) if holds_text(place) else ("", OtherText.NOTHING)
    if call := next((name for name, part in place.items() if part and _CALLS.match(name)), None):
        return call, OtherText.TEXT
    names = [name for name, part in place.items() if not _NO_TEXT.match(name) and holds_text(part)]
    for name in names:
        if _KNOWN.search(name):
            return name, OtherText.TEXT
    return (names[0], OtherText.UNKNOWN) if names else ("", OtherText.NOTHING)


def holds_text(value: Any) -> bool:
    """True if a JSON value holds words, at any depth."""
    if isinstance(value, dict):
        return any(holds_text(part) for name, part in value.items() if not _NO_TEXT.match(name))
    if isinstance(value, list):
        return any(map(holds_text, value))
    return isinstance(value, str) and bool(value)
