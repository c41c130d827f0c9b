"""Which levels are shown to meet limits, and which to miss them. Pure.

A figure's distance from its limit is the logarithm of their ratio, positive if the limit is met: the noise of latencies
is proportional. The spread of one measurement is pooled over all levels with repeats. A level is shown to meet a limit
if the mean distance lies above zero by a one-sided t test. Latency does not fall when the load rises, so figures of
higher levels count for a level too: if it missed the limit, they would all miss it. For "fails", those of lower levels
count in the same way (isotonic tests; Robertson, Wright and Dykstra, Order Restricted Statistical Inference, 1988).
Each verdict may use part of the 5 % only, because a search looks after every measurement and at several levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from rocbench.records import FloatArray

ALPHA = 0.05
LOOKS = 5
"""Number of verdicts that share the error: a search looks several times at the levels on either side of its answer."""
FAR = math.log(1e3)
"""Largest distance that counts: beyond it a figure only says "far"."""
CLEAR = math.log(2)
"""Distance from which one measurement may decide, if the noise is known: an outlier is seldom so large."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Spread of one measurement."""

    sd: float
    """Standard deviation of the logarithm of a figure (of a share: of the share itself)."""
    df: float
    """Its degrees of freedom: 0 if unknown, infinite if given."""


def pooled(groups: Sequence[Sequence[float]], least: float = 0.0) -> Noise:
    """The spread of one measurement within groups, at least `least`; 0 degrees of freedom without repeats."""
    repeated = [np.asarray(group, dtype=float) for group in groups if len(group) > 1]
    df = sum(len(group) - 1 for group in repeated)
    if not df:
        return Noise(least, 0.0)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in repeated)
    return Noise(max(math.sqrt(squares / df), least), float(df))


def quantile(alpha: float, df: float) -> float:
    """Upper quantile of Student's t; infinite without degrees of freedom."""
    if df <= 0:
        return math.inf
    if math.isinf(df):
        return float(-scipy.special.ndtri(alpha))
    return float(-scipy.special.stdtrit(df, alpha))


@dataclass(frozen=True, slots=True)
class Shown:
    """What the distances of one limit show, by level in ascending order."""

    passes: tuple[bool, ...]
    fails: tuple[bool, ...]


def shown(distances: Sequence[Sequence[float]], noise: Noise, *, upper: bool, alpha: float = ALPHA) -> Shown:
    """Levels shown to meet one limit, and levels shown to miss it.

    Args:
        distances: of each level in ascending order, the distances of its repeats.
        noise: spread of one measurement.
        upper: True for a maximum. The mean of figures lies half a variance above the mean of their logarithms; each
            verdict takes the side that is harder to show.
        alpha: error of all verdicts together.
    """
    if not noise.df:
        none = (False,) * len(distances)
        return Shown(none, none)
    bias = noise.sd**2 / 2
    limit = quantile(alpha / LOOKS, noise.df)
    sums = [sum(each) for each in distances]
    counts = [len(each) for each in distances]
    met = _reached(sums, counts, noise.sd, limit, bias if upper else 0.0)
    missed = _reached([-s for s in sums[::-1]], counts[::-1], noise.sd, limit, 0.0 if upper else bias)
    return Shown(met, missed[::-1])


def _reached(
    sums: Sequence[float], counts: Sequence[int], sd: float, limit: float, bias: float
) -> tuple[bool, ...]:
    """For each place, True if the mean of it and some of the places after it lies above zero by the test."""
    found = []
    for first in range(len(sums)):
        total, n, reached = 0.0, 0, False
        if counts[first]:
            for s, count in zip(sums[first:], counts[first:], strict=True):
                total, n = total + s, n + count
                away = total / n - bias
                if away > limit * sd / math.sqrt(n) and (n > 1 or away > CLEAR):
                    reached = True
                    break
        found.append(reached)
    return tuple(found)


def isotonic(distances: Sequence[Sequence[float]]) -> FloatArray:
    """Mean distances that do not rise with the level, by pooling adjacent violators; shape (levels,)."""
    blocks: list[list[float]] = []
    for each in distances:
        blocks.append([float(np.mean(each)), float(len(each)), 1.0])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            mean, n, width = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean * n) / (last[1] + n)
            last[1], last[2] = last[1] + n, last[2] + width
    return np.repeat([mean for mean, _, _ in blocks], [int(width) for _, _, width in blocks])
