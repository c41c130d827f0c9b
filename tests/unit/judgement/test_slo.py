"""The search for the largest load within an SLO, and the saturation point."""

from __future__ import annotations

import numpy as np
import pytest

from rocbench.judgement.slo import Limit, Trial, next_step, saturation
from rocbench.settings.goals import Search

TTFT = Limit("p99_ttft_ms", "<=", 2000.0)


SLO = {"p99_ttft_ms": 2000.0}


def run(measure, limits=(TTFT,), most=60, *, whole=True, **bounds):
    """Follow the search to its end; `measure(level)` gives a Trial."""
    search = Search(**{"slo": SLO, "high": 4096} | bounds)
    trials = []
    for _ in range(most):
        step = next_step(trials, limits, search, whole=whole)
        if step.level is None:
            return step, trials
        trials.append(measure(step.level))
    raise AssertionError("the search does not end")


def test_finds_the_capacity():
    """TTFT of 4 ms a user: 500 users meet 2 s; the bracket is within 5 %."""
    step, trials = run(lambda level: Trial(level, {"p99_ttft_ms": 4 * level}))
    assert step.best <= 500
    assert step.failed > 500
    assert step.failed / step.best <= 1.05
    assert len(trials) < 25


def test_noise_near_the_limit_is_measured_again():
    """With noise of 3 % the answer is still near the truth, and levels at the limit were repeated."""
    rng = np.random.default_rng(3)
    step, trials = run(lambda level: Trial(level, {"p99_ttft_ms": 4 * level * rng.normal(1, 0.03)}))
    assert 430 <= step.best <= 520
    levels = [trial.level for trial in trials]
    assert len(levels) > len(set(levels))


def test_undecided_levels_count_as_failed():
    """A level that straddles the limit whatever the repeats is no capacity that was shown."""
    flip = iter(range(1000))
    bounds = {"low": 8, "high": 8, "max_repeats": 4}
    step, trials = run(lambda level: Trial(level, {"p99_ttft_ms": 1960 + 80 * (next(flip) % 2)}), **bounds)
    assert step.best is None
    assert len(trials) == 4


def test_undelivered_users_end_the_doubling_and_are_named():
    """When the client cannot deliver, the search says so and blames no limit."""
    step, _ = run(lambda level: Trial(level, {"p99_ttft_ms": 10.0}, delivered=level <= 100))
    assert 95 <= step.best <= 100
    assert "load was not reached" in step.why


def test_all_levels_pass():
    """A server that meets the limits up to the highest level ends there."""
    step, _ = run(lambda level: Trial(level, {"p99_ttft_ms": 1.0}), high=3000)
    assert (step.best, step.failed) == (3000, None)


def test_no_level_passes():
    """Not even the lowest level: no best, and the reason."""
    step, trials = run(lambda level: Trial(level, {"p99_ttft_ms": 9999.0}), low=1)
    assert step.best is None
    assert len(trials) == 1


def test_rates_need_not_be_whole():
    """An open loop's rate is bisected to the wanted width."""
    bounds = {"low": 0.5, "high": 64, "relative_step": 0.02}
    step, _ = run(lambda level: Trial(level, {"p99_ttft_ms": 1000 * level / 3.3}), whole=False, **bounds)
    assert step.best == pytest.approx(6.6, rel=0.03)


def test_every_limit_must_be_met():
    """The tighter of two limits decides."""
    limits = (TTFT, Limit("success_rate", ">=", 0.999))
    step, _ = run(
        lambda n: Trial(n, {"p99_ttft_ms": 1.0, "success_rate": 1.0 if n <= 64 else 0.9}), limits=limits
    )
    assert step.best == 64


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


def test_one_repeat_has_no_interval():
    """With n=1 the knee has no interval, and the note says so."""
    found = saturation(curve(0.0, 1), dict.fromkeys(CURVE, True))
    assert (found.level, found.low, found.high) == (256, None, None)
    assert "a level has one repeat" in found.note


def test_uneven_steps_are_scaled_to_a_doubling():
    """From 100 to 110 users, 3 % more is a doubling's 24 %: not saturated."""
    figures = {100: [100.0], 110: [103.0]}
    assert saturation(figures, {100: True, 110: True}).level is None
