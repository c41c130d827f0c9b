"""The study's eight artefacts: its method shows each on the simulated node, the harness names it, the other has none.

All in virtual time, with the scheduler, metrics and verdict of a run over HTTP.
"""

from __future__ import annotations

import dataclasses
import statistics

import pytest

from rocbench.judgement.slo import saturation
from rocbench.load.spec import Closed, Lengths, LoadSpec, RequestPlan, Target, WindowPlan
from rocbench.settings import catalog
from rocbench.sim import predict
from rocbench.sim.costs import AffineTimes
from rocbench.study import faults
from rocbench.tables import limits, metrics
from rocbench.tables.row import Row
from simnodes import node
from studycases import HEADLINES, codes, level, rows

QWEN, LLAMA, DEEPSEEK = "qwen3-vl-235b", "llama-3.1-405b", "deepseek-v3.2"


def found(table, method="replay"):
    """The checks that speak, by name."""
    return {artefact.check: artefact for artefact in faults.examine(table, HEADLINES[method])}


def by_users(table, column):
    """A column by declared users, repeats taken together."""
    users = dict.fromkeys(row["concurrency"] for row in table)
    return {n: statistics.fmean(r[column] for r in table if r["concurrency"] == n) for n in users}


def corrected(model, workload, *users, repeats=1):
    """Rows of the corrected curves at these levels."""
    return rows("corrected-curves-0.14.1", level(model, workload, *users, repeats=repeats))


def test_1_a_plateau_at_the_number_of_requests():
    """100 requests a level: 100 to 1,000 users are one load; real users bring more."""
    replayed = rows("replay-runs-0.14.1", level(QWEN, "replay-2048-512", 50, 100, 500, 1000))
    total = by_users(replayed, "total_token_throughput")
    assert total[1000] == pytest.approx(total[100], rel=0.01)
    assert by_users(replayed, "achieved_concurrency")[1000] == pytest.approx(100, rel=0.02)
    beyond = [row for row in replayed if row["concurrency"] > 100]
    assert all(
        {"concurrency_not_delivered", "too_few_requests", "count_bound"} <= codes(row) for row in beyond
    )
    assert "100, 500, 1000" in found(replayed)["plateau"].evidence
    real = corrected(QWEN, "study-short", 100, 500)
    output = by_users(real, "output_throughput")
    assert output[500] > 1.5 * output[100]
    assert all(row["valid"] is True for row in real)
    assert "plateau" not in found(real, "corrected")


def test_2_a_peak_at_150_before_a_wave_half_full():
    """300 requests at 200 users are a full wave and half a one; real users never bring less."""
    replayed = rows("replay-thorough-0.14.1", level(LLAMA, "replay-short-200", 100, 150, 200))
    output = by_users(replayed, "output_throughput")
    assert output[150] > 1.1 * output[100]
    assert output[200] < output[150]
    assert "only 100 were in the last wave" in found(replayed)["wave"].evidence
    assert "count_bound" in codes(replayed[-1])
    real = corrected(LLAMA, "study-short", 100, 150, 200)
    output = by_users(real, "output_throughput")
    assert output[200] > 1.03 * output[150] > 1.03 * output[100]
    assert not found(real, "corrected")


def test_3_a_knee_that_moves_with_the_cap():
    """A cap of 75 saturates at 200 users, one of 450 at 750; undelivered levels are no saturation to us."""
    quick = rows("replay-quick-0.14.1", level(LLAMA, "replay-short-100", 150, 200, 300, 500))
    thorough = rows("replay-thorough-0.14.1", level(QWEN, "replay-vision", 150, 300, 500, 750, requests=450))
    assert "at 200 users, but only 75 requests were in flight" in found(quick)["knee"].evidence
    assert "at 750 users, but only 450 requests were in flight" in found(thorough)["knee"].evidence
    told = saturation({n: [v] for n, v in by_users(quick, "output_throughput").items()}, delivered(quick))
    assert set(told.excluded) == {150.0, 200.0, 300.0, 500.0}
    real = corrected(QWEN, "study-short", 50, 100, 200, 300)
    assert "knee" not in found(real, "corrected")
    told = saturation({n: [v] for n, v in by_users(real, "output_throughput").items()}, delivered(real))
    assert not told.excluded


def delivered(table):
    """The levels whose users were there."""
    return {row["concurrency"]: "concurrency_not_delivered" not in codes(row) for row in table}


def test_4_total_tokens_as_throughput():
    """Four times the output and more; the corrected headline counts output tokens, with input beside it."""
    replayed = rows("replay-thorough-0.14.1", level(LLAMA, "replay-short-100", 500))
    (row,) = replayed
    assert row["total_token_throughput"] > 4 * row["output_throughput"]
    assert "are output" in found(replayed)["headline"].evidence
    real = corrected(LLAMA, "study-short", 100)
    assert "headline" not in found(real, "corrected")
    assert real[0]["input_throughput"] + real[0]["output_throughput"] == pytest.approx(
        real[0]["total_token_throughput"]
    )


def test_5_prompts_from_the_cache_beyond_the_hardware():
    """The same prompt again and again: found, not computed. Taken at its word it is more than the GPUs can do."""
    (row,) = rows("replay-thorough-0.14.1", level(LLAMA, "replay-8k", 12))
    fast = rows("replay-thorough-0.14.1", level(QWEN, "replay-vision", 500, requests=450))
    for each in (row, *fast):
        assert each["valid"] is False
        assert "prefix_cache_hits" in codes(each)
    assert "came from the prefix cache" in found(fast)["cached"].evidence
    published = {"total_token_throughput": 34_050.0, "isl": 329, "osl": 200, "concurrency": 500}
    share = limits.share(
        catalog.model(LLAMA),
        catalog.hardware("mi325x"),
        {"tensor-parallel-size": 8, "quantization": "fp8", "kv-cache-dtype": "fp8"},
        published,
    )
    assert share is not None
    assert share.value > 1
    real = corrected(QWEN, "study-vision", 50)
    assert real[0]["prefix_cache_hits"] == 0
    assert not found(real, "corrected")


def test_6_variation_of_answers_for_variation_of_the_server():
    """Answers that end by themselves spread the repeats by a tenth and more; exact ones leave what the server has."""
    replayed = rows("replay-runs-0.14.1", level(DEEPSEEK, "replay-2048-512", 10, 50, repeats=5))
    assert spread(replayed, 50) > 0.05
    assert spread(replayed, 10) > 0.05
    assert all("natural_lengths" in codes(row) for row in replayed)
    assert statistics.fmean(row["osl_had"] for row in replayed) < 150
    assert "512 were requested" in found(replayed)["lengths"].evidence
    real = rows("corrected-runs-0.14.1", level(DEEPSEEK, "text-2048-512", 10, 50, repeats=3))
    assert spread(real, 10) < 0.02
    assert spread(real, 50) < 0.02
    assert all(row["osl_had"] == 512 for row in real)


def spread(table, users):
    """Coefficient of variation of a level's repeats."""
    values = [row["total_token_throughput"] for row in table if row["concurrency"] == users]
    return statistics.stdev(values) / statistics.fmean(values)


def test_7_three_levels_of_an_ablation_that_are_one():
    """100, 200 and 500 users with 100 requests: one effect told three times; with real users, three conditions."""
    replayed = rows("replay-ablation-0.14.1", level(LLAMA, "replay-2048-512", 50, 100, 200, 500))
    assert "100, 200, 500" in found(replayed)["condition"].evidence
    in_flight = by_users(replayed, "achieved_concurrency")
    assert in_flight[500] == pytest.approx(in_flight[100], rel=0.02)
    real = rows("corrected-ablation-0.14.1", level(LLAMA, "text-2048-512", 50, 100, 200))
    in_flight = by_users(real, "achieved_concurrency")
    assert [round(in_flight[n]) for n in (50, 100, 200)] == [50, 100, 200]
    assert "condition" not in found(real, "corrected")


def test_8_a_client_test_with_ten_in_flight():
    """A client that sends 900/s to answers of 10 ms has ten in flight, whatever it declares."""
    echo = dataclasses.replace(node(LLAMA), times=AffineTimes(1e-4, 0.0, 0.0, 0.0))
    spec = LoadSpec(
        Target("http://127.0.0.1", "echo"),
        RequestPlan(Lengths(8), Lengths(100)),
        Closed(2000),
        WindowPlan(max_requests=1000),
    )
    slow = predict.drive(spec, echo, client=predict.Client(sends_per_s=900))
    row = Row(metrics.summarise(slow.load, gpus=None) | {"key": "echo/echo/c2000", "reasons": ""})
    assert row["achieved_concurrency"] == pytest.approx(12, abs=3)
    assert row["achieved_concurrency"] < 0.02 * row["concurrency"]
    assert "in flight with 2000 users" in found([row])["client"].evidence
    long = dataclasses.replace(echo, times=AffineTimes(0.05, 0.0, 0.0, 0.0))
    window = WindowPlan(duration_s=20)
    real = predict.drive(dataclasses.replace(spec, window=window), long)
    row = Row(metrics.summarise(real.load, gpus=None) | {"key": "echo/echo/c2000", "reasons": ""})
    assert row["achieved_concurrency"] == pytest.approx(2000, rel=0.02)
    assert "client" not in found([row], "corrected")
