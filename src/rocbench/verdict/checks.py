"""The type of a verdict check, and checks that several codes share. Pure.

A check takes the evidence and returns True (it fires), False (it does not fire, or does not apply) or None
(the evidence is missing). Checks of a single code are in `loadchecks` and `serverchecks`.
"""

from __future__ import annotations

from collections.abc import Callable

from rocbench.verdict.evidence import Evidence

Check = Callable[[Evidence], bool | None]

BUSY = 0.9
"""Share of a CPU above which a process is at its limit."""
LATE_SHARE = 0.01
"""Maximum share of late sends, or of late steps of the simulated server."""


def above(name: str, limit: float) -> Check:
    """A check that fires if the figure is above the limit; unknown if it is absent."""

    def check(e: Evidence) -> bool | None:
        value = getattr(e, name)
        return None if value is None else value > limit

    return check


def positive(name: str) -> Check:
    """A check that fires if a count is above zero, or a mark or list is not empty; unknown if it is absent."""

    def check(e: Evidence) -> bool | None:
        value = getattr(e, name)
        if value is None and e.predicted:
            return False
        if value is None:
            return None
        return value > 0 if isinstance(value, int | float) else bool(value)

    return check


def on_gpu(name: str) -> Check:
    """As `positive`, but does not apply if no GPU computes (simulated server, CPU)."""
    check = positive(name)
    return lambda e: False if e.simulated or e.platform == "cpu" else check(e)


def mark(name: str) -> Check:
    """A check that fires if the mark is set; an absent mark is not set."""
    return lambda e: bool(getattr(e, name))


def ended_by(reason: str) -> Check:
    """A check that fires if `window_ended_by` is this reason."""
    return lambda e: None if e.window_ended_by is None else e.window_ended_by == reason
