"""Both transports read every dialect alike: the same rows and the same failures, whatever a server's bytes look like."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import pytest

from loads import load_spec
from rocbench.load import drive
from rocbench.load.spec import WindowPlan
from rocbench.records import FAILURES, NONE, Doubt
from scripted import raw, read_request

CASES, USERS = 240, 120
COMPARED = (
    "failure",
    "http_status",
    "output_tokens",
    "prompt_tokens",
    "cached_tokens",
    "chunks",
    "first_tokens",
)


@dataclass
class Case:
    """One answer: bytes in parts, and whether the server closes behind them."""

    parts: list[bytes]
    closes: bool
    about: dict[str, object]


def event_bytes(draw: random.Random, value: object, newline: str, about: dict[str, object]) -> bytes:
    """One event, with what may stand around it."""
    text = value if isinstance(value, str) else json.dumps(value, indent=1 if about["lines"] else None)
    space = draw.choice([" ", ""])
    lines = [f"data:{space}{line}" for line in text.split("\n")]
    if draw.random() < 0.15:
        lines.insert(0, draw.choice([": ping", "id: 3", "event: message", "retry: 10", "unknown"]))
    block = newline.join(lines) + newline * 2
    if draw.random() < 0.1:
        block = f"data:{space}" + newline * 2 + block
    return block.encode()


def events(draw: random.Random, about: dict[str, object]) -> list[object]:
    """The events of an answer: text, counts, the end."""
    sizes = [draw.randint(1, 3) for _ in range(draw.randint(1, 6))]
    sums = list(accumulate(sizes))
    said = {"sum": sums, "own": sizes, "none": [None] * len(sizes), "end": [None] * len(sizes)}[
        about["counts"]
    ]
    name = draw.choice(["text", "content", "reasoning", "refusal", "monologue"])
    found: list[object] = []
    for place, count in enumerate(said):
        finish = about["finish"] if place == len(said) - 1 else None
        choice = {"text": " a"} if name == "text" else {"delta": {name: " a"}}
        found.append({"choices": [{"index": 0, "finish_reason": finish, **choice}]})
        if count is not None:
            found[-1]["usage"] = {"prompt_tokens": 7, "completion_tokens": count}
    if about["counts"] == "end":
        found.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": sums[-1]}})
    if about["fault"] == "error":
        found.insert(draw.randint(0, len(found)), {"error": {"message": "no"}})
    if about["fault"] == "json":
        found.insert(draw.randint(0, len(found)), '{"choices": [{"te')
    return [*found, *(["[DONE]"] if about["done"] else [])]


def body_of(draw: random.Random, about: dict[str, object]) -> bytes:
    """The body before its compression and its framing."""
    if about["form"] == "value":
        value = {
            "choices": [{"text": " a b", "finish_reason": about["finish"]}],
            "usage": {"completion_tokens": 2},
        }
        return json.dumps(value).encode()
    if about["form"] == "other":
        return draw.choice([b"<html>no</html>", b"nothing here", b"", b'{"error": {"message": "no"}}'])
    newline = draw.choice(["\n", "\r\n", "\r"])
    body = b"".join(event_bytes(draw, value, newline, about) for value in events(draw, about))
    return (b"\xef\xbb\xbf" if draw.random() < 0.2 else b"") + body


def case(number: int) -> Case:
    """The answer to a request of this number."""
    draw = random.Random(number)
    about: dict[str, object] = {
        "form": draw.choices(["stream", "value", "other"], [8, 1, 1])[0],
        "framing": draw.choice(["chunked", "length", "close"]),
        "counts": draw.choice(["sum", "sum", "own", "none", "end"]),
        "finish": draw.choice(["length", "length", "stop", "stop", None, "abort", "", "odd", 3]),
        "done": draw.random() < 0.6,
        "fault": draw.choices(["", "error", "json"], [8, 1, 1])[0],
        "lines": draw.random() < 0.2,
        "gzip": draw.random() < 0.15,
        "type": draw.choice(
            ["text/event-stream", "text/event-stream; charset=utf-8", "application/json", ""]
        ),
        "status": draw.choices([200, 503], [12, 1])[0],
    }
    body = body_of(draw, about)
    head = f"HTTP/1.1 {about['status']} X\r\n" + (
        f"Content-Type: {about['type']}\r\n" if about["type"] else ""
    )
    if about["gzip"]:
        body, head = gzip.compress(body), head + "Content-Encoding: gzip\r\n"
    cut = len(body) > 1 and not about["gzip"] and draw.random() < 0.2
    about["cut"] = cut
    kept = draw.randint(1, len(body) - 1) if cut else len(body)
    marks = sorted({0, kept, *(draw.randint(0, kept) for _ in range(draw.randint(0, 5)))})
    parts = [body[a:b] for a, b in pairwise(marks)]
    if about["framing"] == "chunked":
        head += "Transfer-Encoding: chunked\r\n\r\n"
        parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part]
        parts += [] if cut else [b"0\r\n\r\n"]
    elif about["framing"] == "length":
        head += f"Content-Length: {len(body)}\r\n\r\n"
    else:
        head += "\r\n"
    return Case([head.encode(), *parts], bool(cut) or about["framing"] == "close", about)


def rows_of(transport: str) -> tuple[np.ndarray, dict[int, str]]:
    """Rows of all cases by one transport, in order of their numbers."""

    def handler(sock, _):
        while (request := read_request(sock)) is not None:
            names = [
                line for line in request["head"].split("\r\n") if line.lower().startswith("x-request-id")
            ]
            asked = case(int(names[0].rsplit("-", 1)[1]))
            for part in asked.parts:
                sock.sendall(part)
            if asked.closes:
                return

    with raw(handler) as url:
        plan = WindowPlan(max_requests=CASES)
        result = drive(
            load_spec(url, users=USERS, window=plan, transport=transport, probe=False, request_timeout_s=20)
        )
    rows = result.requests[np.argsort(result.requests["request_id"])]
    assert rows["request_id"].tolist() == list(range(CASES))
    return rows, result.errors


@pytest.mark.slow
def test_both_transports_give_the_same_rows():
    """240 answers in all framings, line ends, counts, ends, forms and faults: row for row the same."""
    wire, wire_errors = rows_of("wire")
    aio, aio_errors = rows_of("aiohttp")
    for number in range(CASES):
        mine, theirs = wire[number], aio[number]
        told = (number, case(number).about, wire_errors.get(number), aio_errors.get(number))
        for name in COMPARED:
            assert mine[name] == theirs[name], (name, mine[name], theirs[name], *told)
        timed = Doubt.ONE_PIECE
        assert mine["doubts"] & ~timed == theirs["doubts"] & ~timed, told
        for name in ("first_chunk_ns", "first_token_ns", "last_token_ns"):
            assert (mine[name] == NONE) == (theirs[name] == NONE), (name, *told)
    classes = {FAILURES[code].value for code in wire["failure"] if code != NONE}
    assert classes >= {"truncated", "bad_json", "in_band_error", "http_status", "aborted"}
    assert (wire["failure"] == NONE).sum() > CASES / 8


def test_a_body_that_ends_with_the_connection_is_complete_once_its_reason_was_said():
    """Without a length and without [DONE], after its finish_reason: complete on both; before it: truncated on both."""
    said = [{"choices": [{"text": " a", "finish_reason": None}], "usage": {"completion_tokens": 1}}]
    said += [{"choices": [{"text": " b", "finish_reason": "length"}], "usage": {"completion_tokens": 2}}]
    for count, failures in ((2, {NONE}), (1, {FAILURES.index("truncated")})):
        body = b"".join(f"data: {json.dumps(value)}\n\n".encode() for value in said[:count])

        def handler(sock, _, body=body):
            if read_request(sock) is not None:
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body)

        for transport in ("wire", "aiohttp"):
            with raw(handler) as url:
                plan = WindowPlan(max_requests=4)
                spec = load_spec(url, users=2, tokens=2, window=plan, transport=transport, probe=False)
                assert set(drive(spec).requests["failure"].tolist()) == failures


def test_a_broken_answer_to_the_probe_is_the_loads_to_count_on_both():
    """Chunked answers that never say their end: the server speaks HTTP, and each request is a truncated one."""
    value = {"choices": [{"text": " a", "finish_reason": "length"}], "usage": {"completion_tokens": 1}}
    event = f"data: {json.dumps(value)}\n\n".encode()

    def handler(sock, _):
        if read_request(sock) is not None:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            sock.sendall(head + b"%x\r\n%b\r\n" % (len(event), event))

    for transport in ("wire", "aiohttp"):
        with raw(handler) as url:
            plan = WindowPlan(max_requests=4)
            result = drive(load_spec(url, users=2, tokens=1, window=plan, transport=transport))
            assert set(result.requests["failure"].tolist()) == {FAILURES.index("truncated")}
