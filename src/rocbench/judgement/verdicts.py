"""Verdicts on relative effects: better, worse, same, or cannot tell. Pure.

With the effect's 95 % interval, and p adjusted by Holm over all verdicts of a comparison:

    same         the whole interval lies inside +- the minimum effect
    better/worse p < alpha, and the effect is at least the minimum effect
    cannot tell  anything else, and always if what varied between the sides was sampled too little (`design`)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rocbench import stats
from rocbench.column import Better
from rocbench.columns import better
from rocbench.errors import InputError
from rocbench.judgement import power

Decision = Literal["better", "worse", "same", "cannot tell"]
Line = dict[str, Any]
"""A row of a comparison's own table."""

DEFAULT_METRICS = ("output_throughput", "median_ttft_ms", "median_tpot_ms", "p99_e2el_ms")
MIN_EFFECT = 0.02
ALPHA = 0.05
RESERVE = 0.9
"""Share of alpha that better and worse may spend: the rest is for spreads that are estimated from few units."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a comparison."""

    metrics: tuple[str, ...] = DEFAULT_METRICS
    min_effect: float = MIN_EFFECT
    """Relative change that matters; 0.02 is 2 %."""
    alpha: float = ALPHA
    looks: int = 1
    """Number of times that the repeats are looked at (`looks`); each look spends alpha / looks."""
    allow: frozenset[str] = frozenset()
    """Guards that may differ."""
    include_invalid: bool = False

    def directions(self) -> dict[str, Better]:
        """Direction in which each metric is better.

        Raises:
            InputError: a metric is not a result.
        """
        known = {name: better(name) for name in self.metrics}
        unknown = [name for name, way in known.items() if way is None]
        if unknown:
            raise InputError(
                f"{', '.join(unknown)} cannot be compared: neither higher nor lower values are better",
                where="--metric",
                fix="choose a column with an entry under Better in docs/results.md",
            )
        return {name: way for name, way in known.items() if way is not None}


def decide(effect: stats.Effect, p: float, way: Better, min_effect: float, alpha: float) -> Decision:
    """The verdict on a relative effect; `p` is the adjusted one."""
    if math.isnan(effect.low) or math.isnan(effect.high) or math.isnan(p):
        return "cannot tell"
    if -min_effect < effect.low and effect.high < min_effect:
        return "same"
    if p < alpha * RESERVE and abs(effect.estimate) >= min_effect and effect.estimate != 0:
        return "better" if (effect.estimate > 0) == (way == "higher") else "worse"
    return "cannot tell"


def needed(
    sd: float, df: float, n: int, settings: Settings, tests: int, *, paired: bool, pooling: float = 1.0
) -> int | None:
    """Units (pairs, or units of each side), more than n, that distinguish no effect from twice the minimum.

    With 80 % power, no effect must be "same" and twice the minimum better or worse at Holm's strictest level. An effect
    of exactly the minimum stays open with any number. None if the spread is unknown, or 10,000 are not enough.

    Args:
        sd: standard deviation of a pair's difference, or sqrt(sd_a^2 + sd_b^2) of a unit of each side.
        df: degrees of freedom behind sd.
        n: units that there are.
        settings: minimum effect, alpha, looks.
        tests: verdicts of the family.
        paired: True if sd is that of pairs.
        pooling: degrees of freedom that each further unit adds, for cells that share a variance.
    """
    if math.isnan(sd):
        return None
    least = settings.min_effect
    test: power.Test = {
        "paired": paired,
        "tests": max(tests, 1),
        "cells": max(round(pooling), 1),
        "alpha": settings.alpha,
        "looks": settings.looks,
        "min_effect": least,
    }
    same = power.needed(sd, df, least, outcome="within", **test)
    test["alpha"] = settings.alpha * RESERVE
    differs = power.needed(sd, df, 2 * least, **test)
    return None if same is None or differs is None else max(same, differs, n + 1)


def settle(rows: Sequence[Line], settings: Settings, *, paired: bool) -> None:
    """Add p_holm, verdict and n_needed (units) to every row."""
    directions = settings.directions()
    adjusted = stats.holm([row["p"] for row in rows])
    tests = sum(not math.isnan(p) for p in adjusted)
    for row, p in zip(rows, adjusted, strict=True):
        effect = stats.Effect(row["effect"], row["low"], row["high"], row["p"])
        word = decide(effect, p, directions[row["metric"]], settings.min_effect, settings.alpha)
        row["p_holm"], row["verdict"], row["n_needed"] = p, word, None
        if word == "cannot tell" and not math.isnan(row["low"]):
            sd, df, n = row["unit_sd"], row["unit_df"], row["units"]
            sd *= (1 if paired else math.sqrt(2)) * math.sqrt(n / row["effective_units"])
            row["n_needed"] = needed(sd, df, n, settings, tests, paired=paired, pooling=row["pooling"])
