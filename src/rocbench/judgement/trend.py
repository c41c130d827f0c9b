"""Change points in a series of nightly figures. Pure; the seed is an argument."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rocbench.stats import NAN, Values

SHORTEST = 3
"""Minimum figures on each side of a change point."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A change of a series: first index of the new level, relative change from the last segment, and p."""

    index: int
    change: float
    p: float


def change_points(
    series: Values, *, alpha: float = 0.01, permutations: int = 999, seed: int = 0
) -> list[ChangePoint]:
    """Change points of a series of nightly figures, in order of index.

    Binary segmentation: the split with the largest t statistic is kept if less than alpha of random orders of
    the same values have a split as large, and both sides are searched again (the approach of Fleming et al.,
    "Hunter", ICPE 2023, and Matteson and James, JASA 109, 2014). The permutations account for the search over
    all splits.
    """
    x = np.asarray(series, dtype=float)
    rng = np.random.default_rng(seed)
    changes: list[tuple[int, float]] = []
    pending = [(0, len(x))]
    while pending:
        start, stop = pending.pop()
        part = x[start:stop]
        if len(part) < 2 * SHORTEST or np.ptp(part) == 0:
            continue
        statistic, split = _best_split(part)
        as_large = sum(_best_split(rng.permutation(part))[0] >= statistic for _ in range(permutations))
        p = (1 + as_large) / (1 + permutations)
        if p <= alpha:
            changes.append((start + split, p))
            pending += [(start, start + split), (start + split, stop)]
    changes.sort()
    edges = [0, *(index for index, _ in changes), len(x)]
    points = []
    for (index, p), before, after in zip(changes, edges, edges[2:], strict=False):
        level = float(x[before:index].mean())
        points.append(ChangePoint(index, float(x[index:after].mean()) / level - 1 if level else NAN, p))
    return points


def _best_split(x: npt.NDArray[np.float64]) -> tuple[float, int]:
    """Largest two-sample t statistic (pooled variance) over all splits, and its index."""
    n = len(x)
    x = x - x.mean()
    left = np.arange(SHORTEST, n - SHORTEST + 1)
    sums, squares = np.cumsum(x), np.cumsum(x**2)
    mean_left, mean_right = sums[left - 1] / left, -sums[left - 1] / (n - left)
    within = squares[-1] - left * mean_left**2 - (n - left) * mean_right**2
    floor = 1e-12 * squares[-1]
    t = np.abs(mean_left - mean_right) / np.sqrt(
        np.maximum(within, floor) / (n - 2) * (1 / left + 1 / (n - left))
    )
    best = int(np.argmax(t))
    return float(t[best]), int(left[best])
