"""Intervals from within one window: exact where requests are independent, wider or open where they are not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats as st

from rocbench.tables import within
from rocbench.tables.metrics import summarise
from rocbench.tables.row import Row
from tablerows import answered, load

PATH = Path(__file__).parents[3] / "benchmarks" / "judgement_window.py"


@pytest.fixture(name="bench", scope="module")
def _bench():
    """The benchmark, as a module."""
    spec = importlib.util.spec_from_file_location("judgement_window", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("n", [368, 500, 1000, 4000, 20_000])
def test_the_ends_of_independent_requests_are_order_statistics(monkeypatch, n):
    """The nearest ranks that the number of requests below the p99 passes with at most 2.5 %, by the binomial distribution."""
    monkeypatch.setattr(within, "inflation", lambda _: 1.0)
    low, high = within.p99(np.random.default_rng(2).permutation(n) + 1.0)
    assert st.binom.cdf(low - 1, n, 0.99) <= 0.025 < st.binom.cdf(low, n, 0.99)
    assert st.binom.sf(high - 1, n, 0.99) <= 0.025
    assert high == n or st.binom.sf(high - 2, n, 0.99) > 0.025


def test_a_p99_of_too_few_requests_has_no_interval():
    """From 368 requests on, the largest lies above the p99 with 97.5 %."""
    values = np.random.default_rng(1).random(368)
    assert within.p99(values[1:]) == (None, None)
    low, _ = within.p99(values)
    assert 0.95 < low < np.quantile(values, 0.99)


def test_independent_requests_are_worth_nearly_their_number():
    """The largest of four estimates is a little above 1."""
    rng = np.random.default_rng(9)
    assert np.median([within.inflation(rng.random(4000)) for _ in range(50)]) == pytest.approx(1.2, abs=0.15)


def test_requests_that_share_their_latency_count_once():
    """Each latency 10 times in a row: 1,000 requests are worth 100, and 4 % of 100 are too few for an upper end."""
    once = np.random.default_rng(3).lognormal(size=4000)
    assert within.inflation(np.repeat(once, 10)) == pytest.approx(10 * within.inflation(once), rel=0.25)
    low, high = within.p99(np.repeat(once[:100], 10))
    assert low < np.quantile(once[:100], 0.99)
    assert high is None


def test_a_few_bursts_leave_the_upper_end_open():
    """The bulk is independent and shows nothing: the clusters of the slowest requests do."""
    rng = np.random.default_rng(4)
    values = rng.lognormal(0, 0.1, 4000)
    assert within.p99(values)[1] is not None
    for start in (700, 2900):
        values[start : start + 30] *= 3
    assert within.inflation(values) > 10
    assert within.p99(values)[1] is None


@given(
    some.lists(some.integers(0, 50), min_size=1, max_size=12),
    some.integers(368, 900),
    some.floats(0.001, 1e6),
)
@settings(max_examples=50)
def test_any_window_has_its_p99_between_its_ends(pattern, n, scale):
    """Ties, waves and constants too; the ends are latencies of the window, and scale with them."""
    values = np.resize(np.array(pattern, dtype=float), n)
    low, high = within.p99(values)
    assert low <= np.percentile(values, 99) <= (np.inf if high is None else high)
    assert low in values
    scaled = within.p99(values * scale)
    assert scaled[0] == pytest.approx(low * scale)
    assert (scaled[1] is None) == (high is None)
    assert within.inflation(values) >= 1


def test_the_error_of_throughput_is_students():
    """Independent seconds: about t(8) s / sqrt(n), and at most the widest of its three estimates."""
    errors = []
    for seed in range(50):
        seconds = np.random.default_rng(seed).normal(1000, 50, 300)
        error = within.relative_error(seconds)
        if error is not None:
            errors.append(error)
    assert len(errors) > 40
    assert np.median(errors) == pytest.approx(2.31 * 0.05 / np.sqrt(300), rel=0.25)


def test_a_window_that_is_short_for_its_changes_has_no_interval_of_throughput():
    """A drift, two states, few seconds, no tokens, and seconds without any spread."""
    noise = np.random.default_rng(5).normal(0, 5, 300)
    assert within.relative_error(1000 + noise) is not None
    assert within.relative_error(np.linspace(900, 1100, 300) + noise) is None
    assert within.relative_error(np.repeat([950.0, 1050.0, 950.0], 100) + noise) is None
    assert within.relative_error((1000 + noise)[:29]) is None
    assert within.relative_error([]) is None
    assert within.relative_error([0] * 60) is None
    assert within.relative_error([7] * 60) is None


def test_a_row_has_the_ends_and_the_interval_holds_its_figure():
    """The columns of a window of 800 requests in 60 s; without an upper end the interval is open."""
    rng = np.random.default_rng(6)
    rows = [answered(i * 60 / 800, t, 10, 11) for i, t in enumerate(rng.lognormal(5, 0.3, 800))]
    tokens = rng.poisson(146, 60)
    result = load(rows, end_s=60.0, output_tokens_in_window=int(tokens.sum()), tokens_per_second=tokens)
    row = Row(summarise(result, gpus=1))
    for column in ("output_throughput", "p99_ttft_ms", "p99_e2el_ms"):
        interval = row.within(column)
        assert interval.low < interval.estimate == row[column] < interval.high < 2 * interval.estimate
    assert row["p99_tpot_low_ms"] == row["p99_tpot_high_ms"] == row["p99_tpot_ms"] == 10
    opened = row | {"p99_ttft_high_ms": None}
    assert opened.within("p99_ttft_ms").high == np.inf
    stored_before = Row({"p99_ttft_ms": 100.0})
    assert np.isnan(stored_before.within("p99_ttft_ms").low)
    assert stored_before.within("p99_e2el_ms").n == 0


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("independent, lognormal", 1000),
        ("AR, 10 requests", 4000),
        ("queue at 50 %", 4000),
        ("queue at 80 %", 2000),
    ],
)
def test_the_interval_covers_the_p99(bench, name, n):
    """A sample of benchmarks/judgement_window.py: at least 92 % of 100 windows, less 2 standard errors."""
    values, truth = bench.LATENCIES[name](np.random.default_rng(7), 100, n)
    covers = 0
    for window in values:
        low, high = within.p99(window)
        covers += low <= truth and (high is None or truth <= high)
    assert covers >= 100 * (0.92 - 2 * np.sqrt(0.92 * 0.08 / 100))


@pytest.mark.parametrize(
    "name", ["independent", "AR, 2 s", "AR, 8 s", "two states, 3 s each", "waves of 12 s"]
)
def test_the_interval_covers_the_throughput(bench, name):
    """A sample of benchmarks/judgement_window.py with windows of 300 s, where an interval is shown."""
    values, truth = bench.THROUGHPUT[name](np.random.default_rng(8), 300, 300)
    found = [
        (window.mean(), error) for window in values if (error := within.relative_error(window)) is not None
    ]
    covers = sum(abs(mean - truth) <= mean * error for mean, error in found)
    assert len(found) > 20
    assert covers / len(found) >= 0.92 - 2 * np.sqrt(0.92 * 0.08 / len(found))
