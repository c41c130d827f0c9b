"""Numbers of an entry in the forms that files really contain: accepted, or refused by name. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rocbench.errors import InputError
from rocbench.redact import redacted

OUTPUT_KEYS = ("output_len", "output_length", "output_tokens", "max_tokens", "osl")
INPUT_KEYS = ("input_len", "input_length", "input_tokens", "isl")
MOST_TOKENS = 10_000_000
"""Maximum tokens of a prompt or an answer; no model has a longer context."""
_LINE = 60
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?")
_LIKE_A_LENGTH = re.compile(r"(^[io]sl|len|length|tokens?|toks?)$", re.IGNORECASE)


def whole(value: object) -> int | None:
    """A whole number, also as 24.0 or "24" as tables write it; None for anything else."""
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: object) -> int | float | None:
    """A finite number, also as text; None for anything else."""
    if isinstance(value, str):
        integer = whole(value)
        if integer is not None or not _NUMBER.fullmatch(value.strip()):
            return integer
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def length(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> int | None:
    """The length under the first of these names that is present; None if none is.

    Raises InputError if it is not a length: a default in its place would go unnoticed.
    """
    name = next((name for name in names if name in row), None)
    if name is None:
        return None
    tokens = whole(row[name])
    if tokens is None or not 1 <= tokens <= MOST_TOKENS:
        raise InputError(
            f"`{name}` must be a whole number of tokens, 1 to {MOST_TOKENS:,}, not {shown(row[name])}",
            where=where,
        )
    return tokens


def others(row: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    """Other keys that look like a length and hold a number: the file may mean one of them."""
    for name, value in row.items():
        if name not in names and _LIKE_A_LENGTH.search(name) and number(value) is not None:
            yield name


def disagree(row: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(name that counts, other name) for each of these names with a different length."""
    present = [name for name in names if name in row]
    for name in present[1:]:
        if whole(row[name]) != whole(row[present[0]]):
            yield present[0], name


def shown(value: object) -> str:
    """A value as one line of JSON: masked, and cut between words, as a part of a key would stay a secret."""
    text = redacted(json.dumps(value, ensure_ascii=False, default=str))
    if len(text) <= _LINE:
        return text
    words = text[: _LINE - 3].rpartition(" ")[0]
    return f"{words} ..." if words else f"{type(value).__name__} of {len(text)} characters"
