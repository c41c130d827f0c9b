"""Judge a row: evidence -> valid (true, false, unknown) and reason codes. Pure.

A check that fires *voids* the row, *informs* (the figure is right, but has a note), or makes the row
*unknown*. A check that could not be made never counts as passed: it is listed, and if `true` needs it, the
row is unknown. The codes are in `loadcodes` and `servercodes`, their checks and bounds in `loadchecks` and
`serverchecks`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rocbench.verdict.codes import CODES
from rocbench.verdict.evidence import Evidence

__all__ = ["Evidence", "Verdict", "judge"]


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
    unknown = [code for code, outcome in outcomes if outcome is None]
    undecided = bool(fired["unknown"]) or any(code.needed for code in unknown)
    valid = False if fired["voids"] else None if undecided else True
    reasons = (*fired["voids"], *fired["unknown"], *fired["informs"])
    return Verdict(valid, reasons, tuple(code.id for code in unknown))
