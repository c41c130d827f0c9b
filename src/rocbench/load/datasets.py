"""Prompts, conversations and traces from JSONL files. docs/load.md has the shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rocbench.errors import InputError

_OUTPUT_KEYS = ("output_len", "output_length", "output_tokens", "max_tokens", "osl")
_INPUT_KEYS = ("input_len", "input_length", "input_tokens", "isl")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a conversation."""

    messages: tuple[tuple[str, str], ...] = ()
    """(role, content) of everything before and with this turn."""
    ids: tuple[int, ...] | None = None
    """The prompt as token ids, where the file has those."""
    answer: str | None = None
    """The recorded answer; its length is the answer's length asked for."""
    isl: int | None = None
    osl: int | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """One line of a trace."""

    at_ns: int
    """After the trace's first line."""
    turn: Turn


def conversations(path: str, shape: str, *, multi_turn: bool) -> list[tuple[Turn, ...]]:
    """All conversations of a file, each with one turn unless `multi_turn`. Raises InputError with the line."""
    found = []
    for line, row in _rows(path):
        match shape:
            case "sharegpt":
                turns = _sharegpt(row, f"{path}:{line}")
            case "trace":
                turns = (_trace_turn(row, f"{path}:{line}"),)
            case _:
                turns = (_prompt(row, f"{path}:{line}"),)
        if turns:
            found.append(turns if multi_turn else turns[:1])
    if not found:
        raise InputError("the dataset holds no prompt", where=path, fix="see docs/load.md for the shapes")
    return found


def trace(path: str) -> list[Arrival]:
    """The lines of a trace in order of time. Raises InputError with the line.

    `timestamp_s` is in seconds, `timestamp_ms` in milliseconds. A bare `timestamp` is in milliseconds if all
    are whole numbers, as in Mooncake's traces, else in seconds.
    """
    rows = list(_rows(path))
    if not rows:
        raise InputError("the trace is empty", where=path)
    bare = [row["timestamp"] for _, row in rows if isinstance(row.get("timestamp"), (int, float))]
    bare_unit_ns = 1e6 if all(float(at).is_integer() for at in bare) else 1e9
    times = []
    for line, row in rows:
        for name, unit_ns in (("timestamp_s", 1e9), ("timestamp_ms", 1e6), ("timestamp", bare_unit_ns)):
            at = row.get(name)
            if isinstance(at, (int, float)) and not isinstance(at, bool):
                times.append(round(at * unit_ns))
                break
        else:
            raise InputError(
                "this line of the trace has no timestamp",
                where=f"{path}:{line}",
                fix="give each line `timestamp_s` or `timestamp_ms`",
            )
    first = min(times)
    arrivals = [
        Arrival(at - first, _trace_turn(row, f"{path}:{line}"))
        for at, (line, row) in zip(times, rows, strict=True)
    ]
    return sorted(arrivals, key=lambda arrival: arrival.at_ns)


def _rows(path: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with Path(path).open("rb") as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    row = orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    raise InputError(f"not JSON: {error}", where=f"{path}:{line}") from None
                if not isinstance(row, dict):
                    raise InputError("a line must be a JSON object", where=f"{path}:{line}")
                yield line, row
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror}", where=path) from None


def _number(row: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if isinstance(row.get(name), int) and row[name] > 0:
            return int(row[name])
    return None


def _prompt(row: Mapping[str, Any], where: str) -> Turn:
    prompt, osl = row.get("prompt", row.get("prompt_token_ids")), _number(row, _OUTPUT_KEYS)
    answer = row.get("completion", row.get("response"))
    answer = answer if isinstance(answer, str) else None
    if isinstance(prompt, str) and prompt:
        return Turn(messages=(("user", prompt),), answer=answer, osl=osl)
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return Turn(ids=tuple(prompt), answer=answer, isl=len(prompt), osl=osl)
    raise InputError("no `prompt` with text or token ids", where=where)


def _sharegpt(row: Mapping[str, Any], where: str) -> tuple[Turn, ...]:
    spoken = row.get("conversations", row.get("conversation", row.get("messages")))
    if not isinstance(spoken, list):
        raise InputError("no `conversations` or `messages`", where=where)
    turns: list[Turn] = []
    history: list[tuple[str, str]] = []
    for entry in spoken:
        role = _ROLES.get(str(entry.get("from", entry.get("role"))))
        content = entry.get("value", entry.get("content"))
        if role is None or not isinstance(content, str):
            raise InputError("a message needs a known role and text", where=where)
        if role == "assistant" and history and history[-1][0] == "user":
            turns.append(Turn(messages=tuple(history), answer=content))
        history.append((role, content))
    if history and history[-1][0] == "user":
        turns.append(Turn(messages=tuple(history)))
    return tuple(turns)


def _trace_turn(row: Mapping[str, Any], where: str) -> Turn:
    if "prompt" in row or "prompt_token_ids" in row:
        return _prompt(row, where)
    isl, osl = _number(row, _INPUT_KEYS), _number(row, _OUTPUT_KEYS)
    if isl is None or osl is None:
        raise InputError(
            "no lengths", where=where, fix="give each line `input_length` and `output_length`, or a `prompt`"
        )
    return Turn(isl=isl, osl=osl)
