"""The reference server: streams vLLM-shaped answers on an exact engine-step schedule and writes down the truth.

    python -m rocbench.load.reference --port 0 --step-ms 50 --tokens 100 --max-running 1024

Every running stream gets one chunk in each step, as a batching engine does; a request joins at the first
step after it arrived and gets its first token `--prefill-steps` later. It prints `ready PORT` once it
listens. `GET /truth` gives an npz file (`Truth` reads it) with, for each request, when the kernel received
it and when each chunk was really written, and for each step how late the server itself was.
One process, one epoll loop, answers made in advance: it keeps its schedule next to a client on two cores.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import random
import re
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import orjson

from rocbench.load import script
from rocbench.load.framing import stamp_ns
from rocbench.load.machine import raise_file_limit
from rocbench.load.schedule import FAULTS, SO_TIMESTAMPNS, Schedule
from rocbench.load.script import ScriptedFault

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nx-request-id: *([^\r\n]*)", re.IGNORECASE)


def now_ns() -> int:
    """CLOCK_REALTIME, the clock of the kernel's receive stamps."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


class Connection:
    """A client's socket, its unread request and its unsent answer."""

    __slots__ = ("arrived_ns", "inbox", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox = b""
        self.unsent = b""
        self.arrived_ns = 0


@dataclass(slots=True)
class Stream:
    """A running answer, and its truth."""

    connection: Connection
    request_id: str
    arrived_ns: int
    prompt_tokens: int
    sizes: tuple[int, ...]
    script: script.Script
    fault: ScriptedFault | None
    last: int
    """Chunks to send before the end, or before the fault."""
    joins_at: int = 0
    position: int = 0
    times: list[int] = field(default_factory=list)


class ScheduleServer:
    """The epoll loop. `run` returns when `stopping` is set."""

    def __init__(self, schedule: Schedule, host: str, port: int) -> None:
        self.schedule = schedule
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family, backlog=8192)
        self.listener.setblocking(False)
        self.listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.port = int(self.listener.getsockname()[1])
        self.poller = select.epoll()
        self.poller.register(self.listener.fileno(), select.EPOLLIN)
        self.connections: dict[int, Connection] = {}
        self.waiting: deque[Stream] = deque()
        self.joining: deque[Stream] = deque()
        self.running: list[Stream] = []
        self.ended: list[Stream] = []
        self.steps: list[tuple[int, int, int, int]] = []
        self.random = random.Random(schedule.seed)
        self.stopping = False

    def run(self) -> None:
        """Serve until told to stop: steps at their times, network input between them."""
        due, step = now_ns() + self.schedule.step_ns, 0
        while not self.stopping:
            wait_ns = due - now_ns()
            if wait_ns > 0:
                self.serve_network(wait_ns)
                continue
            began = now_ns()
            count = len(self.running)
            self.step(step)
            if count:
                self.steps.append((due, began, now_ns(), count))
            step += 1
            # A step that took too long delays the next ones, as an engine's does.
            due = max(due + self.schedule.step_ns, now_ns())

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
        room = self.schedule.max_running - len(self.running) - len(joining)
        while self.waiting and room > 0:
            stream = self.waiting.popleft()
            stream.joins_at = number + self.schedule.prefill_steps
            joining.append(stream)
            room -= 1

    def end(self, stream: Stream) -> None:
        """Send the end of the answer, or break it as its fault says."""
        self.ended.append(stream)
        connection = stream.connection
        match stream.fault:
            case None | ScriptedFault.EARLY_STOP:
                self.send(connection, stream.script.closing)
            case ScriptedFault.IN_BAND_ERROR:
                self.send(connection, script.error_event())
            case ScriptedFault.BAD_JSON:
                self.send(connection, script.broken_event())
            case ScriptedFault.TRUNCATED:
                # Alternately without the end of the body, and with it but without the end of the answer.
                if len(self.ended) % 2:
                    self.close(connection)
                else:
                    self.send(connection, script.END)
            case ScriptedFault.RESET:
                self.reset(connection)
            case ScriptedFault.TIMEOUT:
                pass

    # --- requests

    def begin(self, connection: Connection, head: bytes, body: bytes) -> None:
        """Answer a request, or queue it for the engine."""
        line = head.split(b"\r\n", 1)[0]
        if not line.startswith(b"POST "):
            self.plain(connection, line.split(b" ")[1])
            return
        request = orjson.loads(body)
        refused = [name for name in self.schedule.refuse_fields if _has(request, name)]
        if refused:
            self.send(connection, script.error_response(400, f"Unknown field: {refused[0]}"))
            return
        named = _ID.search(head)
        request_id = named[1].decode() if named else ""
        stream = self.stream(connection, request_id, b"/chat/" in line, request)
        if stream.fault is ScriptedFault.HTTP_STATUS:
            self.ended.append(stream)
            self.send(connection, script.error_response(503, "The server is overloaded"))
        else:
            self.send(connection, stream.script.opening)
            self.waiting.append(stream)

    def stream(
        self, connection: Connection, request_id: str, chat: bool, request: dict[str, object]
    ) -> Stream:
        """Choose an answer: its length, chunks and fault."""
        schedule = self.schedule
        total = int(request.get("max_tokens") or request.get("max_completion_tokens") or schedule.tokens)  # type: ignore[call-overload]
        fault = None if "probe" in request_id else self.draw_fault()
        if total == 1 and fault in {ScriptedFault.EARLY_STOP, ScriptedFault.TRUNCATED}:
            fault = None  # a first token that is the last one leaves nothing to stop or cut off
        if fault is ScriptedFault.EARLY_STOP:
            total //= 2
        options = request.get("stream_options") or {}
        assert isinstance(options, dict)
        prompt = request.get("prompt")
        sizes = self.draw_sizes(total)
        shape = script.Shape(
            chat=chat,
            prompt_tokens=len(prompt) if isinstance(prompt, list) else _words(request),
            sizes=sizes,
            continuous_usage=schedule.continuous_usage and bool(options.get("continuous_usage_stats")),
            final_usage=schedule.final_usage and bool(options.get("include_usage")),
            token_ids=schedule.allow_token_ids and bool(request.get("return_token_ids")),
        )
        written = script.write(shape, finish="stop" if fault is ScriptedFault.EARLY_STOP else "length")
        breaks = fault not in {None, ScriptedFault.EARLY_STOP}
        last = self.random.randint(1, max(1, len(sizes) - 1)) if breaks else len(sizes)
        return Stream(
            connection, request_id, connection.arrived_ns, shape.prompt_tokens, sizes, written, fault, last
        )

    def draw_fault(self) -> ScriptedFault | None:
        """The fault of the next request, drawn by the requested shares."""
        if not self.schedule.faults:
            return None
        at = self.random.random()
        for fault, share in self.schedule.faults:
            if at < share:
                return fault
            at -= share
        return None

    def draw_sizes(self, total: int) -> tuple[int, ...]:
        """Tokens of each chunk; they sum to `total`."""
        low, high = self.schedule.chunk_tokens
        if high == 1:
            return (1,) * total
        sizes, left = [], total
        while left:
            sizes.append(min(left, self.random.randint(low, high)))
            left -= sizes[-1]
        return tuple(sizes)

    def plain(self, connection: Connection, path: bytes) -> None:
        """Answer a request whose answer is not a stream."""
        if path == b"/truth":
            self.send(connection, script.plain_response(self.truth(), b"application/octet-stream"))
        elif path == b"/v1/models":
            self.send(connection, script.plain_response(b'{"object":"list","data":[{"id":"truth"}]}'))
        elif path == b"/reset":
            self.ended.clear()
            self.steps.clear()
            self.send(connection, script.plain_response(b"{}"))
        else:
            self.send(connection, script.plain_response(b"{}"))

    def truth(self) -> bytes:
        """The truth so far, as an npz file."""
        streams = self.ended + self.running
        out = io.BytesIO()
        sent = [stream.position for stream in streams]
        np.savez(
            out,
            ids=np.array([stream.request_id for stream in streams], dtype="U64"),
            arrived_ns=np.array([stream.arrived_ns for stream in streams], dtype=np.int64),
            prompt_tokens=np.array([stream.prompt_tokens for stream in streams], dtype=np.int64),
            fault=np.array([FAULTS.index(s.fault) if s.fault else -1 for s in streams], dtype=np.int8),
            chunks=np.array(sent, dtype=np.int64),
            times_ns=np.array([at for stream in streams for at in stream.times], dtype=np.int64),
            sizes=np.array([n for s in streams for n in s.sizes[: s.position]], dtype=np.int64),
            steps=np.array(self.steps, dtype=np.int64).reshape(-1, 4),
        )
        return out.getvalue()

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
            self.connections[sock.fileno()] = Connection(sock)
            self.poller.register(sock.fileno(), select.EPOLLIN)

    def read(self, connection: Connection) -> None:
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
        connection.arrived_ns = stamp_ns(ancillary[0][2]) if ancillary else now_ns()
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

    def send(self, connection: Connection, data: bytes) -> None:
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

    def send_failed(self, connection: Connection, data: bytes, error: OSError) -> None:
        """Handle a full socket (send later) or a closed one (the next read shows it)."""
        if isinstance(error, BlockingIOError) and connection.sock.fileno() >= 0:
            connection.unsent = data
            self.poller.modify(connection.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def flush(self, connection: Connection) -> None:
        """Send the kept bytes."""
        data, connection.unsent = connection.unsent, b""
        self.poller.modify(connection.sock.fileno(), select.EPOLLIN)
        self.send(connection, data)

    def reset(self, connection: Connection) -> None:
        """Close with a RST."""
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close(connection)

    def close(self, connection: Connection) -> None:
        """Close and forget a connection and its running answer."""
        fd = connection.sock.fileno()
        if fd >= 0:
            del self.connections[fd]
            connection.sock.close()
        for stream in [stream for stream in self.running if stream.connection is connection]:
            stream.last = stream.position
            self.running.remove(stream)
            self.ended.append(stream)


def _has(request: dict[str, object], name: str) -> bool:
    options = request.get("stream_options")
    return name in request or (isinstance(options, dict) and name in options)


def _words(request: dict[str, object]) -> int:
    """Prompt tokens of a text prompt: its number of words."""
    if "messages" in request:
        return len(json.dumps(request["messages"]).split())
    return len(str(request.get("prompt")).split())


def main() -> None:
    """Serve until SIGTERM or until the parent's end of stdin closes."""
    parser = argparse.ArgumentParser(
        prog="rocbench.load.reference", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--step-ms", type=float, default=50.0)
    parser.add_argument("--tokens", type=int, default=100, help="answer length where the request names none")
    parser.add_argument("--max-running", type=int, default=100_000)
    parser.add_argument("--prefill-steps", type=int, default=2)
    parser.add_argument("--chunk-tokens", default="1", help="tokens of a chunk: 1, or 1-4 to draw them")
    parser.add_argument("--no-continuous-usage", action="store_true")
    parser.add_argument("--no-usage", action="store_true")
    parser.add_argument("--no-token-ids", action="store_true")
    parser.add_argument("--refuse-field", action="append", default=[], help="answer 400 to a body field")
    parser.add_argument("--fault", action="append", default=[], help="CLASS=SHARE, as reset=0.01")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    low, _, high = options.chunk_tokens.partition("-")
    faults = [text.split("=") for text in options.fault]
    schedule = Schedule(
        step_ns=int(options.step_ms * 1e6),
        tokens=options.tokens,
        max_running=options.max_running,
        prefill_steps=options.prefill_steps,
        chunk_tokens=(int(low), int(high or low)),
        continuous_usage=not options.no_continuous_usage,
        final_usage=not options.no_usage,
        allow_token_ids=not options.no_token_ids,
        faults=tuple((ScriptedFault(name), float(share)) for name, share in faults),
        refuse_fields=tuple(options.refuse_field),
        seed=options.seed,
    )
    raise_file_limit()
    server = ScheduleServer(schedule, options.host, options.port)

    def stop(*_: object) -> None:
        server.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    sys.stdout.write(f"ready {server.port}\n")
    sys.stdout.flush()
    gc.freeze()
    gc.disable()
    server.run()


if __name__ == "__main__":
    main()
