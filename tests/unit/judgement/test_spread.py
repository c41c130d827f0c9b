"""How far units scatter: the common and the own part, and the differences that follow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from rocbench.judgement import spread


def drawn(units, cells, common, own, seed):
    """Units whose cells share `common` and have `own` noise."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, common, (units, 1)) + rng.normal(0, own, (units, cells))


@pytest.mark.parametrize(("common", "own"), [(0.0, 0.01), (0.01, 0.01), (0.03, 0.01)])
def test_the_variance_of_a_unit_is_the_sum_of_both_parts(common, own):
    """On average over many runs, for any share of the two; never less than the truth by more than a tenth."""
    found = np.mean(
        [spread.scatter([drawn(6, 12, common, own, seed)]).variance.mean() for seed in range(200)]
    )
    assert 0.9 < found / (common**2 + own**2) < 1.35


def test_common_noise_leaves_few_degrees_of_freedom():
    """Twelve cells that move together are one: 3 units give 2 degrees of freedom."""
    together = spread.scatter([drawn(3, 12, 0.05, 0.0005, 1)])
    apart = spread.scatter([drawn(3, 12, 0.0, 0.01, 1)])
    assert together.df.max() < 3
    assert apart.df.min() > 5
    assert together.common_share > 0.9 > apart.common_share


def test_one_cell_is_the_paired_t_test():
    """Without other cells there is nothing to borrow."""
    d = np.array([[0.02], [0.05], [0.01], [0.04]])
    effect = spread.paired(d).effect(0)
    expected = scipy_stats.ttest_1samp(d[:, 0], 0)
    assert effect.p == pytest.approx(expected.pvalue)
    assert (effect.low, effect.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_a_side_that_is_noisier_than_the_past_has_a_wider_interval():
    """The past shows how far quiet nights differ; tonight's repeats show more."""
    past = drawn(8, 12, 0.0, 0.005, 1)
    quiet, wild = (spread.Noise(np.full(12, sd**2), np.full(12, 10.0)) for sd in (0.005, 0.05))
    a, b = drawn(1, 12, 0, 0.005, 2), drawn(1, 12, 0, 0.05, 3)
    narrow = spread.two_samples(a, b, [np.vstack([past, a]), b], (quiet, quiet))
    wide = spread.two_samples(a, b, [np.vstack([past, a]), b], (quiet, wild))
    assert (wide.error2 > 10 * narrow.error2).all()
    assert (wide.df <= 12).all()


def test_cells_that_are_noisy_in_every_metric_are_expected_to_be():
    """Four metrics agree that one cell is five times as noisy: its own variance keeps that."""
    rng = np.random.default_rng(1)
    sd = np.array([0.05, *[0.01] * 11])
    metrics = [[rng.normal(0, sd, (3, 12)) for _ in range(2)] for _ in range(4)]
    found = spread.patterns(metrics)
    assert all(each is not None and each.expected[0] > 5 * each.expected[1:].max() for each in found)


def test_metrics_with_the_same_noise_count_once():
    """Copies of a metric tell nothing new."""
    groups = [drawn(3, 12, 0, 0.01, 1), drawn(3, 12, 0, 0.01, 2)]
    once, *_ = spread.patterns([groups])
    copied, *_ = spread.patterns([groups] * 4)
    assert copied.expected == pytest.approx(once.expected)


def test_a_noisy_cell_that_agrees_by_chance_is_not_told_to_differ():
    """One cell of 12 has a CoV of 8 %, the others 0.5 %, and all metrics mirror each other: its three differences decide nothing.

    With the scale of all cells left to the noisiest one, 34 of these 200 runs had such a cell.
    """
    rng = np.random.default_rng(1)
    sd = np.array([0.08, *[0.005] * 11])
    told = 0
    for _ in range(200):
        noise = [rng.normal(0, sd, (3, 12)) for _ in range(2)]
        metrics = [
            [scale * side + rng.normal(0, 0.3 * sd, (3, 12)) for side in noise]
            for scale in (1, -0.6, -1, -0.9)
        ]
        patterns = spread.patterns(metrics)
        found = [spread.paired(b - a, pattern) for (a, b), pattern in zip(metrics, patterns, strict=True)]
        told += any(each.effect(cell).p < 0.045 / 48 for each in found for cell in range(12))
    assert told <= 8


@pytest.mark.parametrize("cells", [2, 3, 4, 12])
def test_a_noisy_cell_among_few_keeps_its_variance(cells):
    """It moves the mean over cells, so that its own part alone is too small: of four cells by a third."""
    rng = np.random.default_rng(1)
    sd = np.array([0.08, *[0.005] * (cells - 1)])
    found = np.mean([spread.scatter([rng.normal(0, sd, (6, cells))]).variance for _ in range(300)], axis=0)
    assert 0.9 < found[0] / 0.08**2 < 1.3
    assert (found[1:] > 0.005**2).all()


def test_a_metric_without_noise_has_no_variance():
    """Rounded figures that are all equal, next to a metric that varies."""
    groups = [drawn(3, 4, 0, 0.01, 1), drawn(3, 4, 0, 0.01, 2)]
    _, flat = spread.patterns([groups, [np.zeros((3, 4))] * 2])
    varied, _ = spread.patterns([groups, groups])
    assert not spread.scatter([np.zeros((3, 4))], flat).variance.any()
    assert not spread.scatter([np.zeros((3, 4))], varied).variance.any()


def test_a_missing_cell_leaves_the_pattern_of_the_others():
    """One cell lacks pairs: the noisiest of the others is still known to be noisy from both arms."""
    rng = np.random.default_rng(1)
    sd = np.array([0.05, *[0.005] * 11])
    a, b = (rng.normal(0, sd, (4, 12)) for _ in range(2))
    (pattern,) = spread.patterns([[a, b]])
    difference = b - a
    difference[:3, 0] = 0.08 + rng.normal(0, 0.003, 3)  # agree by chance
    difference[1:, 5] = np.nan
    variance = spread.scatter([difference], pattern).variance
    assert np.isnan(variance[5])
    assert variance[0] > 3 * np.nanmedian(variance)


@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.lists(st.one_of(st.just(np.nan), st.floats(-1, 1)), min_size=30, max_size=30),
)
@example(2, 6, [np.nan, 0, np.nan, 0, np.nan, np.nan, np.nan, 9.5e-121, np.nan, 0, *[np.nan] * 20])
@settings(max_examples=100, deadline=None)
def test_absent_figures_never_break_it(units, cells, values):
    """Any figures may be missing: a variance is positive or unknown, and its degrees of freedom go with it."""
    group = np.array(values[: units * cells]).reshape(units, cells)
    found = spread.scatter([group])
    known = ~np.isnan(found.variance)
    assert (found.variance[known] >= 0).all()
    assert (found.df[known] > 0).all()
    assert not known[np.sum(~np.isnan(group), axis=0) < 2].any()
