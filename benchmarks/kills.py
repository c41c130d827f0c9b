"""Does a sweep that is killed at a random moment lose, damage or duplicate a row, or leave a process? kill -9, then --resume.

    python benchmarks/kills.py --moments 50

Each time a short sweep on simulated servers is begun in a folder of its own, killed at a moment that a seed decides,
and gone on with until it ends: a moment is a number of rows that are there, and a time after the last of them. What was killed must be readable as it is; then every planned row must be there once,
those that were valid at the kill as they were, every file must be whole, and no process may be left. Prints what was
not so, and ends with 1 if anything was.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from rocbench.errors import InputError
from rocbench.store.cells import read_cells
from rocbench.store.folder import TABLES, RunFolder
from sweeps import Bench, sweep

MODELS = ["deepseek-r1", "qwen3-235b"]
LEVELS = [2, 4]
LONGEST_S = 10.0
"""A kill may come up to so many seconds after a row: longer than the next one takes on an idle machine."""
GONE_S = 20.0
"""So long may load workers of a killed bench take to see it."""

Rows = list[dict[str, Any]]


def killed_and_resumed(bench: Bench, rows_first: int, after_s: float) -> tuple[int, list[str]]:
    """Start a sweep, kill it, resume it; the number of rows after the kill, and all faults found then or at the end."""
    made = sweep(MODELS, concurrency=LEVELS)
    words = ("sweep", bench.write(made), "--out", str(bench.out))
    process = bench.begin(*words)
    while process.poll() is None and len(list(bench.out.glob("parts/cells/*.json"))) < rows_first:
        time.sleep(0.02)
    time.sleep(after_s)
    process.kill()
    process.communicate()
    resumed = RunFolder.is_run(bench.out)
    kept, found = readable(bench.out) if resumed else ([], [])
    ended = bench.run(*(("sweep", "--resume", str(bench.out)) if resumed else words), "--reap", timeout=300)
    if ended.code not in (0, 1):
        found.append(f"went on with exit code {ended.code}: {ended.stderr[-500:]}")
    rows, damaged = readable(bench.out)
    found += damaged or [*wrong_rows(kept, rows), *wrong_files(RunFolder.open(bench.out))]
    return len(kept), found + left(bench)


def readable(out: Path) -> tuple[Rows, list[str]]:
    """The rows of a run, and the error of each unreadable file."""
    try:
        folder = RunFolder.open(out)
    except InputError as error:
        return [], [error.text()]
    found = []
    tables = [partial(folder.table, name) for name in TABLES]
    reads: list[Callable[[], object]] = [folder.check_parts, folder.events, *tables]
    for read in reads:
        try:
            read()
        except InputError as error:
            found.append(error.text())
    return folder.rows, found


def wrong_rows(kept: Rows, rows: Rows) -> list[str]:
    """Rows that are missing, duplicated, or different from those at the kill."""
    keys = sorted((str(row["model"]), int(row["concurrency"])) for row in rows)
    found = [] if keys == sorted((m, level) for m in MODELS for level in LEVELS) else [f"rows: {keys}"]
    changed = [row["cell_id"] for row in kept if row["valid"] is not False and row not in rows]
    return found + [f"{cell_id} is not as it was" for cell_id in changed]


def wrong_files(folder: RunFolder) -> list[str]:
    """Tables that differ from their parts, cells without a log entry, partly written files."""
    found = [f"{row['cell_id']} has no requests" for row in folder.check_parts()]
    if sorted(read_cells(folder.path / "cells.parquet")["cell_id"]) != sorted(folder.cells()["cell_id"]):
        found.append("cells.parquet holds other rows than parts/")
    requests = folder.table("requests", ["cell_id", "repeat", "request_id"])
    parts = sum(len(folder.measured(row)[1]["requests"]) for row in folder.rows)
    if len(requests) != parts or requests.duplicated().any():
        found.append(f"{len(requests)} requests in the table, {parts} in parts/")
    told = sum(event["event"] == "cell" for event in folder.events())
    if told < len(folder.rows) - 1:  # bench may be killed between a row and its line
        found.append(f"log.jsonl tells of {told} cells")
    return found + [f"{path} was left" for path in folder.path.rglob(".*.tmp")]


def left(bench: Bench) -> list[str]:
    """Processes that outlive the sweep, and records of servers."""
    until = time.monotonic() + GONE_S
    while bench.left() and time.monotonic() < until:
        time.sleep(0.2)
    found = [f"left running: {line}" for line in bench.left()]
    bench.kill_left()
    return found + [f"{path} was left" for path in bench.state.rglob("server-*.json")]


def main() -> int:
    """Kill and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    given = parser.parse_args()
    bad = 0
    for seed in range(given.first, given.first + given.moments):
        rng = random.Random(seed)
        rows_first, after_s = rng.randrange(len(MODELS) * len(LEVELS)), rng.uniform(0, LONGEST_S)
        with tempfile.TemporaryDirectory(prefix="rocbench-kills-") as root:
            rows, wrong = killed_and_resumed(Bench(Path(root)), rows_first, after_s)
        bad += bool(wrong)
        told = "; ".join(wrong) or "whole"
        moment = f"killed {after_s:.1f} s after {rows_first} rows, with {rows}"
        print(f"seed {seed}: {moment}: {told}", flush=True)
    print(f"{given.moments} kills, wrong after {bad}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
