"""How far units of measurement scatter, and how sure a difference between two sides is. Pure.

A unit is what varied between the sides: a pair of repeats in one run, or a night (`design` finds it). With y the
logarithm of a figure, unit u and cell c:

    y[u, c] = level of the cell + common[u] + own[u, c]

`common` moves all cells of a unit together (the clock state of a night, a slow server start), `own` one cell alone. A
run has many cells but few units, so the two parts are known to different degrees: with U units and C cells, `common`
with U - 1 degrees of freedom, `own` with about (U - 1)(C - 1), shrunk over the cells (`moderated`). The variance of a
unit's figure is the sum of both, and its degrees of freedom follow from the parts (Satterthwaite, Biometrics Bulletin 2,
1946). Because few units may by chance agree, the degrees of freedom are computed as if `common` were at the upper
end of what it may be (`_CAUTION`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from rocbench import stats
from rocbench.judgement.moderated import moderate
from rocbench.records import FloatArray

_CAUTION = 0.3
"""Quantile of chi-square at which the common part is taken for the degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Scatter:
    """The variance of one unit's figure, by cell; NaN where no two units are known."""

    variance: FloatArray
    """Shape (cells,), squared logarithms."""
    df: FloatArray
    """Its degrees of freedom for intervals, with caution for the common part."""
    plain_df: FloatArray
    """The same without caution: what to expect of further units."""
    pooling: FloatArray
    """Degrees of freedom that each further unit adds: 1, or more as far as cells share a variance."""
    common_share: float
    """Share of the variance that moves all cells of a unit together, on average."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two sides by cell: logarithms, squared standard error, degrees of freedom. Shape (cells,)."""

    estimate: FloatArray
    error2: FloatArray
    df: FloatArray
    unit: Scatter
    """The variance of a pair's difference, or of one night's figure."""

    def effect(self, cell: int, confidence: float = stats.CONFIDENCE) -> stats.Effect:
        """One cell's difference with its interval and p-value; NaN ends where the spread is unknown."""
        estimate, error2, df = (float(x[cell]) for x in (self.estimate, self.error2, self.df))
        if np.isnan(error2):
            return stats.Effect(estimate, stats.NAN, stats.NAN, stats.NAN)
        error = float(np.sqrt(error2))
        if error <= 1e-12 * max(abs(estimate), 1e-3):
            return stats.Effect(estimate, estimate, estimate, 1.0 if abs(estimate) < 1e-12 else 0.0, df)
        half = float(scipy.special.stdtrit(df, (1 + confidence) / 2)) * error
        p = float(2 * scipy.special.stdtr(df, -abs(estimate) / error))
        return stats.Effect(estimate, estimate - half, estimate + half, p, df)


def scatter(groups: Sequence[FloatArray], pattern: Pattern | None = None) -> Scatter:
    """The variance of a unit's figure, from groups of units that have the same true figures.

    Args:
        groups: each of shape (units, cells), NaN where a cell was not measured; groups of one unit tell nothing.
        pattern: how unequal the cells are, if more is known of it than `groups` show.
    """
    parts = [_parts(group) for group in groups]
    common_sum = sum(part.common_sum for part in parts)
    common_df = sum(part.common_df for part in parts)
    own_sum = np.sum([part.own_sum for part in parts], axis=0)
    own_df = np.sum([part.own_df for part in parts], axis=0)
    cells, known = len(own_df), own_df > 0
    nothing = np.full(cells, stats.NAN)
    if not known.any():
        return Scatter(nothing, nothing, nothing, nothing, stats.NAN)
    if known.sum() == 1:
        variance, freedom = (np.where(known, x, stats.NAN) for x in (common_sum / common_df, common_df))
        return Scatter(variance, freedom, freedom, np.ones(cells), stats.NAN)
    own, df = nothing.copy(), nothing.copy()
    own[known], df[known] = _own(own_sum[known], own_df[known], _of(pattern, known))
    whole = np.sum([part.whole_sum for part in parts], axis=0)
    twice = _twice_covariance(own[known])
    least = float(np.mean(own[known])) / (int(known.sum()) - 1)
    common = max(common_sum / common_df, least)  # the mean over cells of `own` moves it at least so far
    upper = common * common_df / float(scipy.special.chdtri(common_df, 1 - _CAUTION))
    freedom, plain = (_of_the_sum(part, common_df, own, df) for part in (upper, common))
    mean = float(np.mean(own[known])) + common
    own[known] += twice
    if known.sum() == 2:
        # The own parts of two cells are the same, so that only the repeats say which is noisy.
        own[known] = np.maximum(own, whole / np.maximum(own_df, 1) - common)[known]
    return Scatter(
        common + own, freedom, plain, np.maximum(plain / common_df, 1.0), common / mean if mean else stats.NAN
    )


def _of_the_sum(common: float, common_df: float, own: FloatArray, df: FloatArray) -> FloatArray:
    """Degrees of freedom of a sum of variances (Satterthwaite): of the common part alone where both are 0."""
    whole = common + own
    # By shares, because the square of a tiny variance is 0.
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (common / whole) ** 2 / common_df + (own / whole) ** 2 / df
    return np.where(whole == 0, common_df, 1 / shares)


def _twice_covariance(own: FloatArray) -> FloatArray:
    """Twice the covariance of a noisy cell's own part with the common part, to which it adds its share; at least 0.

    With cell variances v of sum S, the own parts have variances v (1 - 2 / C) + S / C^2, so that v follows from them. In
    equal cells the parts are independent.
    """
    cells = len(own)
    if cells < 3:
        return np.zeros(cells)
    total = own.sum() / (1 - 1 / cells)
    each = (own - total / cells**2) / (1 - 2 / cells)
    return np.asarray(np.maximum(2 * (each - total / cells) / cells, 0.0))


@dataclass(frozen=True, slots=True)
class _Parts:
    """A group's deviations: sums of squares and degrees of freedom of the common part, and by cell of the own parts."""

    common_sum: float
    common_df: float
    own_sum: FloatArray
    own_df: FloatArray
    whole_sum: FloatArray
    """Sums of squares by cell of both parts together."""
    rest: FloatArray
    """Own parts, shape (units, cells); 0 where unknown."""


def _parts(group: FloatArray) -> _Parts:
    known = ~np.isnan(group)
    counts = known.sum(axis=0)
    known &= counts > 1
    per_unit = known.sum(axis=1)
    units = per_unit > 0
    if units.sum() < 2:
        nothing = np.zeros(group.shape[1])
        return _Parts(0.0, 0.0, nothing, nothing, nothing, np.zeros(group.shape))
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(known, group - np.nansum(group, axis=0) / counts, 0.0)
        shift = np.where(units, centred.sum(axis=1) / per_unit, 0.0)
    rest = np.where(known, centred - shift[:, None], 0.0)
    df = np.where(counts > 1, counts - 1.0, 0.0)
    own, whole = (np.sum(each**2, axis=0) for each in (rest, centred))
    return _Parts(float(np.sum(shift**2)), float(units.sum()) - 1, own, df, whole, rest)


def _own(sums: FloatArray, df: FloatArray, pattern: Pattern | None) -> tuple[FloatArray, FloatArray]:
    """Variances of the own parts, shrunk over cells, and their degrees of freedom."""
    share = 1 - 1 / len(sums)
    if pattern is None or not sums.any():
        shrunk = moderate(sums / (df * share), df * share)
        return shrunk.variance * share, shrunk.df
    known, known_df = pattern.relative, pattern.df
    if (known_df < df * share).any():
        known, known_df = sums / sums.mean(), df * share
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = moderate(np.nan_to_num(known / pattern.expected), known_df)
        shape = relative.variance * pattern.expected
        each = np.where(shape > 0, sums / shape, sums)
    # If the noisiest cell's few differences agree by chance, the ratio of sums is too small for all cells. So the mean of
    # ratios, in which that cell is one of many, is the least that counts.
    level = max(float(sums.sum()), float(each.sum())) / (df.sum() * share)
    return level * shape * share, np.minimum(relative.df, pattern.expected_df)


@dataclass(frozen=True, slots=True)
class Pattern:
    """How unequal the cells of one metric are. Shape (cells,)."""

    relative: FloatArray
    """Variance by cell relative to the mean over cells, as seen."""
    df: FloatArray
    expected: FloatArray
    """The same as far as all metrics together expect it: a cell that is noisy in one metric mostly is in others."""
    expected_df: FloatArray
    """Its degrees of freedom: metrics that mirror each other agree on a cell's noise, and know no more of it than one."""


def _of(pattern: Pattern | None, known: npt.NDArray[np.bool_]) -> Pattern | None:
    """The pattern of some of the cells."""
    if pattern is None or known.all():
        return pattern
    relative, expected = pattern.relative[known], pattern.expected[known]
    if not relative.any():
        return None
    return Pattern(
        relative / relative.mean(), pattern.df[known], expected / expected.mean(), pattern.expected_df[known]
    )


def patterns(metrics: Sequence[Sequence[FloatArray]]) -> list[Pattern | None]:
    """The patterns of metrics that were measured together.

    Args:
        metrics: for each metric the same groups of units, each of shape (units, cells): the arms of a comparison.
    """
    parts = [[_parts(group) for group in groups] for groups in metrics]
    seen = [_relative(part) for part in parts]
    usable = [each for each in seen if each is not None]
    if not usable:
        return [None] * len(seen)
    together = np.mean([relative for relative, _ in usable], axis=0)
    df = np.mean([df for _, df in usable], axis=0) * _independent(parts)
    shrunk = moderate(together, df)
    expected = shrunk.variance / shrunk.variance.mean()
    return [None if each is None else Pattern(*each, expected, shrunk.df) for each in seen]


def _relative(parts: Sequence[_Parts]) -> tuple[FloatArray, FloatArray] | None:
    """Variances by cell over their mean, pooled over groups, and their degrees of freedom; None if unknown."""
    used = [part for part in parts if part.own_sum.sum() > 0]
    freedom = np.sum([part.own_df for part in used], axis=0)
    if not used or (freedom == 0).any() or len(freedom) < 2:
        return None
    sums = np.sum([part.own_sum * (part.own_df.sum() / part.own_sum.sum()) for part in used], axis=0)
    return sums / freedom, freedom * (1 - 1 / len(freedom))


def _independent(metrics: Sequence[Sequence[_Parts]]) -> float:
    """How many metrics with independent noise are worth as much: m^2 / sum of squared correlations."""
    rests = np.array([np.concatenate([part.rest.ravel() for part in parts]) for parts in metrics])
    rests = rests[np.sum(rests**2, axis=1) > 0]
    if len(rests) < 2:
        return 1.0
    scaled = rests / np.sqrt(np.sum(rests**2, axis=1, keepdims=True))
    return float(len(rests) ** 2 / np.sum((scaled @ scaled.T) ** 2))


def paired(differences: FloatArray, pattern: Pattern | None = None, inflation: float = 1.0) -> Difference:
    """The mean of differences within pairs.

    Args:
        differences: shape (pairs, cells), NaN where a cell has no pair.
        pattern: how unequal the cells are, by the figures of the arms.
        inflation: factor of the variance of a mean, because successive pairs are alike.
    """
    unit = scatter([differences], pattern)
    counts = np.sum(~np.isnan(differences), axis=0)
    return Difference(means(differences), unit.variance * inflation / np.maximum(counts, 1), unit.df, unit)


@dataclass(frozen=True, slots=True)
class Alike:
    """What it costs the means of two sides that successive units are alike."""

    correlation: float = stats.NAN
    inflation: tuple[float, float] = (1.0, 1.0)
    """Factor of the variance of each side's mean."""
    freedom: float = 1.0
    """Factor of the degrees of freedom."""


def two_samples(
    a: FloatArray,
    b: FloatArray,
    groups: Sequence[FloatArray],
    noise: tuple[Noise, Noise],
    pattern: Pattern | None = None,
    fewer: tuple[Noise, Noise] | None = None,
    alike: Alike | None = None,
) -> Difference:
    """mean(b) - mean(a) of units that are not paired.

    Args:
        a: shape (units, cells).
        b: shape (units, cells).
        groups: the units that show how far units scatter: of each side with its past, shape (units, cells) each.
        noise: what the repeats within a unit say of each side: a side noisier than the other has a larger error.
        pattern: how unequal the cells are.
        fewer: what each side's units scatter more than those of `groups`, because they have fewer repeats (`shortage`).
        alike: what it costs that successive units are alike.
    """
    unit = scatter(groups, pattern)
    n_a, n_b = (np.maximum(np.sum(~np.isnan(side), axis=0), 1) for side in (a, b))
    alike = alike or Alike()
    error2 = unit.variance * (alike.inflation[0] / n_a + alike.inflation[1] / n_b)
    df = np.maximum(unit.df * alike.freedom, 1.0)
    noise_a, noise_b = noise
    above = [noise_a.above(noise_b), noise_b.above(noise_a)]
    if fewer is not None:
        above = [one.larger(other) for one, other in zip(above, fewer, strict=True)]
    for more, n in zip(above, (n_a, n_b), strict=True):
        error2, df = added(error2, df, more.variance / n, more.df)
    return Difference(means(b) - means(a), error2, df, unit)


def added(
    error2: FloatArray, df: FloatArray, more: FloatArray, more_df: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The sum of two squared errors, and its degrees of freedom (Satterthwaite)."""
    total = error2 + more
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = total**2 / (error2**2 / df + more**2 / more_df)
    return total, np.where(more > 0, freedom, df)


@dataclass(frozen=True, slots=True)
class Noise:
    """The variance of a unit's mean by the repeats within it, and its degrees of freedom. Shape (cells,)."""

    variance: FloatArray
    df: FloatArray

    def or_else(self, other: Noise) -> Noise:
        """This side, and the other where this one is unknown."""
        unknown = np.isnan(self.variance)
        return Noise(np.where(unknown, other.variance, self.variance), np.where(unknown, other.df, self.df))

    def above(self, other: Noise) -> Noise:
        """What this side has more than the other; 0 where it has less, or where one of them is unknown."""
        more = np.nan_to_num(np.maximum(self.variance - other.variance, 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            df = more**2 / (self.variance**2 / self.df + other.variance**2 / other.df)
        return Noise(more, np.where(np.isfinite(df) & (df > 0), np.maximum(df, 1.0), 1.0))

    def larger(self, other: Noise) -> Noise:
        """The larger of two, by cell."""
        ours = self.variance >= other.variance
        return Noise(np.where(ours, self.variance, other.variance), np.where(ours, self.df, other.df))


def noise_within(units: Sequence[FloatArray], pattern: Pattern | None = None) -> Noise:
    """The variance of units' means by their repeats: `noise_of_repeats` over the repeats of a unit."""
    noise = noise_of_repeats(units, pattern)
    return Noise(noise.variance * _inverse(units), noise.df)


def noise_of_repeats(units: Sequence[FloatArray], pattern: Pattern | None = None) -> Noise:
    """The variance of one repeat within units, shrunk over cells; NaN if no unit has two repeats.

    Args:
        units: each of shape (repeats, cells), NaN where absent.
        pattern: how unequal the cells are.
    """
    parts = [_parts(unit) for unit in units]
    whole = np.sum([part.whole_sum for part in parts], axis=0)
    df = np.sum([part.own_df for part in parts], axis=0)
    known, cells = df > 0, len(df)
    variance, freedom = np.full(cells, stats.NAN), np.full(cells, stats.NAN)
    if known.sum() > 1:
        own = np.sum([part.own_sum for part in parts], axis=0)
        shrunk, degrees = _own(own[known], df[known], _of(pattern, known))
        common = float(whole.sum() / df.sum()) - float(own.sum() / df.sum())
        variance[known], freedom[known] = shrunk + common, degrees
    elif known.any():
        variance[known], freedom[known] = whole[known] / df[known], df[known]
    # Half the degrees of freedom: the part that all cells share is known from the few repeats alone.
    return Noise(variance, np.maximum(freedom / 2, np.minimum(freedom, 1.0)))


def _inverse(units: Sequence[FloatArray]) -> FloatArray:
    """Mean of 1 / repeats over units, by cell; 0 without repeats."""
    counts = np.array([np.sum(~np.isnan(unit), axis=0) for unit in units])
    return np.asarray(
        np.sum((counts > 0) / np.maximum(counts, 1), axis=0) / np.maximum(np.sum(counts > 0, axis=0), 1)
    )


def shortage(
    side: Sequence[FloatArray], others: Sequence[FloatArray], pattern: Pattern | None = None
) -> Noise:
    """What a side's units scatter more than the units whose scatter is known, because they have fewer repeats; 0 if not.

    Args:
        side: its units, each of shape (repeats, cells), NaN where absent.
        others: the units whose scatter is known.
        pattern: how unequal the cells are.
    """
    noise, usual = noise_within(others, pattern), _inverse(others)
    with np.errstate(invalid="ignore", divide="ignore"):
        more = np.nan_to_num(noise.variance / usual * np.maximum(_inverse(side) - usual, 0.0))
    return Noise(more, np.where(np.isfinite(noise.df), np.maximum(noise.df, 1.0), 1.0))


def rest(group: FloatArray) -> FloatArray:
    """A group's own parts: without the level of the cell and the common part of the unit; 0 where unknown."""
    return _parts(group).rest


def centred(values: FloatArray) -> FloatArray:
    """Values without their mean by column."""
    return values - means(values)


def means(values: FloatArray, axis: int = 0) -> FloatArray:
    """Means by column (or by row, axis 1) of what is known; NaN if nothing is."""
    counts = np.sum(~np.isnan(values), axis=axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nansum(values, axis=axis) / counts, dtype=float)
