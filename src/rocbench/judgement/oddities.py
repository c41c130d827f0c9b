"""What is odd about the noise of a run: a trend, two states, outliers. Named next to the verdicts, with what to do. Pure.

None of these makes a verdict: a wider spread already widens the interval. They say why it is wide, and what would help.
Three repeats of one cell show none of them, so they are looked for over all cells of a server together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rocbench.judgement.spread import centred, means, rest
from rocbench.records import FloatArray

SURE = 4.0
"""Standard errors (trend) or log-likelihood per parameter (two states) beyond which something is named."""
LEAST_TREND = 0.005
LEAST_GAP = 0.02
"""Smallest trend over a run, and distance of two states, that is named: relative changes."""
FAR = 6.0
"""Robust standard deviations beyond which a measurement is an outlier."""
LEAST_FAR = 0.12
"""Smallest share of pairs of repeats in different states: fewer are outliers."""
ENOUGH = 12
"""Values that are needed to look for states and outliers."""


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something odd: what is seen, and what would help."""

    kind: str
    """trend, two states, or outliers."""
    what: str
    help: str


def oddities(metric: str, groups: Sequence[FloatArray], unit: str = "repeat") -> list[Oddity]:
    """What is odd in one metric.

    Args:
        metric: its column.
        groups: logarithms of figures in the order of time, each of shape (units, cells), NaN where absent.
        unit: what the figures are of: a repeat, a run, or a night.
    """
    known = [group[:, ~np.isnan(group).all(axis=0)] for group in groups]
    used = [group for group in known if len(group) > 2 and group.shape[1]]
    if not used:
        return []
    found = [_trend(metric, used, unit), _two_states(metric, used, unit)]
    if found[1] is None:
        found.append(_outliers(metric, used))
    return [each for each in found if each is not None]


def _change(log: float) -> float:
    """A relative change; at most a million, which says enough."""
    return math.expm1(min(log, math.log(1e6)))


def _trend(metric: str, groups: Sequence[FloatArray], unit: str) -> Oddity | None:
    """A slope that all cells share, beyond what the cells' own noise and the units' common noise allow."""
    top = bottom = squares = 0.0
    freedom, length = 0, 0
    for group in groups:
        shift = means(centred(group), axis=1)
        places = np.arange(len(group)) - (len(group) - 1) / 2
        shift = np.nan_to_num(shift)
        top, bottom = top + float(places @ shift), bottom + float(places @ places)
        length = max(length, len(group))
    slope = top / bottom
    for group in groups:
        places = np.arange(len(group)) - (len(group) - 1) / 2
        cells = int(np.sum(~np.all(np.isnan(group), axis=0)))
        own = rest(group)
        squares += float(np.sum(own**2)) / max(cells, 1) / max(cells - 1, 1)
        squares += float(np.sum((np.nan_to_num(means(centred(group), axis=1)) - slope * places) ** 2))
        freedom += len(group) - 1
    error = math.sqrt(squares / max(freedom, 1) / bottom)
    total = _change(slope * (length - 1))
    if abs(total) < LEAST_TREND or abs(slope) < SURE * error:
        return None
    return Oddity(
        "trend",
        f"{metric} changes by {total:+.1%} from the first to the last {unit}, in all cells alike",
        "interleave the sides, or warm the node up first",
    )


def _two_states(metric: str, groups: Sequence[FloatArray], unit: str) -> Oddity | None:
    """Differences between repeats of a cell gather at 0 and at one distance."""
    gaps: list[FloatArray] = []
    values = 0
    for group in groups:
        gaps += [np.abs(group[i + 1 :] - group[i]).ravel() for i in range(len(group))]
        values += int(np.sum(~np.isnan(group))) - group.shape[1]
    distances = np.concatenate(gaps)
    distances = distances[~np.isnan(distances)]
    if len(distances) < ENOUGH or not np.any(distances > 0):
        return None
    gap, sd, far, gain = _mixture(distances)
    gain *= values / len(distances)  # pairs of the same values are not independent
    if gain < 2 * SURE or gap < LEAST_GAP or gap < 3 * sd or far < LEAST_FAR:
        return None
    return Oddity(
        "two states",
        f"{unit}s of {metric} fall into two groups about {_change(gap):.0%} apart",
        "look for two clock or power states of the GPUs (bench doctor), and restart servers more often",
    )


def _mixture(distances: FloatArray) -> tuple[float, float, float, float]:
    """Distance of two states, standard deviation of a difference within one, share of pairs in both, gain over one state.

    The gain is in log-likelihood.
    """
    one = float(np.mean(distances**2))
    base = _half_normal(distances, 0.0, math.sqrt(one))
    gap = float(np.quantile(distances, 0.9))
    sd = max(float(np.quantile(distances, 0.25)), 1e-9)
    share = 0.5
    for _ in range(60):
        near = share * np.exp(_half_normal(distances, 0.0, sd))
        far = (1 - share) * np.exp(_half_normal(distances, gap, sd))
        weight = far / np.maximum(near + far, 1e-300)
        share = min(max(1 - float(weight.mean()), 0.02), 0.98)
        gap = float(np.sum(weight * distances) / max(float(weight.sum()), 1e-12))
        inner = (1 - weight) * distances**2 + weight * (distances - gap) ** 2
        sd = max(math.sqrt(float(inner.mean())), 1e-9)
    mixed = np.log(
        np.maximum(
            share * np.exp(_half_normal(distances, 0.0, sd))
            + (1 - share) * np.exp(_half_normal(distances, gap, sd)),
            1e-300,
        )
    )
    return gap, sd, 1 - share, float(np.sum(mixed) - np.sum(base))


def _half_normal(distances: FloatArray, centre: float, sd: float) -> FloatArray:
    """Log density of the absolute value of a normal difference around +-centre."""
    scaled = ((distances - centre) / sd) ** 2
    return np.asarray(-scaled / 2 - math.log(sd) + (0 if centre else math.log(2)), dtype=float)


def _outliers(metric: str, groups: Sequence[FloatArray]) -> Oddity | None:
    """Measurements far from the others of their cell."""
    away = np.concatenate([(group - np.nanmedian(group, axis=0)).ravel() for group in groups])
    away = away[~np.isnan(away)]
    moved = away[away != 0]
    if len(moved) < ENOUGH:
        return None
    sd = float(np.median(np.abs(moved))) / 0.6745  # of a normal distribution
    far = moved[np.abs(moved) > FAR * sd]
    if not len(far):
        return None
    worst = float(far[np.argmax(np.abs(far))])
    return Oddity(
        "outliers",
        f"{len(far)} of {len(away)} measurements of {metric} lie far from the others of their cell (up to {_change(worst):+.0%})",
        "look at these rows (bench query), or add repeats",
    )


def successive(correlation: float, units: int, inflation: float, plural: str = "pairs") -> Oddity | None:
    """Successive units that are alike, and cost units: `inflation` is the factor of the variance of their mean."""
    if inflation < 1.05:
        return None
    return Oddity(
        "serial correlation",
        f"successive {plural} are alike (correlation {correlation:.1f}): {units} {plural} count as {units / inflation:.1f}",
        "leave more time between repeats, or restart the server"
        if plural == "pairs"
        else "alternate the sides, or measure both in one run",
    )
