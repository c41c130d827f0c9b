"""Intervals of repeats that ended when they were narrow: they cover the truth all the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rocbench import stats
from rocbench.judgement import looks, until


def ended(figures: np.ndarray, goal: float) -> tuple[float, float]:
    """(Share of cells whose interval holds 1, mean repeats) of one run with looks at 3, 4, 6, 8, ...; as a sweep does."""
    count = np.full(len(figures), 3)
    going = np.ones(len(figures), bool)
    for look in looks.schedule(3, figures.shape[1]):
        count[going] = look
        found = until.intervals([list(row[:n]) for row, n in zip(figures, count, strict=True)])
        going &= [each.relative_half_width > goal for each in found]
    return float(np.mean([each.low <= 1 <= each.high for each in found])), float(count.mean())


@pytest.mark.parametrize(
    ("cells", "spread", "repeats"), [(12, 0.02, 7.5), (12, 0.03, 11.5), (1, 0.02, 9), (1, 0.015, 7.5)]
)
def test_an_early_end_does_not_cost_coverage(cells: int, spread: float, repeats: float) -> None:
    """At +-2 % and up to 12 repeats; today's t interval after each repeat covers 83 to 92 %."""
    rng = np.random.default_rng(7)
    runs = [ended(1 + spread * rng.standard_normal((cells, 12)), 0.02) for _ in range(1200 // cells // 2)]
    covered, used = np.mean(runs, axis=0)
    assert covered > 0.935  # 600 intervals: 95 % less 1.7 standard errors
    assert used < repeats


def test_unequal_spreads_are_covered_each_by_its_own() -> None:
    """Cells from 0.6 to 6 %: the loud ones too."""
    rng = np.random.default_rng(8)
    spread = np.geomspace(0.006, 0.06, 12)[:, None]
    covered = np.mean([ended(1 + spread * rng.standard_normal((12, 12)), 0.02)[0] for _ in range(60)])
    assert covered > 0.935


def test_the_interval_lies_around_the_mean_in_its_unit() -> None:
    """Spreads are shared as shares of the mean; the interval is in tokens/s or milliseconds again."""
    slow, fast = until.intervals([[10.0, 10.1, 9.9], [1000.0, 1010.0, 990.0]])
    assert slow.estimate == pytest.approx(10)
    assert fast.half_width == pytest.approx(100 * slow.half_width)
    plain = stats.mean_interval([10.0, 10.1, 9.9])
    assert until.intervals([[10.0, 10.1, 9.9]])[0].half_width > plain.half_width


def test_without_repeats_or_mean_there_is_no_interval() -> None:
    """One repeat, none, and a mean of 0: absent, not zero."""
    one, none, zero = until.intervals([[5.0], [], [0.0, 0.0]])
    assert (one.estimate, one.n, none.n, zero.estimate) == (5.0, 1, 0, 0.0)
    assert all(math.isnan(each.low) for each in (one, none, zero))


def test_equal_figures_have_an_interval_of_no_width() -> None:
    """A deterministic server."""
    (each,) = until.intervals([[7.0, 7.0, 7.0]])
    assert (each.low, each.high) == (7.0, 7.0)
