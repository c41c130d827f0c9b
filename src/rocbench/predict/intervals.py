"""Prediction intervals from the errors of levels that a fit did not see. Pure.

The logarithm of measured / predicted has mean 0 and variance near^2 + (growth x distance)^2: `near` among the fitted
loads, and growing with the distance outside them or in a gap (`points.distance`). Both are estimated from the
leave-outs of the model's own fit (`leaveout`) together with a prior, which stands for what other models showed. A
model with few conditions thus leans on the others, and has fewer degrees of freedom: wider intervals. The interval is
predicted x exp(+-t sqrt(variance)), t from Student's distribution.

A model without a fit has the errors of other models without theirs. Each model is one observation of the mean error;
the interval is that of the next observation (Student). Its centre is not the prediction if these models all erred in
the same direction.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from rocbench.columns import PREDICTED_FIGURES
from rocbench.predict.points import Point, distance
from rocbench.sim.calibration import Calibration, LeftOut, When
from rocbench.units import count_of

LEVEL = 0.95
LEAST_MODELS = 3
"""Minimum models for the interval of a model without a fit."""
ROUNDS = 200
SETTLED = 1e-4
"""The estimation ends when a variance changes by less than this share."""
SIMILAR = {
    "output_throughput": ("total_token_throughput",),
    "total_token_throughput": ("output_throughput",),
    "median_e2el_ms": ("p99_e2el_ms",),
    "p99_e2el_ms": ("median_e2el_ms",),
}
"""Columns whose errors stand for those of a column that was not measured."""


@dataclass(frozen=True, slots=True)
class Prior:
    """Errors to expect before a model's own are seen."""

    near: float
    growth: float
    """For each factor of e outside the fitted loads, or in a gap."""
    df: float
    """Its weight, in leave-outs."""


RATE = Prior(near=0.06, growth=0.15, df=3)
FIRST = Prior(near=0.12, growth=0.25, df=2)
"""TTFT: no published table has one. Twice the others', assumed."""


def prior(figure: str) -> Prior:
    """Return the prior of a column of `cells`."""
    return FIRST if "ttft" in figure else RATE


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations of log(measured / predicted) of one figure, with their degrees of freedom."""

    near: float
    near_df: float
    growth: float = 0.0
    growth_df: float = 1.0

    def factor(self, away: float, level: float = LEVEL) -> float:
        """Return the factor between the prediction and the ends of its interval, at a distance."""
        near, far = self.near**2, (self.growth * away) ** 2
        variance = near + far
        df = variance**2 / (near**2 / self.near_df + far**2 / self.growth_df)  # Satterthwaite
        return math.exp(float(stdtrit(df, (1 + level) / 2)) * math.sqrt(variance))


@dataclass(frozen=True, slots=True)
class Interval:
    """The interval of one predicted figure, in its unit."""

    low: float
    high: float
    basis: str
    """The origin of the errors."""
    extrapolated: str = ""
    """In which respect the level is outside the fitted ones, or in a gap; empty among them."""


def spread(left_out: Sequence[LeftOut], figure: str) -> Spread:
    """Return the spread of a figure from leave-outs, by expectation-maximisation.

    A leave-out's error is the sum of one part with variance near^2 and one with (growth x distance)^2. Leave-outs of
    one side overlap, so they share one degree of freedom. Those without the figure are left out.
    """
    believed = prior(figure)
    lines = [(each.distance, each.errors[figure], each.side) for each in left_out if figure in each.errors]
    sides = [side for _, _, side in lines]
    away = np.array([distance_ for distance_, _, _ in lines]) ** 2
    square = np.array([error for _, error, _ in lines]) ** 2
    weight = np.array([1 / sides.count(side) for side in sides])
    outside = away > 0
    near = near_before = believed.near**2
    growth = believed.growth**2
    near_df = growth_df = believed.df
    for _ in range(ROUNDS):
        far = growth * away
        share = near / (near + far)  # of an error, the part within the fitted loads
        nears = weight * (share**2 * square + share * far)
        fars = (weight * ((1 - share) ** 2 * square + (1 - share) * near))[outside] / away[outside]
        near = (believed.df * believed.near**2 + nears.sum()) / (believed.df + weight.sum())
        growth = (believed.df * believed.growth**2 + fars.sum()) / (believed.df + weight[outside].sum())
        near_df = believed.df + float((weight * share).sum())
        growth_df = believed.df + float((weight * (1 - share))[outside].sum())
        if abs(near / near_before - 1) < SETTLED:
            break
        near_before = near
    return Spread(math.sqrt(near), near_df, math.sqrt(growth), growth_df)


def coverage(left_out: Sequence[LeftOut], figure: str) -> tuple[int, int]:
    """Return how many leave-outs err by less than their interval, and their number.

    The interval of each is estimated from those of other sides, so that none judges itself.
    """
    mine = [each for each in left_out if figure in each.errors]
    covered = 0
    for each in mine:
        others = spread([other for other in mine if other.side != each.side], figure)
        covered += each.errors[figure] <= math.log(others.factor(each.distance))
    return covered, len(mine)


def columns(calibration: Calibration, facts: When, at: Point, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a predicted row's intervals.

    Args:
        calibration: the calibration of the prediction.
        facts: the server's facts, with which the calibration chose an efficiency.
        at: the level's conditions.
        row: the predicted figures.
    """
    found: dict[str, Any] = {}
    reasons: dict[str, list[str]] = {}
    basis = extrapolated = ""
    for name in PREDICTED_FIGURES:
        value = row.get(name)
        if not isinstance(value, int | float) or not value > 0:
            continue
        each = interval(calibration, facts, at, name, value)
        if isinstance(each, str):
            reasons.setdefault(each, []).append(name)
            continue
        found |= {f"predicted_{name}_low": each.low, f"predicted_{name}_high": each.high}
        basis, extrapolated = each.basis, each.extrapolated
    missing = (f"none for {', '.join(names)}: {reason}" for reason, names in reasons.items())
    found["predicted_intervals_from"] = "; ".join(filter(None, (basis, *missing))) or None
    found["predicted_extrapolation"] = extrapolated
    return found


def interval(
    calibration: Calibration, facts: When, at: Point, figure: str, predicted: float
) -> Interval | str:
    """Return the interval of a predicted figure, or in words why there is none.

    Args:
        calibration: the calibration of the prediction.
        facts: the server's facts, with which the calibration chose an efficiency.
        at: the level's conditions.
        figure: a column of `cells`.
        predicted: its predicted value, above 0.
    """
    if not calibration.accuracy:
        return f"calibration {calibration.name} has no errors of levels that were left out of a fit"
    fit = calibration.fitted(facts)
    if fit is None:
        return _unfitted(calibration, facts, at, figure, predicted)
    own = [each for each in calibration.accuracy if each.when == fit.when and each.left_out]
    if not own:
        return f"no levels of {facts.model} were left out of its fit"
    source = _source(figure, [each.errors for each in own[-1].left_out])
    if source is None:
        return f"no row that {facts.model} was fitted to has it"
    away = distance(at, own[-1].reach)
    factor = spread(own[-1].left_out, source).factor(away.size)
    basis = f"errors of {facts.model} at {own[-1].conditions} conditions that were left out"
    return Interval(predicted / factor, predicted * factor, basis, "; ".join(away.words))


def _source(figure: str, errors: Sequence[dict[str, float]]) -> str | None:
    """Return the column with the errors for a figure: itself, or a similar one."""
    names = (figure, *SIMILAR.get(figure, ()))
    return next((name for name in names if any(name in each for each in errors)), None)


def _unfitted(
    calibration: Calibration, facts: When, at: Point, figure: str, predicted: float
) -> Interval | str:
    """Return the interval of a model without a fit, from the errors of other models without theirs."""
    alike = [each for each in calibration.accuracy if each.when.gpu in (None, facts.gpu)]
    if not alike:
        return f"no rows of {facts.gpu} were measured"
    source = _source(figure, [each.unfitted for each in alike])
    if source is None:
        return "no measured row has it"
    errors = [each.unfitted[source] for each in alike if source in each.unfitted]
    if len(errors) < LEAST_MODELS:
        return f"measured on {count_of(len(errors), 'model')}, and {LEAST_MODELS} are needed"
    away = min((distance(at, each.reach) for each in alike), key=lambda found: found.size)
    among = statistics.stdev(errors) * math.sqrt(1 + 1 / len(errors))
    believed = prior(figure)
    factor = Spread(among, len(errors) - 1, believed.growth, believed.df).factor(away.size)
    centre = predicted * math.exp(statistics.fmean(errors))
    words = (f"{facts.model} was not fitted", *away.words)
    basis = f"errors of {len(errors)} models without a fit"
    return Interval(centre / factor, centre * factor, basis, "; ".join(words))
