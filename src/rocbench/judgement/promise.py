"""The change that a run's repeats can tell: promised before it is measured, and held against its spread afterwards. Pure.

The spread of a cell comes from repeats within one run: of earlier runs with the same cells, pooled over runs and shrunk
over cells (`moderated`), or from a stated CoV. `power` turns it into the smallest change that a comparison within the run
can tell with 80 % power at Holm's strictest level. Differences between nights, starts or nodes that the run does not sample
are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from rocbench.judgement import power
from rocbench.judgement.compare import grouped
from rocbench.judgement.design import LEAST_PAIRS
from rocbench.judgement.moderated import moderate
from rocbench.judgement.repeats import MOST_REPEATS
from rocbench.judgement.verdicts import ALPHA, MIN_EFFECT, RESERVE
from rocbench.tables.row import Row, judged
from rocbench.units import count_of, percent

EFFECT = 0.05
"""Change for which the needed CoV is named if no effect is stated."""
_NOISIER = 1.3
"""Ratio of the noisiest cell's change to the median cell's from which it is named."""


@dataclass(frozen=True, slots=True)
class Design:
    """The comparison that a run's repeats will face."""

    repeats: int
    measured: int
    """Cells of the run."""
    cells: int
    """Cells of one arm, or pairs of arms at a level, that share a spread."""
    tests: int = 1
    """Verdicts of the family: cells times metrics times effects."""
    paired: bool = False
    """Arms interleaved: differences within repeats."""
    averaged: int = 1
    """Arms on each side of an effect, over which it is averaged."""
    looks: int = 1
    """Times that the repeats are looked at (`until`)."""
    min_effect: float = MIN_EFFECT

    @property
    def has_arms(self) -> bool:
        """True if the run itself has two sides: arms of an ablation, or servers of a matrix."""
        return self.paired or self.cells < self.measured

    def faced(self) -> power.Test:
        """The test, as `power` takes it."""
        return {
            "paired": self.paired,
            "tests": self.tests,
            "cells": self.cells,
            "alpha": ALPHA * RESERVE,
            "looks": self.looks,
            "min_effect": self.min_effect,
        }


@dataclass(frozen=True, slots=True)
class Spread:
    """Spread of one repeat's figure, cell by cell."""

    sd: tuple[float, ...]
    """Standard deviations of logarithms (nearly the CoV), one a cell."""
    df: tuple[float, ...]
    prior_df: float
    cells: tuple[str, ...]
    runs: int
    """Runs that they come from; 0 if stated."""

    @property
    def cov(self) -> float:
        """The median cell's."""
        return float(np.median(self.sd))

    @classmethod
    def stated(cls, cov: float) -> Spread:
        """A CoV that is taken as known, equal in all cells."""
        return cls((cov,), (math.inf,), math.inf, ("",), 0)

    @classmethod
    def of(cls, rows: Iterable[Row], metric: str) -> Spread | None:
        """Spread within runs, pooled over the runs of a cell (its `key`); None if no cell was repeated in a run."""
        found: dict[str, list[tuple[float, int]]] = {}
        runs: set[Any] = set()
        for (key, run, _), repeats in grouped(judged(rows), ("key", "run_id", "cell_id")).items():
            known = [each for row in repeats if (each := row.figure(metric)) is not None and each > 0]
            if len(known) > 1:
                found.setdefault(str(key), []).append((float(np.log(known).var(ddof=1)), len(known) - 1))
                runs.add(run)
        if not found:
            return None
        df = np.array([sum(n for _, n in cell) for cell in found.values()], dtype=float)
        variance = np.array([sum(v * n for v, n in cell) for cell in found.values()]) / df
        shared = moderate(variance, df)
        sd = tuple(np.sqrt(shared.variance).tolist())
        return cls(sd, tuple(shared.df.tolist()), shared.prior_df, tuple(found), len(runs))


def detectable(design: Design, spread: Spread) -> tuple[float, ...]:
    """Smallest change that can be told in each cell of a spread with 80 % power; NaN if none can.

    Sides of one run are pairs of repeats, and a verdict needs LEAST_PAIRS of them.
    """
    if design.repeats < LEAST_PAIRS:
        return (math.nan,) * len(spread.sd)
    test = design.faced() | {"prior_df": spread.prior_df}
    return tuple(
        power.detectable(_unit(sd, design), df, design.repeats, **test)
        for sd, df in zip(spread.sd, spread.df, strict=True)
    )


def needed(design: Design, spread: Spread, effect: float) -> int | None:
    """Repeats that tell an effect in the median cell with 80 % power, at least LEAST_PAIRS; None if more than 10,000."""
    test = design.faced() | {"prior_df": spread.prior_df}
    n = power.needed(_unit(spread.cov, design), float(np.median(spread.df)), effect, **test)
    return None if n is None else max(n, LEAST_PAIRS)


def needed_cov(design: Design, effect: float) -> float:
    """Largest CoV, equal in all cells, at which the repeats tell an effect with 80 % power; NaN if none does."""

    def missing(log_cov: float) -> float:
        return (
            power.chance(_unit(math.exp(log_cov), design), math.inf, effect, design.repeats, **design.faced())
            - power.POWER
        )

    low, high = math.log(1e-5), math.log(10.0)
    if design.repeats < LEAST_PAIRS or not missing(low) > 0 > missing(high):
        return math.nan
    return math.exp(float(scipy.optimize.brentq(missing, low, high, xtol=1e-4)))


def _unit(sd: float, design: Design) -> float:
    """Standard deviation of one unit's difference: two sides, each the mean of the arms that it averages."""
    return sd * math.sqrt(2 / design.averaged)


@dataclass(frozen=True, slots=True)
class Promise:
    """What a plan says of one metric, as plan.json stores it."""

    metric: str
    design: Design
    cov: float | None
    """CoV of one repeat; None if nothing is known."""
    runs: int
    """Earlier runs behind the CoV; 0 if it was stated."""
    change: float | None
    """Smallest change that can be told in the median cell; None if none can be told, or nothing is known."""
    noisiest: tuple[str, float] | None
    """Key and change of the noisiest cell, if it differs much."""
    effect: float | None
    """The change that was asked for."""
    needed: int | None
    """Repeats that tell it."""
    needed_cov: float | None
    """CoV at which the planned repeats tell it."""

    def lines(self) -> list[str]:
        """The promise as sentences for the plan."""
        design = self.design
        repeats = ("at most " if design.looks > 1 else "") + count_of(design.repeats, "repeat")
        what = f"{repeats} of {count_of(design.measured, 'cell')}"
        if self.cov is None:
            return [
                f"power: no earlier run shows the spread of {self.metric} in these cells; state it with --cov. "
                + self._with_cov()
            ]
        if self.change is None:
            return [
                f"power: {repeats} of each cell can tell no change in {self.metric}: at least {LEAST_PAIRS} are needed."
                + (f" {self._with_repeats()}" if self.effect is not None else "")
            ]
        told = (
            f"power: {what} can tell a change of {percent(self.change)} or more (80 % power) in {self.metric}"
        )
        sides = (
            "between arms of this run"
            if design.has_arms
            else "as far as repeats differ (runs of different nights differ by more)"
        )
        lines = [f"{told}, {sides}, at {self._source()}"]
        if self.noisiest is not None:
            lines.append(f"  in the noisiest cell, {self.noisiest[0]}: {percent(self.noisiest[1])}")
        if self.effect is not None:
            more = self.needed is None or self.needed > design.repeats
            lines.append(f"  {self._with_repeats()}" + (f" {self._with_cov()}" if more else ""))
        return lines

    def _with_repeats(self) -> str:
        """The repeats that the asked change needs."""
        most = self.needed is None or self.needed > MOST_REPEATS
        return f"A change of {percent(self.effect)} needs {f'more than {MOST_REPEATS}' if most else self.needed} repeats."

    def _with_cov(self) -> str:
        """The CoV that the asked change needs."""
        repeats = count_of(self.design.repeats, "repeat")
        if self.needed_cov is None:
            return f"With {repeats}, a change of {percent(self.effect)} cannot be told at any CoV."
        return f"With {repeats}, a change of {percent(self.effect)} needs a CoV of at most {percent(self.needed_cov, 2)}."

    def _source(self) -> str:
        if not self.runs:
            return f"the stated CoV of {percent(self.cov)}"
        return f"the CoV of {percent(self.cov)} in {count_of(self.runs, 'earlier run')}"


def promised(metric: str, design: Design, spread: Spread | None, effect: float | None = None) -> Promise:
    """The promise of a design for one metric.

    Args:
        metric: a result column.
        design: the planned comparison.
        spread: what is known; None if nothing is.
        effect: the change that should be told. Without it and without a spread, the CoV for 5 % is named.
    """
    asked = EFFECT if effect is None and spread is None else effect
    cov = None if asked is None else needed_cov(design, asked)
    told = [] if spread is None else [each for each in detectable(design, spread) if not math.isnan(each)]
    change = float(np.median(told)) if told else None
    noisiest = None
    if spread is not None and change is not None and max(told) > _NOISIER * change:
        noisiest = spread.cells[told.index(max(told))], max(told)
    return Promise(
        metric=metric,
        design=design,
        cov=None if spread is None else spread.cov,
        runs=0 if spread is None else spread.runs,
        change=change,
        noisiest=noisiest,
        effect=asked,
        needed=None if spread is None or asked is None else needed(design, spread, asked),
        needed_cov=None if cov is None or math.isnan(cov) else cov,
    )


def held(stored: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> list[str]:
    """What came of the promises of plan.json, one sentence each; none where the run shows no spread.

    Args:
        stored: `promise` of plan.json.
        rows: rows of the run.
    """
    sentences = []
    for each in stored:
        if each.get("change") is None or each.get("cov") is None:
            continue
        spread = Spread.of((row for row in rows if not row.discarded), each["metric"])
        if spread is None:
            continue
        design = Design(**each["design"])
        told = [found for found in detectable(design, spread) if not math.isnan(found)]
        sentences.append(
            f"planned to tell {percent(each['change'])} in {each['metric']} with {count_of(design.repeats, 'repeat')} at CoV "
            f"{percent(each['cov'])}; the spread was {percent(spread.cov)}, enough to tell "
            + (percent(float(np.median(told))) if told else "no change")
        )
    return sentences
