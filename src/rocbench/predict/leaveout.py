"""Errors of levels that a fit did not see: leave some out, fit to the others, predict them. Pure.

Left out are, in turn: each condition; all loads above and below some loads; each kind of request (lengths, images);
each server (AITER, TP, version). So the errors within the fitted loads and outside them are both measured.

A complete fit for each would take minutes. Each refit therefore starts at the fit to all levels and uses its Jacobian:
it takes Gauss-Newton steps on the levels that remain, predicts them anew after each, and corrects the Jacobian by
Broyden's rank-one update, or by new differences if the first step is large. The levels left out are predicted in full. benchmarks/prediction_intervals.py compares its
errors with those of complete fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from scipy.optimize import least_squares

from rocbench.predict import calibrating
from rocbench.predict.calibrating import FIGURE_SIGMA, Fit, Observation, Space, logs
from rocbench.predict.points import Point, conditions, distance, groups, reach, rms
from rocbench.records import FloatArray
from rocbench.sim.calibration import Accuracy, Efficiency, LeftOut, When

STEPS = 5
"""Maximum Gauss-Newton steps of a refit."""
SETTLED = 0.05
"""A refit ends when no parameter moves further, as a logarithm."""
LARGE = 0.3
"""After the first larger step, the Jacobian is taken anew."""
DIFFERENCE = 0.05
"""Step of the Jacobian's differences, as a logarithm."""
CUTS = 3
"""Maximum number of loads above, and below, which all levels are left out."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Levels that are left out together."""

    what: str
    side: str
    held: frozenset[int]


def accuracy(
    observations: Sequence[Observation], fit: Fit, assumed: Efficiency, free: Sequence[str], when: When
) -> Accuracy:
    """Measure a fit's errors out of sample.

    Args:
        observations: the levels of the fit; at least one.
        fit: the fit to all of them.
        assumed: the start of the fit.
        free: the fitted parameters.
        when: the conditions of the fit.
    """
    points = [calibrating.level(each, fit.efficiency)[1] for each in observations]
    everyone = range(len(points))
    refits = _Refits(observations, Space.of(assumed, free), fit.efficiency)
    left_out = []
    for fold in folds(points):
        efficiency = refits.without(fold.held)
        remaining = reach([points[i] for i in everyone if i not in fold.held])
        errors = log_errors([observations[i] for i in sorted(fold.held)], efficiency)
        away = rms(distance(points[i], remaining).size for i in fold.held)
        found = {name: round(rms(values), 4) for name, values in errors.items()}
        left_out.append(
            LeftOut(
                what=fold.what, side=fold.side, levels=len(fold.held), distance=round(away, 3), errors=found
            )
        )
    unfitted = {name: round(fmean(values), 4) for name, values in log_errors(observations, assumed).items()}
    return Accuracy(
        when=when,
        reach=reach(points),
        conditions=len(set(conditions(points))),
        left_out=tuple(left_out),
        unfitted=unfitted,
    )


def log_errors(observations: Sequence[Observation], efficiency: Efficiency) -> dict[str, list[float]]:
    """Return log(measured / predicted) of each figure over its levels; a figure without a prediction is left out."""
    found: dict[str, list[float]] = {}
    for each in observations:
        predicted = calibrating.figures(each, efficiency)
        for name, value in each.measured.items():
            if predicted[name] > 0:
                found.setdefault(name, []).append(math.log(value / predicted[name]))
    return found


def folds(points: Sequence[Point]) -> Iterator[Fold]:
    """Yield what to leave out: no set twice, and never everything."""
    seen: set[frozenset[int]] = set()
    for fold in _folds(points):
        if 0 < len(fold.held) < len(points) and fold.held not in seen:
            seen.add(fold.held)
            yield fold


def _folds(points: Sequence[Point]) -> Iterator[Fold]:
    places = conditions(points)
    for number in dict.fromkeys(places):
        held = frozenset(i for i, place in enumerate(places) if place == number)
        first = points[min(held)]
        what = f"{first.in_flight:,.4g} in flight, {first.prompt_tokens:,.0f} + {first.output_tokens:,.0f} tokens"
        yield Fold(what, f"condition {number + 1}", held)
    firsts = [points[places.index(number)].in_flight for number in dict.fromkeys(places)]
    loads = sorted({float(f"{load:.2g}") for load in firsts})
    inner = loads[:-1]
    for cut in sorted({inner[(i * len(inner)) // CUTS] for i in range(CUTS)} if inner else ()):
        above = frozenset(i for i, each in enumerate(points) if each.in_flight > 1.1 * cut)
        yield Fold(f"above {cut:,.4g} in flight", "above", above)
        yield Fold(f"up to {cut:,.4g} in flight", "below", frozenset(range(len(points))) - above)
    for number, held_ in enumerate(_requests(points)):
        first = points[min(held_)]
        kind = " with images" if first.images else ""
        what = f"requests of {first.prompt_tokens:,.0f} + {first.output_tokens:,.0f} tokens{kind}"
        yield Fold(what, f"requests {number + 1}", held_)
    for name in ("aiter", "tp", "vllm", "backend"):
        for value, alike in groups(points, lambda each, name=name: getattr(each, name)).items():  # type: ignore[misc]
            yield Fold(f"{name} {value}", f"{name} {value}", frozenset(alike))


def _requests(points: Sequence[Point]) -> list[frozenset[int]]:
    """Return the levels of each kind of request, whatever their load."""
    places = conditions([replace(each, in_flight=1.0) for each in points])
    return [
        frozenset(i for i, place in enumerate(places) if place == number) for number in dict.fromkeys(places)
    ]


class _Refits:
    """Fits to some of the levels, from the fit to all of them."""

    def __init__(self, observations: Sequence[Observation], space: Space, fitted: Efficiency) -> None:
        self._observations = observations
        self._space = space
        self._x = space.place(fitted)
        self._owners = np.array([i for i, each in enumerate(observations) for _ in each.figures])
        everyone = range(len(observations))
        self._logs = self._predict(self._x, everyone)
        self._jacobian = self._differences(self._x, self._logs, everyone)

    def _differences(self, x: FloatArray, now: FloatArray, levels: Sequence[int]) -> FloatArray:
        """Return the Jacobian of the logarithms at x; shape (figures, parameters)."""
        columns = []
        for place in range(len(x)):
            step = DIFFERENCE if x[place] + DIFFERENCE < self._space.high[place] else -DIFFERENCE
            moved = x.copy()
            moved[place] += step
            columns.append((self._predict(moved, levels) - now) / step)
        return np.stack(columns, axis=1)

    def _predict(self, x: FloatArray, levels: Sequence[int]) -> FloatArray:
        efficiency = self._space.efficiency(x)
        chosen = [self._observations[i] for i in levels]
        return logs([calibrating.figures(each, efficiency) for each in chosen], chosen)

    def without(self, held: frozenset[int]) -> Efficiency:
        """Return the efficiency that the other levels give."""
        kept = [i for i in range(len(self._observations)) if i not in held]
        rows = np.isin(self._owners, kept)
        x, now, jacobian = self._x, self._logs[rows], self._jacobian[rows].copy()
        best, best_cost = x, self._cost(x, now)
        for step in range(STEPS):
            moved = self._step(x, now, jacobian)
            change = moved - x
            if not np.any(np.abs(change) > SETTLED):
                break
            after = self._predict(moved, kept)
            if step == 0 and np.any(np.abs(change) > LARGE):
                jacobian = self._differences(moved, after, kept)
            else:
                jacobian += np.outer(after - now - jacobian @ change, change) / float(change @ change)
            x, now = moved, after
            if (cost := self._cost(x, now)) < best_cost:
                best, best_cost = x, cost
        return self._space.efficiency(best)

    def _step(self, x: FloatArray, now: FloatArray, jacobian: FloatArray) -> FloatArray:
        """Return the optimum of the linear model around x."""

        def residuals(trial: FloatArray) -> FloatArray:
            return np.concatenate([(now + jacobian @ (trial - x)) / FIGURE_SIGMA, self._space.prior(trial)])

        bounds = (self._space.low, self._space.high)
        return np.asarray(least_squares(residuals, x, bounds=bounds, loss="soft_l1").x)

    def _cost(self, x: FloatArray, data: FloatArray) -> float:
        residuals = np.concatenate([data / FIGURE_SIGMA, self._space.prior(x)])
        return float(np.sum(np.sqrt(1 + residuals**2) - 1))
