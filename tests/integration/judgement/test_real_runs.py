"""Real processes: runs on the simulated server, killed at random moments, and gated."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from rocbench.store.folder import RunFolder
from sweeps import Bench

KILLS = 6

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture(name="shell")
def _shell(tmp_path):
    """`bench` as processes in a folder of its own."""
    made = Bench(tmp_path)
    yield made
    made.kill_left()


def small(folder: Path, **more):
    """A sweep of cells of a second each, whose steps of 20 ms a busy machine can keep."""
    workload = folder / "tiny.yaml"
    workload.write_text("name: tiny\nisl: {mean: 32}\nosl: {mean: 8}\n")
    return {
        "name": "real",
        "vllm": "0.14.1",
        "models": ["llama-3.1-405b"],
        "workloads": [str(workload)],
        "concurrency": [1, 2],
        "repeats": 3,
        "load": {"duration_s": 1, "max_duration_s": 20},
        "simulation": {"load_s": 0.2},
        "server": {"ready_timeout_s": 120},
    } | more


def rows_of(folder: Path) -> dict[tuple[str, int], dict]:
    """Every row that is on disk, by cell and repeat; none where the run had not begun."""
    if not (folder / "manifest.json").is_file():
        return {}
    return {(row["cell_id"], row["repeat"]): row for row in RunFolder.open(folder).rows}


def until_valid(shell: Bench, out: Path, *words: str) -> int:
    """Run or resume until no row is invalid (a busy machine can make the simulator late), at most 5 times."""
    code = shell.run("sweep", *words, timeout=400).code
    for _ in range(5):
        if code == 0:
            break
        code = shell.run("sweep", "--resume", str(out), timeout=400).code
    return code


def shape(folder: Path):
    """What must be equal to an undisturbed run: cells and repeats, columns, and which tables have which cells."""
    import pandas as pd

    frames = {
        name: pd.read_parquet(folder / f"{name}.parquet")
        for name in ("cells", "requests", "server_metrics", "histograms", "timeline")
    }
    keys = sorted(zip(frames["cells"]["cell_id"], frames["cells"]["repeat"], strict=True))
    return keys, {
        name: (sorted(frame.columns), sorted(set(zip(frame["cell_id"], frame["repeat"], strict=True))))
        for name, frame in frames.items()
    }


@pytest.mark.timeout(3000)
def test_killed_at_random_moments(shell, tmp_path):
    """kill -9 at random moments, each followed by --resume: every cell once, nothing measured is lost."""
    sweep = shell.write(small(tmp_path))
    whole = tmp_path / "whole"
    until_valid(shell, whole, sweep, "--out", str(whole))
    dice, kills, runs, known = random.Random(7), 0, 0, {}
    out = tmp_path / "run0"
    while kills < KILLS:
        begun = (out / "manifest.json").is_file()
        words = ("--resume", str(out)) if begun else (sweep, "--out", str(out))
        process = shell.begin("sweep", *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(dice.uniform(0.5, 8))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        there = rows_of(out)
        for key, row in known.items():  # a valid row is never lost and never measured again
            assert there[key]["started_at"] == row["started_at"]
        known = {key: row for key, row in there.items() if row.get("valid") is not False}
        if len(known) == len(rows_of(whole)):
            runs, known = runs + 1, {}
            assert shell.run("sweep", "--resume", str(out), timeout=400).code == 0
            assert shape(out) == shape(whole)
            out = tmp_path / f"run{runs}"
    if (out / "manifest.json").is_file():
        until_valid(shell, out, "--resume", str(out))
        assert shape(out) == shape(whole)
        for key, row in known.items():
            assert rows_of(out)[key]["started_at"] == row["started_at"]
    assert shell.servers() == []  # what was orphaned was found and ended


def on_night(folder: Path, night: int) -> None:
    """Say that a measured run began on that night: a test cannot wait a week."""
    for path in (folder / "parts" / "cells").iterdir():
        row = json.loads(path.read_text())
        path.write_text(json.dumps(row | {"started_at": f"2026-01-{night:02}T01:00:00+00:00"}))


@pytest.mark.timeout(2000)
def test_gate_on_real_runs(shell, tmp_path):
    """A server of half the speed fails the gate against six nights, an equal one does not; one night tells nothing."""
    one = small(tmp_path, repeats=1, concurrency=[2])
    slower = one | {"simulation": {"load_s": 0.2, "slowdown": 2.0}}
    for night in range(1, 9):
        out = tmp_path / "past" / f"night{night}" if night < 7 else tmp_path / f"night{night}"
        sweep = shell.write(slower if night == 8 else one)
        assert until_valid(shell, out, sweep, "--out", str(out)) == 0
        on_night(out, night)

    rules = tmp_path / "gate.yaml"
    rules.write_text("relative: [{metric: output_throughput, worse_by: 30%}]\n")

    def gate(night: int, baseline: str):
        return shell.run(
            *("gate", str(tmp_path / f"night{night}"), "--baseline", str(tmp_path / "past" / baseline)),
            *("--rules", str(rules), "--history", "none"),
        )

    said = gate(8, "")
    assert said.code == 1, said.stdout + said.stderr
    assert "concurrency=2" in said.stdout
    said = gate(7, "")
    assert said.code == 0, said.stdout + said.stderr
    said = gate(8, "night1")
    assert said.code == 3, said.stdout + said.stderr
    assert "1 night against 1 cannot show how far nights differ" in said.stdout
