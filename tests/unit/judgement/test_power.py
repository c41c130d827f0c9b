"""The chance of a verdict, and the repeats it needs: against the noncentral t, and against verdicts that were counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rocbench.judgement import power

KNOWN = math.inf


@pytest.mark.parametrize(("n", "cells", "effect"), [(3, 2, 0.05), (3, 12, 0.03), (6, 1, 0.02), (20, 4, 0.01)])
@pytest.mark.parametrize("paired", [True, False])
def test_without_a_minimum_it_is_the_noncentral_t(n: int, cells: int, effect: float, paired: bool) -> None:
    """Known spread: Cohen's power, at Holm's strictest level over 10 verdicts."""
    df = cells * (n - 1) * (1 if paired else 2)
    shift = math.log1p(effect) * math.sqrt(n) / 0.015
    expected = scipy.stats.nct.sf(scipy.stats.t.isf(0.0025, df), df, shift)
    found = power.chance(0.015, KNOWN, effect, n, paired=paired, cells=cells, tests=10)
    assert found == pytest.approx(expected, abs=0.004)


def counted(truth: float, effect: float, n: int, least: float, seed: int) -> float:
    """Share of 4,000 paired t tests (one cell, 5 %) that tell an effect of at least `least`."""
    pairs = np.random.default_rng(seed).normal(math.log1p(effect), truth, (4000, n))
    mean, error = pairs.mean(axis=1), pairs.std(axis=1, ddof=1) / math.sqrt(n)
    return float(np.mean((mean / error > scipy.stats.t.isf(0.025, n - 1)) & (mean >= math.log1p(least))))


def test_the_minimum_effect_costs_what_it_costs() -> None:
    """An estimate below the minimum is no verdict, however certain it is."""
    for n, effect, least in ((4, 0.03, 0.02), (9, 0.025, 0.02), (9, 0.02, 0.02), (4, 0.03, 0.0)):
        found = power.chance(0.01, KNOWN, effect, n, paired=True, min_effect=least)
        assert found == pytest.approx(counted(0.01, effect, n, least, n), abs=0.03)


@pytest.mark.parametrize("df", [2, 4, 12])
def test_a_spread_from_few_repeats_delivers_what_is_promised(df: int) -> None:
    """80 % promised, 80 to 88 counted (n is whole); with the spread put in as if known, 2 df deliver less than 70."""
    rng = np.random.default_rng(df)
    spreads = 0.02 * np.sqrt(rng.chisquare(df, 150) / df)
    for behind, low, high in ((float(df), 0.78, 0.88), (KNOWN, 0.5, 0.82 if df > 2 else 0.7)):
        plans = [power.needed(sd, behind, 0.02, paired=True) for sd in spreads]
        true = [power.chance(0.02, KNOWN, 0.02, n, paired=True) if n else 1.0 for n in plans]
        assert low < np.mean(true) < high, (behind, np.mean(true))


def test_same_and_pass_are_counted_too() -> None:
    """An interval within a margin, on both sides and on one."""
    rng = np.random.default_rng(3)
    pairs = rng.normal(0, 0.01, (4000, 5))
    mean, error = pairs.mean(axis=1), pairs.std(axis=1, ddof=1) / math.sqrt(5)
    top = mean + scipy.stats.t.isf(0.025, 4) * error
    bottom = 2 * mean - top
    margin = math.log1p(0.02)
    for outcome, share in (
        ("within", np.mean((top < margin) & (bottom > -margin))),
        ("below", np.mean(top < margin)),
    ):
        assert power.chance(0.01, KNOWN, 0.02, 5, outcome=outcome, paired=True) == pytest.approx(
            share, abs=0.03
        )


@settings(max_examples=30)
@given(
    sd=st.floats(1e-4, 0.2),
    df=st.one_of(st.integers(1, 60).map(float), st.just(KNOWN)),
    effect=st.floats(0.005, 0.5),
    cells=st.integers(1, 24),
    tests=st.integers(1, 100),
    paired=st.booleans(),
)
def test_needed_is_the_first_that_is_enough(
    sd: float, df: float, effect: float, cells: int, tests: int, paired: bool
) -> None:
    """One repeat fewer is not enough, and the effect that n tells is at most the effect n was planned for."""
    n = power.needed(sd, df, effect, cells=cells, tests=tests, paired=paired, min_effect=0.002)
    assume(n is not None)
    assert n is not None
    assert power.chance(sd, df, effect, n, cells=cells, tests=tests, paired=paired, min_effect=0.002) >= 0.8
    assert (
        n == 2
        or power.chance(sd, df, effect, n - 1, cells=cells, tests=tests, paired=paired, min_effect=0.002)
        < 0.8
    )
    told = power.detectable(sd, df, n, cells=cells, tests=tests, paired=paired, min_effect=0.002)
    assert told <= effect * (1 + 1e-4)
    assert (
        power.needed(sd * 1.5, df, effect, cells=cells, tests=tests, paired=paired) is None
        or (
            power.needed(sd * 1.5, df, effect, cells=cells, tests=tests, paired=paired, min_effect=0.002) or n
        )
        >= n
    )


def test_more_looks_and_more_verdicts_cost_power() -> None:
    """Each spends a part of the error."""
    plain = power.detectable(0.01, KNOWN, 4, paired=True, cells=6)
    looked = power.detectable(0.01, KNOWN, 4, paired=True, cells=6, looks=5)
    many = power.detectable(0.01, KNOWN, 4, paired=True, cells=6, tests=48)
    assert plain < looked < many


def test_cells_that_share_little_add_little() -> None:
    """The prior's degrees of freedom stand between a cell alone and all cells as one."""
    alone = power.detectable(0.01, KNOWN, 3, paired=True)
    some = power.detectable(0.01, KNOWN, 3, paired=True, cells=12, prior_df=4)
    together = power.detectable(0.01, KNOWN, 3, paired=True, cells=12)
    assert together < some < alone


def test_the_unknown_stays_unknown() -> None:
    """No spread, no repeats, an effect at the minimum."""
    assert power.needed(math.nan, 4, 0.02, paired=True) is None
    assert power.needed(0.01, 0, 0.02, paired=True) is None
    assert power.needed(0.01, 4, 0.02, paired=True, min_effect=0.02) is None
    assert math.isnan(power.detectable(0.01, 4, 1, paired=True))
    assert power.needed(0.0, 4, 0.02, paired=True) == 2
    assert power.detectable(0.0, 4, 2, paired=True, min_effect=0.02) == pytest.approx(0.02)
