"""What no answer has (a line of 32 MiB, a head without end) ends its request in linear time; odd values cost a request."""

from __future__ import annotations

import gzip
import json
import struct
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasty import MODES, STREAM, Mode, chunk, sized, usage
from rocbench.load.answer import MOST_EVENT, Answer
from rocbench.load.eventstream import blocks
from rocbench.load.framing import Framing
from rocbench.load.requestfactory import Request
from rocbench.load.tally import FinishedRequest, Tally
from rocbench.records import Failure
from scripted import token, whole

READ = 65536
MIB = 1 << 20
MOST_BYTES = 12 * MIB
"""Fed of an answer that has no end: it must be given up before."""
RAW = [
    name
    for name, mode in MODES.items()
    if mode.path == "completion" and not {"timeout", "reset"} & set(mode.words)
]


def feed(mode: Mode, size: int = READ) -> tuple[Framing, int]:
    """RequestQueue an answer in reads until it is complete, broken or at its end; how many bytes that took."""
    framing, fed = Framing(), 0
    framing.begin(Answer())
    stamp = struct.pack("qq", 1, 0)
    for part in mode.parts():
        if not isinstance(part, bytes):
            continue
        for at in range(0, len(part), size):
            framing.feed([part[at : at + size]], [stamp])
            fed += min(size, len(part) - at)
            if framing.complete or framing.broken or fed > MOST_BYTES:
                return framing, fed
    framing.eof()
    return framing, fed


def row(answer: Answer, *, complete: bool) -> Any:
    """The request's row, as a worker keeps it."""
    cells = memoryview(bytearray(8 * 64)).cast("q")
    tally = Tally(0, cells, cells, ignore_eos=True, keep_stamps=True)
    prepared = Request(1, 0, 0, 8, 8, 0, 8, "x", b"", intended_ns=1)
    tally.add(FinishedRequest(prepared, answer, 1, 2, complete=complete))
    return tally.rows()[0]


@pytest.mark.parametrize("name", RAW)
def test_each_mode_has_its_class(name):
    """The table's word, from the bytes alone, and a row that can be written."""
    mode = MODES[name]
    framing, fed = feed(mode)
    answer = framing.answer

    verdict = answer.verdict(complete=framing.complete, osl_asked=8, ignore_eos=True)
    found = "measured" if verdict is None else verdict.value
    if verdict is None or (framing.broken and answer.failure is None and answer.status in {200, -1}):
        found = "truncated" if framing.broken or not framing.complete else found

    assert found in mode.words, answer.error or framing.broken
    assert fed <= MOST_BYTES
    row(answer, complete=framing.complete)


def test_a_long_line_costs_linear_time_and_bounded_memory():
    """Twice the bytes take no four times as long, however small the reads are."""

    def seconds(size: int) -> float:
        answer, line = Answer(), b"data: " + b"x" * size
        answer.status = 200
        began = time.process_time()
        for at in range(0, len(line), 4096):
            answer.take([line[at : at + 4096]], [1])
        assert answer.failure is None
        return time.process_time() - began

    seconds(MIB)
    assert min(seconds(8 * MIB - 100) for _ in range(2)) < 25 * max(
        min(seconds(MIB) for _ in range(3)), 0.002
    )


def test_an_event_just_within_the_bound_is_read():
    """The largest events hold the ids of a prompt."""
    event = json.loads(token(0)[6:]) | {"prompt_token_ids": [1234567] * (MOST_EVENT // 12)}
    body = STREAM + chunk(b"data: " + json.dumps(event).encode() + b"\n\n" + whole(8)) + b"0\r\n\r\n"
    framing, _ = feed(Mode("", "completion", lambda: iter((body,)), (), ""))
    assert framing.complete
    assert framing.answer.failure is None


def test_what_unpacks_without_end_is_bounded():
    """A bomb of zeros is given up at its first piece."""
    body = sized(gzip.compress(bytes(64 * MIB)), "text/event-stream", "content-encoding: gzip")
    framing, _ = feed(Mode("", "completion", lambda: iter((body,)), (), ""))
    assert framing.answer.failure is Failure.TOO_LARGE


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"data: x", b"\r\n", b"\n\n"]), max_size=30), st.data())
@settings(max_examples=100, deadline=None)
def test_blocks_are_the_same_however_the_bytes_are_cut(words, data):
    """One byte at a time gives what all at once gives; CRs at the very end are told by what follows."""
    body = b"".join(words) + b"end\n\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=10)))
    rest, found = bytearray(), []
    for begin, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += blocks(rest, body[begin:end])
    assert [block.split() for block in found] == [block.split() for block in blocks(bytearray(), body)]
    assert not rest


ODD = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([3_000_000_000, -1, 2**31, 2**31 - 1, 2**63, 10**400, 1.5, "x", "٣", "9" * 5000, None, True]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.recursive(st.none() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["text", "content", "x"]), inner, max_size=3), max_leaves=8),
)  # fmt: skip


@given(st.lists(st.tuples(ODD, ODD, ODD, ODD, ODD), min_size=1, max_size=4), st.booleans())
@settings(max_examples=12, deadline=None)
def test_no_value_of_a_stream_stops_a_worker(values, started):
    """Whatever stands where a count, a text or a reason should, the request has a row and the load goes on."""
    answer = Answer()
    answer.status = 200
    pieces = [token(0)] if started else []
    for tokens, text, reason, ids, error in values:
        event = {
            "choices": [{"text": text, "delta": text, "finish_reason": reason, "token_ids": ids}],
            "usage": {
                "prompt_tokens": tokens,
                "completion_tokens": tokens,
                "prompt_tokens_details": {"image_tokens": ids},
            },
            "error": error if error in (None, "", "x") else None,
        }
        try:
            pieces.append(b"data: " + json.dumps(event).encode() + b"\n\n")
        except ValueError:  # more digits than Python writes
            continue
    for piece in [*pieces, b"data: [DONE]\n\n"]:
        answer.take([piece], [1000])
    answer.end()
    found = row(answer, complete=True)
    assert found["output_tokens"] >= -1
    assert np.iinfo(np.int32).min <= int(found["prompt_tokens"])


def test_counts_beyond_measure_are_no_counts():
    """3e9 tokens: the stamps stay, the count does not, and the row doubts it."""
    framing, _ = feed(Mode("", "completion", lambda: iter((usage(3_000_000_000),)), (), ""))
    found = row(framing.answer, complete=framing.complete)
    assert (found["failure"], found["output_tokens"], found["prompt_tokens"], found["chunks"]) == (
        -1,
        -1,
        -1,
        8,
    )
    assert found["doubts"]


def test_a_socket_that_never_empties_lets_the_others_go_first():
    """Reads of one socket in a turn are few, and the poll tells of it again."""
    import select
    import socket

    from rocbench.load.sockets import _AT_ONCE, _READ, Sockets
    from rocbench.load.spec import Closed

    load = SimpleNamespace(shape=Closed(1), request_timeout_s=30.0)
    work: Any = SimpleNamespace(
        spec=SimpleNamespace(load=load, addresses=()),
        opened=0,
        talking=1,
        reads=0,
        sent=lambda *_, **__: None,
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * MIB)
        work.spec.addresses = ((socket.AF_INET, server.getsockname()),)
        sockets = Sockets(work, lambda *_: None)
        sockets.connect(Request(0, 0, 0, 8, 8, 0, 8, "first", b"request"), 0)
        sockets.receive(sockets.poller.poll(10))
        peer, _ = server.accept()
        (connection,) = sockets.connections()
        counted = []
        receive = connection.sock

        class Endless:
            """A socket that has always more."""

            def recvmsg(self, *_):
                counted.append(1)
                return b": ping\n\n" * (_READ // 8), [], 0, None

            def __getattr__(self, name):
                return getattr(receive, name)

        connection.sock = Endless()
        connection.framing.feed([STREAM + b"ffffff\r\n"], [struct.pack("qq", 1, 0)])
        peer.sendall(b": ping\n\n")
        sockets.poller.poll(1)
        sockets.drain(connection)
        assert len(counted) == _AT_ONCE
        assert sockets.poller.poll(1)[0][1] & select.EPOLLIN
        sockets.poller.close()
        receive.close()
        peer.close()
