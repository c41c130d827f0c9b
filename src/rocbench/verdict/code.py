"""The type of a reason code. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rocbench.verdict.checks import Check

Effect = Literal["voids", "informs", "unknown"]


@dataclass(frozen=True, slots=True)
class Code:
    """One reason: its meaning, its condition, the remedy, and its effect on the row."""

    id: str
    effect: Effect
    needed: bool
    """True if `valid = true` needs this check made."""
    meaning: str
    threshold: str
    action: str
    check: Check
