"""Does a row report a relay that changes streams, and only then? The client against the server's histograms.

    python benchmarks/answers.py --runs 20 [--url URL]

Sweeps of a few seconds against the simulated server (or the server at URL), straight and through a relay that holds
back, batches, merges, doubles or replays events (tests/relays.py). Prints, for each kind, how many rows were valid,
which codes fired in how many, and what both sides measured. Exits with 1 where a straight run has a code of a
contradiction, or a spoiled one has none.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from relays import KINDS, relay  # noqa: E402
from scripted import scripted  # noqa: E402

CODES = {
    "usage_disagrees",
    "first_chunk_of_many",
    "not_streamed",
    "unknown_text",
    "unknown_end",
    "server_latency_disagrees",
    "stamps_coalesced",
    "token_count_disagrees",
    "request_refused",
}
SHOWN = ("ttft", "tpot", "e2el")


@contextmanager
def simulated(model: str, speed: float) -> Iterator[str]:
    """The simulated server of a model, ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "rocbench",
        "simulate",
        model,
        "--port",
        str(port),
        "--speed",
        str(speed),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            time.sleep(0.1)
            try:
                if urllib.request.urlopen(f"{url}/health", timeout=5).status == 200:
                    break
            except (urllib.error.URLError, OSError):
                continue
        yield url
    finally:
        process.terminate()
        process.wait(30)


def row(url: str, model: str, users: int, osl: int, seconds: float) -> pd.Series:
    """One cell's row."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        subprocess.run(
            [sys.executable, "-m", "rocbench", "sweep", "--base-url", url, "--model", model, "--concurrency", str(users),
             "--isl", "64", "--osl", str(osl), "--duration", str(seconds), "--out", str(out)],
            check=False, capture_output=True, env=os.environ | {"ROCBENCH_STATE": str(Path(folder) / "state")},
        )  # fmt: skip
        return pd.read_parquet(out / "cells.parquet").iloc[0]


def told(found: pd.Series) -> str:
    """Both sides' figures."""
    pairs = ((found.get(f"matched_{name}_ms"), found.get(f"matched_server_{name}_ms")) for name in SHOWN)
    return ", ".join(
        f"{name} -" if pd.isna(mine) or pd.isna(theirs) else f"{name} {mine:.1f} ({theirs:.1f})"
        for name, (mine, theirs) in zip(SHOWN, pairs, strict=True)
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20, help="straight runs")
    parser.add_argument("--spoiled", type=int, default=2, help="runs of each kind of relay")
    parser.add_argument("--users", type=int, nargs="+", default=[8])
    parser.add_argument("--osl", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--url", help="a running server; default: the simulated one")
    parser.add_argument("--model", default="llama-3.3-70b", help="profile of the simulated server")
    parser.add_argument("--speed", type=float, default=1.0, help="of the simulated server")
    given = parser.parse_args()
    if given.url:
        return measure(given.url, given)
    with simulated(given.model, given.speed) as url:
        return measure(url, given)


def measure(url: str, given: argparse.Namespace) -> int:
    """Straight runs, then each kind of relay."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as answer:
        given.model = json.load(answer)["data"][0]["id"]
    bad = 0
    for users in given.users:
        for kind in ("straight", *KINDS):
            runs = given.runs if kind == "straight" else given.spoiled
            found = []
            for _ in range(runs):
                if kind == "straight":
                    found.append(row(url, given.model, users, given.osl, given.seconds))
                else:
                    with scripted(relay(url, kind)) as between:
                        found.append(row(between, given.model, users, given.osl, given.seconds))
            codes = Counter(code for one in found for code in str(one["reasons"]).split(";") if code)
            valid = sum(bool(one["valid"]) for one in found if not pd.isna(one["valid"]))
            contradicted = sum(bool(CODES & set(str(one["reasons"]).split(";"))) for one in found)
            sound = kind in {"straight", "pass"}
            bad += contradicted if sound else runs - contradicted
            print(
                f"{users} users, {kind}: {valid} of {runs} valid, {contradicted} contradicted, {dict(codes)}"
            )
            if found:
                print(f"    {told(found[-1])}", flush=True)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
