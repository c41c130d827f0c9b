"""Serial correlation of units: pooled, corrected for short series, and what it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rocbench.judgement import serial


def ar(rho, units, cells, seed):
    """Centred AR(1) series; shape (units, cells)."""
    rng = np.random.default_rng(seed)
    found = [rng.normal(size=cells)]
    for _ in range(units - 1):
        found.append(rho * found[-1] + math.sqrt(1 - rho**2) * rng.normal(size=cells))
    series = np.array(found)
    return series - series.mean(axis=0)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("units", [4, 10])
def test_short_series_show_the_true_correlation(rho, units):
    """Centring four repeats hides it from a naive estimate; the pooled one is right."""
    found = np.mean([serial.correlation([ar(rho, units, 48, seed)])[0] for seed in range(60)])
    assert found == pytest.approx(rho, abs=0.08)


def test_a_mean_of_ar_repeats_is_as_uncertain_as_said():
    """The factor turns s^2 / n into the variance of the mean."""
    rng, n, rho = np.random.default_rng(1), 6, 0.6
    series = [rng.normal(size=20_000)]
    for _ in range(n - 1):
        series.append(rho * series[-1] + math.sqrt(1 - rho**2) * rng.normal(size=20_000))
    y = np.array(series)
    naive = (y.var(axis=0, ddof=1) / n).mean()
    assert serial.inflation(rho, 0.0, n) == pytest.approx(y.mean(axis=0).var() / naive, rel=0.05)


def test_series_of_different_lengths_are_pooled():
    """Seven nights of one side and three of the other show the correlation together."""
    found = np.mean(
        [serial.correlation([ar(0.6, 7, 48, seed), ar(0.6, 3, 48, seed + 100)])[0] for seed in range(60)]
    )
    assert found == pytest.approx(0.6, abs=0.08)


def test_a_mean_of_few_is_judged_by_a_variance_of_many():
    """The spread of a long series is nearly the true one, so that the mean of three needs a smaller factor."""
    assert 1 < serial.inflation(0.6, 0.0, 3, [30]) < serial.inflation(0.6, 0.0, 3)
    assert serial.freedom(0.6, 0.0) == pytest.approx(0.64 / 1.36)
    assert serial.freedom(0.1, 0.2) == 1.0


@pytest.mark.parametrize(("rho", "error"), [(math.nan, math.nan), (0.1, 0.2), (-0.5, 0.1)])
def test_what_is_not_shown_costs_nothing(rho, error):
    """Unknown, uncertain or negative correlation leaves the interval as it is."""
    assert serial.inflation(rho, error, 5) == 1.0


def test_two_units_show_nothing():
    """Two points always lie on a line."""
    assert math.isnan(serial.correlation([ar(0.5, 2, 48, 1)])[0])
