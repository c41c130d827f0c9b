"""Faults of running servers, in whole sweeps: the row says what happened, the next server's cells are measured."""

import os
import signal

import pytest

from sweeps import HURRIED, Terminal, as_process, measured, sweep, wait_until

FIRST, NEXT = "deepseek-r1", "qwen3-235b"
pytestmark = pytest.mark.slow


def test_watched_faults(bench):
    """Dead engine, failing health, lost metrics and a kernel build: each in its own row of one sweep.

    Times count from when the server is ready; windows are long enough to hold them on a busy machine.
    """
    faults = {
        "llama-3.1-405b": {"engine_dead_after_s": 5},
        "llama-3.3-70b": {"health_503_after_s": 3, "health_503_for_s": 7},
        "qwen3-235b": {"metrics_gone_after_s": 3},
        "deepseek-r1": {"jit_line_after_s": 5.5},
    }
    ended = bench.sweep(sweep([*faults, "deepseek-v3.1"], load={"duration_s": 8}, faults=faults), timeout=300)

    assert ended.code == 1, ended.stderr
    assert ended.reasons("llama-3.1-405b") >= {"error_rate", "health_failed"}
    assert "health_failed" in ended.reasons("llama-3.3-70b")
    assert ended.row("llama-3.3-70b")["health_failures"] > 0
    assert measured(ended, "llama-3.3-70b")
    assert "metrics_gone" in ended.reasons("qwen3-235b")
    assert ended.row("qwen3-235b")["valid"] is not True
    assert measured(ended, "qwen3-235b")
    assert "jit_in_window" in ended.reasons("deepseek-r1")
    assert ended.row("deepseek-r1")["jit_lines"] == 1
    assert measured(ended, "deepseek-v3.1")
    assert "health_failed" not in ended.reasons("deepseek-v3.1")


def test_server_killed_leaving_workers(bench):
    """SIGKILL of the API server during the window leaves a worker that ignores SIGTERM: it is found and ended too."""
    bench.program = HURRIED
    terminal = Terminal(
        bench,
        "sweep",
        bench.write(sweep([FIRST, NEXT], load={"duration_s": 6}, faults={FIRST: {"orphan": True}})),
        "--out",
        str(bench.out),
    )
    terminal.wait_for(r" measure [1-9] s")
    assert any("VLLM::Worker_TP0" in line for line in bench.left())

    os.kill(bench.server_pid(), signal.SIGKILL)

    ended = terminal.end()
    bench.check(ended)
    assert ended.code == 1
    assert "server_changed" in ended.reasons(FIRST)
    assert measured(ended, NEXT)


def test_server_killed_before_its_cell(bench):
    """SIGKILL between two cells: the cell that found nobody says so, and the next one gets a new server."""
    made = sweep([FIRST], concurrency=[1, 2, 3], load={"duration_s": 1})
    terminal = Terminal(bench, "sweep", bench.write(made), "--out", str(bench.out))
    pid = bench.server_pid()
    wait_until(
        lambda: (bench.out / "log.jsonl").exists() and "server_ready" in (bench.out / "log.jsonl").read_text()
    )
    os.kill(pid, signal.SIGKILL)

    ended = terminal.end()
    bench.check(ended)
    assert ended.code == 1
    assert ended.reasons(FIRST, 1) & {"server_failed", "server_changed"}
    assert measured(ended, FIRST, 2)
    assert measured(ended, FIRST, 3)


def test_a_log_that_floods(bench):
    """A server that logs 100 MB does not cost the sweep: its row and the next server's are there."""
    ended = bench.sweep(sweep([FIRST, NEXT], faults={FIRST: {"log_flood_bytes": 10**8}}))
    log = ended.folder / "servers" / f"01-{FIRST}" / "server.log"
    size = log.stat().st_size
    log.unlink()

    assert size > 10**8 - 10**7
    assert measured(ended, FIRST)
    assert measured(ended, NEXT)


def test_telemetry_tool_hangs(bench):
    """An `amd-smi` that never answers is given up with a note; the cells are measured without telemetry."""
    tool = bench.folder / "bin" / "amd-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexec sleep 300\n")
    tool.chmod(0o755)
    bench.env["PATH"] = f"{tool.parent}:{os.environ['PATH']}"
    ended = bench.sweep(sweep([FIRST], concurrency=[2, 4], server=as_process()), timeout=400)

    assert ended.code in (0, 1), ended.stderr
    assert "GPU telemetry is off" in ended.stderr
    assert measured(ended, FIRST, 2)
    assert measured(ended, FIRST, 4)


def test_server_that_differs_from_its_plan(bench):
    """Another block size than planned is found after the start, and voids the row."""
    ended = bench.sweep(
        sweep(
            [{"profile": FIRST, "serve_args": {"block-size": 32}}, NEXT],
            faults={FIRST: {"wrong_block_size": 128}},
        )
    )

    assert ended.code == 1
    assert "server_differs_from_plan" in ended.reasons(FIRST)
    assert "planned 32" in ended.row(FIRST)["plan_differences"]
    assert measured(ended, NEXT)
