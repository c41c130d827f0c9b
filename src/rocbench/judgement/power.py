"""Power of a verdict: the chance that repeats tell an effect, the repeats that it takes, the effect that they tell. Pure.

A verdict better or worse needs p < alpha at Holm's strictest level (alpha / tests; the first of a family to be told meets
it) and an estimate of at least the minimum effect. With sd the true standard deviation of one unit's difference (a pair;
or one repeat of each side), s = sd / sqrt(n), delta the effect and m the minimum, as logarithms:

    chance = E_w Phi(delta / s - max(t w, m / s))     t: Student's quantile; w^2 = chi^2(v) / v, the variance's own error

For m = 0 this is the noncentral t distribution (Cohen, Statistical Power Analysis, 1988). v counts the degrees of freedom
that the judgement will have: of all cells together as far as they share a variance (`moderated`).

The sd comes from few repeats. With sd put in as if it were known, "80 %" delivers 50 to 70: a small sd by chance promises
too much. So the chance is averaged over sd^2 df / chi^2(df), all true variances that agree with it. This delivers on
average exactly what it promises (Stein, Annals of Mathematical Statistics 16, 1945, for the two-stage test).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, Required, TypedDict, Unpack

import numpy as np
import scipy  # loads its parts at their first use

from rocbench.records import FloatArray

POWER = 0.8
"""Chance that "can tell" and "needed" promise."""
MOST = 10_000
"""Repeats beyond which no number is given."""
_GRID = 64
_LARGEST = 50.0
"""Largest logarithm of an effect that is looked for."""

Outcome = Literal["told", "within", "below"]
"""The verdict to reach: better or worse; interval within +- the margin; interval below the margin."""


class Test(TypedDict, total=False):
    """The test that the repeats will face, as keywords of the functions of this module."""

    paired: Required[bool]
    """True: differences within pairs (n - 1 degrees of freedom a cell). False: two sides of n repeats (2 n - 2)."""
    tests: int
    """Verdicts of the family, over which Holm corrects; 1 if not given."""
    cells: int
    """Cells whose variances are pooled; 1 if not given."""
    prior_df: float
    """Degrees of freedom that the cells lend each other (`moderated`); infinite, all that they have, if not given."""
    alpha: float
    """Error of the family; 0.05 if not given."""
    looks: int
    """Times that the repeats are looked at; each spends alpha / looks."""
    min_effect: float
    """Relative change below which nothing is called better or worse; 0 if not given."""


def chance(
    sd: float, df: float, effect: float, n: int, *, outcome: Outcome = "told", **test: Unpack[Test]
) -> float:
    """Probability that n repeats reach an outcome, averaged over the true spreads that agree with sd.

    Args:
        sd: standard deviation of one unit's difference of logarithms: of a pair, or sqrt(sd_a^2 + sd_b^2) of two sides.
        df: degrees of freedom behind sd; infinite if it is stated.
        effect: true relative change for "told"; for "within" and "below" the margin between the truth and the limit.
        n: pairs, or repeats of each side.
        outcome: the verdict to reach.
        test: the test that is faced (`Test`).

    Returns:
        NaN if sd is not known; 0 if n leaves no degree of freedom.
    """
    if math.isnan(sd) or math.isnan(effect) or not df > 0:
        return math.nan
    own = (n - 1) * (1 if test["paired"] else 2)
    if own < 1:
        return 0.0
    delta, least = math.log1p(effect), math.log1p(test.get("min_effect", 0.0))
    if sd == 0:
        return float(delta > 0 and (delta >= least or outcome != "told"))
    prior = test.get("prior_df", math.inf)
    v = min(own + prior, own * test.get("cells", 1))
    each = test.get("alpha", 0.05) / max(test.get("looks", 1), 1)
    if outcome == "told":
        each /= max(test.get("tests", 1), 1)
    found = _relative_sd(v) if math.isinf(prior) else _moderated_sd(own, prior)
    critical = float(scipy.special.stdtrit(v, 1 - each / 2)) * found[None, :]
    error = (sd / math.sqrt(n) / _relative_sd(df))[:, None]
    if outcome == "told":
        return float(scipy.special.ndtr(delta / error - np.maximum(critical, least / error)).mean())
    inside = scipy.special.ndtr(delta / error - critical)
    return float((inside if outcome == "below" else np.maximum(2 * inside - 1, 0)).mean())


def needed(
    sd: float,
    df: float,
    effect: float,
    *,
    power: float = POWER,
    outcome: Outcome = "told",
    **test: Unpack[Test],
) -> int | None:
    """Repeats (pairs, or of each side) that reach an outcome with the stated chance; arguments as in `chance`.

    None if sd is not known, or more than 10,000 would be needed: an effect equal to the minimum stays open with any
    number of repeats, because its estimate lies below the minimum as often as above.
    """
    if not effect > 0 or math.isnan(chance(sd, df, effect, 2, outcome=outcome, **test)):
        return None

    def enough(n: int) -> bool:
        return chance(sd, df, effect, n, outcome=outcome, **test) >= power

    low, high = 1, 2
    while not enough(high):
        low, high = high, high * 2
        if low >= MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high if high <= MOST else None


def detectable(sd: float, df: float, n: int, *, power: float = POWER, **test: Unpack[Test]) -> float:
    """Smallest relative change that n repeats tell with the stated chance; arguments as in `chance`.

    NaN if sd is not known, or n leaves no degree of freedom.
    """
    if not chance(sd, df, math.expm1(_LARGEST), n, **test) >= power:
        return math.nan

    def missing(delta: float) -> float:
        return chance(sd, df, math.expm1(delta), n, **test) - power

    least = math.log1p(test.get("min_effect", 0.0))
    if sd == 0:
        return math.expm1(least)
    return math.expm1(float(scipy.optimize.brentq(missing, 0.0, _LARGEST, xtol=1e-7)))


def _moderated_sd(own: float, prior: float) -> FloatArray:
    """Values of the spread found over the true one, as `moderate` finds it: never below the cell's own; shape (grid,)."""
    alone = _relative_sd(own) ** 2
    return np.asarray(np.sqrt(np.maximum(alone, (prior + own * alone) / (prior + own))))


@lru_cache(maxsize=512)
def _relative_sd(df: float) -> FloatArray:
    """Equally likely values of s / sigma, sqrt(chi^2(df) / df); shape (grid,), or (1,) for infinite df."""
    if math.isinf(df):
        return np.ones(1)
    middles = (np.arange(_GRID) + 0.5) / _GRID
    return np.asarray(np.sqrt(2 * scipy.special.gammaincinv(df / 2, middles) / df))
