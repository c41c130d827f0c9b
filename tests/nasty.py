"""A server that answers as no server should: a table of modes, each the bytes of one answer and their pace.

`benchmarks/nasty.py` runs all of them through `bench sweep`, `tests/integration/sweep/test_nasty.py` a sample. In a mode
of completions the load's requests are answered so in turn with good answers, and the probes are good; in one of a
control path, or of the probe, each such request is.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import count, repeat

from loads import load_spec
from rocbench.load import drive
from rocbench.load.dialect import PROBE_ID
from rocbench.load.reference import END
from rocbench.load.spec import WindowPlan
from rocbench.records import FAILURES
from scripted import raw, token, whole
from sweeps import Bench

MIB = 1 << 20
TOKENS = 8
MODEL = "m"
_STALL_S = 60.0
_TOKEN_S = 0.02


class End(Enum):
    """What the server does once all is sent, if it does not close in order."""

    RESET = "reset"
    HALF_CLOSE = "half_close"
    STALL = "stall"


Part = bytes | float | End
"""Bytes to send, seconds to wait, or the end."""


@dataclass(frozen=True)
class Mode:
    """One way to answer.

    `path` is what is answered so: `completion`, `probe`, or a control path. `words` is what a cell may be told as: a
    class of failure, a column that counts what was sent again, `measured` (all requests complete at once), or a reason
    code of a row without figures.
    """

    name: str
    path: str
    parts: Callable[[], Iterator[Part]]
    words: tuple[str, ...]
    what: str


def head(*lines: str, status: str = "200 OK") -> bytes:
    """The head of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


STREAM = head("content-type: text/event-stream", "transfer-encoding: chunked")


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(body: bytes, kind: str = "application/json", *lines: str, status: str = "200 OK") -> bytes:
    """A whole answer that says how long it is."""
    return head(f"content-type: {kind}", f"content-length: {len(body)}", *lines, status=status) + body


def stream(body: bytes) -> bytes:
    """A whole answer as one chunk."""
    return STREAM + chunk(body) + END


def event(value: object) -> bytes:
    """One SSE event."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def one(data: bytes) -> Callable[[], Iterator[Part]]:
    """These bytes and no more."""
    return lambda: iter((data,))


def parts(*steps: Part) -> Callable[[], Iterator[Part]]:
    """These steps."""
    return lambda: iter(steps)


def endless(opening: bytes, again: bytes) -> Callable[[], Iterator[Part]]:
    """An opening, then the same for ever."""

    def run() -> Iterator[Part]:
        yield opening
        yield from repeat(again)

    return run


def slowly(data: bytes, pause_s: float = 1.0) -> Callable[[], Iterator[Part]]:
    """A byte a second, from the first on."""

    def run() -> Iterator[Part]:
        for at in count():
            yield data[at % len(data) : at % len(data) + 1]
            yield pause_s

    return run


def usage(tokens: object) -> bytes:
    """An answer whose every event counts so."""
    events = [json.loads(token(i, finish="length" if i == TOKENS - 1 else None)[6:]) for i in range(TOKENS)]
    for one_ in events:
        one_["usage"] = {"prompt_tokens": tokens, "completion_tokens": tokens}
    return stream(b"".join(map(event, events)) + event(b"[DONE]"))


def instead(raw_event: bytes) -> bytes:
    """A good answer with such an event in its midst."""
    return stream(token(0) + raw_event + whole(TOKENS))


def bomb() -> Iterator[Part]:
    """64 MiB of zeros as 64 kB, which take half a second to pack."""
    packed = gzip.compress(b"data: " + bytes(64 * MIB))
    yield sized(packed, "text/event-stream", "content-encoding: gzip")


_DEEP = b"[" * 100_000 + b"]" * 100_000
_DIGITS = b"9" * 400
_GOOD = stream(whole(TOKENS))
_TOO_LARGE, _CUT, _BAD, _NOT, _FINE = (
    ("too_large",),
    ("truncated",),
    ("bad_json",),
    ("early_stop",),
    ("measured",),
)

_COMPLETIONS: tuple[tuple[str, Callable[[], Iterator[Part]], tuple[str, ...], str], ...] = (
    # --- status lines
    ("status_garbage", one(b"\x00\xff\x13garbage\r\n\r\n"), _CUT, "bytes that are not HTTP"),
    ("status_missing", one(whole(TOKENS)), _CUT, "a body without a head"),
    ("status_64mb", endless(b"HTTP/1.1 200 ", b"A" * MIB), _TOO_LARGE, "an endless reason phrase"),
    ("status_999", one(head("content-length: 0", status="999 What")), ("http_status",), "status 999"),
    ("status_204", one(head(status="204 No Content")), ("http_status",), "no content"),
    ("status_101", parts(head("upgrade: x", "connection: upgrade", status="101 Switching Protocols"), End.STALL),
     ("truncated", "timeout", "http_status"), "another protocol"),
    ("status_1xx_flood", endless(b"", head(status="100 Continue") * 1000), _TOO_LARGE, "endless 100 Continue"),
    ("status_http2", one(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), _CUT, "HTTP/2"),
    ("status_tls", one(b"\x15\x03\x01\x00\x02\x02\x28"), _CUT, "a TLS alert"),
    ("redirect_loop", one(head("location: /v1/completions", "content-length: 0", status="307 Temporary Redirect")),
     ("http_status",), "a redirect to itself"),
    ("refusal_endless", endless(head(status="500 Oh"), b"x" * MIB), ("http_status",), "500 and an endless body"),
    # --- headers and framing
    ("header_64mb", endless(b"HTTP/1.1 200 OK\r\nx-a: ", b"A" * MIB), _TOO_LARGE, "an endless header"),
    ("headers_endless", endless(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n" * 1000), _TOO_LARGE, "endless headers"),
    ("header_no_colon", one(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n" + whole(TOKENS)), _CUT, "a header without a colon"),
    ("length_negative", one(head("content-length: -5") + whole(TOKENS)), _CUT, "Content-Length: -5"),
    ("length_huge", parts(head("content-type: text/event-stream", "content-length: 999999999999999999") + token(0),
     End.STALL), ("timeout",), "a Content-Length of 10^18, then silence"),
    ("length_overflow", one(head("content-length: 99999999999999999999999999") + whole(TOKENS)), _CUT,
     "a Content-Length above 64 bits"),
    ("length_twice", one(head("content-length: 3", "content-length: 5000") + whole(TOKENS)), ("truncated", "bad_json"),
     "two lengths"),
    ("length_and_chunked", one(head("content-type: text/event-stream", "content-length: 4", "transfer-encoding: chunked")
     + chunk(whole(TOKENS)) + END), ("truncated", "measured"), "a length and chunks (smuggling)"),
    ("coding_unknown", one(head("content-type: text/event-stream", "transfer-encoding: klingon") + whole(TOKENS)),
     ("measured", "truncated"), "an unknown Transfer-Encoding"),
    ("chunk_size_bad", one(STREAM + b"zz\r\n" + whole(TOKENS)), _CUT, "a chunk size that is not a number"),
    ("chunk_size_negative", one(STREAM + b"-5\r\n" + whole(TOKENS)), _CUT, "a negative chunk size"),
    ("chunk_size_huge", one(STREAM + b"f" * 30 + b"\r\n" + whole(TOKENS)), _CUT, "a chunk size above 64 bits"),
    ("chunk_unended", one(STREAM + b"5\r\n" + b"x" * 99), _CUT, "a chunk longer than its size"),
    ("chunk_extension_endless", endless(STREAM + b"5;a=", b"x" * MIB), _TOO_LARGE,
     "an endless chunk extension"),
    ("trailer_endless", endless(STREAM + chunk(token(0)) + b"0\r\nx-a: ", b"x" * MIB), _TOO_LARGE,
     "an endless trailer"),
    ("second_answer", one(_GOOD + _GOOD), _FINE, "a second, unrequested answer after the first"),
    # --- events
    ("line_32mib", parts(STREAM, chunk(b"data: " + b"x" * 32 * MIB), End.STALL), _TOO_LARGE, "a line of 32 MiB"),
    ("event_endless", endless(STREAM + chunk(token(0)), chunk(b"data: x\n" * 10_000)), _TOO_LARGE,
     "an event without the final blank line"),
    ("no_done", one(stream(whole(TOKENS).replace(b"data: [DONE]\n\n", b""))), _FINE, "no [DONE]"),
    ("no_end", one(stream(token(0) + token(1))), _CUT, "neither [DONE] nor a finish_reason"),
    ("done_twice", one(stream(whole(TOKENS) + event(b"[DONE]"))), _FINE, "[DONE] twice"),
    ("after_done", one(stream(whole(TOKENS) + token(TOKENS))), _FINE, "a token after [DONE]"),
    ("cr_only", one(stream(whole(TOKENS).replace(b"\n", b"\r"))), _FINE, "lines that end in CR alone"),
    ("bom", one(stream(b"\xef\xbb\xbf" + whole(TOKENS))), _FINE, "a byte order mark"),
    ("nul_bytes", one(instead(event(b"\x00" * 100))), _BAD, "NUL bytes"),
    ("no_json", one(instead(event(b"hello"))), _BAD, "an event that is not JSON"),
    ("half_json", one(instead(event(b'{"choices": [{"te'))), _BAD, "half an event"),
    ("array", one(instead(event(b"[1, 2]"))), _BAD, "an event that is not an object"),
    ("deep", one(instead(event(_DEEP))), _BAD, "JSON nested 100,000 deep"),
    ("deep_unknown", one(instead(event(b'{"x": ' + _DEEP + b"}"))), _BAD, "the same in an unknown field"),
    ("nan", one(instead(event(b'{"usage": {"completion_tokens": NaN}}'))), _BAD, "NaN"),
    ("infinity", one(instead(event(b'{"usage": {"completion_tokens": Infinity}}'))), _BAD, "Infinity"),
    ("exponent", one(instead(event(b'{"usage": {"completion_tokens": 1e999}}'))), _BAD, "a number too large for a float"),
    ("digits", one(instead(event(b'{"usage": {"completion_tokens": ' + _DIGITS + b"}}"))), _FINE, "400 digits"),
    ("digits_5000", one(instead(event(b'{"usage": {"completion_tokens": ' + b"9" * 5000 + b"}}"))), _BAD,
     "5,000 digits"),
    ("tokens_3e9", one(usage(3_000_000_000)), _FINE, "3e9 tokens: count absent, row in doubt"),
    ("tokens_negative", one(usage(-5)), _FINE, "a negative number of tokens: count absent, row in doubt"),
    ("tokens_text", one(usage("many")), _FINE, "tokens in words: count absent, row in doubt"),
    ("tokens_list", one(usage([1])), _FINE, "tokens as a list: count absent, row in doubt"),
    ("usage_list", one(stream(whole(TOKENS).replace(b'"usage": {', b'"usage": [{').replace(b"}}\n\n", b"}]}\n\n"))),
     _FINE, "usage as a list: count absent, row in doubt"),
    ("choices_missing", one(stream(event({"id": "x"}) + event(b"[DONE]"))), _NOT, "no choices"),
    ("choices_empty", one(stream(event({"choices": []}) + event(b"[DONE]"))), _NOT, "empty choices"),
    ("choices_text", one(stream(event({"choices": "x"}) + event(b"[DONE]"))), _NOT, "choices as text"),
    ("choices_numbers", one(stream(event({"choices": [1]}) + event(b"[DONE]"))), _NOT, "choices as numbers"),
    ("not_utf8", one(instead(event(b'{"choices": [{"text": "\xff\xfe"}]}'))), _BAD, "text that is not UTF-8"),
    ("surrogate", one(instead(event(b'{"choices": [{"text": "\\ud800"}]}'))), _BAD, "half a surrogate pair"),
    ("finish_4mib", one(stream(b"".join(token(i) for i in range(TOKENS)) + token(TOKENS - 1, "", "x" * 4 * MIB))),
     _FINE, "a finish_reason of 4 MiB: row in doubt"),
    ("finish_abort", one(stream(token(0) + token(1, finish="abort") + event(b"[DONE]"))), ("aborted",),
     "an abort by the server"),
    ("error_event", one(stream(token(0) + event({"error": {"message": "x" * MIB}}))), ("in_band_error",),
     "an error of 1 MiB in the stream"),
    ("error_deep", one(instead(event(b'{"error": ' + b"[" * 900 + b"]" * 900 + b"}"))), ("bad_json", "in_band_error"),
     "an error nested 900 deep"),
    ("heartbeats_endless", endless(STREAM, chunk(b": ping\n\n" * 100)), ("timeout",), "endless comments"),
    ("blank_lines_endless", endless(STREAM + chunk(token(0)), chunk(b"\n" * 1000)), ("timeout",),
     "endless blank lines"),
    ("tokens_endless", endless(STREAM, chunk(b"".join(token(i) for i in range(5000)))), ("too_large", "timeout"),
     "endless tokens"),
    ("value_endless", endless(head("content-type: application/json"), b"[" * MIB), _TOO_LARGE, "an endless value"),
    ("page", one(sized(b"<html>log in</html>", "text/html")), _BAD, "an HTML page"),
    ("empty", one(stream(b"")), _CUT, "an empty stream"),
    # --- pace
    ("byte_a_second", slowly(_GOOD), ("timeout",), "a byte a second, from the status line on"),
    ("body_byte_a_second", lambda: iter((STREAM + chunk(token(0)), *([b"1", 1.0] * 60))), ("timeout", "truncated"),
     "a byte a second after the first token"),
    ("silent", parts(End.STALL), ("timeout",), "no answer"),
    ("stall", parts(STREAM + chunk(token(0)), End.STALL), ("timeout",), "silence after the first token"),
    ("reset", parts(STREAM + chunk(token(0)), End.RESET), ("reset",), "a reset after the first token"),
    ("reset_at_once", parts(End.RESET), ("reset", "resent_after_reset"), "a reset instead of an answer"),
    ("close_at_once", parts(), ("reset", "resent_after_close"), "a close instead of an answer"),
    ("half_close", parts(STREAM + chunk(token(0)), End.HALF_CLOSE), _CUT, "half closed after the first token"),
    # --- encodings
    ("gzip", one(sized(gzip.compress(whole(TOKENS)), "text/event-stream", "content-encoding: gzip")), _FINE,
     "unrequested gzip"),
    ("gzip_garbage", one(sized(b"no gzip", "text/event-stream", "content-encoding: gzip")), ("truncated",),
     "invalid gzip"),
    ("gzip_bomb", bomb, _TOO_LARGE, "64 MiB of zeros in 64 kB"),
    ("brotli", one(sized(b"\x8b\x07\x80" + b"x" * 99, "text/event-stream", "content-encoding: br")),
     ("bad_json", "truncated"), "an unknown encoding"),
    ("utf16", one(sized(whole(TOKENS).decode().encode("utf-16"), "text/event-stream; charset=utf-16")),
     ("bad_json", "truncated", "early_stop"), "UTF-16"),
)  # fmt: skip

_PATHS = ("/health", "/v1/models", "/metrics", "/version")
_CONTROLS: tuple[tuple[str, Callable[[], Iterator[Part]], str], ...] = (
    ("byte_a_second", slowly(sized(b"x" * 999)), "a byte a second"),
    ("endless", endless(head(), b"x: 1\n" * 100_000), "an endless answer"),
    ("50mb", one(sized(b"vllm:a 1\n" * 6_000_000)), "50 MB"),
    ("garbage", one(b"\x00\xffgarbage\r\n\r\n"), "bytes that are not HTTP"),
    ("silent", parts(End.STALL), "no answer"),
    ("header_64mb", endless(b"HTTP/1.1 200 OK\r\nx-a: ", b"A" * MIB), "an endless header"),
    ("redirect_loop", one(head("location: /", "content-length: 0", status="307 Redirect")), "a redirect"),
    ("deep", one(sized(_DEEP)), "JSON nested 100,000 deep"),
    ("wrong_type", one(sized(b"[1, null, {}]")), "JSON with other fields"),
    ("bytes", one(sized(bytes(range(256)) * 10)), "binary data"),
    ("chunk_size_huge", one(STREAM + b"f" * 15 + b"\r\nx"), "a chunk of 10^18 bytes"),
    ("length_huge", one(head("content-length: 999999999999999999") + b"x"), "a Content-Length of 10^18"),
)
_MORE: tuple[tuple[str, str, Callable[[], Iterator[Part]], tuple[str, ...], str], ...] = (
    ("metrics_400_digits", "/metrics", one(sized(b"vllm:num_requests_running " + _DIGITS + b"\n", "text/plain")), _FINE,
     "a metric of 400 digits"),
    ("metrics_nan", "/metrics", one(sized(b"vllm:generation_tokens_total NaN\n", "text/plain")), _FINE, "a counter of NaN"),
    ("metrics_1e308", "/metrics", one(sized(b"vllm:generation_tokens_total 1e308\n" * 2, "text/plain")), _FINE,
     "counters of 1e308"),
    ("metrics_negative", "/metrics", one(sized(b"vllm:generation_tokens_total -5\n", "text/plain")), _FINE,
     "a negative counter"),
    ("metrics_bucket", "/metrics", one(sized(b'vllm:time_to_first_token_seconds_bucket{le="x"} 1\n', "text/plain")),
     _FINE, "a bucket that is not a number"),
    ("metrics_config", "/metrics", one(sized(b'vllm:cache_config_info{block_size="' + _DIGITS
     + b'",kv_cache_size_tokens="' + _DIGITS + b'"} 1\n', "text/plain")), _FINE, "settings of 400 digits"),
    ("models_surrogate", "/v1/models", one(sized(b'{"data": [{"id": "m\\ud800"}, {"id": "m"}]}')), _FINE,
     "a name that is not Unicode"),
    ("models_length", "/v1/models", one(sized(b'{"data": [{"id": "m", "max_model_len": ' + _DIGITS + b"}]}")), _FINE,
     "a max_model_len of 400 digits"),
    ("models_infinity", "/v1/models", one(sized(b'{"data": [{"id": "m", "max_model_len": Infinity}]}')), _FINE,
     "a max_model_len of Infinity"),
    ("version_long", "/version", one(sized(json.dumps({"version": "9" * MIB}).encode())), _FINE, "a version of 1 MiB"),
    ("probe_byte_a_second", "probe", slowly(_GOOD), _FINE, "a byte a second to the probe only"),
    ("probe_line_32mib", "probe", parts(STREAM, chunk(b"data: " + b"x" * 32 * MIB), End.STALL), ("request_refused",),
     "a line of 32 MiB to the probe only"),
    ("probe_heartbeats", "probe", endless(STREAM, chunk(b": ping\n\n" * 100)), _FINE, "comments to the probe only"),
    ("probe_deep", "probe", one(stream(event(_DEEP))), ("request_refused",), "deep JSON to the probe only"),
)  # fmt: skip


_NO_HTTP = ("garbage", "chunk_size_huge", "length_huge")
"""What ends a bench that needs an answer of the path; /metrics it can do without."""


def _controls() -> Iterator[Mode]:
    for path in _PATHS:
        for name, made, what in _CONTROLS:
            words = ("server_failed",) if name in _NO_HTTP and path != "/metrics" else _FINE
            yield Mode(f"{path.strip('/').replace('/', '_')}_{name}", path, made, words, f"{path}: {what}")


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        *(Mode(name, "completion", made, words, what) for name, made, words, what in _COMPLETIONS),
        *(Mode(name, path, made, words, what) for name, path, made, words, what in _MORE),
        *_controls(),
    )
}


@contextmanager
def nasty(mode: Mode, reached: threading.Event | None = None) -> Iterator[str]:
    """Serve so; gives the base URL. `reached` is set when a request is about to be answered so."""
    asked = count()

    def handler(sock: socket.socket, number: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        inbox = b""
        while True:
            while b"\r\n\r\n" not in inbox:
                if not (more := sock.recv(65536)):
                    return
                inbox += more
            top, _, inbox = inbox.partition(b"\r\n\r\n")
            path = top.split(b" ", 2)[1].decode().partition("?")[0]
            lower = top.lower()
            if b"content-length:" in lower:
                length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
                while len(inbox) < length:
                    inbox += sock.recv(65536)
                inbox = inbox[length:]
            kind = path
            if path.endswith("/completions"):
                kind = "probe" if b"-probe" in top else "completion"
            if kind == mode.path and (kind != "completion" or next(asked) % 2 == 0):
                if reached is not None:
                    reached.set()
                _send(sock, mode.parts())
                return
            _well(sock, kind)

    with raw(handler) as url:
        yield url


def short_sweep(bench: Bench, url: str, transport: str = "wire", **load: object) -> tuple[str, ...]:
    """The words of a sweep with one short cell of two users, whose requests have 3 s."""
    made = {
        "name": "nasty",
        "server": {"kind": "attached", "base_url": url},
        "models": [{"profile": MODEL}],
        "workloads": ["short"],
        "concurrency": [2],
        "load": {
            "duration_s": 1,
            "max_duration_s": 8,
            "min_requests_per_user": 1,
            "request_timeout_s": 3,
            "transport": transport,
        }
        | load,
    }
    return (
        "sweep", bench.write(made), "--out", str(bench.out), "--isl", "8", "--osl", str(TOKENS)
    )  # fmt: skip


def driven(mode: Mode, transport: str) -> set[str]:
    """How four requests of a load ended, two at a time: classes of failure, and `measured` for those without."""
    with nasty(mode) as url:
        window = WindowPlan(max_requests=4, max_duration_s=10.0)
        spec = load_spec(
            url, users=2, tokens=TOKENS, window=window, request_timeout_s=3.0, transport=transport
        )
        rows = drive(spec).requests
    failures = rows["failure"][rows["request_id"] < PROBE_ID].tolist()
    return {"measured" if failure < 0 else FAILURES[failure].value for failure in failures}


def as_told(mode: Mode, words: set[str]) -> bool:
    """Whether requests ended as the table says; the good ones beside them are `measured`."""
    found = words - {"measured"}
    return found <= set(mode.words) and bool(found or "measured" in mode.words)


def _send(sock: socket.socket, steps: Iterator[Part]) -> None:
    """Answer so; then the connection is over."""
    for step in steps:
        if isinstance(step, bytes):
            sock.sendall(step)
        elif isinstance(step, float):
            time.sleep(step)
        elif step is End.RESET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            if step is End.HALF_CLOSE:
                sock.shutdown(socket.SHUT_WR)
            sock.settimeout(_STALL_S)
            sock.recv(1)


def _well(sock: socket.socket, kind: str) -> None:
    """A good answer."""
    if kind == "/v1/models":
        sock.sendall(sized(json.dumps({"object": "list", "data": [{"id": MODEL}]}).encode()))
    elif kind == "/version":
        sock.sendall(sized(b'{"version": "0.14.1"}'))
    elif kind == "/health":
        sock.sendall(sized(b""))
    elif kind == "/metrics":
        sock.sendall(sized(b"vllm:num_requests_running 1\n", "text/plain"))
    elif kind in {"completion", "probe"}:
        sock.sendall(STREAM)
        count_ = 4 if kind == "probe" else TOKENS
        for at in range(count_):
            sock.sendall(chunk(token(at, finish="length" if at == count_ - 1 else None)))
            time.sleep(_TOKEN_S)
        sock.sendall(chunk(event(b"[DONE]")) + END)
    else:
        sock.sendall(head("content-length: 0", status="404 Not Found"))
