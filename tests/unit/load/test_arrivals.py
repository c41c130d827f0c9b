"""Intended send times are a pure function of rate, arrival, burstiness and seed."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.load.arrivals import intended_ns

KINDS = st.sampled_from(["constant", "poisson", "gamma"])


def times(rate, arrival, burstiness=1.0, seed=0, count=5000):
    """The first `count` times as an array of ns."""
    return np.array(list(islice(intended_ns(rate, arrival, burstiness, seed), count)))


@given(rate=st.floats(0.1, 5000), arrival=KINDS, burstiness=st.floats(0.1, 5), seed=st.integers(0, 2**63 - 1))
def test_times_never_decrease_and_repeat_with_the_seed(rate, arrival, burstiness, seed):
    """Times are in order, not before the start, and the same for the same seed."""
    first = times(rate, arrival, burstiness, seed, 300)
    assert (np.diff(first) >= 0).all()
    assert first[0] >= 0
    assert (first == times(rate, arrival, burstiness, seed, 300)).all()


@pytest.mark.parametrize(
    ("arrival", "burstiness", "cv"), [("constant", 1, 0), ("poisson", 1, 1), ("gamma", 0.25, 2)]
)
def test_gaps_have_the_rate_and_the_spread(arrival, burstiness, cv):
    """The mean gap is 1 / rate; its coefficient of variation is 1 / sqrt(burstiness)."""
    gaps = np.diff(times(40.0, arrival, burstiness, seed=3, count=40_000)) / 1e9
    assert gaps.mean() == pytest.approx(1 / 40, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.06)


def test_seeds_differ():
    """Another seed gives other times."""
    assert (times(10, "poisson", seed=1) != times(10, "poisson", seed=2)).any()
