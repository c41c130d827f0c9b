"""Change points of nightly series."""

from __future__ import annotations

import numpy as np
import pytest

from rocbench.judgement.trend import change_points


def test_two_steps_are_found_where_they_are():
    """A loss of 5 % and its repair, in noise of 1 %."""
    rng = np.random.default_rng(1)
    series = np.concatenate([np.full(20, 100.0), np.full(15, 95.0), np.full(15, 100.0)]) * rng.normal(
        1, 0.01, 50
    )
    points = change_points(series)
    assert [point.index for point in points] == pytest.approx([20, 35], abs=1)
    assert points[0].change == pytest.approx(-0.05, abs=0.01)


def test_noise_is_no_change():
    """Of 40 series of noise at the 1 % level hardly any has a change point."""
    rng = np.random.default_rng(2)
    found = sum(bool(change_points(rng.normal(100, 1, 30), permutations=299, seed=i)) for i in range(40))
    assert found <= 3


@pytest.mark.parametrize("series", [[], [1.0], [5.0] * 30, [1, 2, 3, 4]])
def test_short_or_constant_series_have_none(series):
    """Nothing to split, nothing found."""
    assert change_points(series) == []
