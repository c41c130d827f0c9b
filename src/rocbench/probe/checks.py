"""One check of a node, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Need = Literal["must", "should", "record"]
"""must: a failure can hang a GPU or void results. should: it costs speed or steadiness. record: no value is
wrong, but runs with different values must not be compared."""

Status = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True, slots=True)
class Check:
    """A check with its result, the expected value, and the remedy."""

    id: str
    need: Need
    status: Status
    found: str
    want: str
    fix: str = ""
    """The remedy; empty if none is needed."""
    source: str = ""


def judged(
    id_: str, need: Need, good: bool | None, found: str, want: str, fix: str, source: str = ""
) -> Check:
    """A check from a truth value; None is unknown. The fix is kept only if the check did not pass."""
    status: Status = "unknown" if good is None else "pass" if good else "fail"
    return Check(id_, need, status, found, want, "" if good else fix, source)
