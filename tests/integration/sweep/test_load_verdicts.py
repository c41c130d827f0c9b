"""Loads that are not what was asked for: the row says so."""

import os
import subprocess
import sys

import pytest

from sweeps import sweep

MODEL = "llama-3.3-70b"


@pytest.mark.slow
def test_hundred_requests_for_a_thousand_users(bench):
    """100 requests cannot be 1,000 users: invalid, with the codes that say why."""
    ended = bench.sweep(sweep([MODEL], concurrency=[1000], load={"max_requests": 100}))

    assert ended.code == 1
    assert ended.reasons(MODEL) >= {"too_few_requests", "concurrency_not_delivered"}
    assert bool(ended.row(MODEL)["valid"]) is False
    assert ended.row(MODEL)["completed"] == 100


@pytest.mark.slow
def test_server_that_runs_128_at_once(bench):
    """What queues at a server that caps at 128 running is in the row, and it is no client's fault."""
    ended = bench.sweep(
        sweep([MODEL], concurrency=[400], load={"duration_s": 4}, faults={MODEL: {"max_running": 128}})
    )
    row = ended.row(MODEL)

    assert 120 <= row["server_running_max"] <= 128  # read once a second
    assert 200 < row["server_waiting_max"] <= 400
    assert "queued_at_server" in ended.reasons(MODEL)
    assert row["failed"] == 0


@pytest.mark.slow
@pytest.mark.alone
def test_starved_load_worker(bench):
    """A load worker that shares its one CPU with busy loops, ready and waiting nearly all the time: client_saturated.

    The loops are sessions of their own, for a kernel that shares CPU by session.
    """
    cpu = max(os.sched_getaffinity(0))
    code = (
        f"import os\nos.sched_setaffinity(0, [{cpu}])\nwhile os.getppid() == {os.getpid()}: sum(range(10000))"
    )
    loops = [subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True) for _ in range(24)]
    try:
        ended = bench.sweep(
            sweep([MODEL], concurrency=[256], load={"duration_s": 4}, simulation={"speed": 4}),
            "--client-cpus",
            str(cpu),
        )
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()

    assert ended.code == 1
    assert "client_saturated" in ended.reasons(MODEL)
    assert ended.row(MODEL)["client_busy_share_max"] > 0.9
    assert bool(ended.row(MODEL)["valid"]) is False
