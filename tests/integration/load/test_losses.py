"""What a server or the network loses is counted: every request that the server read is in a row, and only once."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from loads import load_spec
from rocbench.errors import RequestRefused
from rocbench.load import drive
from rocbench.load.spec import Open, WindowPlan
from rocbench.records import FAILURES, NONE, RESENDS
from rocbench.tables import metrics
from scripted import answer as complete
from scripted import raw, read_request, scripted, token, whole

BOTH = pytest.mark.parametrize("transport", ["wire", "aiohttp"])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def counted(url, requests=12, users=3, **changes):
    """Drive a load of so many requests; gives its result and its row."""
    result = drive(load_spec(url, users=users, window=WindowPlan(max_requests=requests), **changes))
    return result, metrics.summarise(result, gpus=None)


def answer(sock, request):
    """A good answer at once."""
    body = whole(request["max_tokens"])
    sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


def end(sock, how):
    """End a connection: by a reset, or in order."""
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def classes(result):
    """Failure classes of the rows, None for what completed."""
    return [None if code == NONE else FAILURES[code].value for code in result.requests["failure"]]


@BOTH
@pytest.mark.parametrize(("how", "cause"), [("reset", "reset"), ("close", "closed")])
def test_a_request_lost_on_a_kept_connection_is_sent_once_more_and_counted(transport, how, cause):
    """The server reads every second request of a connection and drops it after 60 ms: each is answered in the end."""
    seen = []

    def handler(sock, _):
        while (request := read_request(sock)) is not None:
            seen.append(request["head"])
            if "probe" not in request["head"] and sock in answered:
                time.sleep(0.06)
                end(sock, how)
                return
            answered.add(sock)
            answer(sock, request)

    answered = set()
    with raw(handler) as url:
        result, row = counted(url, transport=transport)
    again = [i for i in result.requests["resent"] if i != NONE]
    assert set(classes(result)) == {None}
    assert {RESENDS[i].value for i in again} == {cause}
    assert row["requests_sent"] == len(seen) == len(result.requests) + len(again)
    assert row["resent_after_reset"] + row["resent_after_close"] == len(again) > 3
    ttft = (result.requests["first_token_ns"] - result.requests["sent_ns"])[result.requests["resent"] != NONE]
    assert (ttft > 60_000_000).all()  # from the first attempt


@BOTH
@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_connection_that_was_closed_while_idle_costs_nothing(transport, how):
    """A server that ends each connection after its answer, and says so nowhere, has lost no request."""
    seen = []

    def handler(sock, _):
        request = read_request(sock)
        if request is not None:
            seen.append(request["head"])
            answer(sock, request)
            end(sock, how)

    with raw(handler) as url:
        window = WindowPlan(max_requests=8)
        result = drive(
            load_spec(url, shape=Open(rate=10, arrival="constant"), window=window, transport=transport)
        )
    row = metrics.summarise(result, gpus=None)
    assert classes(result) == [None] * 9
    assert (result.requests["resent"] == NONE).all()
    assert row["requests_sent"] == len(seen) == 9
    assert row["idle_closes"] >= 6


@BOTH
@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_request_lost_on_a_new_connection_failed(transport, how):
    """No idle connection was too old there: the server took the request and lost it."""
    seen = []

    def handler(sock, _):
        request = read_request(sock)
        seen.append(request["head"])
        if "probe" in request["head"]:
            answer(sock, request)
        end(sock, how)

    with raw(handler) as url:
        result, row = counted(url, requests=4, transport=transport)
    assert sorted(filter(None, classes(result))) == ["reset"] * 4
    assert row["requests_sent"] == len(seen)
    assert row["failed"] == 4


@BOTH
def test_a_request_that_a_server_held_and_gave_up_failed(transport):
    """A kept connection that ends a second after the send was not too old for the request."""

    def handler(sock, number):
        while (request := read_request(sock)) is not None:
            if "probe" not in request["head"] and number in kept:
                time.sleep(1.05)
                return
            kept.add(number)
            answer(sock, request)

    kept = set()
    with raw(handler) as url:
        result, _ = counted(url, requests=2, users=1, transport=transport)
    assert classes(result)[1:] == [None, "reset"]
    assert (result.requests["resent"] == NONE).all()


@BOTH
def test_what_a_stop_cuts_has_a_row_without_an_end(transport):
    """Requests in flight and those that wait for room at the end stand in the rows; nothing is dropped in silence."""
    stop, release, seen = threading.Event(), threading.Event(), []

    def handler(sock, _):
        while (request := read_request(sock)) is not None:
            seen.append(request["head"])
            if len(seen) > 5:
                release.wait(30)
                return
            answer(sock, request)

    def on_progress(progress):
        if progress.phase == "measure" and progress.elapsed_s > 0.4:
            stop.set()

    shape = Open(rate=50, arrival="constant", max_in_flight=4)
    window = WindowPlan(duration_s=60, max_requests=1000)
    with raw(handler) as url:
        try:
            result = drive(load_spec(url, shape=shape, window=window, transport=transport), on_progress, stop)
        finally:
            release.set()
    row = metrics.summarise(result, gpus=None)
    numbers = np.sort(result.requests["request_id"])
    assert (numbers[:-1] == np.arange(len(numbers) - 1)).all()  # none is missing; the last is the probe
    assert row["unfinished"] == 4
    assert (result.requests["sent_ns"] == NONE).sum() == len(numbers) - 9
    assert row["dropped_sends"] > 5
    assert row["requests_sent"] == len(seen)


def page(exchange):
    """A gateway's login page."""
    text = "<html><style>b {}</style><body><b>Please</b> log\x1b[31m in</body>" + "x" * 1000
    exchange.respond(200, text.encode(), "text/html")


def error_in_stream(exchange):
    """An error where the answer should be."""
    exchange.begin_stream()
    exchange.write(b'data: {"error": {"message": "please log in first"}}\n\n')
    exchange.end()


def done_alone(exchange):
    """A stream of nothing."""
    exchange.begin_stream()
    exchange.write(b"data: [DONE]\n\n")
    exchange.end()


def early_stop(exchange):
    """One token of however many were asked for; enough for the probe to go on."""
    exchange.begin_stream()
    exchange.write(token(0, finish="stop") + b"data: [DONE]\n\n")
    exchange.end()


INSTANT = {
    "page": page,
    "error_in_stream": error_in_stream,
    "done_alone": done_alone,
    "empty": lambda exchange: exchange.respond(200),
    "no_content": lambda exchange: exchange.respond(204),
    "json": lambda exchange: exchange.respond_json(200, {"detail": "please log in first"}),
    "early_stop": early_stop,
    "refusal": lambda exchange: exchange.respond_json(429, {"error": "too many"}),
}


@pytest.mark.parametrize("kind", sorted(INSTANT.keys() - {"early_stop", "refusal"}))
@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
def test_the_probe_stops_at_what_is_no_completion(kind, transport):
    """The load never begins; the message has the server's words, made harmless, and says what to do."""
    asked = []
    with (
        scripted(lambda exchange: (asked.append(1), INSTANT[kind](exchange))) as url,
        pytest.raises(RequestRefused, match="is not a completion") as caught,
    ):
        counted(url, transport=transport)
    said = caught.value.what
    assert ("log" in said) == (kind in {"page", "error_in_stream", "json"}), said
    assert "\x1b" not in said
    assert "<" not in said
    assert len(said) < 400
    assert ("server's log" if kind == "error_in_stream" else "base URL") in caught.value.fix
    assert len(asked) <= 18


def test_a_probe_whose_text_is_held_back_is_a_completion():
    """Four tokens may all be of a reasoning that the server keeps to itself: the load goes on."""

    def handler(exchange):
        if exchange.json()["max_tokens"] > 4:
            complete(exchange)
            return
        exchange.begin_stream()
        exchange.write(b'data: {"choices": [{"text": "", "finish_reason": "length"}]}\n\ndata: [DONE]\n\n')
        exchange.end()

    with scripted(handler) as url:
        _, row = counted(url)
    assert row["completed"] == 12


@pytest.mark.parametrize("kind", sorted(INSTANT))
@pytest.mark.parametrize("transport", ["wire", pytest.param("aiohttp", marks=pytest.mark.slow)])
def test_instant_answers_of_no_kind_are_hammered(kind, transport):
    """Each user waits from the second failure in a row, whatever failed: 50 ms, and doubling to a second."""
    asked = []
    window = WindowPlan(duration_s=0.6, max_duration_s=0.6, min_requests_per_user=1)
    with scripted(lambda exchange: (asked.append(1), INSTANT[kind](exchange))) as url:
        spec = load_spec(url, users=4, window=window, transport=transport, probe=False)
        result = drive(spec)
    assert set(classes(result)) <= set(FAILURES)
    assert 8 <= len(asked) == len(result.requests) < 50


def test_an_open_loop_goes_on_by_its_clock_and_no_faster():
    """Instant failures in an open loop: what piled up while there was no room is sent no faster than was asked."""
    asked = []

    def handler(exchange):
        asked.append(time.monotonic())
        if len(asked) <= 2:
            time.sleep(0.3)  # meanwhile arrivals pile up
        page(exchange)

    shape = Open(rate=100, arrival="constant", max_in_flight=2)
    with scripted(handler) as url:
        window = WindowPlan(max_requests=60)
        result = drive(load_spec(url, shape=shape, window=window, probe=False))
    assert len(asked) == len(result.requests) == 60
    sent, freed = result.requests["sent_ns"], np.sort(result.requests["end_ns"])[1]
    assert ((sent > freed) & (sent < freed + 50_000_000)).sum() <= 12


@pytest.mark.slow
def test_nothing_is_lost_on_faulty_servers():
    """A few seeds of benchmarks/faults.py: what is counted is what the server saw, on both transports."""
    program = Path(__file__).parents[3] / "benchmarks/faults.py"
    ended = subprocess.run(
        [sys.executable, str(program), "--seeds", "3", "--first", "2", "--seconds", "1", "--sums-alone"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
