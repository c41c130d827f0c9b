#!/usr/bin/env python3
"""How long a report over many large runs takes, and how much memory: `.venv/bin/python benchmarks/report.py`.

Makes up RUNS runs of REQUESTS requests each (test data, see tests/synthetic_runs.py), then makes one report over all
of them in a process of its own. Goal: under 60 s and 4 GiB for 200 runs of 100,000 requests.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from synthetic_runs import World, write_run

SECONDS, GIB = 60.0, 4.0
LEVELS = (250, 500, 750, 1000)


def make(root: Path, runs: int, requests: int) -> float:
    """Write the runs; return the seconds it took."""
    began = time.monotonic()
    each = max(6, requests // sum(LEVELS) - 4)
    models = ("deepseek-v3.2", "llama-3.1-405b", "qwen3-vl-235b")
    for number in range(runs):
        sweep = {
            "name": "nightly",
            "vllm": "0.14.1",
            "models": [models[number % len(models)]],
            "workloads": ["text-2048-512"],
            "concurrency": list(LEVELS),
        }
        write_run(
            root / f"night-{number:04d}",
            sweep,
            World(seed=number, day=number // len(models), requests_per_user=each),
        )
    return time.monotonic() - began


def main() -> int:
    """Make, report, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="keep the runs here, and use them again")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = (wanted.folder or Path(temporary)) / "runs"
        if not root.exists():
            seconds = make(root, wanted.runs, wanted.requests)
            print(f"{wanted.runs} runs of about {wanted.requests:,} requests made in {seconds:.0f} s")
        out = Path(temporary) / "report"
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "rocbench", "report", str(root), "--out", str(out)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        took = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1024**3
        size = (out / "report.html").stat().st_size / 1e6
    result = {
        "runs": wanted.runs,
        "requests_a_run": wanted.requests,
        "seconds": round(took, 1),
        "peak_gib": round(peak, 2),
        "html_mb": round(size, 2),
        "goal": {"seconds": SECONDS, "gib": GIB},
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(result))
    return int(took > SECONDS or peak > GIB)


if __name__ == "__main__":
    sys.exit(main())
