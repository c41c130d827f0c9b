"""The fixtures that start real vLLM do what the tests built on them take for granted."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

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


@pytest.mark.parametrize("real_server", ["tiny-llama-gqa"], indirect=True)
def test_it_leads_its_own_process_group(real_server):
    """Killing the group of `pid` can't reach the tests themselves."""
    server = psutil.Process(real_server.pid)
    assert server.children(recursive=True)
    autogroup = Path(f"/proc/{real_server.pid}/autogroup")
    if autogroup.exists():
        assert "nice 10" in autogroup.read_text()
        assert "nice 10" not in Path("/proc/self/autogroup").read_text()
