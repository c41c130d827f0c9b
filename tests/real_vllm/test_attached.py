"""A real server that we did not start: it is what the tests take it for, and a sweep against it counts as it does."""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

import psutil
import pytest

from realrows import check_counts

pytestmark = pytest.mark.real_vllm


def get(url: str) -> bytes:
    """The body of an answer, whatever its type."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


def stream(url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Every event of a streamed answer, without the closing [DONE]."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        data = [line[6:] for line in answer.read().split(b"\n") if line.startswith(b"data: ")]
    assert data[-1] == b"[DONE]"
    return [json.loads(event) for event in data[:-1]]


def test_it_answers_and_names_its_model(real_server):
    """The server is healthy, and serves the tiny model under its short name."""
    assert get(f"{real_server.base_url}/health") == b""
    models = json.loads(get(f"{real_server.base_url}/v1/models"))
    assert [model["id"] for model in models["data"]] == [real_server.name]
    assert json.loads(get(f"{real_server.base_url}/version"))["version"].startswith("0.32.0")
    assert b"vllm:num_requests_running" in get(f"{real_server.base_url}/metrics")


def test_it_streams_exactly_the_tokens_asked_for(real_server):
    """A prompt of 128 token ids gives 32 output tokens, by the server's own usage."""
    body = {
        "model": real_server.name,
        "prompt": list(range(1000, 1128)),
        "max_tokens": 32,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    events = stream(f"{real_server.base_url}/v1/completions", body)
    usage = events[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (128, 32)
    assert "".join(event["choices"][0]["text"] for event in events[:-1])


def test_it_leads_its_own_process_group(real_server):
    """Killing the group of `pid` can't reach the tests themselves."""
    server = psutil.Process(real_server.pid)
    assert server.children(recursive=True)
    assert os.getpgid(real_server.pid) == real_server.pid


def test_attached_at_1_64_and_1000_streams(real_server, bench, record_property):
    """Against a server we did not start: totals equal its counters; TTFT lies by its own histogram's bucket."""
    ended = bench.run(
        *("sweep", "--base-url", real_server.base_url, "--model", real_server.name, "--out", str(bench.out)),
        *(
            "--concurrency",
            "1,64,1000",
            "--isl",
            "32",
            "--osl",
            "8",
            "--duration",
            "4",
            "--max-duration",
            "90",
        ),
        timeout=500,
    )
    bench.check(ended)

    assert ended.code in (0, 1), ended.stderr
    check_counts(ended)
    rows = ended.rows.set_index("concurrency")
    for users in (1, 64, 1000):
        row = rows.loc[users]
        told = {
            "client": row["median_ttft_ms"],
            "low": row["server_median_ttft_low_ms"],
            "high": row["server_median_ttft_high_ms"],
        }
        record_property(f"median TTFT at {users}, ms", told)
        print(users, told, row["reasons"])  # noqa: T201 - with 1,000 streams the difference is reported
        if users < 1000:  # the client's clock starts earlier and ends later; its window is without warm-up
            assert told["low"] * 0.7 <= told["client"] <= told["high"] * 1.5 + 10, told
    assert rows.loc[1000, "output_throughput"] > rows.loc[1, "output_throughput"]
