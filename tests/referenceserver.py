"""The reference server with more answers: chat, chunks of several tokens, less usage, refused fields and faults.

Run as a program it serves; `serving` runs it. Its record also has each request's fault and the tokens of each chunk.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import struct
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from rocbench.load import serverrecord
from rocbench.load.machine import raise_file_limit
from rocbench.load.reference import (
    END,
    HEAD,
    ClientConnection,
    ReferenceServer,
    Script,
    Stream,
    frame,
    plain_response,
    request_id,
    serve,
    usage,
)
from rocbench.records import Int64Array


class ScriptedFault(StrEnum):
    """The way in which an answer fails; the values are those of `records.Failure`."""

    HTTP_STATUS = "http_status"
    IN_BAND_ERROR = "in_band_error"
    TRUNCATED = "truncated"
    RESET = "reset"
    TIMEOUT = "timeout"
    BAD_JSON = "bad_json"
    EARLY_STOP = "early_stop"


FAULTS = tuple(ScriptedFault)
"""`FaultRecord.fault` is an index into this, or -1."""


@dataclass(frozen=True)
class FaultRecord(serverrecord.ServerRecord):
    """The record, with what differs between requests."""

    prompt_tokens: Int64Array
    fault: Int64Array
    sizes: Int64Array
    """Tokens of each chunk, request after request."""


def serving(arguments: Sequence[str] = ()) -> AbstractContextManager[tuple[str, subprocess.Popen[str]]]:
    """Run this server; give its base URL and process; end it."""
    return serverrecord.serving(arguments, (__file__,))


# --- answers


@dataclass(frozen=True, slots=True)
class Shape:
    """The parameters of an answer's bytes."""

    chat: bool
    prompt_tokens: int
    sizes: tuple[int, ...]
    continuous_usage: bool
    final_usage: bool
    token_ids: bool

    def body(self, choices: list[dict[str, object]], done: int, *, with_usage: bool) -> dict[str, object]:
        """An event's JSON after `done` tokens."""
        kind, prefix = ("chat.completion.chunk", "chatcmpl") if self.chat else ("text_completion", "cmpl")
        body: dict[str, object] = {
            "id": f"{prefix}-3f2a9c1e7b6d4f508e1c2d3b4a5f6978",
            "object": kind,
            "created": 1704067200,
            "model": "reference",
            "choices": choices,
        }
        return body | ({"usage": usage(self.prompt_tokens, done)} if with_usage else {})

    def choice(self, index: int, finish: str | None) -> dict[str, object]:
        """The choice of chunk `index`."""
        text = " tok" * self.sizes[index]
        choice: dict[str, object] = {"index": 0}
        choice |= {"delta": {"content": text}} if self.chat else {"text": text}
        choice |= {"logprobs": None, "finish_reason": finish, "stop_reason": None}
        if self.token_ids:
            choice["token_ids"] = [1000 + index] * self.sizes[index]
        return choice


@lru_cache(maxsize=4096)
def write(shape: Shape, finish: str) -> Script:
    """The whole answer of a shape. `finish` is the last chunk's finish_reason."""
    opening, closing, chunks, done = HEAD, b"", [], 0
    if shape.chat:
        role = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        opening += frame(shape.body([role], 0, with_usage=shape.continuous_usage))
    for index, size in enumerate(shape.sizes):
        done += size
        choice = shape.choice(index, finish if index == len(shape.sizes) - 1 else None)
        chunks.append(frame(shape.body([choice], done, with_usage=shape.continuous_usage)))
    if shape.final_usage:
        closing = frame(shape.body([], done, with_usage=True))
    return Script(opening, tuple(chunks), closing + frame(b"[DONE]") + END)


def error_event() -> bytes:
    """The event that vLLM sends after a 200 when its engine dies, then the end of the body."""
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    error = {"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}}
    return frame(error) + frame(b"[DONE]") + END


def broken_event() -> bytes:
    """An event that is not JSON, then the end of the body."""
    return frame(b'{"id":"cmpl-x","choices":[{"ind') + frame(b"[DONE]") + END


def error_response(status: int, message: str) -> bytes:
    """A whole answer with a status other than 200, in vLLM's words."""
    error = {"message": message, "type": "InternalServerError", "param": None, "code": status}
    return plain_response(json.dumps({"error": error}).encode()).replace(b" 200 OK", b" %d Error" % status, 1)


# --- the server


@dataclass(slots=True)
class FaultyStream(Stream):
    """A running answer and its fault."""

    prompt_tokens: int = 0
    sizes: tuple[int, ...] = ()
    fault: ScriptedFault | None = None


class FaultyServer(ReferenceServer):
    """The reference server with the variants of the command line."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(int(options.step_ms * 1e6))
        self.options = options
        self.faults = [
            (ScriptedFault(name), float(share)) for name, share in (text.split("=") for text in options.fault)
        ]
        self.random = random.Random(0)

    def admit(self, number: int) -> None:
        """Admit only as many requests as may run at once."""
        room = max(0, self.options.max_running - len(self.running) - len(self.joining))
        late = list(self.waiting)[room:]
        self.waiting = deque(islice(self.waiting, room))
        super().admit(number)
        self.waiting.extend(late)

    def begin(self, connection: ClientConnection, head: bytes, body: bytes) -> None:
        """Refuse a request that has a refused field."""
        request = json.loads(body) if body else {}
        options = request.get("stream_options") or {}
        refused = [name for name in self.options.refuse_field if name in request or name in options]
        if refused:
            self.send(connection, error_response(400, f"Unknown field: {refused[0]}"))
        else:
            super().begin(connection, head, body)

    def stream(self, connection: ClientConnection, head: bytes, request: dict[str, Any]) -> Stream:
        """Choose an answer: its length, chunks and fault."""
        given = self.options
        total = int(request.get("max_tokens") or request.get("max_completion_tokens") or given.tokens)
        name = request_id(head)
        fault = None if "probe" in name else self.draw_fault()
        if total == 1 and fault in {ScriptedFault.EARLY_STOP, ScriptedFault.TRUNCATED}:
            fault = None  # a first token that is the last one leaves nothing to stop or cut off
        if fault is ScriptedFault.EARLY_STOP:
            total //= 2
        options = request.get("stream_options") or {}
        sizes = self.draw_sizes(total)
        shape = Shape(
            chat=b"/chat/" in head.split(b"\r\n", 1)[0],
            prompt_tokens=prompt_tokens(request),
            sizes=sizes,
            continuous_usage=not given.no_continuous_usage and bool(options.get("continuous_usage_stats")),
            final_usage=not given.no_usage and bool(options.get("include_usage")),
            token_ids=not given.no_token_ids and bool(request.get("return_token_ids")),
        )
        script = write(shape, "stop" if fault is ScriptedFault.EARLY_STOP else "length")
        breaks = fault not in {None, ScriptedFault.EARLY_STOP}
        last = self.random.randint(1, max(1, len(sizes) - 1)) if breaks else len(sizes)
        return FaultyStream(
            connection,
            name,
            connection.arrived_ns,
            script,
            last,
            prompt_tokens=shape.prompt_tokens,
            sizes=sizes,
            fault=fault,
        )

    def queue(self, stream: Stream) -> None:
        """Answer with a status instead, if that is the fault."""
        assert isinstance(stream, FaultyStream)
        if stream.fault is ScriptedFault.HTTP_STATUS:
            self.ended.append(stream)
            self.send(stream.connection, error_response(503, "The server is overloaded"))
        else:
            super().queue(stream)

    def draw_fault(self) -> ScriptedFault | None:
        """The fault of the next request, drawn by the requested shares."""
        at = self.random.random() if self.faults else 0.0
        for fault, share in self.faults:
            if at < share:
                return fault
            at -= share
        return None

    def draw_sizes(self, total: int) -> tuple[int, ...]:
        """Tokens of each chunk; they sum to `total`."""
        low, _, high = self.options.chunk_tokens.partition("-")
        sizes, left = [], total
        while left:
            sizes.append(min(left, self.random.randint(int(low), int(high or low))))
            left -= sizes[-1]
        return tuple(sizes)

    def end(self, stream: Stream) -> None:
        """Send the end of the answer, or break it as its fault says."""
        assert isinstance(stream, FaultyStream)
        connection = stream.connection
        if stream.fault in {None, ScriptedFault.EARLY_STOP}:
            super().end(stream)
            return
        self.ended.append(stream)
        match stream.fault:
            case ScriptedFault.IN_BAND_ERROR:
                self.send(connection, error_event())
            case ScriptedFault.BAD_JSON:
                self.send(connection, broken_event())
            case ScriptedFault.TRUNCATED:
                # Alternately without the end of the body, and with it but without the end of the answer.
                if len(self.ended) % 2:
                    self.close(connection)
                else:
                    self.send(connection, END)
            case ScriptedFault.RESET:
                reset(self, connection)

    def plain(self, connection: ClientConnection, path: bytes) -> None:
        """`/reset` begins a new record."""
        if path == b"/reset":
            self.ended.clear()
            self.steps.clear()
        super().plain(connection, path)

    def arrays(self, streams: list[Stream]) -> dict[str, Any]:
        """The arrays of a `FaultRecord`."""
        faulty = [stream for stream in streams if isinstance(stream, FaultyStream)]
        return super().arrays(streams) | {
            "prompt_tokens": np.array([stream.prompt_tokens for stream in faulty], dtype=np.int64),
            "fault": np.array([FAULTS.index(s.fault) if s.fault else -1 for s in faulty], dtype=np.int64),
            "sizes": np.array([n for s in faulty for n in s.sizes[: s.position]], dtype=np.int64),
        }


def reset(server: ReferenceServer, connection: ClientConnection) -> None:
    """Close with a RST."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close(connection)


def prompt_tokens(request: dict[str, Any]) -> int:
    """Tokens of the prompt; the words of a text."""
    prompt = request.get("prompt")
    if isinstance(prompt, list):
        return len(prompt)
    return len(json.dumps(request["messages"]).split() if "messages" in request else str(prompt).split())


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--step-ms", type=float, default=50.0)
    parser.add_argument("--tokens", type=int, default=100, help="answer length if the request has none")
    parser.add_argument("--max-running", type=int, default=100_000)
    parser.add_argument("--chunk-tokens", default="1", help="tokens of a chunk: 1, or 1-4 to draw them")
    parser.add_argument("--no-continuous-usage", action="store_true")
    parser.add_argument("--no-usage", action="store_true")
    parser.add_argument("--no-token-ids", action="store_true")
    parser.add_argument("--refuse-field", action="append", default=[], help="answer 400 to a body field")
    parser.add_argument("--fault", action="append", default=[], help="CLASS=SHARE, as reset=0.01")
    raise_file_limit()
    serve(FaultyServer(parser.parse_args()))


if __name__ == "__main__":
    main()
