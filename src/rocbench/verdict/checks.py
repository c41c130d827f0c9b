"""What a check of the verdict is, and the kinds that many codes share. Pure.

A check takes the evidence and says True (it is so), False (it is not, or the check has no meaning here) or None (the
evidence is missing, so nobody knows). Those of one code each are in `loadchecks` and `serverchecks`.
"""

from __future__ import annotations

from collections.abc import Callable

from rocbench.verdict.evidence import Evidence

Check = Callable[[Evidence], bool | None]

BUSY = 0.9
LATE_SHARE = 0.01


def above(name: str, limit: float) -> Check:
    """Fires when the share is above the limit; unknown when it is absent."""

    def check(e: Evidence) -> bool | None:
        value = getattr(e, name)
        return None if value is None else value > limit

    return check


def positive(name: str) -> Check:
    """Fires when the figure is above 0 or true; unknown when it is absent."""

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
    """Fires when the mark is set; an absent mark is not set."""
    return lambda e: bool(getattr(e, name))


def ended_by(how: str) -> Check:
    """Fires when the window ended so."""
    return lambda e: None if e.window_ended_by is None else e.window_ended_by == how
