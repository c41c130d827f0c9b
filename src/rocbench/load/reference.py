"""The reference server of `bench calibrate`: it streams tokens on an exact schedule and records its own times.

    python -m rocbench.load.reference --step-ms 50

Each running stream gets one token in each step, as in a batching engine; a request joins at the first step
after it arrived and gets its first token two steps later. It prints `ready PORT` once it listens.
`GET /record` gives an npz file (`ServerRecord` reads it) with, for each request, when the kernel received it
and when each token was written, and for each step how late the server itself was.
One process, one epoll loop, answers made in advance: it keeps its schedule next to a client on two cores.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import re
import select
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from rocbench.load.clock import realtime_ns
from rocbench.load.framing import SO_TIMESTAMPNS, stamp_ns
from rocbench.load.machine import raise_file_limit

HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"
PREFILL_STEPS = 2
"""Steps between joining the batch and the first token."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nx-request-id: *([^\r\n]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Script:
    """The sends of one answer, in order."""

    opening: bytes
    """The HTTP head, and events before the first token."""
    chunks: tuple[bytes, ...]
    """One for each step; the last one has a finish_reason."""
    closing: bytes
    """Usage, [DONE] and the end of the body."""


def frame(value: object) -> bytes:
    """A JSON value as one SSE event in one HTTP chunk; bytes are taken as they are."""
    payload = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    event = b"data: " + payload + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def usage(prompt_tokens: int, done: int) -> dict[str, int]:
    """The usage after `done` tokens."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + done,
        "completion_tokens": done,
    }


@lru_cache(maxsize=4096)
def write(prompt_tokens: int, tokens: int) -> Script:
    """An answer as vLLM 0.32's /v1/completions gives it with `continuous_usage_stats`, a token in each chunk."""
    body = {
        "id": "cmpl-3f2a9c1e7b6d4f508e1c2d3b4a5f6978",
        "object": "text_completion",
        "created": 1704067200,
        "model": "reference",
    }
    choice = {"index": 0, "text": " tok", "logprobs": None, "finish_reason": None, "stop_reason": None}
    chunks = []
    for done in range(1, tokens + 1):
        choice["finish_reason"] = "length" if done == tokens else None
        chunks.append(frame(body | {"choices": [choice], "usage": usage(prompt_tokens, done)}))
    last = frame(body | {"choices": [], "usage": usage(prompt_tokens, tokens)})
    return Script(HEAD, tuple(chunks), last + frame(b"[DONE]") + END)


def plain_response(body: bytes, content_type: bytes = b"application/json") -> bytes:
    """A whole 200 answer."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        content_type,
        len(body),
        body,
    )


@dataclass(slots=True, eq=False)
class ClientConnection:
    """A client's socket, its unread request and its unsent answer."""

    sock: socket.socket
    inbox: bytes = b""
    unsent: bytes = b""
    arrived_ns: int = 0


@dataclass(slots=True)
class Stream:
    """A running answer, and the times of its chunks."""

    connection: ClientConnection
    request_id: str
    arrived_ns: int
    script: Script
    last: int
    """Number of chunks to send."""
    joins_at: int = 0
    position: int = 0
    times: list[int] = field(default_factory=list)


class ReferenceServer:
    """The epoll loop. `run` returns when `stopping` is set."""

    def __init__(self, step_ns: int) -> None:
        self.step_ns = step_ns
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=8192)
        self.listener.setblocking(False)
        self.listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.port = int(self.listener.getsockname()[1])
        self.poller = select.epoll()
        self.poller.register(self.listener.fileno(), select.EPOLLIN)
        self.connections: dict[int, ClientConnection] = {}
        self.waiting: deque[Stream] = deque()
        self.joining: deque[Stream] = deque()
        self.running: list[Stream] = []
        self.ended: list[Stream] = []
        self.steps: list[tuple[int, int, int, int]] = []
        self.stopping = False

    def run(self) -> None:
        """Serve until told to stop: steps at their times, network input between them."""
        due, step = realtime_ns() + self.step_ns, 0
        while not self.stopping:
            wait_ns = due - realtime_ns()
            if wait_ns > 0:
                self.serve_network(wait_ns)
                continue
            began = realtime_ns()
            count = len(self.running)
            self.step(step)
            if count:
                self.steps.append((due, began, realtime_ns(), count))
            step += 1
            # A step that took too long delays the next ones, as an engine's does.
            due = max(due + self.step_ns, realtime_ns())

    def serve_network(self, wait_ns: int) -> None:
        """Read requests for at most `wait_ns`; the last millisecond is slept exactly."""
        if wait_ns < 1_500_000:
            time.sleep(wait_ns / 1e9)
            return
        for fd, event in self.poller.poll(wait_ns // 1_000_000 / 1e3 - 0.001):
            if fd == self.listener.fileno():
                self.accept()
                continue
            connection = self.connections[fd]
            if event & select.EPOLLOUT:
                self.flush(connection)
            if event & ~select.EPOLLOUT:
                self.read(connection)

    # --- the engine

    def step(self, number: int) -> None:
        """Run one engine step: join, then one chunk to each running stream."""
        joining, running = self.joining, self.running
        while joining and joining[0].joins_at <= number:
            running.append(joining.popleft())
        ended = False
        clock, realtime = time.clock_gettime_ns, time.CLOCK_REALTIME
        for stream in running:
            at = stream.position
            chunk = stream.script.chunks[at]
            connection = stream.connection
            stream.times.append(clock(realtime))
            if connection.unsent:
                connection.unsent += chunk
            else:
                try:
                    sent = connection.sock.send(chunk)
                    if sent != len(chunk):
                        self.send_failed(connection, chunk[sent:], BlockingIOError())
                except OSError as error:
                    self.send_failed(connection, chunk, error)
            stream.position = at = at + 1
            if at >= stream.last:
                ended = True
        if ended:
            self.running = [stream for stream in running if stream.position < stream.last]
            for stream in running:
                if stream.position >= stream.last:
                    self.end(stream)
        self.admit(number)

    def admit(self, number: int) -> None:
        """Let the waiting requests join the batch after step `number`."""
        while self.waiting:
            stream = self.waiting.popleft()
            stream.joins_at = number + PREFILL_STEPS
            self.joining.append(stream)

    def end(self, stream: Stream) -> None:
        """Send the end of the answer."""
        self.ended.append(stream)
        self.send(stream.connection, stream.script.closing)

    # --- requests

    def begin(self, connection: ClientConnection, head: bytes, body: bytes) -> None:
        """Answer a request, or queue it for the engine."""
        line = head.split(b"\r\n", 1)[0]
        if not line.startswith(b"POST "):
            self.plain(connection, line.split(b" ")[1])
            return
        self.queue(self.stream(connection, head, orjson.loads(body)))

    def queue(self, stream: Stream) -> None:
        """Send the opening of an answer; the engine sends its tokens."""
        self.send(stream.connection, stream.script.opening)
        self.waiting.append(stream)

    def stream(self, connection: ClientConnection, head: bytes, request: dict[str, Any]) -> Stream:
        """The answer to a request."""
        tokens = int(request["max_tokens"])
        script = write(len(request["prompt"]), tokens)
        return Stream(connection, request_id(head), connection.arrived_ns, script, tokens)

    def plain(self, connection: ClientConnection, path: bytes) -> None:
        """Answer a request whose answer is not a stream."""
        if path == b"/record":
            self.send(connection, plain_response(self.record(), b"application/octet-stream"))
        elif path == b"/v1/models":
            self.send(connection, plain_response(b'{"object":"list","data":[{"id":"reference"}]}'))
        else:
            self.send(connection, plain_response(b"{}"))

    def record(self) -> bytes:
        """The record so far, as an npz file."""
        out = io.BytesIO()
        np.savez(out, **self.arrays(self.ended + self.running))
        return out.getvalue()

    def arrays(self, streams: list[Stream]) -> dict[str, Any]:
        """The arrays of a `ServerRecord`."""
        return {
            "ids": np.array([stream.request_id for stream in streams], dtype="U64"),
            "arrived_ns": np.array([stream.arrived_ns for stream in streams], dtype=np.int64),
            "chunks": np.array([stream.position for stream in streams], dtype=np.int64),
            "times_ns": np.array([at for stream in streams for at in stream.times], dtype=np.int64),
            "steps": np.array(self.steps, dtype=np.int64).reshape(-1, 4),
        }

    # --- the network

    def accept(self) -> None:
        """Accept all waiting connections."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self.connections[sock.fileno()] = ClientConnection(sock)
            self.poller.register(sock.fileno(), select.EPOLLIN)

    def read(self, connection: ClientConnection) -> None:
        """Read the input and begin the request once it is whole."""
        try:
            data, ancillary, _, _ = connection.sock.recvmsg(1 << 20, 64)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data:
            self.close(connection)
            return
        # The first packets after stamps were enabled may come without a stamp.
        connection.arrived_ns = stamp_ns(ancillary[0][2]) if ancillary else realtime_ns()
        connection.inbox += data
        end = connection.inbox.find(b"\r\n\r\n")
        if end < 0:
            return
        head = connection.inbox[:end]
        length = _LENGTH.search(head)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(connection.inbox) >= whole:
            body, connection.inbox = connection.inbox[end + 4 : whole], connection.inbox[whole:]
            self.begin(connection, head, body)

    def send(self, connection: ClientConnection, data: bytes) -> None:
        """Send the bytes that the socket takes and keep the rest."""
        if connection.unsent:
            connection.unsent += data
            return
        try:
            sent = connection.sock.send(data)
            if sent != len(data):
                self.send_failed(connection, data[sent:], BlockingIOError())
        except OSError as error:
            self.send_failed(connection, data, error)

    def send_failed(self, connection: ClientConnection, data: bytes, error: OSError) -> None:
        """Handle a full socket (send later) or a closed one (the next read shows it)."""
        if isinstance(error, BlockingIOError) and connection.sock.fileno() >= 0:
            connection.unsent = data
            self.poller.modify(connection.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def flush(self, connection: ClientConnection) -> None:
        """Send the kept bytes."""
        data, connection.unsent = connection.unsent, b""
        self.poller.modify(connection.sock.fileno(), select.EPOLLIN)
        self.send(connection, data)

    def close(self, connection: ClientConnection) -> None:
        """Close and forget a connection and its running answer."""
        fd = connection.sock.fileno()
        if fd >= 0:
            del self.connections[fd]
            connection.sock.close()
        for stream in [stream for stream in self.running if stream.connection is connection]:
            stream.last = stream.position
            self.running.remove(stream)
            self.ended.append(stream)


def request_id(head: bytes) -> str:
    """The X-Request-Id header; empty without one."""
    match = _ID.search(head)
    return match[1].decode() if match else ""


def serve(server: ReferenceServer) -> None:
    """Serve until SIGTERM."""

    def stop(*_: object) -> None:
        server.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    sys.stdout.write(f"ready {server.port}\n")
    sys.stdout.flush()
    gc.freeze()
    gc.disable()
    server.run()


def main() -> None:
    """Read the step time and serve."""
    parser = argparse.ArgumentParser(
        prog="rocbench.load.reference", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--step-ms", type=float, default=50.0)
    raise_file_limit()
    serve(ReferenceServer(int(parser.parse_args().step_ms * 1e6)))


if __name__ == "__main__":
    main()
