"""Answers of servers that are unlike vLLM's end in a message, not in a traceback."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from rocbench.probe.fetch import Answer
from rocbench.server import ready
from rocbench.server.failures import server_fault

WAITING = SimpleNamespace(
    launched=SimpleNamespace(base_url="http://127.0.0.1:1"),
    spec=SimpleNamespace(kind="process", model="m", served_name="m", ready_timeout_s=1.0, insecure=False),
    headers={},
    secrets=(),
    seconds=0.0,
)


@pytest.mark.parametrize(
    ("body", "models"),
    [
        (b'{"data": [{"id": "m", "max_model_len": 64}]}', (("m",), 64)),
        (b'{"data": [{"id": "m", "max_model_len": "lots"}]}', (("m",), None)),
        (b'{"data": ["m"]}', ((), None)),
        (b'["m"]', ((), None)),
        (b'{"data": {"id": "m"}}', ((), None)),
        (b"<html>", ((), None)),
    ],
)
def test_lists_of_models(monkeypatch, body, models):
    """Only lists in vLLM's form are read."""
    monkeypatch.setattr(ready.control, "request", lambda *_, **__: Answer(200, body))

    assert ready._models(WAITING) == models


@pytest.mark.parametrize("line", [b"data: {not json}\n", b"data: [1]\n"])
def test_a_stream_of_something_else(monkeypatch, line):
    """The message shows the line."""

    class Stream(list):
        status = 200

    @contextmanager
    def exchange(*_, **__):
        yield Stream([line])

    monkeypatch.setattr(ready, "exchange", exchange)
    status, told = ready._stream(WAITING, "/v1/completions", {})

    assert status == 200
    assert line[6:].decode().strip() in told


def test_a_server_without_a_log_here():
    """The error of an attached server names no log."""
    fault = server_fault("m: the server died during the run", None)

    assert fault.fix == "bench did not start this server: read the log where the server runs"
    assert "log: " not in fault.text()
