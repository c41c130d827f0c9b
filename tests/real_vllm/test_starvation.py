"""A server that others starve is told by its own code; a starved client by another. The full count: benchmarks/starvation.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import pytest

pytestmark = pytest.mark.real_vllm


@contextmanager
def busy(cpu: int, loops: int, *, apart: bool = False) -> Iterator[None]:
    """Busy loops on one CPU; `apart` each in a session of its own, to which the kernel may give more or less."""
    code = (
        f"import os\nos.sched_setaffinity(0, [{cpu}])\nwhile os.getppid() == {os.getpid()}: sum(range(10000))"
    )
    started = [
        subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=apart) for _ in range(loops)
    ]
    try:
        yield
    finally:
        for loop in started:
            loop.kill()
            loop.wait()


def test_a_busy_loop_on_either_side(serve_on, bench, tmp_path):
    """On the server's CPU: server_starved with its share, void. On the client's: void by the client's codes, and the server keeps its CPU.

    A client that the kernel serves late but soon enough has coalesced stamps; one that it serves hardly is saturated.
    How much the server keeps is compared, for other work on the machine is driven onto its CPU too.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("the server and the client need a CPU each")
    servers, clients = cpus[0], cpus[-1]

    def row(name: str, url: str):
        load = ("--concurrency", "4", "--isl", "64", "--osl", "64", "--duration", "3", "--max-duration", "20")
        where = ("--base-url", url, "--model", "tiny-llama-gqa", "--client-cpus", str(clients))
        ended = bench.run("sweep", *where, *load, "--out", str(tmp_path / name), timeout=120)
        bench.check(ended)
        found = pd.read_parquet(tmp_path / name / "cells.parquet").iloc[0]
        return found, set(str(found["reasons"]).split(";"))

    with serve_on(servers) as server:
        with busy(servers, 1):
            starved, why_starved = row("starved", server.base_url)
        with busy(clients, 24, apart=True):
            saturated, why_saturated = row("saturated", server.base_url)

    assert "server_starved" in why_starved
    assert bool(starved["valid"]) is False
    assert starved["server_cpu_wait_share"] > 0.2
    assert why_saturated & {"client_saturated", "stamps_coalesced"}
    assert bool(saturated["valid"]) is False
    assert "server_starved" not in why_saturated
    assert saturated["server_cpu_wait_share"] < starved["server_cpu_wait_share"]
