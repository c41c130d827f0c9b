"""One exchange, bounded in time and bytes whatever the server does."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasty import MIB, MODES, Mode, head, nasty, one, sized
from rocbench.probe.fetch import TooLarge, exchange, fetch, read_json
from scripted import raw

TIME_S, MOST_S = 0.5, 3.0
HUGE = head("content-length: 999999999999999999")
CHUNKED = head("transfer-encoding: chunked")


def server(mode: str) -> Mode:
    """A mode by its name."""
    return MODES[mode]


@pytest.mark.parametrize("mode", ["metrics_byte_a_second", "metrics_silent", "metrics_length_huge"])
def test_time_is_of_the_whole_exchange(mode):
    """One byte per second, silence, and an announced 10^18 bytes end at the time limit of the whole exchange."""
    began = time.monotonic()
    with nasty(server(mode)) as url, pytest.raises((TimeoutError, OSError)):
        fetch(url, "/metrics", timeout_s=TIME_S)
    assert time.monotonic() - began < MOST_S


@pytest.mark.parametrize("mode", ["metrics_endless", "metrics_50mb"])
def test_bytes_are_bounded(mode):
    """A too large answer is not read to its end, and raises TooLarge."""
    with nasty(server(mode)) as url, pytest.raises(TooLarge, match="larger than 8 MiB"):
        fetch(url, "/metrics", timeout_s=20.0)


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"f" * 15 + b"\r\nhello",
        HUGE + b"hello",
        b"\x00\xff\r\n\r\n",
        head("content-length: 9") + b"hello",
        b"HTTP/1.1 200 OK\r\nx: " + b"A" * MIB,
    ],
)
def test_what_is_not_http_is_an_oserror(answer):
    """Sizes below zero and beyond memory, a body that ends early, a header without end."""
    with nasty(Mode("", "/metrics", one(answer), (), "")) as url, pytest.raises(OSError):
        fetch(url, "/metrics", timeout_s=2.0)


def test_a_whole_answer_comes_through_and_its_rest_after_the_connection_let_go():
    """A body of a known length, in chunks, and one that only the connection's end ends."""

    def serve(answer: bytes) -> Callable[[socket.socket, int], None]:
        def handler(sock, _):
            sock.recv(65536)
            sock.sendall(answer)

        return handler

    body = b"x" * 300_000
    for answer in (
        sized(body),
        head("connection: close") + body,
        CHUNKED + b"493e0\r\n" + body + b"\r\n0\r\n\r\n",
    ):
        with raw(serve(answer)) as url:
            assert fetch(url, "/").body == body
        with raw(serve(answer)) as url, exchange(url, "/") as response:
            assert response.read() == body


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"id": "\\ud800"}', b'"\xed\xa0\x80"', b'"\xff"', b"", b"9" * 5000]
)
def test_json_that_cannot_be_kept_is_none(data):
    """JSON that is nested too deeply, and text that cannot be encoded."""
    assert read_json(data) is None


@given(st.binary(max_size=40))
def test_json_never_raises(data):
    """No bytes raise an exception."""
    read_json(data)
