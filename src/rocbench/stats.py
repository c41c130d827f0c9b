"""Statistics of repeats: intervals, differences, spreads. Pure; seeds are arguments.

Ratios are judged on logarithms: benchmark figures are positive and their noise is proportional, so a difference of
logarithms is a relative effect whose interval does not depend on which arm is called the base.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # loads scipy.stats, a third of the start of `bench`, at its first use

Values = Sequence[float] | npt.NDArray[np.float64]

NAN = float("nan")
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval; NaN if the data give none."""

    estimate: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the interval's width, in the estimate's unit."""
        return (self.high - self.low) / 2

    @property
    def relative_half_width(self) -> float:
        """Half-width over the estimate; NaN when the estimate is 0."""
        return abs(self.half_width / self.estimate) if self.estimate else NAN


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference between two arms with its interval and the p-value of "no difference". NaN where unknown."""

    estimate: float
    low: float
    high: float
    p: float
    df: float = NAN

    def relative(self) -> Effect:
        """Convert a difference of logarithms to a relative change: exp(x) - 1."""
        with np.errstate(over="ignore"):  # an end beyond the range of floats is infinite
            estimate, low, high = (float(np.expm1(x)) for x in (self.estimate, self.low, self.high))
        return Effect(estimate, low, high, self.p, self.df)

    def times(self, factor: float) -> Effect:
        """The difference times a positive factor."""
        return Effect(self.estimate * factor, self.low * factor, self.high * factor, self.p, self.df)


NO_EFFECT = Effect(NAN, NAN, NAN, NAN)


def mean_interval(values: Values, confidence: float = CONFIDENCE) -> Interval:
    """Mean with Student's t interval, m +- t(n-1) s / sqrt(n) (Student, Biometrika 6, 1908). NaN ends for n < 2."""
    x = np.asarray(values, dtype=float)
    if not len(x):
        return Interval(NAN, NAN, NAN, 0)
    with np.errstate(invalid="ignore", over="ignore"):  # of infinite figures the spread is NaN
        mean = float(x.mean())
        sd = float(x.std(ddof=1)) if len(x) > 1 else NAN
    if len(x) < 2:
        return Interval(mean, NAN, NAN, 1)
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, len(x) - 1) * sd / math.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, len(x))


def welch(a: Values, b: Values, confidence: float = CONFIDENCE) -> Effect:
    """mean(b) - mean(a) without assuming equal variances (Welch, Biometrika 34, 1947).

    All NaN if an arm has fewer than 2 values, because its spread is unknown. Two arms without spread
    (a deterministic simulation) are either equal or different: p is then 1 or 0.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(x) < 2 or len(y) < 2:
        return NO_EFFECT
    return welch_from_moments(
        (float(x.mean()), float(x.std(ddof=1)), len(x)),
        (float(y.mean()), float(y.std(ddof=1)), len(y)),
        confidence,
    )


def welch_from_moments(
    a: tuple[float, float, int], b: tuple[float, float, int], confidence: float = CONFIDENCE
) -> Effect:
    """As `welch`, from (mean, standard deviation, n) of each arm."""
    (mean_a, sd_a, n_a), (mean_b, sd_b, n_b) = a, b
    difference = mean_b - mean_a
    var_a, var_b = sd_a**2 / n_a, sd_b**2 / n_b
    error = math.sqrt(var_a + var_b)
    if error <= 1e-12 * max(abs(mean_a), abs(mean_b), 1e-300):
        same = math.isclose(mean_a, mean_b, rel_tol=1e-12)
        return Effect(difference, difference, difference, 1.0 if same else 0.0)
    df = (var_a + var_b) ** 2 / (var_a**2 / (n_a - 1) + var_b**2 / (n_b - 1))
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, df)) * error
    p = float(2 * scipy.stats.t.sf(abs(difference) / error, df))
    return Effect(difference, difference - half, difference + half, p, df)


@dataclass(frozen=True, slots=True)
class Spread:
    """Ratio of spreads b/a with its interval, and two p-values of "equally variable"."""

    ratio: float
    low: float
    high: float
    p_f: float
    p_brown_forsythe: float


NO_SPREAD = Spread(NAN, NAN, NAN, NAN, NAN)


def spread_ratio(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], confidence: float = CONFIDENCE
) -> Spread:
    """Spread of b over that of a, pooled within groups, with its interval, and the F and Brown-Forsythe tests.

    Each side is a list of groups (one for a two-sample test), so that differences between group means do not count
    as spread. The ratio is that of the mean distances from the group's median, without structural zeros; it is the
    ratio of standard deviations if both sides have the same shape. Its interval is Welch's on the logarithms (Bonett
    and Seier, CSDA 43, 2003, with the t distribution). The F test is exact for normal data and wrong for heavy tails;
    Brown-Forsythe (JASA 69, 1974), an analysis of variance of the same distances, holds for those too. All NaN if a
    side has fewer than 3 values or no spread.
    """
    sides = [[np.asarray(group, dtype=float) for group in side if len(group) > 1] for side in (a, b)]
    if min(sum(len(group) for group in side) for side in sides) < 3:
        return NO_SPREAD
    moments = []
    for side in sides:
        df = sum(len(group) - 1 for group in side)
        moments.append(
            (math.sqrt(sum(float(group.var(ddof=1)) * (len(group) - 1) for group in side) / df), df + 1)
        )
    f = spread_from_moments(moments[0], moments[1], confidence)
    distances = [np.concatenate([_from_median(group) for group in side]) for side in sides]
    means = [float(d.mean()) for d in distances]
    if math.isnan(f.p_f) or min(means) <= 0:
        return NO_SPREAD
    logs = [
        (math.log(mean), float(d.std(ddof=1)) / mean, len(d))
        for mean, d in zip(means, distances, strict=True)
    ]
    ratio = welch_from_moments(logs[0], logs[1], confidence).relative()
    p = float(scipy.stats.f_oneway(*distances).pvalue) if any(np.ptp(d) > 0 for d in distances) else NAN
    return Spread(1 + ratio.estimate, 1 + ratio.low, 1 + ratio.high, f.p_f, p)


def _from_median(group: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distances from the median without the one that is 0 by construction (Hines and Hines, Biometrics 56, 2000).

    An odd group's median is one of its values: its distance of 0 is left out. In an even group the two middle values
    are equally far: they count once, times sqrt 2. At n=5 this finds a 10-fold ratio in 49 % instead of 32 %, and a
    ratio of 1 is still refused in less than 5 %.
    """
    ordered = np.sort(group)
    middle, odd = divmod(len(group), 2)
    distances = np.abs(ordered - np.median(ordered))
    if odd:
        return np.delete(distances, middle)
    distances[middle] *= math.sqrt(2)
    return np.delete(distances, middle - 1)


def spread_from_moments(a: tuple[float, int], b: tuple[float, int], confidence: float = CONFIDENCE) -> Spread:
    """Ratio of standard deviations b/a with its F interval, from (standard deviation, n) of each arm.

    The interval is exact for normal data and too narrow for heavy tails. Brown-Forsythe needs the values and is NaN.
    """
    (sd_a, n_a), (sd_b, n_b) = a, b
    if sd_a <= 0 or sd_b <= 0:
        return NO_SPREAD
    ratio, tail = sd_b / sd_a, (1 - confidence) / 2
    low = ratio / math.sqrt(float(scipy.stats.f.isf(tail, n_b - 1, n_a - 1)))
    high = ratio / math.sqrt(float(scipy.stats.f.ppf(tail, n_b - 1, n_a - 1)))
    one_side = float(scipy.stats.f.sf(ratio**2, n_b - 1, n_a - 1))
    return Spread(ratio, low, high, min(1.0, 2 * min(one_side, 1 - one_side)), NAN)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Scandinavian Journal of Statistics 6, 1979). NaN stays NaN and is not counted."""
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, running = [NAN] * len(p_values), 0.0
    for rank, (p, index) in enumerate(known):
        running = max(running, min(1.0, (len(known) - rank) * p))
        adjusted[index] = running
    return adjusted


def ratio(part: float, whole: float | None) -> float | None:
    """part / whole; None if the whole is absent or zero."""
    return float(part) / float(whole) if whole else None


def cov(values: Values) -> float:
    """Coefficient of variation, s / mean; NaN for fewer than 2 values or a mean of 0."""
    x = np.asarray(values, dtype=float)
    with np.errstate(invalid="ignore", over="ignore"):  # of infinite figures it is NaN
        if len(x) < 2 or x.mean() == 0:
            return NAN
        return float(x.std(ddof=1) / abs(x.mean()))


def min_samples(q: float) -> int:
    """Minimum samples for a two-sided, distribution-free interval of the q-th percentile (0 to 100).

    The largest of n samples lies above the percentile with 1 - (q/100)^n, which must reach (1 + 0.95) / 2:
    368 samples for p99, 72 for p95, 36 for p90 (David and Nagaraja, Order Statistics, 7.1).
    """
    share = max(q, 100 - q) / 100
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(share))
