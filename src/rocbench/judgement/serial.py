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
    """Lag-1 correlation of units in the order of time, pooled, with its standard error; NaN for fewer than 3 units.

    Args:
        series: each of shape (units, cells), centred by cell, 0 where unknown; all with the same number of units.
    """
    n = len(series[0]) if series else 0
    squares = sum(float(np.sum(each**2)) for each in series)
    if n < 3 or squares == 0:
        return math.nan, math.nan
    shown = sum(float(np.sum(each[1:] * each[:-1])) for each in series) / squares
    count = sum(int(np.any(each != 0, axis=0).sum()) for each in series)
    expected = np.array([_expected(float(rho), n) for rho in _GRID])
    rho = float(np.interp(shown, expected, _GRID))
    slope = (expected[-1] - expected[0]) / (_GRID[-1] - _GRID[0])
    return rho, 1 / math.sqrt(count * (n - 1)) / float(slope)


def inflation(rho: float, error: float, n: int) -> float:
    """Factor of the variance of a mean of n units, at least 1.

    A correlation is shrunk by its standard error (positive part): what is not shown costs nothing.
    """
    if math.isnan(rho) or rho <= error:
        return 1.0
    shrunk = rho * (1 - (error / rho) ** 2)
    covariance = _covariance(shrunk, n)
    centred = _centring(n) @ covariance @ _centring(n)
    return max(1.0, float(covariance.sum() / n**2) / float(np.trace(centred) / (n - 1) / n))


@lru_cache(maxsize=4096)
def _expected(rho: float, n: int) -> float:
    """Expected lag-1 product over expected square, of a centred AR(1) series."""
    centred = _centring(n) @ _covariance(rho, n) @ _centring(n)
    return float(np.trace(centred, offset=1) / np.trace(centred))


def _covariance(rho: float, n: int) -> FloatArray:
    places = np.arange(n)
    return np.asarray(rho ** np.abs(places[:, None] - places[None, :]), dtype=float)


def _centring(n: int) -> FloatArray:
    return np.eye(n) - 1 / n
