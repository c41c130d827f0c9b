"""Open loops below and above capacity, and closed loops of few users, in virtual time (all counts: benchmarks/overload.py)."""

from __future__ import annotations

import numpy as np
import pytest

from rocbench.load.spec import Closed, Lengths, LoadSpec, Open, RequestPlan, Target, WindowPlan
from rocbench.records import NONE
from rocbench.sim import predict
from rocbench.tables import metrics
from rocbench.verdict.judge import Evidence, judge
from simnodes import argv_of, node

ARGV, ENV = argv_of()
SERVER = node(argv=[*ARGV, "--max-num-seqs", "64"], env=ENV)
CAPACITY = 21.1
"""Requests/s of 64 + 128 tokens that SERVER answers, by a closed loop of 256 users."""
WINDOW_S = 20.0


def drive(shape, name, *, osl=128, sigma=None, duration_s=WINDOW_S, server=SERVER):
    """A load of 64 + `osl` tokens; `name` gives it arrivals and lengths of its own."""
    lengths = Lengths(osl) if sigma is None else Lengths(osl, "lognormal", sigma=sigma)
    plan = RequestPlan(Lengths(64), lengths)
    window = WindowPlan(duration_s=duration_s)
    return predict.drive(
        LoadSpec(Target("http://virtual", "m"), plan, shape, window, run_id="r", cell_id=name), server
    ).load


def judged(load, **known):
    """Its row and verdict."""
    row = metrics.summarise(load, gpus=8)
    shape = "closed" if load.concurrency_asked else "open"
    return row, judge(Evidence.from_row(row, predicted=True, load_shape=shape, **known))


def test_capacity_is_as_stated():
    """What the loads below are shares of."""
    row = metrics.summarise(drive(Closed(256), "capacity", duration_s=60.0), gpus=8)
    assert row["output_throughput"] / 128 == pytest.approx(CAPACITY, rel=0.02)


@pytest.mark.parametrize("times", [1.2, 2, 10])
@pytest.mark.parametrize("arrival", ["constant", "poisson"])
def test_above_capacity_is_overloaded_and_ends(times, arrival):
    """The code and the slope are reported, the limits hold, and requests cut off are counted."""
    for seed in range(3):
        load = drive(Open(times * CAPACITY, arrival), f"{times}{seed}")
        row, verdict = judged(load)
        assert "overloaded" in verdict.reasons
        assert verdict.valid is False
        slope, half = row["backlog_slope_per_s"], row["backlog_slope_high_per_s"] - row["backlog_slope_per_s"]
        assert slope == pytest.approx((times - 1) * CAPACITY, abs=1.5 * half + 0.05 * times * CAPACITY)
        rows = load.requests
        assert (rows["sent_ns"].max() - predict.EPOCH_NS) / 1e9 < 2 * WINDOW_S + 1
        assert (rows["end_ns"].max() - predict.EPOCH_NS) / 1e9 < 5 * WINDOW_S
        measured = rows[
            (rows["intended_ns"] >= load.window.start_ns) & (rows["intended_ns"] < load.window.end_ns)
        ]
        assert row["completed"] + row["failed"] + row["unfinished"] == len(measured)
        assert row["unfinished"] == (measured["end_ns"] == NONE).sum()
        if times == 10:
            assert row["unfinished"] > 0
            assert any("tail reached its limit" in note for note in load.notes)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_below_capacity_no_window_is_void(share):
    """Chance arrivals of a stationary load void nothing, and are seldom in doubt."""
    doubts = 0
    for seed in range(12):
        _, verdict = judged(drive(Open(share * CAPACITY), f"{share}{seed}"))
        assert not {"overloaded", "not_steady", "littles_law", "unfinished_requests"} & set(verdict.reasons)
        doubts += "backlog_unsure" in verdict.reasons
    assert doubts <= 4


@pytest.mark.parametrize("times", [0.5, 0.9, 0.99, 1.01, 1.03])
def test_constant_gaps_show_a_queue_that_grows_by_little(times):
    """Chance moves nothing here: what grows by 1 % grows for as long as it is sent, and TTFT with it."""
    steady = metrics.summarise(drive(Open(1.2 * CAPACITY, "constant"), "full"), gpus=8)
    rate = times * steady["output_throughput"] / 128
    _, verdict = judged(drive(Open(rate, "constant"), "close", duration_s=60.0))
    assert bool({"overloaded", "backlog_unsure"} & set(verdict.reasons)) == (times > 1)


@pytest.mark.parametrize(("users", "sigma"), [(1, None), (1, 1.0), (4, 1.0), (64, 1.0)])
def test_a_rate_of_requests_has_no_bias(users, sigma):
    """Over windows that end with requests and hold few, it is on average what a long run gives."""
    osl = 512 if users < 64 else 128
    long = metrics.summarise(
        drive(Closed(users), "long", osl=osl, sigma=sigma, duration_s=20_000 / users), gpus=8
    )
    rates, tokens = [], []
    for seed in range(25):
        row, verdict = judged(drive(Closed(users), f"s{seed}", osl=osl, sigma=sigma))
        assert not {"few_requests_rate_bias", "few_requests_token_rate"} & set(verdict.reasons)
        rates.append(row["request_throughput"] / long["request_throughput"])
        tokens.append(row["output_throughput"] / long["output_throughput"])
    assert np.mean(rates) == pytest.approx(1, abs=0.01)
    assert np.mean(tokens) == pytest.approx(1, abs=0.01)


def test_requests_that_outlive_a_cut_tail_do_not_raise_the_rate():
    """An emptying server ends the longest many times faster than under the load: with 64 users the rate read 3 % too high."""
    plan = RequestPlan(Lengths(64), Lengths(128, "lognormal", sigma=1.0))
    long = metrics.summarise(drive(Closed(64), "long", sigma=1.0, duration_s=600.0), gpus=8)
    rates = []
    for seed in range(12):
        window = WindowPlan(duration_s=WINDOW_S, max_tail_s=0.5)
        spec = LoadSpec(
            Target("http://virtual", "m"), plan, Closed(64), window, run_id="r", cell_id=f"t{seed}"
        )
        load = predict.drive(spec, SERVER).load
        assert any("tail reached its limit" in note for note in load.notes)
        rates.append(metrics.summarise(load, gpus=8)["request_throughput"] / long["request_throughput"])
    assert np.mean(rates) == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize("seconds", [5.0, 9.0, 20.0, 33.0, 300.0])
@pytest.mark.parametrize("users", [1, 8])
def test_tokens_in_bursts_are_right_or_in_doubt(users, seconds):
    """A long prefill and a short answer: the window's edges decide how many bursts it holds (13 % too few, and valid)."""
    plan = RequestPlan(Lengths(30_000), Lengths(16))
    results = []
    for window_s in (seconds, 1500.0):
        spec = LoadSpec(
            Target("http://virtual", "m"),
            plan,
            Closed(users),
            WindowPlan(duration_s=window_s),
            run_id="r",
            cell_id="b",
        )
        results.append(judged(predict.drive(spec, SERVER).load))
    (short, verdict), (long, sure) = results
    assert "few_requests_token_rate" not in sure.reasons
    right = short["output_throughput"] == pytest.approx(long["output_throughput"], rel=0.06)
    assert right or "few_requests_token_rate" in verdict.reasons


def test_where_the_mean_length_is_not_known_few_requests_are_in_doubt():
    """The answers of a file or a model: 1 / mean of so few unlike times reads too high, and the row says so."""
    load = drive(Closed(1), "few", osl=512, sigma=1.0)
    load.osl_mean = None
    row, verdict = judged(load)
    assert row["rate_bias_share"] > 0.01
    assert "few_requests_rate_bias" in verdict.reasons
