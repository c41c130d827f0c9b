"""Looking at repeats as they come without false verdicts: when to look, and the error that each look may spend. Pure.

A test at 5 % that is read after every repeat, and stops at the first "it differs", is wrong far more often than in 5 %.
Here all looks together spend 5 %: each of k looks is a test (and an interval) at 5 % / k. By Bonferroni's inequality this
holds however the looks depend on each other. Few looks cost little, so they are spread out: each comes after about
40 % more repeats than the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GROWTH = 1.4
"""Repeats at a look over those at the look before, about."""
FIRST = 3
"""Minimum repeats at the first look."""


def schedule(first: int, most: int) -> tuple[int, ...]:
    """Numbers of repeats after which to look: 3, 4, 6, 8, 11, ... from `first` on, and `most` as the last."""
    looks, n = [], max(first, FIRST)
    while n < most:
        looks.append(n)
        n = round(n * GROWTH)
    return (*looks, most)


def alpha_at_each(looks: int, alpha: float = 0.05) -> float:
    """Error that each of at most so many looks may spend; 1 or fewer looks spend all of it in one."""
    return alpha / max(looks, 1)


def planned(sweep: Mapping[str, Any]) -> tuple[int, ...]:
    """Numbers of repeats after which a sweep of plan.json looks; empty if its number of repeats is fixed.

    Args:
        sweep: the `sweep` of a stored plan, or a dump of one.
    """
    until = sweep.get("until")
    return schedule(int(sweep.get("repeats", 1)), int(until["max"])) if until else ()


def looks_of(plan: Mapping[str, Any]) -> int:
    """Times that a run looks at its repeats, by its stored plan.json; 1 if the number of repeats is fixed."""
    return max(len(planned(plan.get("sweep") or {})), 1)
