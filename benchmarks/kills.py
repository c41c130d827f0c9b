"""Does a sweep that is killed at any moment lose, tear or double a row, or leave a process? kill -9, then --resume.

    python benchmarks/kills.py --moments 50

Each time a short sweep on simulated servers is begun in a folder of its own, killed after a time that a seed decides,
and gone on with until it ends. Then every planned row must be there once, every file must be whole, and no process may
be left. Prints what was not so, and ends with 1 if anything was.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from rocbench.store import TABLES, RunFolder
from sweeps import Bench, sweep

MODELS = ["deepseek-r1", "qwen3-235b"]
LEVELS = [2, 4]
LONGEST_S = 25.0
"""A kill may come after up to so many seconds: longer than the whole sweep takes on an idle machine."""
GONE_S = 20.0
"""So long may load workers of a killed bench take to see it."""


def killed_and_resumed(bench: Bench, after_s: float) -> list[str]:
    """Begin a sweep, kill it, go on with it; what is wrong with what is left."""
    made = sweep(MODELS, concurrency=LEVELS)
    words = ("sweep", bench.write(made), "--out", str(bench.out))
    process = bench.begin(*words)
    time.sleep(after_s)
    process.kill()
    process.communicate()
    resumed = RunFolder.is_one(bench.out)
    ended = bench.run(*(("sweep", "--resume", str(bench.out)) if resumed else words), "--reap", timeout=300)
    if ended.code not in (0, 1):
        return [f"went on with exit code {ended.code}: {ended.stderr[-500:]}"]
    return wrong_rows(bench) + left(bench)


def wrong_rows(bench: Bench) -> list[str]:
    """Rows that are missing or there twice, and files that are torn."""
    folder = RunFolder.open(bench.out)
    found = [f"{row['key']} has no requests" for row in folder.check_parts()]
    keys = sorted((str(row["model"]), int(row["concurrency"])) for row in folder.rows)
    if keys != sorted((model, level) for model in MODELS for level in LEVELS):
        found.append(f"rows: {keys}")
    for name in TABLES:
        folder.table(name)
    events = [event["event"] for event in folder.events()]
    if events.count("cell") < len(keys):
        found.append(f"log.jsonl tells of {events.count('cell')} cells")
    return found + [f"{path} was left" for path in bench.out.rglob(".*.tmp")]


def left(bench: Bench) -> list[str]:
    """Processes that outlive it, and records of servers."""
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
        after_s = random.Random(seed).uniform(0, LONGEST_S)
        with tempfile.TemporaryDirectory(prefix="rocbench-kills-") as root:
            wrong = killed_and_resumed(Bench(Path(root)), after_s)
        bad += bool(wrong)
        print(f"seed {seed}: killed after {after_s:.1f} s: {'; '.join(wrong) or 'whole'}", flush=True)
    print(f"{given.moments} kills, wrong after {bad}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
