"""The saturation point of a throughput curve. Pure.

Over the logarithm of the load, the logarithm of throughput rises, bends and levels off: each doubling brings at most
what the doubling before brought. The model is any such concave curve. For each level it asks: how well do the figures fit a
curve that saturates exactly there? The answer is the level with the best fit, the interval all levels whose fit is not
significantly worse. So all figures decide, not two neighbours.

What no concave curve can describe is taken out first, and named: a level far below the curve that later levels
exceed again, and a fall of throughput after its peak, which counts as "no more gain".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from rocbench.judgement.evidence import pooled
from rocbench.judgement.standing import level_list
from rocbench.records import FloatArray

FALL = 0.1
"""Share below the highest throughput so far from which a level does not belong to a concave curve."""
SPREADS = 5.0
"""The same in standard deviations of the level's mean, where these are larger."""
SINGLE = 0.01
"""Minimum standard deviation of a level without repeats: one curve can look smoother than its noise."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Saturation:
    """The load above which more users bring less than the required gain."""

    level: float | None
    """The smallest level from which every doubling brings less; None if there is none, or if it cannot be told."""
    low: float | None
    high: float | None
    """95 % interval; `high` is None if throughput may still rise by enough at the highest level."""
    peak: float | None
    """Highest mean throughput of a delivered level."""
    excluded: tuple[float, ...]
    """Levels that are excluded because their users were not delivered."""
    note: str


def saturation(
    throughput: Mapping[float, Sequence[float]],
    delivered: Mapping[float, bool],
    *,
    gain: float = 0.05,
) -> Saturation:
    """The saturation point of a throughput curve.

    Level i is saturated when every later step, scaled to a doubling of the level, brings less than `gain`:
    (T[j+1] / T[j]) ^ (1 / log2(L[j+1] / L[j])) - 1 < gain for all j >= i, where T is the true curve. The fit is by
    least squares under the constraint that the slope is at least log2(1 + gain) up to the level, at most that from the level
    on, and never rises (non-negative least squares; Hildreth, JASA 49, 1954). Levels stay in the interval by the F test of
    their sum of squares against the best.

    Args:
        throughput: level to the figures of its repeats.
        delivered: True for each level whose users were in flight. Other levels do not describe saturation (100
            requests at 1,000 users "saturate" at 100) and are excluded by name.
        gain: share of throughput that a doubling must bring.
    """
    levels = sorted(level for level, figures in throughput.items() if figures and delivered.get(level, False))
    excluded = tuple(sorted(level for level in throughput if level not in levels))
    notes = [f"the requested load was not reached at {level_list(excluded)}"] if excluded else []
    peak = max((float(np.mean(throughput[level])) for level in levels), default=None)
    if len(levels) < 2:
        return Saturation(
            None, None, None, peak, excluded, "; ".join(notes) or "at least two levels are needed"
        )
    if min(min(throughput[level]) for level in levels) <= 0:
        notes.append("cannot tell: a level has no throughput")
        return Saturation(None, None, None, peak, excluded, "; ".join(notes))
    curve, said = _describable({level: throughput[level] for level in levels})
    notes += said
    known = [*curve, None]
    if len(curve) < 2:
        return Saturation(None, None, None, peak, excluded, "; ".join(notes))
    point, low, high = _fitted(curve, gain)
    if known[point] is None:
        notes.append("no saturation point: throughput still rose by enough at the last doubling of the load")
    if high - low > len(curve) / 2:
        notes.append("cannot tell well: the noise covers more than half of the levels; repeat them")
    return Saturation(known[point], known[low], known[high], peak, excluded, "; ".join(notes))


def _describable(curve: dict[float, Sequence[float]]) -> tuple[dict[float, FloatArray], list[str]]:
    """The logarithms that a concave curve can describe, and what was taken out.

    Returns:
        Logarithms of throughput by level; notes.
    """
    logs = {level: np.log(np.asarray(figures, dtype=float)) for level, figures in curve.items()}
    noise = pooled([list(each) for each in logs.values()])
    means = {level: float(each.mean()) for level, each in logs.items()}
    kept: dict[float, FloatArray] = {}
    notes, top, fell = [], -math.inf, list[float]()
    for level, values in logs.items():
        drop = max(-math.log1p(-FALL), SPREADS * noise.sd / math.sqrt(len(values)))
        if means[level] < top - drop:
            later = max((means[each] for each in means if each > level), default=-math.inf)
            if later < top - drop / 2:
                fell.append(level)
                kept[level] = np.full_like(values, top)
            else:
                notes.append(
                    f"throughput at {level:g} is far below its neighbours: excluded, measure it again"
                )
            continue
        top = max(top, means[level])
        kept[level] = values
    if fell:
        share = 1 - math.exp(min(means[level] for level in fell) - top)
        notes.append(f"cliff: throughput falls by {share:.0%} after its peak, at {level_list(fell)}")
    return kept, notes


def _fitted(curve: Mapping[float, FloatArray], gain: float) -> tuple[int, int, int]:
    """Index of the saturation point among the levels, or their number for "none", and the ends of its interval."""
    at = np.log2(np.array(list(curve)))
    means = np.array([float(each.mean()) for each in curve.values()])
    weights = np.array([float(len(each)) for each in curve.values()])
    places = len(at)
    fits = [_misfit(at, means, weights, place, gain) for place in [*range(places - 1), places]]
    sums = np.array([rest for rest, _ in fits])
    noise = pooled([list(each) for each in curve.values()])
    best = int(np.argmin(sums))
    within = noise.sd**2 * noise.df
    spare = max(places - fits[best][1], 1)
    df = noise.df + spare
    variance = (within + float(sums[best])) / df
    if not noise.df:
        variance = max(variance, SINGLE**2)
    limit = variance * float(scipy.stats.f.isf(1 - CONFIDENCE, 1, df))
    inside = np.flatnonzero(sums - sums[best] <= limit)
    index = [*range(places - 1), places]
    low, high = index[int(inside[0])], index[int(inside[-1])]
    return index[best], low, high


def _misfit(
    at: FloatArray, means: FloatArray, weights: FloatArray, place: int, gain: float
) -> tuple[float, int]:
    """Weighted sum of squares of the best concave curve that saturates at a place; `len(at)`: at none.

    Args:
        at: log2 of the levels, ascending; shape (levels,).
        means: logarithms of throughput; shape (levels,).
        weights: repeats; shape (levels,).
        place: index of the saturation point.
        gain: required gain of a doubling.
    """
    required = math.log1p(gain)
    rises = np.diff(at)
    n = len(at)
    steps = np.arange(n - 1)
    columns = []
    for change in steps:
        if change < place:  # the slope of all steps up to this one is larger
            columns.append(np.where(steps <= change, rises, 0.0))
        else:  # the slope of all steps from this one on is smaller
            columns.append(np.where(steps >= change, -rises, 0.0))
    curves = [np.concatenate([[0.0], np.cumsum(column)]) for column in columns]
    base = required * (at - at[0])
    ones = np.ones(n)
    design = np.stack([ones, -ones, *curves], axis=1)
    shift = means.mean()
    root = np.sqrt(weights)
    found, rest = scipy.optimize.nnls(design * root[:, None], (means - shift - base) * root)
    return float(rest**2), int(np.count_nonzero(found))
