"""Variances shrunk over the cells of a run: what few repeats say of one cell, with what all cells say together. Pure.

Three repeats of one cell give its variance 2 degrees of freedom, so that an interval needs 4.3 standard errors. The
cells of a run share their node, client and noise: their true variances scatter around a common one. How much they
scatter is estimated from the cells themselves (an empirical Bayes prior: a scaled inverse chi-square with d0 degrees of
freedom; Smyth, "Linear models and empirical Bayes methods", Statistical Applications in Genetics and Molecular Biology
3(1), 2004, section 6.2). Equal spreads give a large d0 and much power; unequal spreads, or outliers in some cells, a
small d0, and each cell is then judged by its own variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from rocbench.records import FloatArray

_FLOOR = 1e-5
"""Smallest variance that counts, over the median: a cell whose repeats agree by chance would be an outlier."""


@dataclass(frozen=True, slots=True)
class Moderated:
    """Variances of groups after shrinkage, and their degrees of freedom."""

    variance: FloatArray
    df: FloatArray
    prior_df: float
    """Degrees of freedom of the common variance: 0 if the groups share nothing, infinite if they are equal."""


def moderate(variances: FloatArray, df: FloatArray) -> Moderated:
    """Shrink the variances of groups towards their common value.

    Args:
        variances: one of each group, at least 0; shape (groups,).
        df: their degrees of freedom, above 0; shape (groups,).

    Returns:
        (d0 s0^2 + d s^2) / (d0 + d) with d0 + d degrees of freedom, at most those of all groups together. One group, or
        groups of which fewer than 2 vary, stay as they are.
    """
    known = np.asarray(variances, dtype=float)
    own = np.asarray(df, dtype=float)
    varied = known > 0
    if varied.sum() < 2:
        return Moderated(known, own, 0.0)
    floored = np.maximum(known, _FLOOR * np.median(known[varied]))
    prior, prior_df = _prior(floored, own)
    total = float(own.sum())
    if np.isinf(prior_df):
        return Moderated(np.full_like(known, prior), np.full_like(own, total), prior_df)
    shrunk = (prior_df * prior + own * known) / (prior_df + own)
    return Moderated(shrunk, np.minimum(own + prior_df, total), prior_df)


def _prior(variances: FloatArray, df: FloatArray) -> tuple[float, float]:
    """Common variance s0^2 and its degrees of freedom d0, by the moments of log s^2 (Smyth 2004, section 6.2)."""
    digamma, trigamma = scipy.special.digamma, _trigamma
    logs = np.log(variances) - digamma(df / 2) + np.log(df / 2)
    centre = float(logs.mean())
    excess = float(logs.var(ddof=1) - trigamma(df / 2).mean())
    if excess <= 0:
        return float(np.sum(df * variances) / df.sum()), np.inf
    half = _trigamma_inverse(excess)
    return float(np.exp(centre + digamma(half) - np.log(half))), 2 * half


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
