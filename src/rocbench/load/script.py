"""The answers of the reference server: the bytes of one vLLM-shaped answer, token by token, as HTTP chunks.

Pure: the same arguments give the same bytes. Shapes are those of vLLM 0.32's `/v1/completions` and
`/v1/chat/completions` with `stream_options.continuous_usage_stats`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

END = b"0\r\n\r\n"
HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class ScriptedFault(StrEnum):
    """The way in which an answer fails; the values are those of `records.Failure`."""

    HTTP_STATUS = "http_status"
    IN_BAND_ERROR = "in_band_error"
    TRUNCATED = "truncated"
    RESET = "reset"
    TIMEOUT = "timeout"
    BAD_JSON = "bad_json"
    EARLY_STOP = "early_stop"


@dataclass(frozen=True, slots=True)
class Shape:
    """The parameters of an answer's bytes."""

    chat: bool
    prompt_tokens: int
    sizes: tuple[int, ...]
    """Tokens of each chunk."""
    continuous_usage: bool = True
    final_usage: bool = True
    token_ids: bool = False
    model: str = "truth"


@dataclass(frozen=True, slots=True)
class Script:
    """The sends of one answer, in order."""

    opening: bytes
    """HTTP head and, for chat, the role chunk."""
    chunks: tuple[bytes, ...]
    """One for each step; the last one has a finish_reason."""
    closing: bytes
    """Usage, [DONE] and the end of the body."""


def frame(payload: bytes) -> bytes:
    """One SSE event as one HTTP chunk."""
    event = b"data: " + payload + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _usage(shape: Shape, done: int) -> dict[str, int]:
    return {
        "prompt_tokens": shape.prompt_tokens,
        "total_tokens": shape.prompt_tokens + done,
        "completion_tokens": done,
    }


def event(shape: Shape, index: int, done: int, finish: str | None) -> bytes:
    """The JSON of chunk `index`, with `done` tokens sent up to and including it."""
    text = " tok" * shape.sizes[index]
    choice: dict[str, object] = {"index": 0}
    if shape.chat:
        choice |= {"delta": {"content": text}}
    else:
        choice |= {"text": text}
    choice |= {"logprobs": None, "finish_reason": finish, "stop_reason": None}
    if shape.token_ids:
        choice["token_ids"] = [1000 + index] * shape.sizes[index]
    body = _envelope(shape, [choice])
    if shape.continuous_usage:
        body["usage"] = _usage(shape, done)
    return _json(body)


def _envelope(shape: Shape, choices: list[dict[str, object]]) -> dict[str, object]:
    kind, prefix = ("chat.completion.chunk", "chatcmpl") if shape.chat else ("text_completion", "cmpl")
    return {
        "id": f"{prefix}-3f2a9c1e7b6d4f508e1c2d3b4a5f6978",
        "object": kind,
        "created": 1704067200,
        "model": shape.model,
        "choices": choices,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@lru_cache(maxsize=4096)
def write(shape: Shape, *, finish: str = "length") -> Script:
    """The whole answer of a shape. `finish` is the last chunk's finish_reason."""
    opening = HEAD
    if shape.chat:
        role = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        body = _envelope(shape, [role])
        if shape.continuous_usage:
            body["usage"] = _usage(shape, 0)
        opening += frame(_json(body))
    chunks, done = [], 0
    for index, size in enumerate(shape.sizes):
        done += size
        last = index == len(shape.sizes) - 1
        chunks.append(frame(event(shape, index, done, finish if last else None)))
    closing = b""
    if shape.final_usage:
        closing += frame(_json(_envelope(shape, []) | {"usage": _usage(shape, done)}))
    return Script(opening, tuple(chunks), closing + frame(b"[DONE]") + END)


def error_event() -> bytes:
    """The event that vLLM sends after a 200 when its engine dies, then the end of the body."""
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    error = {"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}}
    return frame(_json(error)) + frame(b"[DONE]") + END


def broken_event() -> bytes:
    """An event that is not JSON, then the end of the body."""
    return frame(b'{"id":"cmpl-x","choices":[{"ind') + frame(b"[DONE]") + END


def error_response(status: int, message: str) -> bytes:
    """A whole answer with a status other than 200, in vLLM's words."""
    body = _json(
        {"error": {"message": message, "type": "InternalServerError", "param": None, "code": status}}
    )
    return b"HTTP/1.1 %d Error\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


def plain_response(body: bytes, content_type: bytes = b"application/json") -> bytes:
    """A whole 200 answer."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        content_type,
        len(body),
        body,
    )
