"""What a reason code is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rocbench.verdict.checks import Check

Effect = Literal["voids", "informs", "unknown"]


@dataclass(frozen=True, slots=True)
class Code:
    """One reason: what it means, when it is given, what to do, and what it does to the row."""

    id: str
    effect: Effect
    needed: bool
    """Whether `valid = true` needs this check made."""
    meaning: str
    threshold: str
    action: str
    check: Check
