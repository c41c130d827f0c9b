"""How often the judgement is right: a small seeded version of benchmarks/judgement.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[3] / "benchmarks" / "judgement.py"


@pytest.fixture(name="bench", scope="module")
def _bench():
    spec = importlib.util.spec_from_file_location("judgement_benchmark", PATH)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up while the class is made
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_equal_arms_are_rarely_told_apart(bench):
    """A/A on the simulated engine at the 5 % level, any effect counting: at most 8 %."""
    same = bench.Truth()
    assert bench.decided(bench.by_engine, same, same, 5, 50, 1, 0.0) <= 0.08 * 50


def test_five_per_cent_are_found(bench):
    """5 % faster at CoV 1 % and n=5 on the simulated engine: at least 95 %."""
    assert bench.decided(bench.by_engine, bench.Truth(), bench.Truth(speed=1.05), 5, 20, 1, 0.02) >= 0.95 * 20


def test_three_times_the_spread_is_found(bench):
    """Three times the standard deviation at n=20: at least 90 %."""
    found = bench.ablations(
        "spread", bench.SPREAD, bench.by_lognormal, bench.Truth(), bench.Truth(cov=0.03), 20, 40, 1
    )
    assert found >= 0.9 * 40


def test_unequal_spread_is_no_effect(bench):
    """Arms of equal mean whose spreads differ 17-fold: at most 8 % better or worse."""
    off, on = bench.Truth(cov=0.003), bench.Truth(cov=0.05)
    found = bench.ablations("verdict", bench.DIFFER, bench.by_lognormal, off, on, 6, 60, 1, min_effect=0.0)
    assert found <= 0.08 * 60


def test_drift_is_no_effect(bench):
    """A node that slows by 0.5 % with every measurement: interleaved equal arms are at most 8 % better or worse."""
    same = bench.Truth()
    found = bench.ablations(
        "verdict", bench.DIFFER, bench.by_lognormal, same, same, 6, 60, 1, drift=-0.005, min_effect=0.0
    )
    assert found <= 0.08 * 60


def test_a_loss_at_the_limit_does_not_pass_the_gate(bench):
    """A gate of 5 % lets a run that is 5 % slower through in few cases, and an equal one nearly always."""
    assert bench.gated(bench.by_lognormal, bench.Truth(speed=0.95), 5, 40, 1, "pass") <= 0.08 * 40
    assert bench.gated(bench.by_lognormal, bench.Truth(), 5, 40, 1, "pass") >= 0.95 * 40
