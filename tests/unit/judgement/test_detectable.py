"""The minimum detectable step of a series."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rocbench.judgement.detectable import WITHIN, rate, seen, sight
from rocbench.judgement.trend import first_told


def quiet(nights, cov=0.01, series=1, seed=1):
    """Independent figures around 100; [series x nights]."""
    return 100 * np.exp(cov * np.random.default_rng(seed).standard_normal((series, nights)))


def test_two_nights_know_no_spread():
    """The sentence says so, and from when on a change can be told."""
    view = sight([100.0, 101.0])
    assert math.isnan(view.spread)
    assert math.isnan(view.smallest)
    assert seen(2, view.spread, view.smallest) == (
        "2 nights: the spread between nights is not known yet; no change can be told before night 6"
    )


def test_more_nights_see_smaller_steps():
    """And a noisy series sees less."""
    figures = quiet(60)[0]
    few, many = sight(figures[:15]), sight(figures)
    assert many.spread == pytest.approx(0.01, abs=0.003)
    assert 0.01 < many.smallest < few.smallest
    assert sight(quiet(60, cov=0.03)[0]).smallest == pytest.approx(3 * many.smallest, rel=0.1)


def test_the_promise_is_kept():
    """Steps of the minimum detectable size are told within the nights in about 80 %."""
    figures = quiet(40 + WITHIN, series=10, seed=2)
    steps = np.array([sight(one[:40]).smallest for one in figures])
    assert np.isfinite(steps).all()
    after = np.arange(40 + WITHIN) >= 40
    told = first_told(figures / (1 + steps[:, None] * after))
    assert np.mean(told > 40) >= 0.6
    assert np.mean(first_told(figures / (1 + 0.4 * steps[:, None] * after)) > 40) <= 0.5


def test_changes_do_not_count_as_spread():
    """A step that was told is removed first."""
    figures = quiet(60)[0] * np.where(np.arange(60) < 30, 1, 0.9)
    assert sight(figures).spread == pytest.approx(0.01, abs=0.003)


def test_figures_without_spread():
    """Any step would be seen in a simulation that repeats itself; zeros have no relative step."""
    assert sight([5.0] * 20).smallest == 0.0
    assert math.isnan(sight([0.0] * 20).smallest)


def test_the_sentences():
    """One line each."""
    assert seen(30, 0.011, 0.034) == (
        "30 nights, spread 1.1 %: a step tonight of 3.4 % or more would be told within 7 nights (80 % power)"
    )
    assert "any size" in seen(5, 0.02, math.inf)
    assert rate(1) == (
        "a series without a change is told one with at most 5 % probability in 100 mornings"
        " (11 % if its level wanders for many nights under independent noise)"
    )
    assert rate(48).endswith("; of 48 series without a change, at most about 2.4")
