"""Does a row report a starved server, and only then? Real vLLM on one core, the client on another, busy loops on either.

    python benchmarks/starvation.py serve            # in another shell of the same session; stays
    python benchmarks/starvation.py measure URL --runs 20

`serve` starts real vLLM (scripts/install-real-vllm) on one core with one thread and prints its URL; with
`--own-session` it is a scheduling group of its own. `measure` takes rows of it by `bench sweep`: without other work
("quiet"), with a busy loop of our own session on the server's core ("server"), with one of another session there
("apart": the kernel may give it nothing, so a valid row is right if it is as fast as a quiet one), and with 24
busy loops on the client's core ("client").
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODEL = "tiny-llama-gqa"
LOOP = "import os\nos.sched_setaffinity(0, [{cpu}])\nwhile os.getppid() == {parent}: sum(range(10000))"
SHOWN = (
    "output_throughput",
    "median_ttft_ms",
    "median_tpot_ms",
    "server_cpu_wait_share",
    "client_busy_share_max",
)


def serve(vllm: Path, port: int, cpu: int, *, own_session: bool) -> None:
    """Real vLLM on one CPU, on all for -1, until Ctrl-C."""
    command = [
        str(vllm / "bin" / "vllm"),
        "serve",
        str(vllm / "models" / MODEL),
        "--served-model-name",
        MODEL,
    ]
    command += [
        "--load-format",
        "dummy",
        "--enforce-eager",
        "--max-model-len",
        "1024",
        "--max-num-seqs",
        "1024",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CACHE_ROOT": str(vllm / "cache"), "VLLM_NO_USAGE_STATS": "1"}
    env |= {"HF_HUB_OFFLINE": "1"}
    if cpu >= 0:
        env |= {"VLLM_CPU_OMP_THREADS_BIND": str(cpu), "OMP_NUM_THREADS": "1"}
        os.sched_setaffinity(0, {cpu})
    with Path(f"vllm-{port}.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | env,
            start_new_session=own_session,
            process_group=None if own_session else 0,
        )
    try:
        while server.poll() is None:
            with (
                suppress(OSError, urllib.error.URLError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health"),
            ):
                break
            time.sleep(0.5)
        print(f"http://127.0.0.1:{port} pid {server.pid}", flush=True)
        server.wait()
    finally:
        server.terminate()
        server.wait()


@contextmanager
def busy(cpu: int, loops: int, *, apart: bool) -> Iterator[None]:
    """Busy loops on one CPU, `apart` each in a session of its own."""
    code = LOOP.format(cpu=cpu, parent=os.getpid())
    started = [
        subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=apart) for _ in range(loops)
    ]
    try:
        yield
    finally:
        for loop in started:
            loop.kill()
            loop.wait()


def row_of(url: str, users: int, seconds: float, client_cpu: int) -> dict[str, str]:
    """One row by `bench sweep` against a running server."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [
            sys.executable,
            "-m",
            "rocbench",
            "sweep",
            "--base-url",
            url,
            "--model",
            MODEL,
            "--out",
            str(out),
        ]
        command += [
            "--concurrency",
            str(users),
            "--isl",
            "64",
            "--osl",
            "64",
            "--client-cpus",
            str(client_cpu),
        ]
        command += ["--duration", str(seconds), "--max-duration", "20"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if not (out / "cells.csv").exists():
            sys.exit(f"bench gave no row: {ended.stderr[-2000:]}")
        return next(csv.DictReader((out / "cells.csv").open(encoding="utf-8")))


def show(what: str, row: dict[str, str], found: list[str]) -> None:
    """A row on one line."""
    figures = " ".join(f"{name} {float(row[name] or 'nan'):.3f}" for name in SHOWN)
    print(f"{what:12} {figures} valid {row['valid'] or 'unknown'} {row['reasons']}", *found, flush=True)


def faults(what: str, row: dict[str, str], quiet: float) -> list[str]:
    """Codes of a row that are wrong."""
    codes = set(row["reasons"].split(";"))
    starved = "server_starved" in codes
    found = []
    if what == "server" and not (starved and row["valid"] == "False"):
        found.append("a starved server is not reported")
    if what in ("quiet", "client") and starved:
        found.append("a server that nobody starved is called starved")
    if what == "client" and "client_saturated" not in codes:
        found.append("a starved client is not reported")
    if what == "apart" and row["valid"] == "True" and float(row["output_throughput"]) < 0.9 * quiet:
        found.append("a row below the server's own throughput is valid")
    return found


def measure(urls: list[str], options: argparse.Namespace) -> int:
    """All conditions; the exit code is 1 where a code is missing or false."""
    wrong = 0
    quiet: dict[str, list[float]] = {url: [] for url in urls}
    conditions = (
        ("quiet", options.server_cpu, 0, options.runs, False),
        ("server", options.server_cpu, 1, options.busy_runs, False),
        ("apart", options.server_cpu, 1, options.busy_runs, True),
        ("client", options.client_cpu, 24, options.busy_runs, True),
    )
    for what, cpu, loops, runs, apart in conditions:
        for _ in range(runs if what in options.conditions else 0):
            for url in urls:
                with busy(cpu, loops, apart=apart):
                    row = row_of(url, options.users, options.seconds, options.client_cpu)
                if what == "quiet":
                    quiet[url].append(float(row["output_throughput"]))
                found = faults(what, row, statistics.median(quiet[url]) if quiet[url] else 0.0)
                show(f"{what} {url.rpartition(':')[2]}", row, found)
                wrong += len(found)
    for url, rates in quiet.items():
        if rates:
            print(f"{url}: {len(rates)} quiet rows, median {statistics.median(rates):.0f} tokens/s")
    print(f"{wrong} wrong")
    return int(wrong > 0)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    serving = modes.add_parser("serve")
    serving.add_argument("--vllm", type=Path, default=ROOT / ".venv-vllm")
    serving.add_argument("--port", type=int, default=8950)
    serving.add_argument("--cpu", type=int, default=0, help="-1 for all")
    serving.add_argument("--own-session", action="store_true")
    measuring = modes.add_parser("measure")
    measuring.add_argument("url", nargs="+", help="several are measured in turn")
    measuring.add_argument("--runs", type=int, default=20)
    measuring.add_argument("--busy-runs", type=int, default=3)
    measuring.add_argument("--conditions", nargs="+", default=["quiet", "server", "apart", "client"])
    measuring.add_argument("--users", type=int, default=4)
    measuring.add_argument("--seconds", type=float, default=3.0)
    measuring.add_argument("--server-cpu", type=int, default=0)
    measuring.add_argument("--client-cpu", type=int, default=1)
    options = parser.parse_args()
    if options.mode == "serve":
        serve(options.vllm, options.port, options.cpu, own_session=options.own_session)
        return 0
    return measure(options.url, options)


if __name__ == "__main__":
    sys.exit(main())
