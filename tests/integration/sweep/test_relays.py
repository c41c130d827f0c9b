"""A relay that spoils streams before the simulated server: each kind has its code, by what contradicts it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pandas as pd
import pytest

from relays import relay
from scripted import scripted
from sweeps import Bench


@pytest.fixture(scope="module")
def simulated() -> Iterator[str]:
    """The URL of a simulated server of 8 ms a token."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("simulate", "llama-3.3-70b", "--port", str(port), "--load-s", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "rocbench", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    opener, until = urllib.request.build_opener(urllib.request.ProxyHandler({})), time.monotonic() + 60
    try:
        while True:
            try:
                opener.open(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("hold", "server_latency_disagrees"),
        ("double", "usage_disagrees"),
        ("replay", "not_streamed"),
        ("json", "request_refused"),
    ],
)
def test_a_relay_that_spoils_streams_is_told(simulated: str, bench: Bench, kind: str, code: str) -> None:
    """Held back, doubled and replayed streams are no valid rows; one JSON value is refused before the load."""
    model = json.load(urllib.request.urlopen(f"{simulated}/v1/models", timeout=10))["data"][0]["id"]
    with scripted(relay(simulated, kind, seconds=0.15)) as url:
        ended = bench.run(
            "sweep", "--base-url", url, "--model", model, "--concurrency", "4", "--isl", "32", "--osl", "32",
            "--duration", "1.5", "--out", str(bench.out),
        )  # fmt: skip
    row = ended.rows.iloc[0]
    assert code in row["reasons"].split(";")
    assert pd.isna(row["valid"]) or not row["valid"]
    if kind == "json":
        assert "the server does not stream" in ended.stderr
    else:
        assert row["matched_requests"] >= 20
