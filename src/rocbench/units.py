"""Names of units, and all formatting of numbers."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

GIB = 1024**3
MIB = 1024**2

ABSENT = "-"


def number(value: float | int | None, digits: int = 1) -> str:
    """Format a number as `12,345.6`, or a dash for None or NaN. `digits=0` keeps two digits below 10."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    if isinstance(value, int):
        return f"{value:,}"
    if digits == 0 and abs(value) < 10:
        return f"{value:.2g}"
    return f"{value:,.{digits}f}"


def count_of(number: float, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 launch`, `1,200 measurements`."""
    return f"{number:,.12g} {noun if number == 1 else plural or f'{noun}s'}"


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and the number of the rest."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(text: str, longest: int = 500) -> str:
    """Return untrusted text as one line without control characters, for a terminal, row or page."""
    shown = "".join(
        " " if char.isspace() or unicodedata.category(char)[0] == "C" else char
        for char in text[: 8 * longest]
    )
    words = " ".join(shown.split())
    return words if len(words) <= longest else words[: longest - 1] + "…"


def parameters(count: float, digits: int = 2) -> str:
    """Format a number of parameters as `405.85B`, `12.30M`, or whole below a million."""
    for unit, scale in (("B", 1e9), ("M", 1e6)):
        if count >= scale:
            return f"{count / scale:,.{digits}f}{unit}"
    return f"{count:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share from 0 to 1 as `12.3%`, or a dash."""
    if share is None or math.isnan(share):
        return ABSENT
    return f"{100 * share:.{digits}f}%"


def duration(seconds: float | None) -> str:
    """Format seconds as `45 s`, `3 min 20 s`, `2 h 05 min`, or a dash."""
    if seconds is None or math.isnan(seconds):
        return ABSENT
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(n_bytes: float | None) -> str:
    """Format bytes as `1.5 GiB`, `20 MiB`, `312 B`, or a dash."""
    if n_bytes is None or math.isnan(n_bytes):
        return ABSENT
    for unit, scale in (("TiB", 1024**4), ("GiB", GIB), ("MiB", MIB), ("KiB", 1024)):
        if abs(n_bytes) >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes:.0f} B"
