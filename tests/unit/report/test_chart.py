"""Ticks and figures as text."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from rocbench.report.chart import figure, log_ticks, spread_ticks, tick_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "-"),
        (0, "0.00"),
        (0.0629, "0.0629"),
        (0.9999999, "1.00"),
        (9.784, "9.78"),
        (64.0, "64.0"),
        (1234.5, "1,234"),
        (12_345_678, "12,345,678"),
    ],
)
def test_figures_keep_three_digits(value, text):
    """A figure is as exact as it is read, and an absent one is a dash."""
    assert figure(value) == text


def test_tick_labels_never_touch():
    """Of close levels only those are named that have room; the highest always is."""
    levels = (1.0, 500.0, 700.0, 750.0, 1000.0)
    kept = spread_ticks(levels, log=True)
    assert kept[0] == 1.0
    assert kept[-1] == 1000.0
    gaps = [math.log10(b) - math.log10(a) for a, b in pairwise(kept)]
    assert min(gaps) >= 0.11 * 3


def test_log_ticks_are_few():
    """1-2-5 steps over two decades, powers of ten alone over eight."""
    assert {1, 2, 5, 10, 20, 50, 100} <= set(log_ticks([1, 99]))
    many = log_ticks([1, 1e8])
    assert all(math.log10(tick).is_integer() for tick in many)
    assert log_ticks([None, 0.0]) == ()


def test_tick_text():
    """Large numbers are short, small ones exact."""
    assert [tick_text(v) for v in (0.05, 20, 1000, 100_000, 2e6)] == ["0.05", "20", "1,000", "100k", "2M"]
