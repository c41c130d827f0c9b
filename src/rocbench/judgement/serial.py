"""Dependence of units on the unit before: how strong it is, and what it costs. Pure.

Three repeats of one cell cannot show dependence. All cells and metrics of a run together can: the lag-1 correlation is
pooled over their series. Centring a short series lowers the correlation that it shows, so the true one is found by
inverting its expectation for the series' length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from rocbench.records import FloatArray

_GRID = np.linspace(-0.5, 0.95, 59)


def correlation(series: Sequence[FloatArray]) -> tuple[float, float]:
    """Lag-1 correlation of units in the order of time, pooled, with its standard error; NaN without a series of 3 units.

    Args:
        series: each of shape (units, cells), centred by cell, 0 where unknown.
    """
    used = [each for each in series if len(each) > 2]
    squares = sum(float(np.sum(each**2)) for each in used)
    if squares == 0:
        return math.nan, math.nan
    shown = sum(float(np.sum(each[1:] * each[:-1])) for each in used) / squares
    counts = [int(np.any(each != 0, axis=0).sum()) for each in used]
    expected = np.sum([c * _grid(len(each)) for c, each in zip(counts, used, strict=True)], axis=0)
    ratio = expected[0] / expected[1]
    rho = float(np.interp(shown, ratio, _GRID))
    slope = (ratio[-1] - ratio[0]) / (_GRID[-1] - _GRID[0])
    steps = sum(c * (len(each) - 1) for c, each in zip(counts, used, strict=True))
    return rho, 1 / math.sqrt(steps) / float(slope)


def inflation(rho: float, error: float, n: int, behind: Sequence[int] = ()) -> float:
    """Factor of the variance of a mean of n units, at least 1.

    A correlation is shrunk by its standard error (positive part): what is not shown costs nothing.

    Args:
        rho: the correlation.
        error: its standard error.
        n: units of the mean.
        behind: numbers of units of the series behind the variance of a unit; those of the mean itself if none are given.
    """
    shrunk = _shrunk(rho, error)
    if not shrunk:
        return 1.0
    behind = [each for each in behind if each > 1] or [n]
    seen = sum(_expected(shrunk, each)[1] for each in behind) / sum(each - 1 for each in behind)
    return max(1.0, float(_covariance(shrunk, n).sum()) / n / seen)


def freedom(rho: float, error: float) -> float:
    """Factor of the degrees of freedom of a variance: squares of AR(1) units are alike too (Bartlett, JRSS 98, 1935)."""
    square = _shrunk(rho, error) ** 2
    return (1 - square) / (1 + square)


def _shrunk(rho: float, error: float) -> float:
    return 0.0 if math.isnan(rho) or rho <= error else rho * (1 - (error / rho) ** 2)


@lru_cache(maxsize=64)
def _grid(n: int) -> FloatArray:
    return np.array([_expected(float(rho), n) for rho in _GRID]).T


@lru_cache(maxsize=4096)
def _expected(rho: float, n: int) -> tuple[float, float]:
    """Expected sums of lag-1 products and of squares, of a centred AR(1) series of n units."""
    centred = _centring(n) @ _covariance(rho, n) @ _centring(n)
    return float(np.trace(centred, offset=1)), float(np.trace(centred))


def _covariance(rho: float, n: int) -> FloatArray:
    places = np.arange(n)
    return np.asarray(rho ** np.abs(places[:, None] - places[None, :]), dtype=float)


def _centring(n: int) -> FloatArray:
    return np.eye(n) - 1 / n
