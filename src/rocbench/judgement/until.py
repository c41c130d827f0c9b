"""Repeats that end once the interval of their mean is narrow: the interval that holds although the repeats chose the end. Pure.

An interval at 5 % that is read after every repeat, and ends the repeats when it is narrow, covers the truth in 80 to 90 %:
it ends when the spread looks too small by chance. Two facts make it cheap to mend. The mean of normal figures is
independent of their spread, so that the end by the spread does not choose the mean: only the spread is too small. And the
spread is pooled over the cells of the run (`moderated`), so that it is rarely far off. With m = degrees of freedom over
n - 1, the number of cells that share the spread, an interval at

    alpha / (1 + 1.5 / m^0.6)

covers at least 1 - alpha at the end for alpha = 5 %, any spread and any looks (benchmarks/judgement_power.py counts it).
Bonferroni over the looks would need up to alpha / 12. Skewed figures cover less, as with any interval of a mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from rocbench import stats
from rocbench.judgement.moderated import moderate
from rocbench.records import FloatArray

COLUMN = "until_max"
"""Column of rows whose repeats could end early."""


def intervals(cells: Sequence[Sequence[float]], alpha: float = 0.05) -> list[stats.Interval]:
    """Mean of each cell with the interval that holds after an early end.

    Args:
        cells: one metric's figures of each cell of the run, in any unit: their relative spreads are pooled.
        alpha: error of each interval.

    Returns:
        One interval a cell; its ends are NaN for fewer than 2 figures, or a mean of 0.
    """
    found = [stats.mean_interval(figures) for figures in cells]
    known = [i for i, each in enumerate(found) if each.n > 1 and each.estimate != 0]
    n = np.array([found[i].n for i in known], dtype=float)
    mean = np.array([found[i].estimate for i in known])
    own = np.array([np.var(cells[i], ddof=1) for i in known]) / mean**2
    shared = moderate(own, n - 1)
    half = _critical(shared.df, n - 1, alpha) * np.sqrt(shared.variance / n) * np.abs(mean)
    plain = [stats.Interval(each.estimate, stats.NAN, stats.NAN, each.n) for each in found]
    for i, width in zip(known, half.tolist(), strict=True):
        centre = found[i].estimate
        plain[i] = stats.Interval(centre, centre - width, centre + width, found[i].n)
    return plain


def _critical(df: FloatArray, own: FloatArray, alpha: float) -> FloatArray:
    """Student's quantile of each cell, at the error that an early end leaves; shape (cells,)."""
    error = alpha / (1 + 1.5 / (df / own) ** 0.6)
    return np.asarray(scipy.special.stdtrit(df, 1 - error / 2))
