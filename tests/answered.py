"""Answers for tests, fed event by event: the first 30 ms after the request, then one each 6 ms."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rocbench.load.answer import Answer

MS = 1_000_000
FIRST_MS, GAP_MS = 30, 6


def text(value: str = " tok", usage: Any = None, finish: Any = None, **choice: Any) -> dict[str, Any]:
    """An event of /v1/completions; `usage` is its completion tokens, or the whole object."""
    event: dict[str, Any] = {"choices": [{"index": 0, "text": value, "finish_reason": finish, **choice}]}
    return event if usage is None else event | {"usage": whole_usage(usage)}


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    """An event of chat."""
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def total(tokens: Any) -> dict[str, Any]:
    """The event that sums up."""
    return {"choices": [], "usage": whole_usage(tokens)}


def whole_usage(tokens: Any) -> Any:
    """A usage object around completion tokens."""
    return tokens if isinstance(tokens, dict) else {"prompt_tokens": 7, "completion_tokens": tokens}


def answered(events: Iterable[dict[str, Any]], *, done: bool = True) -> Answer:
    """The answer that holds these events, one a piece; an event that sums up comes with the one before it."""
    answer, at = Answer(), FIRST_MS - GAP_MS
    answer.status = 200
    for event in events:
        at += GAP_MS if event.get("choices") != [] else 0
        answer.take([f"data: {json.dumps(event)}\n\n".encode()], [at * MS])
    if done:
        answer.take([b"data: [DONE]\n\n"], [at * MS])
    answer.last_ns = at * MS
    answer.end()
    return answer


def times_ms(answer: Answer) -> list[float]:
    """When its token events came."""
    return [stamp / MS for stamp in answer.stamps]
