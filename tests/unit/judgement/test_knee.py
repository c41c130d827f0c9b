"""The saturation point of throughput curves."""

from __future__ import annotations

import numpy as np
import pytest

from rocbench.judgement.knee import saturation

CURVE = {64: 1000.0, 128: 1900.0, 256: 3000.0, 512: 3050.0, 1024: 3060.0}


def curve(cov, n, seed=0):
    """Repeats of CURVE with noise."""
    rng = np.random.default_rng(seed)
    return {level: list(mean * rng.normal(1, cov, n)) for level, mean in CURVE.items()}


def test_saturation_with_its_interval():
    """Beyond 256 users a doubling brings under 5 %: the knee, and an interval around it."""
    found = saturation(curve(0.01, 5), dict.fromkeys(CURVE, True))
    assert found.level == 256
    assert found.low <= 256 <= found.high
    assert found.peak == pytest.approx(3060, rel=0.02)


def test_levels_without_their_users_are_not_saturation():
    """100 requests at 500 and 1,000 users are the level 100 again: left out by name, and no knee is claimed."""
    figures = {10: [1090.0], 50: [4381.0], 100: [6802.0], 500: [6804.0], 1000: [6798.0]}
    found = saturation(figures, {level: level <= 100 for level in figures})
    assert found.level is None
    assert found.excluded == (500, 1000)
    assert "500, 1000" in found.note
    naive = saturation(figures, dict.fromkeys(figures, True))
    assert naive.level == 100  # what the harness without the check would have said


def test_one_repeat_has_the_interval_of_the_smooth_curve():
    """With n=1 the deviations from a smooth curve are the spread: the interval has the point."""
    found = saturation(curve(0.02, 1), dict.fromkeys(CURVE, True))
    assert found.level == 256
    assert found.low <= 256 <= (found.high or 1024)


def test_uneven_steps_are_scaled_to_a_doubling():
    """From 100 to 110 users, 3 % more is a doubling's 24 %: not saturated."""
    figures = {100: [100.0], 110: [103.0]}
    assert saturation(figures, {100: True, 110: True}).level is None


STUDY = {1: 95.0, 10: 900.0, 50: 3300.0, 100: 4600.0, 200: 4650.0, 500: 4660.0, 750: 4670.0, 1000: 4680.0}


def told(**changed):
    """The saturation of STUDY, with changed levels such as c1000=4770."""
    figures = {n: [changed.get(f"c{n}", tokens)] for n, tokens in STUDY.items()}
    return saturation(figures, dict.fromkeys(figures, True))


def test_a_tick_at_the_last_level_does_not_move_the_point():
    """2 % more at 1,000 than at 750 users is 5 % a doubling; the curve as a whole has levelled off."""
    assert told(c1000=4770.0).level == 100


def test_a_bad_cell_is_named_and_does_not_move_the_point():
    """Throughput at 200 users is 40 % too low: excluded by name."""
    found = told(c200=2800.0)
    assert found.level == 100
    assert "throughput at 200 is far below its neighbours" in found.note


def test_a_cliff_is_named():
    """Throughput collapses and recovers in part: more users bring nothing after the peak."""
    found = told(c500=2000.0, c750=2500.0, c1000=3000.0)
    assert found.level == 100
    assert "cliff: throughput falls by 57% after its peak" in found.note


@pytest.mark.parametrize(("cov", "share"), [(0.01, 0.95), (0.03, 0.8)])
def test_one_repeat_on_the_levels_of_a_study(cov, share):
    """A knee at 100 users is found from one repeat of each level, and its interval has it."""
    rng, right, covered = np.random.default_rng(2), 0, 0
    for _ in range(60):
        found = told(**{f"c{n}": 46 * min(n, 100) * rng.lognormal(0, cov) for n in STUDY})
        right += found.level == 100
        covered += found.low <= 100 <= (found.high or np.inf)
    assert right >= share * 60
    assert covered >= 0.92 * 60


def test_a_level_without_throughput_is_not_judged():
    """A zero has no logarithm."""
    found = saturation({1: [10.0], 2: [0.0]}, {1: True, 2: True})
    assert found.level is None
    assert "cannot tell" in found.note
