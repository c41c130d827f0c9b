"""Variances shrunk over the cells of a run: what few repeats say of one cell, with what all cells say together. Pure.

Three repeats of one cell give its variance 2 degrees of freedom, so that an interval needs 4.3 standard errors. The
cells of a run share their node, client and noise: their true variances scatter around a common one. How much they
scatter is estimated from the cells themselves (an empirical Bayes prior: a scaled inverse chi-square with d0 degrees of
freedom; Smyth, "Linear models and empirical Bayes methods", Statistical Applications in Genetics and Molecular Biology
3(1), 2004, section 6.2). Equal spreads give a large d0 and much power; unequal spreads, or outliers in some cells, a
small d0, and each cell is then judged by its own variance. No variance becomes less than its cell shows: the noisiest
cell of a run would else be told to differ too often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from rocbench.records import FloatArray

_FLOOR = 1e-5
"""Smallest variance that counts, over the median: a cell whose repeats agree by chance would be an outlier."""
_LEAST_EXCESS = 0.12
"""Variance of log s^2 between cells that is always expected: the spreads of 12 cells are never shown to be equal."""


@dataclass(frozen=True, slots=True)
class Moderated:
    """Variances of groups after shrinkage, and their degrees of freedom."""

    variance: FloatArray
    df: FloatArray
    prior_df: float
    """Degrees of freedom d0 of the common variance: 0 if the groups share nothing."""


def moderate(variances: FloatArray, df: FloatArray) -> Moderated:
    """Shrink the variances of groups towards their common value.

    Args:
        variances: one of each group, at least 0; shape (groups,).
        df: their degrees of freedom, above 0; shape (groups,).

    Returns:
        The larger of s^2 and (d0 s0^2 + d s^2) / (d0 + d), with d0 + d degrees of freedom, at most those of all groups
        together. One group, or groups of which fewer than 2 vary, stay as they are.
    """
    known, own = np.asarray(variances, dtype=float), np.asarray(df, dtype=float)
    if (known > 0).sum() < 2:
        return Moderated(known, own, 0.0)
    prior_df = _prior_df(known, own)
    prior = _prior(_floored(known), own, prior_df)
    shrunk = (prior_df * prior + own * known) / (prior_df + own)
    return Moderated(np.maximum(shrunk, known), np.minimum(own + prior_df, float(own.sum())), prior_df)


def _floored(variances: FloatArray) -> FloatArray:
    return np.maximum(variances, _FLOOR * np.median(variances[variances > 0]))


def _prior_df(variances: FloatArray, df: FloatArray) -> float:
    """Degrees of freedom d0 of the common variance, by the variance of log s^2 (Smyth 2004, section 6.2)."""
    logs = np.log(_floored(variances)) - _log_bias(df)
    excess = float(logs.var(ddof=1) - _trigamma(df / 2).mean())
    return 2 * _trigamma_inverse(max(excess, _LEAST_EXCESS))


def _prior(variances: FloatArray, df: FloatArray, prior_df: float) -> float:
    """The common variance s0^2, by the mean of log s^2 (the same section)."""
    centre = float(np.mean(np.log(variances) - _log_bias(df)))
    return float(np.exp(centre + _log_bias(np.array(max(prior_df, 1e-3)))))


def _log_bias(df: FloatArray) -> FloatArray:
    """Mean of log(chi-square / df)."""
    return np.asarray(scipy.special.digamma(df / 2) - np.log(df / 2), dtype=float)


def _trigamma(x: FloatArray) -> FloatArray:
    return np.asarray(scipy.special.polygamma(1, x), dtype=float)


def _trigamma_inverse(y: float) -> float:
    """The x with trigamma(x) = y > 0, by Newton's method on 1 / trigamma, which is nearly linear (Smyth 2004, appendix)."""
    x = 0.5 + 1 / y
    for _ in range(50):
        tri = float(scipy.special.polygamma(1, x))
        step = tri * (1 - tri / y) / float(scipy.special.polygamma(2, x))
        x += step
        if abs(step) < 1e-8 * x:
            break
    return x
