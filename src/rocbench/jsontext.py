"""Read foreign JSON as plain data, within bounds: no text can hang, exhaust or crash its reader. Pure.

Everything outside the hot path of the load reads JSON with it: files, options, output of tools.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from functools import partial
from typing import Any

from rocbench.errors import InputError

DEEPEST = 64
"""Maximum levels of lists and objects. Configs have 6; 900 and more exhaust code that walks through them."""
MOST_DIGITS = 20
"""Maximum digits of a whole number: 64 bits. Longer ones overflow every float and array."""
MOST_VALUES = 1_000_000
"""Maximum values of one text, about 0.2 GB of memory. A plan of ten thousand cells has as many."""

_LONG = re.compile(rf"\d{{{MOST_DIGITS + 1}}}")
_LARGE = re.compile(r"[eE]\+?\d{3}|\d{300}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class _Unusable(ValueError):
    """The fault, and the part of the text that shows its place."""

    def __init__(self, what: str, shown: str) -> None:
        super().__init__(what)
        self.shown = shown


def parse(
    text: str | bytes,
    where: str = "",
    *,
    fix: str = "",
    finite: bool = True,
    most: int = MOST_VALUES,
    repeated: list[str] | None = None,
) -> Any:
    """Return the value of a JSON text.

    Args:
        text: UTF-8 if it is bytes; a byte order mark is skipped.
        where: file or option, for the message; the line is added if there are several.
        fix: the remedy for a text that cannot be used.
        finite: refuse NaN and Infinity, which are not JSON. Python's tools write them.
        most: maximum number of values.
        repeated: receives each key that an object repeats (its last value counts); None refuses repeated keys.

    Raises:
        InputError: it is not JSON, repeats a key, nests deeper than `DEEPEST`, or holds more than `most`
            values, a whole number of more than `MOST_DIGITS` digits, a number beyond a float, or half a
            character.
    """
    decoded = _decoded(text, where, fix)
    try:
        _bounded(decoded, most)
        value = json.loads(
            decoded,
            object_pairs_hook=_once if repeated is None else partial(_last, repeated=repeated),
            parse_int=_whole if _LONG.search(decoded) else None,  # a hook takes ten times as long
            parse_float=_number if _LARGE.search(decoded) else None,
            parse_constant=_not_finite if finite else None,
        )
        _walk(value, with_text=_SURROGATE.search(decoded) is not None)
    except json.JSONDecodeError as error:
        raise InputError(
            f"not valid JSON: {error.msg} (column {error.colno})",
            where=_at(where, decoded, error.pos),
            fix=fix,
        ) from None
    except _Unusable as error:
        raise InputError(str(error), where=_at(where, decoded, decoded.find(error.shown)), fix=fix) from None
    except RecursionError:
        raise InputError(_TOO_DEEP, where=where, fix=fix) from None
    return value


_TOO_DEEP = f"lists and objects are nested deeper than {DEEPEST} levels"


def _decoded(text: str | bytes, where: str, fix: str) -> str:
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8: byte {error.start} does not begin a character", where=where, fix=fix
        ) from None


def _bounded(text: str, most: int) -> None:
    """Refuse by size before anything is built; commas within strings count too."""
    if len(text) > most and sum(map(text.count, "[{,")) > most:
        raise _Unusable(f"more than {most:,} values", "")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated: list[str] = []
    value = _last(pairs, repeated)
    if repeated:
        raise _Unusable(f"key {_short(repeated[0])} appears twice in one object", json.dumps(repeated[0]))
    return value


def _last(pairs: list[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        repeated += [name for name, count in counts.items() if count > 1 and name not in repeated]
    return value


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise _Unusable(
            f"a whole number of {len(digits.lstrip('-'))} digits; the maximum is {MOST_DIGITS} digits", digits
        )
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _Unusable(f"{_short(digits)} is too large for a float", digits)
    return number


def _not_finite(word: str) -> float:
    raise _Unusable(f"{word} is not a JSON number", word)


def _walk(value: Any, *, with_text: bool) -> None:
    """Refuse too deep nesting and, on request, half characters."""
    level: list[Any] = [[value]]
    for _ in range(DEEPEST + 2):
        inner: list[Any] = []
        for each in level:
            parts = [*each, *each.values()] if isinstance(each, dict) else each
            inner += [part for part in parts if isinstance(part, dict | list)]
            for text in parts if with_text else ():
                if isinstance(text, str):
                    _refuse_half_characters(text)
        if not inner:
            return
        level = inner
    raise _Unusable(_TOO_DEEP, "")


def _refuse_half_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode("ascii", "backslashreplace").decode()
        raise _Unusable(
            f"{_short(shown)} contains half a character (a lone surrogate), which cannot be written to a file",
            "",
        ) from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _at(where: str, text: str, position: int) -> str:
    """Return the place with its line, if the text has several."""
    if not where or position < 0 or "\n" not in text.strip():
        return where
    return f"{where}:{text.count(chr(10), 0, position) + 1}"
