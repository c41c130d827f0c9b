"""What must hold of every judgement, whatever the figures."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from cellrows import cells, table
from rocbench import stats
from rocbench.judgement.compare import compare
from rocbench.judgement.factorial import abba_order, arms
from rocbench.judgement.slo import Limit, Trial, next_step, saturation
from rocbench.judgement.verdicts import Settings
from rocbench.settings.goals import Search

figures = st.floats(1.0, 1e4)
repeats = st.lists(figures, min_size=1, max_size=8)
ONE = Settings(metrics=("output_throughput",))


def frame(values, concurrency=64):
    """One cell with these repeats."""
    made = cells(n=len(values), concurrency=concurrency)
    made["output_throughput"] = values
    return made


@given(st.lists(repeats, min_size=1, max_size=4), st.sampled_from([0.0, 0.02, 0.2]))
@settings(max_examples=25, deadline=None)
def test_a_against_itself_is_never_better_or_worse(values, min_effect):
    """compare(a, a) says same or cannot tell, for any figures."""
    a = table(*(frame(v, concurrency=i + 1) for i, v in enumerate(values)))
    words = set(compare(a, a, Settings(metrics=ONE.metrics, min_effect=min_effect)).table["verdict"])
    assert words <= {"same", "cannot tell"}


@given(st.lists(figures, min_size=2, max_size=8), st.lists(figures, min_size=2, max_size=8))
@settings(max_examples=25, deadline=None)
def test_swapping_sides_swaps_the_words(x, y):
    """better one way is worse the other way; effects are each other's inverse."""
    forth = compare(
        table(frame(x)), table(frame(y)), Settings(metrics=ONE.metrics, min_effect=0.0)
    ).table.iloc[0]
    back = compare(
        table(frame(y)), table(frame(x)), Settings(metrics=ONE.metrics, min_effect=0.0)
    ).table.iloc[0]
    opposite = {"better": "worse", "worse": "better", "cannot tell": "cannot tell", "same": "same"}
    assert back["verdict"] == opposite[forth["verdict"]]
    assert math.isclose(math.log1p(forth["effect"]), -math.log1p(back["effect"]), rel_tol=1e-6, abs_tol=1e-9)


@given(
    st.lists(figures, min_size=2, max_size=8), st.lists(figures, min_size=2, max_size=8), st.floats(0.1, 10)
)
@settings(max_examples=25, deadline=None)
def test_units_do_not_matter(x, y, scale):
    """Tokens or kilotokens per second: the effect and its interval are the same."""
    one, other = (
        compare(table(frame([v * s for v in x])), table(frame([v * s for v in y])), ONE).table.iloc[0]
        for s in (1.0, scale)
    )
    names = ["effect", "low", "high"]
    assert np.allclose(
        one[names].to_numpy(float), other[names].to_numpy(float), rtol=1e-4, atol=1e-9, equal_nan=True
    )


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_holm_only_ever_raises(p):
    """Adjusted p-values are at least the raw ones, at most 1, in the same order, and NaN where p is."""
    adjusted = stats.holm(p)
    known = [(a, b) for a, b in zip(p, adjusted, strict=True) if not math.isnan(a)]
    assert all(a <= b <= 1 for a, b in known)
    assert [math.isnan(a) for a in p] == [math.isnan(b) for b in adjusted]
    assert [b for _, b in sorted(known)] == sorted(b for _, b in known)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_intervals_hold_their_estimate(values):
    """The interval of a mean lies around it."""
    t = stats.mean_interval(values)
    assert t.low <= t.estimate <= t.high


@given(st.integers(1, 6), st.integers(1, 9), st.integers())
def test_every_repeat_runs_every_arm_once(n_arms, n_repeats, seed):
    """The interleaved order loses and doubles nothing, and returns the way it came."""
    order = abba_order(n_arms, n_repeats, seed)
    assert len(order) == n_arms * n_repeats
    for repeat in range(1, n_repeats + 1):
        mine = [arm for r, arm in order if r == repeat]
        assert sorted(mine) == list(range(n_arms))
        if repeat % 2 == 0:
            assert mine == [arm for r, arm in order if r == repeat - 1][::-1]


@given(
    st.dictionaries(
        st.sampled_from("abcd"), st.lists(st.integers(0, 5), min_size=2, max_size=3, unique=True), min_size=1
    ),
    st.sampled_from(["full", "one_at_a_time", "leave_one_out", "pairwise"]),
)
def test_every_factor_moves_in_every_design(factors, design):
    """In each design each factor is measured at its base and away from it."""
    found = arms(factors, design)
    for name, levels in factors.items():
        seen = {arm[name] for arm in found}
        assert levels[0] in seen
        assert len(seen) > 1


@given(st.floats(1, 4000), st.integers(1, 64), st.floats(0.02, 0.3))
@settings(deadline=None)
def test_the_search_brackets_any_capacity(capacity, low, step):
    """Whatever the capacity, the search ends with a level below it and, unless it reached the top, one above."""
    limit = Limit("p99_ttft_ms", "<=", 1.0)
    wanted = Search(slo={"p99_ttft_ms": 1.0}, low=low, high=4096, relative_step=step, max_measurements=200)
    trials = []
    for _ in range(200):
        found = next_step(trials, (limit,), wanted, whole=True)
        if found.level is None:
            break
        trials.append(Trial(found.level, {"p99_ttft_ms": 0.5 if found.level <= capacity else 2.0}))
    assert found.level is None
    if found.best is not None:
        assert found.best <= capacity
    if found.failed is not None:
        assert found.failed > capacity
        assert found.best is None or found.failed / found.best - 1 <= step or found.failed - found.best <= 1
    if capacity >= low:
        assert found.best is not None


@given(
    st.dictionaries(st.integers(1, 2000), st.lists(st.floats(1, 1e5), min_size=1, max_size=4), max_size=8),
    st.data(),
)
@settings(deadline=None, max_examples=25)
def test_saturation_only_speaks_of_delivered_levels(curve, data):
    """The knee and its interval are levels that were delivered, whatever the curve."""
    delivered = {level: data.draw(st.booleans()) for level in curve}
    found = saturation(curve, delivered)
    allowed = {level for level, ok in delivered.items() if ok} | {None}
    assert {found.level, found.low, found.high} <= allowed
    assert set(found.excluded) == {level for level, ok in delivered.items() if not ok}


@given(st.lists(figures, min_size=1, max_size=6), st.lists(figures, min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_voided_rows_change_nothing(x, y):
    """Adding void rows of any figure leaves every verdict and figure as it was."""
    a, b = table(frame(x)), table(frame(y))
    void = table(frame([v * 100 for v in y]))
    void["valid"] = False
    plain = compare(a, b, ONE).table.drop(columns=["dropped_b", "note"])
    soiled = compare(a, pd.concat([b, void], ignore_index=True), ONE).table.drop(
        columns=["dropped_b", "note"]
    )
    pd.testing.assert_frame_equal(plain, soiled)
