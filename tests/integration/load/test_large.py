"""Many users, every failure class, memory: what takes longer than a moment."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest

from loads import assert_same, gaps_ms, load_spec, ttft_ms
from referenceserver import FaultRecord, serving
from rocbench.load import drive
from rocbench.load.spec import WindowPlan
from rocbench.records import FAILURES, NONE, Phase

FAULTS = ("http_status", "in_band_error", "truncated", "reset", "timeout", "bad_json", "early_stop")

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_two_thousand_users_with_every_failure():
    """2,000 users for 15 seconds, 1 % of answers failing in each class: each is in its class, none lost."""
    faults = [part for fault in FAULTS for part in ("--fault", f"{fault}=0.01")]
    with serving(("--step-ms", "100", *faults)) as (url, _):
        window = WindowPlan(duration_s=15, min_requests_per_user=0)
        result = drive(load_spec(url, users=2000, tokens=40, request_timeout_s=15, window=window))
        record = FaultRecord.fetch(url)
    assert_same(result, record)
    measured = result.requests[result.requests["phase"] == Phase.MEASURED]
    for fault in FAULTS:
        index = [failure.value for failure in FAILURES].index(fault)
        assert 0.005 < (measured["failure"] == index).mean() < 0.02
    inside = (record.times_ns >= result.window.start_ns) & (record.times_ns < result.window.end_ns)
    assert abs(result.output_tokens_in_window - int(record.sizes[inside].sum())) <= 4000
    assert (measured["failure"] == NONE).sum() > 3_750


def test_a_thousand_users_see_the_truth():
    """1,000 users at 50 ms steps: gaps and TTFT are those that the server wrote down, whatever else runs here."""
    with serving(("--step-ms", "50")) as (url, _):
        window = WindowPlan(duration_s=8, min_requests_per_user=0)
        result = drive(load_spec(url, users=1000, tokens=50, window=window))
        record = FaultRecord.fetch(url)
    rows = result.requests[
        (result.requests["phase"] == Phase.MEASURED) & (result.requests["failure"] == NONE)
    ]
    ttft = (rows["first_token_ns"] - rows["sent_ns"]) / 1e6
    true = ttft_ms(record, rows["request_id"])
    # Reads late by more than a step on a busy machine hold two events under one stamp: those are counted instead.
    if result.workers[0].coalesced_reads < 0.001 * result.workers[0].reads:
        gap = result.itl.percentile_ns(99) / 1e6
        assert abs(gap - np.percentile(gaps_ms(record, rows["request_id"]), 99)) < 0.5
        assert abs(np.median(ttft) - np.median(true)) < 5
        assert abs(np.percentile(ttft, 99) - np.percentile(true, 99)) < 10


def test_memory_follows_rows_not_tokens():
    """A worker's memory grows by its rows: not by tokens, bytes or objects of requests that are over."""
    sizes = []

    def on_progress(progress):
        if progress.phase != "measure":
            return
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if "rocbench.load.worker" in " ".join(child.cmdline()):
                    sizes.append((progress.completed, child.memory_info().rss))

    with serving(("--step-ms", "5")) as (url, _):
        window = WindowPlan(duration_s=12, min_requests_per_user=0)
        result = drive(load_spec(url, users=40, tokens=30, window=window), on_progress)
    assert not (result.requests["failure"] != NONE).any()
    first, last = sizes[len(sizes) // 4], sizes[-1]
    grown, requests = last[1] - first[1], last[0] - first[0]
    assert requests > 1000
    assert grown / requests < 2000


def test_a_driver_that_is_killed_leaves_no_worker():
    """Workers whose driver was killed end by themselves."""
    script = (
        "import sys; sys.path[:0] = {path!r}\n"
        "from loads import load_spec\nfrom rocbench.load import drive\nfrom rocbench.load.spec import WindowPlan\n"
        "drive(load_spec({url!r}, window=WindowPlan(duration_s=60)), lambda p: print(p.phase, flush=True))\n"
    )
    with serving(("--step-ms", "4")) as (url, _):
        text = script.format(path=[path for path in sys.path if path], url=url)
        with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            for line in driver.stdout:
                if line.strip() == "measure":
                    break
            workers = psutil.Process(driver.pid).children()
            assert workers
            driver.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
