"""A worker that is stopped ends the load, never the wait for it."""

from __future__ import annotations

import os
import signal
import threading

import psutil
import pytest

from loads import load_spec
from referenceserver import serving
from rocbench.errors import LoadFault
from rocbench.load import drive, pulse
from rocbench.load.spec import WindowPlan


def workers() -> list[psutil.Process]:
    """This process's load workers."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if "rocbench.load.worker" in " ".join(process.cmdline())]


@pytest.mark.parametrize("phase", [pytest.param("warm-up", marks=pytest.mark.slow), "measure"])
def test_a_stopped_worker_ends_the_load(monkeypatch, phase):
    """SIGSTOP in any phase: a fault that names the worker, and no process left."""
    monkeypatch.setattr(pulse, "STUCK_S", 1.0)
    stopped: list[int] = []

    def watch(progress):
        if progress.phase == phase and not stopped:
            stopped.extend(worker.pid for worker in workers())
            os.kill(stopped[0], signal.SIGSTOP)

    window = WindowPlan(duration_s=60.0 if phase == "measure" else 0.5, max_duration_s=60.0)
    tokens = 400 if phase == "warm-up" else 40
    with serving(("--step-ms", "20", "--tokens", str(tokens))) as (url, _):
        spec = load_spec(url, users=4, window=window, workers=2)
        with pytest.raises(LoadFault, match="load worker 0 made no progress"):
            drive(spec, watch)
    assert len(stopped) == 2
    assert not any(psutil.pid_exists(pid) for pid in stopped)


def test_a_worker_that_is_killed_is_a_fault_of_the_load(monkeypatch):
    """SIGKILL, as of a machine out of memory."""

    def watch(progress):
        if progress.phase == "measure":
            for worker in workers():
                worker.kill()

    with serving(("--step-ms", "20")) as (url, _), pytest.raises(LoadFault, match="ended unexpectedly"):
        drive(load_spec(url, users=2, window=WindowPlan(duration_s=60.0), workers=1), watch)


@pytest.mark.slow
def test_a_stop_with_a_stopped_worker(monkeypatch):
    """The `stop` event is seen by a driver that waits for a worker in vain."""
    monkeypatch.setattr(pulse, "STUCK_S", 1.0)
    stop = threading.Event()

    def watch(progress):
        if progress.phase == "measure" and not stop.is_set():
            os.kill(workers()[0].pid, signal.SIGSTOP)
            stop.set()

    with serving(("--step-ms", "20")) as (url, _), pytest.raises(LoadFault):
        drive(load_spec(url, users=2, window=WindowPlan(duration_s=60.0), workers=1), watch, stop)
