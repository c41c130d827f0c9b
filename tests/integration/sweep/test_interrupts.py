"""Ctrl-C, SIGTERM and SIGKILL of a whole sweep, in each phase: what was measured is there, nothing is left running."""

import json
import os
import signal
import time

import pytest

from sweeps import Terminal, as_process, measured, sweep, wait_until

FIRST, NEXT = "deepseek-r1", "qwen3-235b"


def begin(bench, made) -> Terminal:
    """A sweep on a terminal."""
    return Terminal(bench, "sweep", bench.write(made), "--out", str(bench.out))


def interrupt(bench, terminal: Terminal, number: int = signal.SIGINT) -> float:
    """Sends a signal; the sweep ends with 130 and leaves nothing. Gives the seconds it took."""
    began = time.monotonic()
    terminal.process.send_signal(number)
    ended = terminal.end()
    took = time.monotonic() - began
    assert ended.code == 130, ended.stderr
    bench.check(ended)
    assert "interrupted" in ended.stderr
    return took


def finished(bench) -> list[str]:
    """Models that have a row."""
    rows = [json.loads(path.read_text()) for path in (bench.out / "parts" / "cells").glob("*.json")]
    return [row["model"] for row in rows]


def two_then_long() -> dict:
    """A short cell on the first server, then one on the second that would last minutes."""
    made = sweep([FIRST, NEXT], load={"duration_s": 1})
    made["models"] = [FIRST]
    del made["concurrency"]
    made["blocks"] = [
        {"workloads": ["short"], "concurrency": [2], "load": {"duration_s": 1}},
        {"workloads": ["short"], "concurrency": [3], "load": {"duration_s": 120, "max_duration_s": 200}},
    ]
    return made


def test_ctrl_c_in_the_window(bench):
    """Ctrl-C during the window: over within 10 s, the finished cell on disk, the cut one not."""
    terminal = begin(bench, two_then_long())
    terminal.wait_for(r"(?s)c2.* measure \d+ s.*c3.* measure [1-9]\d* s")

    took = interrupt(bench, terminal)

    assert took < 10
    assert finished(bench) == [FIRST]
    assert (bench.out / "cells.csv").read_text().count(f",{FIRST},") >= 1


def stop_workers(bench) -> None:
    """SIGSTOP to the load's workers."""
    for line in bench.left():
        if "rocbench.load.worker" in line:
            os.kill(int(line.split()[0]), signal.SIGSTOP)


def test_first_ctrl_c_with_a_stopped_worker(bench):
    """A load worker that is stopped keeps nobody waiting: one Ctrl-C ends the sweep."""
    terminal = begin(bench, two_then_long())
    terminal.wait_for(r"(?s)c3.* measure [1-9]\d* s")
    stop_workers(bench)

    assert interrupt(bench, terminal) < 10
    assert finished(bench) == [FIRST]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_other_signals_in_the_window(bench, number):
    """SIGTERM of a CI job and a scheduler's warning end a sweep as Ctrl-C does."""
    terminal = begin(bench, two_then_long())
    terminal.wait_for(r"(?s)c3.* measure [1-9]\d* s")
    if number == signal.SIGUSR1:  # which its whole process group gets
        for line in bench.left():
            if "rocbench.load.worker" in line:
                os.kill(int(line.split()[0]), number)
        time.sleep(1.0)

    assert interrupt(bench, terminal, number) < 10
    assert finished(bench) == [FIRST]


@pytest.mark.slow
def test_ctrl_c_while_the_server_starts(bench):
    """Ctrl-C while a model loads."""
    terminal = begin(bench, sweep([FIRST], simulation={"load_s": 100}))
    bench.server_pid()

    assert interrupt(bench, terminal) < 10
    assert finished(bench) == []


@pytest.mark.slow
def test_ctrl_c_in_warm_up(bench):
    """Ctrl-C before the window has begun: the first requests last longer than the test."""
    terminal = begin(bench, sweep([FIRST], simulation={"slowdown": 200}))
    terminal.wait_for(r" warm-up [1-9]\d* s")

    assert interrupt(bench, terminal) < 10
    assert finished(bench) == []


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["tail", "drain"])
def test_ctrl_c_after_the_window(bench, phase):
    """Ctrl-C while the last requests of the window run on, and while those after them are let end."""
    terminal = begin(
        bench, sweep([FIRST], concurrency=[16], simulation={"slowdown": 40}, load={"duration_s": 2})
    )
    terminal.wait_for(rf" {phase} \d+ s")

    assert interrupt(bench, terminal) < 10
    assert finished(bench) == []


@pytest.mark.slow
def test_ctrl_c_while_the_server_stops(bench):
    """Ctrl-C in a slow stop ends the grace; the cell that was done stays."""
    terminal = begin(bench, sweep([FIRST, NEXT], faults={FIRST: {"slow_stop_s": 100, "orphan": True}}))
    log = bench.out / "servers" / f"01-{FIRST}" / "server.log"
    wait_until(lambda: log.exists() and "Shutting down" in log.read_text())

    assert interrupt(bench, terminal) < 10
    assert finished(bench) == [FIRST]


@pytest.mark.slow
def test_ctrl_c_twice(bench):
    """A second Ctrl-C kills a server that takes its time to stop."""
    terminal = begin(
        bench,
        sweep([FIRST], load={"duration_s": 100}, faults={FIRST: {"ignore_sigterm": True, "orphan": True}}),
    )
    terminal.wait_for(r" measure [1-9]\d* s")
    terminal.process.send_signal(signal.SIGINT)
    wait_until(lambda: not any("rocbench.load.worker" in line for line in bench.left()))
    time.sleep(1.0)
    assert terminal.process.poll() is None

    assert interrupt(bench, terminal) < 10


@pytest.mark.slow
def test_killed_bench_then_run_again(bench):
    """SIGKILL of bench: the next one finds the server, refuses the node, and with --reap ends it and goes on."""
    made = two_then_long() | {"server": as_process()}
    made["blocks"][1]["load"] = {"duration_s": 6}
    terminal = begin(bench, made)
    terminal.wait_for(r"(?s)c3.* measure [1-9]\d* s")
    pid = bench.server_pid()

    terminal.process.kill()
    terminal.end()

    wait_until(
        lambda: not any("rocbench.load.worker" in line for line in bench.left())
    )  # they see it by themselves
    assert any(line.startswith(f"{pid} ") for line in bench.left())
    assert finished(bench) == [FIRST]
    refused = bench.run("sweep", "--resume", str(bench.out))
    assert refused.code == 4
    assert str(pid) in refused.stderr
    assert "--reap" in refused.stderr

    again = bench.run("sweep", "--resume", str(bench.out), "--reap")
    bench.check(again)
    assert "ending a server that an earlier bench left behind" in again.stderr
    assert measured(again, FIRST, 2)
    assert measured(again, FIRST, 3)
    assert len(again.rows) == 2
