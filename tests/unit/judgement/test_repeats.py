"""Repeats of a cell as one line."""

from __future__ import annotations

import math

import pytest

from cellrows import cells, table
from rocbench import stats
from rocbench.judgement import until
from rocbench.judgement.repeats import summary


def line(frame, metric):
    """The one row of a summary."""
    return summary(frame, (metric,)).iloc[0]


def test_mean_interval_cov_and_n():
    """Student's interval over repeats, with its spread and how many there were."""
    frame = table(cells(1000, n=5))
    row = line(frame, "output_throughput")
    expected = stats.mean_interval(frame["output_throughput"].astype(float))
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )
    assert row["cov"] == pytest.approx(stats.cov(frame["output_throughput"].astype(float)))
    assert (row["n"], row["interval"]) == (5, "t")


def test_p99_of_too_few_requests_is_not_shown():
    """5 repeats of 80 requests are 400, and each p99 stands on 80: the note says how many it needs."""
    few = line(table(cells(900, metric="p99_ttft_ms", ttft_n=80)), "p99_ttft_ms")
    assert math.isnan(few["mean"])
    assert few["note"] == "a repeat has 80 requests, but 368 are needed"
    enough = line(table(cells(900, metric="p99_ttft_ms", ttft_n=400)), "p99_ttft_ms")
    assert enough["mean"] == pytest.approx(900, rel=0.02)
    assert enough["samples"] == 400


def test_many_repeats_of_a_percentile_have_the_same_interval():
    """Student's t at every number of repeats: a bootstrap of 10 covers 89 % where t covers 95 %."""
    row = line(table(cells(900, metric="p99_ttft_ms", n=12, ttft_n=400)), "p99_ttft_ms")
    assert row["interval"] == "t"
    assert row["low"] < row["mean"] < row["high"]


def test_one_repeat_has_the_interval_of_its_window():
    """It is not the interval between repeats, and the line says so; an upper end that is not known is absent."""
    ends = {"p99_ttft_low_ms": 850.0, "p99_ttft_high_ms": 960.0}
    row = line(table(cells(900, metric="p99_ttft_ms", n=1, ttft_n=400, **ends)), "p99_ttft_ms")
    assert (row["low"], row["high"], row["interval"]) == (850, 960, "within window")
    assert row["note"] == "one repeat; repeats differ by at least this much"
    ends["p99_ttft_high_ms"] = None
    row = line(table(cells(900, metric="p99_ttft_ms", n=1, ttft_n=400, **ends)), "p99_ttft_ms")
    assert row["low"] == 850
    assert math.isnan(row["high"])
    assert row["note"] == "one repeat; its window is too short for an upper end"
    two = line(table(cells(900, metric="p99_ttft_ms", n=2, ttft_n=400, **ends)), "p99_ttft_ms")
    assert two["interval"] == "t"


def test_one_repeat_without_that_interval_and_none():
    """One repeat has a figure without interval; a metric that was not measured has none."""
    row = line(table(cells(900, n=1)), "output_throughput")
    assert math.isnan(row["low"])
    assert row["note"] == "no interval, because there is one repeat"
    none = line(table(cells(900)), "median_ttft_ms")
    assert (none["note"], none["interval"]) == ("not measured", "")


def test_void_rows_are_left_out_and_counted():
    """An invalid repeat is no repeat."""
    frame = table(cells(900))
    frame.loc[0, "valid"] = False
    row = line(frame, "output_throughput")
    assert (row["n"], row["dropped"]) == (4, 1)


def test_repeats_that_could_end_early_have_a_wider_interval():
    """The rows say so (`until_max`); the spread is that of all cells, and other rows keep Student's interval."""
    fixed = table(cells(1000, concurrency=1, n=3), cells(2000, concurrency=2, n=3, seed=1))
    early = fixed.assign(until_max=10)
    figures = [list(group["output_throughput"]) for _, group in fixed.groupby("concurrency")]
    expected = until.intervals(figures)
    found = summary(early, ("output_throughput",))
    assert list(found["interval"]) == ["until", "until"]
    assert list(found["high"]) == pytest.approx([each.high for each in expected])
    assert list(summary(fixed, ("output_throughput",))["interval"]) == ["t", "t"]
