"""Errors of leave-outs: which levels are left out, refits like complete fits, and intervals that hold a planted truth.

Most tests replace the simulator by a formula for the step time, so that hundreds of fits take seconds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rocbench.predict import calibrating, intervals, leaveout, points
from rocbench.predict.calibrating import Observation
from rocbench.predict.intervals import Interval
from rocbench.predict.points import Point
from rocbench.sim.calibration import Accuracy, Calibration, Efficiency, Factor, When
from unit.predict.test_calibrating import levels

FREE = ("bandwidth", "step_overhead_ms", "sequence_overhead_us")
WHEN = When(model="llama-3.1-405b")
USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
START = Efficiency(
    bandwidth=0.65, compute=0.45, communication=0.6, step_overhead_ms=1.5, sequence_overhead_us=8.0
)
AT = Point(1.0, 1000.0, 1.0, 200.0, False, 8, "0.14.1", False, "TRITON_ATTN")


def step_ms(users: float, efficiency: Efficiency, bend: float = 0.0) -> float:
    """A decode step; `bend`: a cost that the model of the fit does not have, growing with the square of the users."""
    memory = (8 + users * 0.02) / efficiency.bandwidth
    return (
        memory + efficiency.step_overhead_ms + users * efficiency.sequence_overhead_us / 1e3 + bend * users**2
    )


@pytest.fixture
def formula(monkeypatch) -> None:
    """The formula in place of the simulator."""

    def level(observation: Observation, efficiency: Efficiency) -> tuple[dict[str, float], Point]:
        users: Any = observation.spec
        step = step_ms(users, efficiency)
        row = {"output_throughput": 1e3 * users / step, "median_tpot_ms": step}
        return {name: row[name] for name in observation.measured}, replace(AT, in_flight=float(users))

    monkeypatch.setattr(calibrating, "level", level)


def planted(rng: np.random.Generator, users: tuple[int, ...], cv: float, bend: float) -> list[Observation]:
    """Levels of a server with a random efficiency, with noise of the cell and of each figure."""
    truth = START.model_copy(
        update={
            "bandwidth": float(rng.uniform(0.25, 0.9)),
            "step_overhead_ms": float(rng.uniform(1, 12)),
            "sequence_overhead_us": float(10 ** rng.uniform(0.7, 2.2)),
        }
    )
    found = []
    for each in users:
        step = step_ms(each, truth, bend) * math.exp(rng.normal(0, cv))
        figures = {
            "output_throughput": 1e3 * each / step,
            "median_tpot_ms": step * math.exp(rng.normal(0, cv / 4)),
        }
        node = SimpleNamespace(efficiency=START)
        found.append(Observation(f"c{each}", node, None, None, each, figures))  # type: ignore[arg-type]
    return found


def fitted(observations: list[Observation], start: Efficiency = START) -> Calibration:
    """A calibration with a fit to these levels, and its errors."""
    fit = calibrating.fit(observations, start, FREE)
    known = leaveout.accuracy(observations, fit, start, FREE, WHEN)
    return calibration_of(fit.efficiency, known)


def calibration_of(efficiency: Efficiency, known: Accuracy) -> Calibration:
    """A calibration with one fit."""
    factor = Factor(when=WHEN, why="a fit", fitted=efficiency)
    return Calibration(
        name="it", what="fitted", note="", base=efficiency, factors=(factor,), accuracy=(known,)
    )


def asked(calibration: Calibration, observations: list[Observation]) -> list[tuple[Interval, float]]:
    """Each figure's interval and measured value."""
    found = []
    for each in observations:
        predicted, at = calibrating.level(each, calibration.efficiency(WHEN))
        for name, measured in each.figures.items():
            interval = intervals.interval(calibration, WHEN, at, name, predicted[name])
            assert isinstance(interval, Interval)
            found.append((interval, measured))
    return found


def covered(found: list[tuple[Interval, float]]) -> float:
    """Share of the values within their interval."""
    return sum(each.low <= value <= each.high for each, value in found) / len(found)


def test_what_is_left_out():
    """Each load alone, and all above and below some; no set twice, never all."""
    at = [replace(AT, in_flight=float(users)) for users in USERS]
    folds = list(leaveout.folds(at))
    held = [fold.held for fold in folds]
    assert len(set(held)) == len(held)
    assert all(0 < len(each) < len(at) for each in held)
    assert {frozenset({i}) for i in range(len(at))} <= set(held)
    assert next(fold for fold in folds if fold.what == "above 1 in flight").held == frozenset(range(1, 10))
    assert sum(fold.side == "above" for fold in folds) == 3
    assert sum(fold.side == "below" for fold in folds) >= 2


def test_kinds_of_requests_and_servers_are_left_out_together():
    """A workload, an arm of an ablation."""
    at = [
        AT,
        replace(AT, in_flight=9.0),
        replace(AT, prompt_tokens=5000.0),
        replace(AT, in_flight=9.0, aiter=True),
    ]
    held = {fold.what: fold.held for fold in leaveout.folds(at)}
    assert held["aiter True"] == frozenset({3})
    assert frozenset({2}) in held.values()
    assert frozenset({1, 3}) in held.values(), "the other arm would give the answer away"
    assert frozenset({1}) not in held.values()


@pytest.mark.parametrize("bend", [0.0, 2e-5])
def test_refits_agree_with_complete_fits(formula, bend):
    """To a tenth of the error, and 2 %, also where the parameters move far."""
    seen = planted(np.random.default_rng(3), USERS, 0.03, bend)
    fit = calibrating.fit(seen, START, FREE)
    found = leaveout.accuracy(seen, fit, START, FREE, WHEN)
    folds = list(leaveout.folds([calibrating.level(o, fit.efficiency)[1] for o in seen]))
    assert len(folds) > 12
    for fold, line in zip(folds, found.left_out, strict=True):
        kept = [o for i, o in enumerate(seen) if i not in fold.held]
        full = calibrating.fit(kept, START, FREE).efficiency
        errors = leaveout.log_errors([seen[i] for i in fold.held], full)
        for name, values in errors.items():
            assert line.errors[name] == pytest.approx(points.rms(values), rel=0.1, abs=0.02), fold.what
    assert found.conditions == len(USERS)
    assert found.unfitted.keys() == seen[0].figures.keys()


@pytest.mark.parametrize("bend", [0.0, 1e-4])
@pytest.mark.parametrize("split", ["odd", "low", "high", "gap"])
def test_intervals_hold_a_planted_truth(formula, split, bend):
    """Of 6 random servers, with a cost that the fit knows and one that it does not; within the loads, in a gap and outside."""
    found = []
    for seed in range(6):
        seen = planted(np.random.default_rng(seed), USERS, 0.03, bend)
        known, unknown = {
            "odd": (seen[::2], seen[1::2]),
            "low": (seen[:6], seen[6:]),
            "high": (seen[4:], seen[:4]),
            "gap": (seen[:3] + seen[8:], seen[3:8]),
        }[split]
        answers = asked(fitted(known), unknown)
        found += answers
        far = [interval for interval, _ in answers if interval.extrapolated]
        assert len(far) == {"odd": 2, "low": 8, "high": 8, "gap": 6}[split]
    assert covered(found) >= 0.85
    widths = sorted(interval.high / interval.low for interval, _ in found)
    assert widths[len(widths) // 2] < (1.5 if split == "odd" else 6), "so wide an interval says nothing"


@pytest.mark.slow
def test_intervals_hold_the_simulators_truth():
    """The same with the simulator: fitted to three loads, asked about one within and one far outside."""
    seen = levels(1, 4, 8, 16, 64, figures=("output_throughput", "median_tpot_ms"))
    known = [seen[0], seen[1], seen[3]]
    found = asked(fitted(known, seen[0].node.efficiency), [seen[2], seen[4]])
    assert covered(found) == 1
    within, _, outside, _ = (interval for interval, _ in found)
    assert within.extrapolated == ""
    assert outside.extrapolated == "64 requests in flight is 4 times the highest fitted load"
    assert outside.high / outside.low > within.high / within.low
