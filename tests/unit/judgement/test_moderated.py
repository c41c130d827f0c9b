"""Variances shrunk over cells: what they gain, and that outliers and unequal spreads lose the gain."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rocbench.judgement.moderated import moderate


def drawn(sd: list[float], df: int, seed: int) -> np.ndarray:
    """Variances of normal data with these standard deviations."""
    rng = np.random.default_rng(seed)
    return np.array(sd) ** 2 * rng.chisquare(df, len(sd)) / df


def test_equal_spreads_are_pooled() -> None:
    """Cells alike give one another degrees of freedom."""
    medians = [np.median(moderate(drawn([0.01] * 12, 2, seed), np.full(12, 2.0)).df) for seed in range(50)]
    assert np.median(medians) > 12


def test_unequal_spreads_keep_their_own() -> None:
    """Cells that differ by a factor of 25 are not mixed."""
    sd = [0.002, 0.05] * 6
    found = [moderate(drawn(sd, 6, seed), np.full(12, 6.0)) for seed in range(50)]
    assert np.median([each.prior_df for each in found]) < 3
    ratio = np.median([each.variance[1] / each.variance[0] for each in found])
    assert ratio > 30


def test_no_variance_is_shrunk_below_its_own() -> None:
    """The noisiest cell keeps its own: the mean is a little above the truth, and no more."""
    own = [drawn([0.01] * 12, 2, seed) for seed in range(300)]
    shrunk = [moderate(each, np.full(12, 2.0)).variance for each in own]
    assert all((after >= before).all() for before, after in zip(own, shrunk, strict=True))
    assert 1.0 < np.mean(shrunk) / 1e-4 < 1.5


def test_one_group_stays_as_it_is() -> None:
    """There is nothing to borrow from."""
    found = moderate(np.array([4.0]), np.array([2.0]))
    assert (found.variance, found.df, found.prior_df) == (np.array([4.0]), np.array([2.0]), 0.0)


def test_cells_without_any_spread_stay_as_they_are() -> None:
    """A deterministic server has no variance to share."""
    assert moderate(np.zeros(5), np.full(5, 2.0)).variance.tolist() == [0.0] * 5


@given(
    st.lists(st.floats(0, 1e6), min_size=2, max_size=20),
    st.integers(1, 30),
)
def test_shrunk_variances_are_finite_and_between(variances: list[float], df: int) -> None:
    """Any variances give finite ones, and no more degrees of freedom than there are."""
    found = moderate(np.array(variances), np.full(len(variances), float(df)))
    assert np.isfinite(found.variance).all()
    assert (found.variance >= 0).all()
    assert (found.df <= df * len(variances) + 1e-9).all()
