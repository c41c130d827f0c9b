"""The columns of a cell from its load."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rocbench.columns import CELLS
from rocbench.records import (
    FAILURES,
    NONE,
    Doubt,
    Failure,
    Histogram,
    Phase,
    Window,
    WorkerStats,
)
from rocbench.tables import metrics
from tablerows import MS, S, answered, load, request


def test_latencies_follow_vllms_definitions():
    """E2EL ends at the last token, TPOT is (E2EL - TTFT) / (n - 1)."""
    row = metrics.summarise(load([answered(1, 100, 20, 11)]), gpus=8)
    assert row["mean_ttft_ms"] == pytest.approx(100)
    assert row["mean_ttfc_ms"] == pytest.approx(99)
    assert row["mean_tpot_ms"] == pytest.approx(20)
    assert row["p99_e2el_ms"] == pytest.approx(300)
    assert row["ttft_n"] == row["e2el_n"] == row["tpot_n"] == 1


def test_one_token_has_no_tpot():
    """A request of one token has TTFT and E2EL and no TPOT: absent, not zero."""
    row = metrics.summarise(load([answered(1, 100, 20, 1)]), gpus=8)
    assert row["mean_tpot_ms"] is None
    assert row["p99_tpot_ms"] is None
    assert row["tpot_n"] == 0
    assert row["mean_e2el_ms"] == pytest.approx(100)


def test_an_empty_cell_has_absent_figures():
    """Without requests nothing is zero that was not measured."""
    row = metrics.summarise(load([], start_s=0, end_s=0, ended_by="never_began"), gpus=None)
    assert row["completed"] == 0
    for name in (
        "success_rate",
        "output_throughput",
        "achieved_concurrency",
        "p99_ttft_ms",
        "mean_itl_ms",
        "goodput",
    ):
        assert row[name] is None, name


def test_only_requests_that_began_in_the_window_have_latencies():
    """Warm-up and tail requests touch neither latencies nor counts, but their end counts for the rate."""
    rows = [
        answered(-0.2, 500, 20, 11, phase=Phase.WARMUP),
        answered(1, 100, 20, 11),
        answered(11, 900, 20, 11, phase=Phase.TAIL),
    ]
    row = metrics.summarise(load(rows), gpus=8)
    assert row["completed"] == 1
    assert row["mean_ttft_ms"] == pytest.approx(100)
    assert row["request_throughput"] == pytest.approx(0.2)  # the warm-up request ended inside


def test_throughput_is_of_stamps_in_the_window():
    """Tokens per second come from the counts in the window, by GPU where the GPUs are known."""
    result = load([], output_tokens_in_window=1000, input_tokens_in_window=500, image_tokens_in_window=0)
    row = metrics.summarise(result, gpus=4)
    assert row["output_throughput"] == 100
    assert row["output_throughput_per_gpu"] == 25
    assert row["total_token_throughput"] == 150
    assert row["image_token_throughput"] is None
    assert metrics.summarise(result, gpus=None)["output_throughput_per_gpu"] is None


def test_failures_are_counted_by_class_and_bend_no_latency():
    """Every failed request is in its class; latencies are of completed ones alone."""
    bad = answered(1, 9_000, 20, 11)
    bad["failure"] = FAILURES.index(Failure.TRUNCATED)
    refused = request(sent_ns=2 * S, end_ns=2 * S + MS, failure=FAILURES.index(Failure.HTTP_STATUS))
    row = metrics.summarise(load([answered(1, 100, 20, 11), bad, refused]), gpus=8)
    assert (row["completed"], row["failed"]) == (1, 2)
    assert row["success_rate"] == pytest.approx(1 / 3)
    assert json.loads(row["failures"]) == {"http_status": 1, "truncated": 1}
    assert row["mean_ttft_ms"] == pytest.approx(100)


def test_a_request_without_an_end_is_unfinished():
    """Cut off by the run's end: neither completed nor failed, in flight all the time."""
    row = metrics.summarise(load([request(sent_ns=5 * S)]), gpus=8)
    assert (row["completed"], row["failed"], row["unfinished"]) == (0, 0, 1)
    assert row["achieved_concurrency"] == pytest.approx(0.5)


def test_in_flight_is_exact():
    """Mean is the integral over the window, peak the most at once; ends count before starts at one instant."""
    sent = np.array([-5 * S, 0, 5 * S, 20 * S], np.int64)
    end = np.array([5 * S, 10 * S, 15 * S, 30 * S], np.int64)
    mean, peak = metrics.in_flight(sent, end, Window(0, 10 * S, "duration"))
    assert mean == pytest.approx((5 + 10 + 5) / 10)
    assert peak == 2


def test_littles_law_holds_for_a_steady_closed_loop():
    """Two users back to back: rate x time in flight = users."""
    rows = [answered(t / 10, 50, 10, 5, user=user) for user in range(2) for t in range(100)]
    for row in rows:
        row["end_ns"] = row["sent_ns"] + S // 10
    summary = metrics.summarise(load(rows), gpus=8)
    assert summary["achieved_concurrency"] == pytest.approx(2)
    assert summary["littles_law_ratio"] == pytest.approx(1, rel=0.02)
    assert summary["requests_per_user"] == 100


def test_open_loop_has_latency_from_the_intended_time():
    """A send 50 ms late shows in the latency from the plan and in the lateness, not in the usual TTFT."""
    late = answered(1.05, 100, 20, 11, user=NONE, intended_ns=S)
    dropped = request(user=NONE, intended_ns=2 * S)
    row = metrics.summarise(load([late, dropped], concurrency_asked=None), gpus=8)
    assert row["median_ttft_ms"] == pytest.approx(100)
    assert row["median_ttft_intended_ms"] == pytest.approx(150)
    assert row["mean_lateness_ms"] == pytest.approx(50)
    assert (row["late_sends"], row["dropped_sends"]) == (1, 1)


def test_closed_loop_has_no_lateness():
    """Users wait for their answers: without a schedule nothing is late."""
    row = metrics.summarise(load([answered(1, 100, 20, 11)]), gpus=8)
    assert row["mean_lateness_ms"] is None
    assert row["median_ttft_intended_ms"] is None


def test_lengths_asked_and_had():
    """Image tokens are left out of the text's length; a wrong output length is counted."""
    vision = answered(1, 100, 20, 11, images=2, image_tokens=600)
    vision["prompt_tokens"] = 664
    short = answered(2, 100, 20, 11)
    short["output_tokens"] = 5
    row = metrics.summarise(load([vision, short]), gpus=8)
    assert row["isl_had"] == 64
    assert row["isl_off_share"] == 0
    assert row["osl_asked"] == 11
    assert row["osl_had"] == 8
    assert row["osl_off_share"] == 0.5
    assert row["client_output_tokens"] == 16
    assert row["client_prompt_tokens"] == 728


def test_unknown_image_tokens_leave_the_text_unknown():
    """With images of unknown token count, the prompt's text length is absent."""
    vision = answered(1, 100, 20, 11, images=1)
    row = metrics.summarise(load([vision]), gpus=8)
    assert row["isl_had"] is None
    assert row["isl_off_share"] is None


def test_goodput_is_the_share_within_every_limit():
    """One of two requests meets both limits, so goodput is half the request rate."""
    rows = [answered(1, 100, 20, 11), answered(2, 100, 60, 11)]
    row = metrics.summarise(load(rows), gpus=8, slo={"ttft_ms": 200, "tpot_ms": 50})
    assert row["goodput_share"] == 0.5
    assert row["goodput"] == pytest.approx(0.1)


def test_gaps_weigh_by_tokens_and_say_how_many_were_zero():
    """ITL comes from the token-weighted histogram; shares of zero gaps and shared stamps are of chunks."""
    itl = Histogram()
    itl.add(np.array([10 * MS]), np.array([4]))
    row = answered(1, 100, 20, 11, zero_gaps=2, coalesced=3)
    row["chunks"] = 5
    summary = metrics.summarise(load([row], itl=itl), gpus=8)
    assert summary["mean_itl_ms"] == pytest.approx(10)
    assert summary["itl_n"] == 4
    assert summary["zero_gap_share"] == 0.5
    assert summary["coalesced_share"] == pytest.approx(0.6)


def test_drift_has_an_interval():
    """A second half 10 % faster is a drift whose interval leaves zero out; three seconds have no drift."""
    seconds = np.array([1000, 1002, 998, 1001, 999] * 2 + [1100, 1102, 1098, 1101, 1099] * 2)
    row = metrics.summarise(load([], tokens_per_second=seconds), gpus=8)
    assert row["drift"] == pytest.approx(100 / 1050)
    assert 0.09 < row["drift_low"] < row["drift_high"] < 0.1
    assert metrics.summarise(load([], tokens_per_second=seconds[:3]), gpus=8)["drift"] is None


def test_the_client_tells_on_itself():
    """The worst worker decides: its CPU share, its waiting for a CPU, its pause."""
    stats = {
        "host": "a",
        "connections_opened": 3,
        "reads": 10,
        "coalesced_reads": 0,
        "tokens": 500_000,
        "wall_s": 10.0,
    }
    workers = (
        WorkerStats(worker=0, cpu_s=2.0, longest_pause_ms=5.0, cpu_wait_s=7.5, **stats),
        WorkerStats(worker=1, cpu_s=4.0, longest_pause_ms=9.0, cpu_wait_s=0.1, **stats),
    )
    row = metrics.summarise(load([], workers=workers), gpus=8)
    assert row["client_cpu_share_max"] == pytest.approx(0.4)
    assert row["client_busy_share_max"] == pytest.approx(0.95)
    assert row["client_cpu_us_per_token"] == pytest.approx(6)
    assert row["client_longest_pause_ms"] == 9
    assert row["connections_opened"] == 6


def test_every_summary_column_is_documented():
    """summarise gives no column that docs/results.md does not explain."""
    row = metrics.summarise(load([answered(1, 100, 20, 11)]), gpus=8, slo={"ttft_ms": 1})
    assert set(row) <= {column.name for column in CELLS}


def test_what_failed_requests_were_told_most_often():
    """The row has the most frequent error on one line with its count, ignoring numbers and ids."""
    bad = FAILURES.index(Failure.HTTP_STATUS)
    rows = [request(request_id=i, sent_ns=i, end_ns=i + 1, failure=bad) for i in range(1, 5)]
    errors = {
        1: "400: too long: 70 of 64 tokens\n\x1b[2Jrequest cmpl-1a2b3c4d",
        2: "503: loading",
        3: "400: too long: 71 of 64 tokens\n\x1b[2Jrequest cmpl-99ffee00",
        4: "",
    }
    row = metrics.summarise(load(rows, errors=errors), gpus=None)

    assert row["common_error"] == "400: too long: 70 of 64 tokens [2Jrequest cmpl-1a2b3c4d"
    assert row["common_error_count"] == 2

    warm = [request(request_id=1, sent_ns=1, end_ns=2, failure=bad, phase=Phase.WARMUP)]
    assert metrics.summarise(load(warm, errors=errors), gpus=None)["common_error_count"] == 1
    assert metrics.summarise(load([]), gpus=None)["common_error"] is None


def test_tokens_that_nobody_counted_have_no_throughput():
    """Where answers tell no counts, output tokens/s is absent and not zero; one in two hundred leaves it."""
    counted, uncounted = answered(1, 30, 6, 16), answered(2, 30, 6, 16)
    uncounted["output_tokens"] = NONE
    row = metrics.summarise(load([counted, uncounted], output_tokens_in_window=16), gpus=8)
    assert [
        row[name] for name in ("output_throughput", "total_token_throughput", "output_throughput_per_gpu")
    ] == [None] * 3
    assert row["drift"] is None
    assert row["request_throughput"] is not None
    failed = uncounted.copy()
    failed["failure"] = FAILURES.index(Failure.TRUNCATED)
    assert metrics.summarise(load([failed]), gpus=8)["output_throughput"] is None
    row = metrics.summarise(load([counted] * 199 + [uncounted], output_tokens_in_window=3184), gpus=8)
    assert row["output_throughput"] == pytest.approx(318.4)


def test_doubts_are_shares_of_completed_requests():
    """Of those long enough to tell for answers in one piece; rows that say nothing have none."""
    rows = [answered(1, 30, 6, 16, doubts=0, first_tokens=1) for _ in range(6)]
    rows += [answered(2, 30, 6, 16, doubts=Doubt.USAGE | Doubt.END, first_tokens=9)]
    rows += [answered(2, 120, 0, 16, doubts=Doubt.ONE_PIECE, first_tokens=9)]
    rows += [answered(3, 30, 6, 2, doubts=Doubt.UNKNOWN_TEXT, first_tokens=1) for _ in range(2)]
    row = metrics.summarise(load(rows), gpus=None)
    shares = ("usage_disagrees_share", "one_piece_share", "unknown_text_share", "unknown_end_share")
    assert [row[name] for name in shares] == pytest.approx([0.1, 0.125, 0.2, 0.1])
    assert row["first_chunk_tokens"] == pytest.approx(2.6)
    row = metrics.summarise(load([answered(1, 30, 6, 16)]), gpus=None)
    assert [row[name] for name in shares] == [0, 0, 0, 0]
    assert row["first_chunk_tokens"] is None
