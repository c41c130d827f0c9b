"""`bench sweep` against servers that answer as none should: a sample of what `benchmarks/nasty.py` runs in full."""

from __future__ import annotations

import json
import signal
import threading
import time

import pytest

from nasty import MODES, nasty, short_sweep
from sweeps import Bench


@pytest.fixture
def bench(tmp_path):
    """`bench` in a folder of its own; nothing of it is left."""
    made = Bench(tmp_path)
    yield made
    made.kill_left()


def run(bench, mode, transport="wire"):
    """One cell against one mode."""
    with nasty(MODES[mode]) as url:
        ended = bench.run(*short_sweep(bench, url, transport))
    bench.check(ended)
    return ended


@pytest.mark.slow
def test_metrics_of_50_mb_cost_the_metrics(bench):
    """Told as too large in the row; the cell is measured."""
    ended = run(bench, "metrics_50mb")

    row = ended.rows.iloc[0]
    assert row["metrics_note"] == "/metrics: the answer is larger than 8 MiB"
    assert row["metrics_failed"] >= 1
    assert "/metrics: the answer is larger than 8 MiB" in " ".join(ended.stderr.split())
    assert row["completed"] > 0
    assert row["failed"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "transport"), [("header_64mb", "wire"), ("tokens_endless", "aiohttp")])
def test_answers_without_end_cost_their_requests(bench, mode, transport):
    """The good answers beside them are in the row."""
    row = run(bench, mode, transport).rows.iloc[0]

    assert set(json.loads(row["failures"])) <= set(MODES[mode].words)
    assert row["failed"] > 0
    assert row["completed"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", ["v1_models_endless", "version_byte_a_second", "health_50mb", "metrics_400_digits"]
)
def test_odd_control_answers_cost_their_source(bench, mode):
    """The cell is measured."""
    row = run(bench, mode).rows.iloc[0]

    assert row["completed"] > 0
    assert row["failed"] == 0


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("metrics_byte_a_second", marks=pytest.mark.slow),
        pytest.param("health_silent", marks=pytest.mark.slow),
        pytest.param("v1_models_byte_a_second", marks=pytest.mark.slow),
        pytest.param("version_silent", marks=pytest.mark.slow),
        pytest.param("probe_byte_a_second", marks=pytest.mark.slow),
        "line_32mib",
    ],
)
def test_first_ctrl_c_while_a_server_keeps_bench_waiting(bench, mode):
    """Whoever waits for what, one Ctrl-C ends it within seconds."""
    reached = threading.Event()
    with nasty(MODES[mode], reached) as url:
        process = bench.begin(
            *short_sweep(bench, url, request_timeout_s=60, duration_s=60, max_duration_s=60)
        )
        assert reached.wait(60)
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        ended = bench.end(process)
        took = time.monotonic() - began
    bench.check(ended)
    assert ended.code == 130, ended.stderr
    assert took < 10
