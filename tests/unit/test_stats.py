"""Intervals, tests and sample sizes against textbook values and against their own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as st

from rocbench import stats


def test_t_interval_of_a_known_sample():
    """m +- t(0.975, 4) s / sqrt(5)."""
    interval = stats.mean_interval([9.8, 10.1, 10.0, 10.3, 9.8])
    half = 2.776445 * np.std([9.8, 10.1, 10.0, 10.3, 9.8], ddof=1) / math.sqrt(5)
    assert interval.estimate == pytest.approx(10.0)
    assert interval.half_width == pytest.approx(half, rel=1e-6)
    assert interval.n == 5


@pytest.mark.parametrize("values", [[], [3.0]])
def test_no_spread_no_interval(values):
    """Fewer than two values have no interval: absent, not zero."""
    interval = stats.mean_interval(values)
    assert math.isnan(interval.low)
    assert interval.n == len(values)


def test_welch_is_scipys():
    """Difference, interval and p are those of scipy's unequal-variance t test."""
    a, b = [10.1, 9.9, 10.2, 10.0], [10.9, 11.4, 10.2, 11.8, 11.0]
    own, scipy = stats.welch(a, b), st.ttest_ind(b, a, equal_var=False)
    assert own.p == pytest.approx(scipy.pvalue)
    assert (own.low, own.high) == pytest.approx(tuple(scipy.confidence_interval()))


def test_arms_without_spread_differ_for_certain_or_not():
    """A deterministic simulation: p is 0 or 1, and nothing divides by zero."""
    assert stats.welch([5, 5], [5, 5]).p == 1.0
    different = stats.welch([100, 100], [110, 110])
    assert different.p == 0.0
    assert different.low == different.high == pytest.approx(10)


def test_an_interval_beyond_all_figures_is_infinite():
    """An interval of logarithms may reach that far; it ends in no error."""
    assert stats.Effect(1.0, -1e4, 1e4, 0.5).relative().high == math.inf


def test_the_f_interval_of_spreads_by_hand():
    """From the moments of both sides; the F test of the values is the same."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 20), rng.normal(0, 3, 20)
    ratio = b.std(ddof=1) / a.std(ddof=1)
    spread = stats.spread_from_moments((a.std(ddof=1), 20), (b.std(ddof=1), 20))
    assert spread.ratio == pytest.approx(ratio)
    assert spread.low == pytest.approx(ratio / math.sqrt(st.f.ppf(0.975, 19, 19)))
    assert spread.high == pytest.approx(ratio * math.sqrt(st.f.ppf(0.975, 19, 19)))
    assert stats.spread_ratio([a], [b]).p_f == pytest.approx(2 * st.f.sf(ratio**2, 19, 19))


def test_the_ratio_of_spreads_by_hand():
    """Distances 1 and 2 against 4, 2 sqrt 2 and 6: the ratio of their means, with Welch's error of their logarithms."""
    spread = stats.spread_ratio([[1.0, 2.0, 4.0]], [[10.0, 12.0, 16.0, 20.0]])
    near, far = [1.0, 2.0], [4.0, 2 * math.sqrt(2), 6.0]
    assert spread.ratio == pytest.approx(np.mean(far) / np.mean(near))
    error = math.hypot(*(np.std(d, ddof=1) / np.mean(d) / math.sqrt(len(d)) for d in (near, far)))
    half = math.log(spread.high / spread.ratio)
    assert half == pytest.approx(math.log(spread.ratio / spread.low))
    assert st.t.ppf(0.975, 3) * error < half < st.t.ppf(0.975, 1) * error


def test_the_interval_of_spreads_covers_under_outliers():
    """A sample of benchmarks/judgement_spread.py: 1 in 10 values with 5 times the spread, n=10; F covers 66 %."""
    rng = np.random.default_rng(4)

    def values():
        return rng.normal(size=10) * np.where(rng.random(10) < 0.1, 5, 1)

    covers = f_covers = 0
    for _ in range(400):
        a, b = values(), 3 * values()
        spread = stats.spread_ratio([a], [b])
        covers += spread.low <= 3 <= spread.high
        f = stats.spread_from_moments((a.std(ddof=1), 10), (b.std(ddof=1), 10))
        f_covers += f.low <= 3 <= f.high
    assert covers >= 0.88 * 400
    assert f_covers < 0.75 * 400


def test_brown_forsythe_leaves_out_structural_zeros():
    """By hand for an odd and an even group: the median's own distance goes, two equal middle ones become one."""
    spread = stats.spread_ratio([[1.0, 2.0, 4.0]], [[10.0, 11.0, 15.0, 30.0]])
    root = math.sqrt(2)
    assert spread.p_brown_forsythe == pytest.approx(st.f_oneway([1, 2], [3, 2 * root, 17]).pvalue)


@pytest.mark.parametrize(("ratio", "low", "high"), [(1.0, 0.0, 0.08), (10.0, 0.3, 1.0)])
def test_brown_forsythe_at_five_repeats(ratio, low, high):
    """At n=5 it keeps its level, and finds a tenfold spread in a third of the cases or more."""
    rng = np.random.default_rng(6)
    p = [
        stats.spread_ratio([rng.normal(0, 1, 5)], [rng.normal(0, ratio, 5)]).p_brown_forsythe
        for _ in range(400)
    ]
    assert low <= np.mean(np.array(p) < 0.05) <= high


def test_group_means_are_no_spread():
    """Two groups at different levels vary no more than each does by itself."""
    a = [[1.0, 1.1, 0.9], [5.0, 5.1, 4.9]]
    spread = stats.spread_ratio(a, [[1.0, 1.1, 0.9, 1.0]])
    assert spread.ratio < 2
    assert math.isnan(stats.spread_ratio([[1.0]], a).ratio)


def test_holm_by_hand():
    """Sorted p-values times what is left, never falling; NaN is not counted."""
    adjusted = stats.holm([0.04, 0.01, float("nan"), 0.03])
    assert adjusted[1] == pytest.approx(0.03)
    assert adjusted[3] == pytest.approx(0.06)
    assert adjusted[0] == pytest.approx(0.06)
    assert math.isnan(adjusted[2])


@pytest.mark.parametrize(("q", "n"), [(99, 368), (95, 72), (90, 36), (50, 6)])
def test_least_samples_of_a_percentile(q, n):
    """The minimum n whose largest value is above the percentile often enough."""
    assert stats.min_samples(q) == n


def test_cov():
    """Standard deviation over mean; absent for one value."""
    assert stats.cov([99, 101]) == pytest.approx(math.sqrt(2) / 100)
    assert math.isnan(stats.cov([5.0]))


def test_infinite_figures_have_no_spread():
    """Without a warning."""
    assert math.isnan(stats.cov([1.0, math.inf]))
    assert stats.mean_interval([1.0, math.inf]).estimate == math.inf
    assert math.isnan(stats.mean_interval([1.0, math.inf]).low)
