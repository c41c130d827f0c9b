"""The type of a reason code. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rocbench.verdict.checks import Check

Effect = Literal["voids", "informs", "unknown"]


@dataclass(frozen=True, slots=True)
class Code:
    """A reason code: its effect on the row, its meaning, its condition, the action to take, and the check."""

    id: str
    effect: Effect
    meaning: str
    condition: str
    action: str
    check: Check
    needed: bool = False
    """True if `valid = true` needs this check made."""
