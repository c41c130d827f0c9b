"""Statistics of repeats: intervals, differences, spreads, sample sizes. Pure; seeds are arguments.

Ratios are judged on logarithms: benchmark figures are positive and their noise is proportional, so a difference of
logarithms is a relative effect whose interval does not depend on which arm is called the base.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy  # loads scipy.stats, a third of the start of `bench`, at its first use

Values = Sequence[float] | npt.NDArray[np.float64]
Method = Literal["welch", "bootstrap"]

NAN = float("nan")
CONFIDENCE = 0.95
_RESAMPLES = 4000
_MAX_N = 10_000


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

    def share_of(self, base: float) -> Effect:
        """Convert a difference of figures to a share of the base's mean; all NaN if that is not positive."""
        if not base > 0:
            return NO_EFFECT
        return Effect(self.estimate / base, self.low / base, self.high / base, self.p, self.df)


NO_EFFECT = Effect(NAN, NAN, NAN, NAN)


def mean_interval(values: Values, confidence: float = CONFIDENCE) -> Interval:
    """Mean with Student's t interval, m +- t(n-1) s / sqrt(n) (Student, Biometrika 6, 1908). NaN ends for n < 2."""
    x = np.asarray(values, dtype=float)
    if not len(x):
        return Interval(NAN, NAN, NAN, 0)
    mean = float(x.mean())
    if len(x) < 2:
        return Interval(mean, NAN, NAN, 1)
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, len(x))


def narrow_enough(values: Values, relative_half_width: float) -> bool:
    """True if repeats may end: at least 3, and the mean's 95 % interval within the requested share."""
    interval = mean_interval(values)
    return interval.n >= 3 and interval.relative_half_width <= relative_half_width


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


def relative_effect(
    a: Values, b: Values, confidence: float = CONFIDENCE, *, method: Method = "welch", seed: int = 0
) -> Effect:
    """Relative change of b against a, b/a - 1, of geometric means, by Welch on logarithms or by bootstrap.

    A figure of 0 (a total loss, not an absent figure) has no logarithm: then the result is the difference of
    means as a share of a's mean. All NaN if an arm has fewer than 2 values, a value is not finite, or a's mean
    is not positive. Arms of two values use Welch: their three bootstrap resamples would find effects where
    there are none.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if min(len(x), len(y)) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return NO_EFFECT
    zero, mean = min(x.min(), y.min()) <= 0, float(x.mean())
    if not zero:
        x, y = np.log(x), np.log(y)
    if method == "welch" or min(len(x), len(y)) < 3:
        effect = welch(x, y, confidence)
    else:
        effect = _bootstrap_difference(x, y, confidence, seed)
    return effect.share_of(mean) if zero else effect.relative()


def _bootstrap_difference(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    confidence: float,
    seed: int,
) -> Effect:
    """Bootstrap-t interval, and p by resampling arms moved to a common mean (Efron and Tibshirani 1993, 12.5 and 16.2)."""
    observed = welch(x, y, confidence)
    error = math.sqrt(x.var(ddof=1) / len(x) + y.var(ddof=1) / len(y))
    if error == 0:
        return observed
    rng = np.random.default_rng(seed)
    xs = x[rng.integers(0, len(x), (_RESAMPLES, len(x)))] - x.mean()
    ys = y[rng.integers(0, len(y), (_RESAMPLES, len(y)))] - y.mean()
    errors = np.sqrt(xs.var(axis=1, ddof=1) / len(x) + ys.var(axis=1, ddof=1) / len(y))
    kept = errors > 1e-6 * error
    t = (ys.mean(axis=1) - xs.mean(axis=1))[kept] / errors[kept]
    low_t, high_t = np.quantile(t, [(1 - confidence) / 2, (1 + confidence) / 2])
    d = observed.estimate
    p = (1 + int(np.sum(np.abs(t) >= abs(d) / error))) / (1 + len(t))
    return Effect(d, d - float(high_t) * error, d - float(low_t) * error, p)


def paired(differences: Values, confidence: float = CONFIDENCE) -> Effect:
    """Mean of within-block differences with Student's t interval and p. All NaN for fewer than 2."""
    x = np.asarray(differences, dtype=float)
    if len(x) < 2:
        return NO_EFFECT
    mean, sd = float(x.mean()), float(x.std(ddof=1))
    if sd <= 1e-12 * max(abs(mean), 1e-12):
        return Effect(mean, mean, mean, 1.0 if abs(mean) < 1e-12 else 0.0, len(x) - 1)
    error = sd / math.sqrt(len(x))
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, len(x) - 1)) * error
    return Effect(
        mean, mean - half, mean + half, float(2 * scipy.stats.t.sf(abs(mean) / error, len(x) - 1)), len(x) - 1
    )


@dataclass(frozen=True, slots=True)
class Spread:
    """Ratio of standard deviations b/a with its F interval, and two p-values of "equally variable"."""

    ratio: float
    low: float
    high: float
    p_f: float
    p_brown_forsythe: float


NO_SPREAD = Spread(NAN, NAN, NAN, NAN, NAN)


def spread_ratio(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], confidence: float = CONFIDENCE
) -> Spread:
    """Standard deviation of b over that of a, pooled within groups, with the F interval and the Brown-Forsythe test.

    Each side is a list of groups (one for a two-sample test), so that differences between group means do not count
    as spread. The F interval is exact for normal data and wrong for heavy tails. Brown-Forsythe (JASA 69, 1974), an
    analysis of variance of distances from the group's median without structural zeros, holds for those too. All NaN
    if a side has fewer than 3 values.
    """
    sides = [[np.asarray(group, dtype=float) for group in side if len(group) > 1] for side in (a, b)]
    sizes = [sum(len(group) for group in side) for side in sides]
    if min(sizes) < 3:
        return NO_SPREAD
    moments = []
    for side in sides:
        df = sum(len(group) - 1 for group in side)
        moments.append(
            (math.sqrt(sum(float(group.var(ddof=1)) * (len(group) - 1) for group in side) / df), df + 1)
        )
    spread = spread_from_moments(moments[0], moments[1], confidence)
    if math.isnan(spread.p_f):
        return spread
    distances = [np.concatenate([_from_median(group) for group in side]) for side in sides]
    p = float(scipy.stats.f_oneway(*distances).pvalue) if any(np.ptp(d) > 0 for d in distances) else NAN
    return Spread(spread.ratio, spread.low, spread.high, spread.p_f, p)


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
    """As `spread_ratio`, from (standard deviation, n) of each arm; Brown-Forsythe needs the values and is NaN."""
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
    if len(x) < 2 or x.mean() == 0:
        return NAN
    return float(x.std(ddof=1) / abs(x.mean()))


def needed_n(
    cov_a: float, cov_b: float, effect: float, *, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """Repeats per arm that find a relative effect with the required power, by the two-sample t test.

    Power of the noncentral t, ncp = effect / sqrt((cov_a^2 + cov_b^2) / n) (Cohen, Statistical Power Analysis, 1988).
    None if a CoV is unknown or more than 10,000 repeats would be needed.
    """
    if math.isnan(cov_a) or math.isnan(cov_b) or effect <= 0:
        return None
    spread = math.hypot(cov_a, cov_b)
    if spread == 0:
        return 2
    low, high = 2, 2
    while _power(spread, effect, high, alpha) < power:
        low, high = high, high * 2
        if high > _MAX_N:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(spread, effect, middle, alpha) >= power else (middle, high)
    return high if _power(spread, effect, low, alpha) < power else low


def _power(spread: float, effect: float, n: int, alpha: float) -> float:
    df, ncp = 2 * (n - 1), effect * math.sqrt(n) / spread
    critical = float(scipy.stats.t.isf(alpha / 2, df))
    if ncp > critical + 8:
        return 1.0  # the noncentral t is imprecise this far out
    return float(scipy.stats.nct.sf(critical, df, ncp))


def min_samples(q: float) -> int:
    """Minimum samples for a two-sided, distribution-free interval of the q-th percentile (0 to 100).

    The largest of n samples lies above the percentile with 1 - (q/100)^n, which must reach (1 + 0.95) / 2:
    368 samples for p99, 72 for p95, 36 for p90 (David and Nagaraja, Order Statistics, 7.1).
    """
    share = max(q, 100 - q) / 100
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(share))
