"""Step times and their noise."""

from __future__ import annotations

import numpy as np
import pytest

from rocbench.sim.costs import AffineTimes, Batch, Noise
from simnodes import node


def test_noise_has_the_mean_and_spread_asked_for():
    """Lognormal with mean 1: over many steps mean and CV are as given."""
    factors = Noise(0.05, 0.0, 3).peek(200_000)
    assert factors.mean() == pytest.approx(1.0, abs=0.001)
    assert factors.std() == pytest.approx(0.05, rel=0.02)


def test_noise_is_the_same_step_by_step_and_in_runs():
    """However the steps are grouped, each gets the same factor."""
    single, grouped = Noise(0.1, 0.0, 5), Noise(0.1, 0.0, 5)
    one_by_one = [single.one() for _ in range(6000)]
    together: list[float] = []
    for size in (1, 700, 1024, 3, 1024, 1024, 1024, 1024, 176):
        together += grouped.peek(size + 9)[:size].tolist()
        grouped.skip(size)
    assert together == one_by_one


def test_a_run_has_a_factor_of_its_own():
    """Without step noise all steps of a run share one factor; over runs it varies as asked."""
    noise = Noise(0.0, 0.02, 11)
    runs = []
    for _ in range(4000):
        noise.restart()
        assert len(set(noise.peek(5).tolist())) == 1
        runs.append(noise.one())
    assert np.mean(runs) == pytest.approx(1.0, abs=0.002)
    assert np.std(runs) == pytest.approx(0.02, rel=0.05)


def test_decode_steps_agree_with_single_steps():
    """The vectorised form gives the time of the same step computed alone."""
    for times in (AffineTimes(), node("deepseek-v3.2").times, node("qwen3-vl-235b").times):
        contexts = np.array([1_000.0, 50_000.0, 900_000.0])
        alone = [times.step_s(Batch(0, 0.0, 64, int(context))) for context in contexts]
        assert times.decode_s(64, contexts) == pytest.approx(alone, rel=1e-9)


def test_speed_and_slowdown_scale_all_steps():
    """A slowdown of 1.1 makes each step last 1.1 times as long."""
    batch = Batch(512, 512 * 256.0, 20, 20_000)
    plain = node().times.step_s(batch)
    assert node(simulation={"slowdown": 1.1}).times.step_s(batch) == pytest.approx(1.1 * plain)
    assert node(simulation={"speed": 4.0}).times.step_s(batch) == pytest.approx(plain / 4)
