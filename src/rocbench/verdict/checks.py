"""The type of a verdict check, and the kinds that many codes share. Pure.

A check takes the evidence and returns True (it fires), False (it does not fire, or has no meaning here) or
None (the evidence is missing, so the answer is unknown). Checks of a single code are in `loadchecks` and
`serverchecks`.
"""

from __future__ import annotations

from collections.abc import Callable

from rocbench.verdict.evidence import Evidence

Check = Callable[[Evidence], bool | None]

BUSY = 0.9
LATE_SHARE = 0.01


def above(name: str, limit: float) -> Check:
    """Return a check that fires when the share is above the limit; unknown when it is absent."""

    def check(e: Evidence) -> bool | None:
        value = getattr(e, name)
        return None if value is None else value > limit

    return check


def positive(name: str) -> Check:
    """Return a check that fires when the figure is above 0 or true; unknown when it is absent."""

    def check(e: Evidence) -> bool | None:
        value = getattr(e, name)
        if value is None and e.predicted:
            return False
        return None if value is None else value > 0

    return check


def on_gpu(name: str) -> Check:
    """As `positive`, and without meaning where no GPU computes (simulated server, CPU)."""
    check = positive(name)
    return lambda e: False if e.simulated or e.platform == "cpu" else check(e)


def mark(name: str) -> Check:
    """Return a check that fires when the mark is set; an absent mark is not set."""
    return lambda e: bool(getattr(e, name))


def ended_by(how: str) -> Check:
    """Return a check that fires when the window ended in this way."""
    return lambda e: None if e.window_ended_by is None else e.window_ended_by == how
