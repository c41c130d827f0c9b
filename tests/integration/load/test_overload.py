"""Above capacity, and on a server that stands still, over real sockets."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from loads import load_spec, number
from referenceserver import FaultRecord, serving
from rocbench.load import drive
from rocbench.load.dialect import PROBE_ID
from rocbench.load.spec import Open, WindowPlan
from rocbench.records import NONE, Phase
from rocbench.tables import metrics
from rocbench.verdict.judge import Evidence, judge


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
def test_ten_times_the_capacity_ends_and_every_request_is_accounted_for(transport):
    """About 40 requests/s are served and 400 sent: the load ends by its bounds, and what it cut has rows."""
    with serving(("--step-ms", "10", "--max-running", "5")) as (url, _):
        spec = load_spec(url, transport=transport, shape=Open(400, "constant"), duration_s=1.5)
        began = time.monotonic()
        load = drive(spec)
        lasted = time.monotonic() - began
        record = FaultRecord.fetch(url)
    row = metrics.summarise(load, gpus=None)
    rows = load.requests[load.requests["request_id"] < PROBE_ID]
    measured = rows[rows["phase"] == Phase.MEASURED]
    assert len(measured) == pytest.approx(400 * load.window.seconds, abs=2)
    assert row["completed"] + row["failed"] + row["unfinished"] == len(measured)
    assert row["unfinished"] > 0.5 * len(measured)
    assert "overloaded" in judge(Evidence.from_row(row, load_shape="open")).reasons
    assert row["backlog_slope_per_s"] == pytest.approx(360, rel=0.15)
    assert any("unfinished" in note for note in load.notes)
    assert lasted < 30, "far from the 600 s that one request may take"
    ended = {number(name) for name, fault in zip(record.ids, record.fault, strict=True) if fault < 0}
    done = set(rows["request_id"][rows["end_ns"] != NONE].tolist())
    assert done <= ended | {number(name) for name in record.ids}
    assert len(set(rows["request_id"].tolist())) == len(rows)


def test_what_waits_for_room_at_the_end_is_counted_as_never_sent():
    """With a cap on what is in flight the queue is the client's: its requests have rows that were never sent."""
    with serving(("--step-ms", "10", "--max-running", "5")) as (url, _):
        spec = load_spec(url, shape=Open(400, "constant", max_in_flight=5), duration_s=1.0)
        load = drive(replace(spec, window=WindowPlan(duration_s=1.0, max_tail_s=0.2, max_drain_s=1.0)))
    row = metrics.summarise(load, gpus=None)
    measured = load.requests[load.requests["phase"] == Phase.MEASURED]
    assert len(measured) == pytest.approx(400 * load.window.seconds, abs=2)
    assert row["dropped_sends"] == (measured["sent_ns"] == NONE).sum() > 0
    assert {"overloaded", "late_sends"} <= set(judge(Evidence.from_row(row, load_shape="open")).reasons)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_stands_still_is_told_and_not_laid_to_the_client(workers):
    """Stopped for two seconds in the window: one silence over all workers, by the kernel's stamps."""
    with serving(("--step-ms", "4")) as (url, process):
        spec = load_spec(url, users=8, workers=workers, duration_s=6.0)
        timer = threading.Timer(3.5, lambda: _stand_still(process.pid, 2.0))
        timer.start()
        load = drive(spec)
        timer.join()
    row = metrics.summarise(load, gpus=None)
    verdict = judge(Evidence.from_row(row, load_shape="closed"))
    assert row["longest_silence_ms"] == pytest.approx(2000, abs=300)
    assert {"server_stalled", "coordinated_omission"} <= set(verdict.reasons)
    assert row["p99_ttft_by_clock_ms"] > 1000 > row["p99_ttft_ms"]
    stamps = np.concatenate([load.requests[name] for name in ("first_token_ns", "last_token_ns")])
    assert stamps.max() > load.silences.max()


def _stand_still(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)
