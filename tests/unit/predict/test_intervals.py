"""Intervals from errors of leave-outs: their width, their origin, and the reasons for none."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.predict import intervals, points
from rocbench.predict.intervals import Interval, Spread
from rocbench.predict.points import Point
from rocbench.sim.calibration import Accuracy, Calibration, Efficiency, Factor, LeftOut, When

AT = Point(64.0, 1000.0, 1.0, 200.0, False, 8, "0.14.1", True, "ROCM_AITER_FA")
FIGURE = "output_throughput"
GPU = "AMD Instinct MI325X"
FACTS = When(model="mine", gpu=GPU)
HALF = Efficiency(bandwidth=0.5, compute=0.5, communication=0.5)


def left_out(errors: list[float], distances: list[float], figure: str = FIGURE) -> tuple[LeftOut, ...]:
    """Leave-outs of one level each."""
    return tuple(
        LeftOut(what=f"level {i}", side=f"side {i}", levels=1, distance=away, errors={figure: abs(error)})
        for i, (error, away) in enumerate(zip(errors, distances, strict=True))
    )


def accuracy(model: str, lines: tuple[LeftOut, ...] = (), mean: float = 0.0, gpu: str = GPU) -> Accuracy:
    """The errors of one model, whose levels are all at the base."""
    return Accuracy(
        when=When(model=model, gpu=gpu),
        reach=points.reach([AT]),
        conditions=len(lines),
        left_out=lines,
        unfitted={FIGURE: mean},
    )


def calibration(*known: Accuracy, fitted: bool = True) -> Calibration:
    """A calibration with a fit of one model."""
    factors = (Factor(when=FACTS, why="a fit", fitted=HALF),) if fitted else ()
    return Calibration(name="it", what="fitted", note="", base=HALF, factors=factors, accuracy=known)


def ask(cal: Calibration, at: Point = AT, figure: str = FIGURE) -> Any:
    """The interval of 1,000."""
    return intervals.interval(cal, FACTS, at, figure, 1000.0)


def test_it_is_as_wide_as_the_errors_of_levels_left_out():
    """Many errors of 2 %: +-4 %, and the prior no longer matters. Errors of 20 %: +-50 %."""
    lines = [0.02 * sign for sign in (1, -1) * 40]
    small = ask(calibration(accuracy("mine", left_out(lines, [0.0] * 80))))
    large = ask(calibration(accuracy("mine", left_out([10 * each for each in lines], [0.0] * 80))))
    assert math.log(small.high / 1000) == pytest.approx(2 * 0.02, rel=0.25)
    assert math.log(large.high / 1000) == pytest.approx(2 * 0.2, rel=0.1)
    assert small.low * small.high == pytest.approx(1000.0**2)
    assert small.extrapolated == ""


def test_a_model_with_few_conditions_leans_on_the_others():
    """Three tiny errors prove little: the interval is that of the prior, with heavy tails."""
    few = ask(calibration(accuracy("mine", left_out([0.001, 0.001, 0.001], [0.0] * 3))))
    many = ask(calibration(accuracy("mine", left_out([0.001] * 30, [0.0] * 30))))
    assert math.log(few.high / 1000) > 2.5 * math.log(many.high / 1000)


def test_it_widens_outside_the_fitted_loads_and_says_so():
    """With the distance, and by as much as leave-outs at a distance erred."""
    tame = calibration(accuracy("mine", left_out([0.02] * 10 + [0.05] * 6, [0.0] * 10 + [2.0] * 6)))
    wild = calibration(accuracy("mine", left_out([0.02] * 10 + [0.8] * 6, [0.0] * 10 + [2.0] * 6)))
    here, far, farther = (ask(tame, replace(AT, in_flight=64.0 * times)) for times in (1, 8, 64))
    assert here.high < far.high < farther.high
    assert far.extrapolated == "512 requests in flight is 8 times the highest fitted load"
    assert math.log(ask(wild, replace(AT, in_flight=512.0)).high / 1000) > 2 * math.log(far.high / 1000)


def test_it_widens_in_a_gap_and_says_so():
    """Most where no fitted load is near."""
    known = accuracy("mine", left_out([0.02] * 10 + [0.3] * 6, [0.0] * 10 + [1.0] * 6))
    ends = points.reach([AT, replace(AT, in_flight=64.0 * 64)])
    cal = calibration(known.model_copy(update={"reach": ends}))
    here, near, middle, beyond = (ask(cal, replace(AT, in_flight=64.0 * times)) for times in (1, 4, 8, 20))
    assert here.high < near.high < middle.high > beyond.high > here.high
    assert here.extrapolated == ""
    assert middle.extrapolated == "512 requests in flight is in a gap, 8 times the nearest fitted load"


def test_a_figure_that_was_never_measured_has_none():
    """A rate of all tokens stands for that of the output; nothing stands for TTFT."""
    cal = calibration(accuracy("mine", left_out([0.1] * 5, [0.0] * 5)))
    assert isinstance(ask(cal, figure="total_token_throughput"), Interval)
    assert ask(cal, figure="median_ttft_ms") == "no row that mine was fitted to has it"


def test_a_model_without_a_fit_has_the_errors_of_the_others():
    """Centred at their mean error, as wide as they differ; a GPU that nobody measured has none."""
    known = [accuracy(f"m{i}", mean=mean) for i, mean in enumerate((-1.0, -0.8, -1.2, -0.9))]
    found = ask(calibration(*known, fitted=False))
    assert math.sqrt(found.low * found.high) == pytest.approx(1000 * math.exp(-0.975))
    assert found.high < 1000
    assert found.extrapolated == "mine was not fitted"
    assert "3 are needed" in ask(calibration(*known[:2], fitted=False))
    elsewhere = [accuracy(f"m{i}", mean=-1.0, gpu="another GPU") for i in range(4)]
    assert ask(calibration(*elsewhere, fitted=False)) == f"no rows of {GPU} were measured"


def test_an_older_calibration_has_none():
    """It holds no errors of leave-outs, and the row says so."""
    assert "no errors of levels" in ask(calibration())
    found = intervals.columns(calibration(), FACTS, AT, {FIGURE: 1000.0})
    assert found["predicted_intervals_from"].startswith(f"none for {FIGURE}: ")
    assert not any(name.endswith(("_low", "_high")) for name in found)


def test_the_columns_give_both_ends_and_their_origin():
    """An absent figure has no interval."""
    cal = calibration(accuracy("mine", left_out([0.1] * 5, [0.0] * 5)))
    found = intervals.columns(
        cal, FACTS, AT, {FIGURE: 1000.0, "median_tpot_ms": None, "median_ttft_ms": 20.0}
    )
    assert found["predicted_output_throughput_low"] < 1000 < found["predicted_output_throughput_high"]
    assert "predicted_median_tpot_ms_low" not in found
    assert found["predicted_intervals_from"] == (
        "errors of mine at 5 conditions that were left out;"
        " none for median_ttft_ms: no row that mine was fitted to has it"
    )


@given(st.floats(0, 5), st.floats(0, 5))
def test_the_factor_grows_with_the_distance(one, other):
    """And is above 1."""
    near, far = sorted((one, other))
    spread = Spread(0.05, 8.0, 0.1, 4.0)
    assert 1 < spread.factor(near) <= spread.factor(far) * (1 + 1e-9)


@pytest.mark.parametrize("n", [4, 12, 40])
@pytest.mark.parametrize(("near", "growth"), [(0.03, 0.05), (0.06, 0.15), (0.12, 0.3)])
def test_the_next_error_is_within_the_interval(n, near, growth):
    """95 % of planted errors, at distances within and outside, whatever the spreads and the number of leave-outs."""
    rng = np.random.default_rng(n)
    held, of = 0, 0
    for _ in range(30):
        distances = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(0.3, 2.5, n))
        errors = rng.normal(0, np.hypot(near, growth * distances))
        found = intervals.spread(left_out(list(errors), list(distances)), FIGURE)
        for away in (0.0, 1.0, 3.0):
            asked = rng.normal(0, math.hypot(near, growth * away), 50)
            held += int(np.sum(np.abs(asked) <= math.log(found.factor(away))))
            of += 50
    assert 0.85 <= held / of
    assert held / of <= 0.99 or n < 40, "many leave-outs say how wide it is"


def test_a_leave_out_is_judged_by_the_others():
    """One error that is far larger than all others is outside its interval."""
    lines = left_out([0.02] * 20 + [1.0], [0.0] * 21)
    assert intervals.coverage(lines, FIGURE) == (20, 21)
