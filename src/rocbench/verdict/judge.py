"""Judge a row: evidence -> valid (true, false, unknown) and reason codes. Pure.

A check that fires *voids* the row, *informs* (the figure is true, but the reader should know this), or makes
it *unknown*. A check that could not be made never counts as passed: it is listed, and if `true` needs it, the
row is unknown. The codes are in `codes`, their checks and thresholds in `checks`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rocbench.verdict.codes import CODES, meaning
from rocbench.verdict.evidence import Evidence

__all__ = ["Evidence", "Verdict", "judge", "meaning"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a row. `valid` is None when it is unknown."""

    valid: bool | None
    reasons: tuple[str, ...]
    """Codes that fired: first those that void, then those that make unknown, then those that inform."""
    unknown: tuple[str, ...]
    """Codes whose check could not be made (column `unknown_checks`)."""


def judge(evidence: Evidence) -> Verdict:
    """Check the evidence against every code."""
    outcomes = [(code, code.check(evidence)) for code in CODES]
    fired = {
        effect: [code.id for code, outcome in outcomes if outcome and code.effect == effect]
        for effect in ("voids", "unknown", "informs")
    }
    unmade = tuple(code.id for code, outcome in outcomes if outcome is None)
    held_back = bool(fired["unknown"]) or any(code.needed for code, outcome in outcomes if outcome is None)
    valid = False if fired["voids"] else None if held_back else True
    return Verdict(valid, (*fired["voids"], *fired["unknown"], *fired["informs"]), unmade)
