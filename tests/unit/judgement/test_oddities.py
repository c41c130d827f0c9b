"""What is odd about the noise: found where it was planted, and not where it was not."""

from __future__ import annotations

import numpy as np
import pytest

from rocbench.judgement.oddities import oddities, successive


def quiet(seed, units=5):
    """Independent noise of 1 %, two sides of 12 cells."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.01, (units, 12)) for _ in range(2)]


def kinds(groups):
    """The kinds that are found."""
    return {odd.kind for odd in oddities("output_throughput", groups)}


def test_quiet_noise_is_not_odd():
    """In at most one of 40 runs."""
    assert sum(bool(kinds(quiet(seed))) for seed in range(40)) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_trend_is_named(seed):
    """Four per cent over the run, in all cells."""
    groups = [group + np.linspace(0, 0.04, 5)[:, None] for group in quiet(seed)]
    assert "trend" in kinds(groups)


@pytest.mark.parametrize("seed", range(5))
def test_two_states_are_named_with_their_distance(seed):
    """Half of the measurements are 6 % apart from the others."""
    rng = np.random.default_rng(100 + seed)
    groups = [group + 0.06 * (rng.random(group.shape) < 0.5) for group in quiet(seed)]
    (found,) = (odd for odd in oddities("output_throughput", groups) if odd.kind == "two states")
    assert found.what.startswith("repeats of output_throughput fall into two groups")
    (nightly,) = (odd for odd in oddities("x", groups, "night") if odd.kind == "two states")
    assert nightly.what.startswith("nights of x fall into two groups")
    assert "about 6% apart" in found.what or "about 5% apart" in found.what or "about 7% apart" in found.what


@pytest.mark.parametrize("seed", range(5))
def test_outliers_are_counted(seed):
    """Two of 120 measurements are 20 % slower."""
    groups = quiet(seed)
    groups[0][1, 3] -= 0.2
    groups[1][4, 7] -= 0.2
    (found,) = (odd for odd in oddities("output_throughput", groups) if odd.kind == "outliers")
    assert found.what.startswith("2 of 120 measurements")


@pytest.mark.parametrize(
    "groups", [[], [np.zeros((2, 3))], [np.full((5, 3), np.nan)], [np.zeros((5, 3))], [np.ones((4, 1))]]
)
def test_nothing_to_see_is_not_odd(groups):
    """Two repeats, absent figures and a deterministic server."""
    assert kinds(groups) == set()


def test_serial_correlation_is_named_only_if_it_costs_pairs():
    """The line says how many pairs are left."""
    assert successive(0.02, 5, 1.01) is None
    assert "5 pairs count as 2.5" in successive(0.4, 5, 2.0).what


def test_figures_beyond_all_measure_are_named():
    """Two states a factor of 1e300 apart have no relative change as a float."""
    rng = np.random.default_rng(1)
    far = (
        rng.normal(0, 0.01, (6, 4))
        + 690 * rng.integers(0, 2, (6, 1))
        - np.array([[0.0], [50], [0], [0], [0], [0]])
    )
    assert oddities("median_ttft_ms", [far * 3])
