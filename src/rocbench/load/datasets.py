"""Prompts, conversations and traces from JSON files. docs/load.md describes the formats."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from rocbench.errors import InputError
from rocbench.load import entries, fields
from rocbench.load.fields import INPUT_KEYS, OUTPUT_KEYS, shown

NoteTaker = Callable[[str], None]
Unit = Literal["s", "ms"]
Item = TypeVar("Item")

_LOG = logging.getLogger(__name__)
"""Logs to stderr for callers that take no notes."""

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
}
"""Roles by their names in OpenAI's and ShareGPT's formats; some ShareGPT files name the answering product."""
_SPOKEN = ("conversations", "conversation", "messages")
_PROMPTS = ("prompt", "prompt_token_ids")
_ANSWERS = ("completion", "response")
_STAMPS = ("timestamp_s", "timestamp_ms", "timestamp")
_SESSIONS = ("session_id", "delay", "delay_ms", "parent_chat_id")
_NS = {"s": 10**9, "ms": 10**6}
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds"}
_LONGEST_NS = 10 * 366 * 86400 * 10**9
"""Maximum length of a trace, ten years: its times must fit 64 bits."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a conversation."""

    messages: tuple[tuple[str, str], ...] = ()
    """(role, content) of all messages up to this turn, this turn included."""
    ids: tuple[int, ...] | None = None
    """The prompt as token ids, if the file has them."""
    answer: str | None = None
    """The recorded answer; its length is the requested answer length."""
    isl: int | None = None
    osl: int | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """One line of a trace."""

    at_ns: int
    """Time after the first line of the trace."""
    turn: Turn


@dataclass(slots=True)
class _Shares:
    """Shared prompt tokens of the requests, by their hash_ids."""

    tokens: int = 0
    shared: float = 0.0
    seen: set[object] = field(default_factory=set)

    def add(self, ids: Sequence[object], isl: int) -> None:
        """Count the leading blocks that an earlier request had."""
        first_new = next((place for place, block in enumerate(ids) if block not in self.seen), len(ids))
        self.tokens += isl
        self.shared += isl * first_new / len(ids) if ids else 0.0
        self.seen.update(ids)

    @property
    def percent(self) -> float:
        """Shared tokens, as a percentage of all prompt tokens."""
        return 100 * self.shared / self.tokens


@dataclass(slots=True)
class Reader:
    """Settings for reading a file, and counts for its notes."""

    path: str
    skip_bad: bool = False
    """Skip unusable entries, and report their number."""
    vocab_size: int | None = None
    """Token ids from this value on are refused."""
    taken: int = 0
    left_out: int = 0
    first_left_out: str = ""
    without_length: int = 0
    not_read: Counter[str] = field(default_factory=Counter)
    """Keys that hold unused values, each with the reason."""
    shares: _Shares = field(default_factory=_Shares)

    def each(self, use: Callable[[Mapping[str, Any], str], Item]) -> Iterator[Item]:
        """Give the result of `use` for each entry. Raises InputError with the place, unless `skip_bad`."""
        for where, text in entries.read_entries(self.path):
            try:
                item = use(entries.parsed(text, where), where)
            except InputError as error:
                if not self.skip_bad:
                    fix = error.fix or "correct it, or skip such entries with `skip_bad: true`"
                    raise InputError(error.what, where=error.where, fix=fix) from None
                self.left_out += 1
                self.first_left_out = self.first_left_out or f"{error.where}: {error.what}"
                continue
            self.taken += 1
            yield item
        if not self.taken:
            raise InputError(
                f"none of the {self.left_out} entries is usable; the first: {self.first_left_out}",
                where=self.path,
            )

    def notes(self) -> Iterator[str]:
        """Notes for the user about the entries."""
        entries_ = self.taken + self.left_out
        if self.left_out:
            yield f"{self.path}: {self.left_out} of {entries_} entries are skipped; the first: {self.first_left_out}"
        if self.without_length:
            yield (
                f"{self.path}: {self.without_length} requests have no output length: "
                "they use the `osl` of the workload"
            )
        for what, count in self.not_read.items():
            yield f"{self.path}: {count} of {entries_} entries: {what}"
        if self.shares.tokens:
            yield (
                f"{self.path}: hash_ids are not replayed: the prompts that bench sends share no prefix. In the trace, "
                f"{self.shares.percent:.3g} % of the prompt tokens belong to shared prefixes (if no "
                "prefix is evicted from the cache)"
            )


def conversations(
    path: str,
    shape: str,
    *,
    multi_turn: bool,
    skip_bad: bool = False,
    vocab_size: int | None = None,
    take_note: NoteTaker = _LOG.warning,
) -> list[tuple[Turn, ...]]:
    """All conversations of a file, each with one turn unless `multi_turn`.

    Args:
        path: the file.
        shape: prompt, sharegpt or trace.
        multi_turn: keep the turns after the first.
        skip_bad: skip unusable entries; else InputError is raised with the line.
        vocab_size: token ids must lie below it.
        tell: takes each line for the user before the load.
    """
    reader = Reader(path, skip_bad, vocab_size)

    def talk(row: Mapping[str, Any], where: str) -> tuple[Turn, ...]:
        match shape:
            case "sharegpt":
                turns = _sharegpt(reader, row, where)
            case "trace":
                turns = (_trace_turn(reader, row, where),)
                if (ids := _hash_ids(row, where)) is not None:
                    reader.shares.add(ids, turns[0].isl or 1)
                if any(name in row for name in _STAMPS):
                    reader.not_read[
                        "timestamps are not replayed: load.shape decides when requests are sent"
                    ] += 1
            case _:
                turns = (_prompt(reader, row, where),)
        turns = turns if multi_turn else turns[:1]
        reader.without_length += sum(turn.osl is None and not turn.answer for turn in turns)
        return turns

    conversations_ = [turns for turns in reader.each(talk) if turns]
    if not conversations_:
        raise InputError("holds no prompt: no message has the role user", where=path)
    for note in reader.notes():
        take_note(note)
    return conversations_


def trace(
    path: str,
    unit: Unit | None = None,
    *,
    skip_bad: bool = False,
    vocab_size: int | None = None,
    guess: bool = True,
    speed: float = 1.0,
    take_note: NoteTaker = _LOG.warning,
) -> list[Arrival]:
    """The lines of a trace in order of time.

    `timestamp_s` is in seconds, `timestamp_ms` in milliseconds. A bare `timestamp` is in `unit`; without
    `unit`, whole numbers with hash_ids, as in Mooncake's traces, are milliseconds.

    Args:
        path: the file.
        unit: of a bare `timestamp`.
        skip_bad: skip unusable lines; else InputError is raised with the line.
        vocab_size: token ids must lie below it.
        guess: if nothing states the unit, take whole numbers for milliseconds and fractions for seconds; else
            InputError is raised.
        speed: divisor of the replay's length in the notes.
        tell: takes each line for the user before the load: file, unit and length of the replay, and more.
    """
    reader = Reader(path, skip_bad, vocab_size)

    def line(row: Mapping[str, Any], where: str) -> _Line:
        name, at = _stamp(row, where)
        return _Line(where, name, at, _trace_turn(reader, row, where), _hash_ids(row, where))

    lines = list(reader.each(line))
    unit, why = _unit(path, lines, unit, guess=guess)
    times = [round(line.at * _NS[_unit_of(line.name, unit)]) for line in lines]
    first = min(times)
    for line_, at in zip(lines, times, strict=True):
        if at - first > _LONGEST_NS:
            raise InputError(
                "the timestamp of this line is more than ten years after the earliest timestamp",
                where=line_.where,
            )
    ordered = sorted(zip(times, lines, strict=True), key=lambda pair: pair[0])
    length = _seconds((ordered[-1][0] - first) / 1e9 / speed)
    take_note(f"{path}: {len(lines)} requests are replayed over {length}; timestamps are in {why}")
    for _, line_ in ordered:
        if line_.hash_ids is not None:
            reader.shares.add(line_.hash_ids, line_.turn.isl or 1)
    reader.without_length = sum(line.turn.osl is None and not line.turn.answer for line in lines)
    for note in reader.notes():
        take_note(note)
    return [Arrival(at - first, line_.turn) for at, line_ in ordered]


@dataclass(frozen=True, slots=True)
class _Line:
    where: str
    name: str
    at: int | float
    turn: Turn
    hash_ids: tuple[object, ...] | None


def _stamp(row: Mapping[str, Any], where: str) -> tuple[str, int | float]:
    name = next((name for name in _STAMPS if name in row), None)
    if name is None:
        raise InputError(
            "no timestamp", where=where, fix="add a number `timestamp_s` or `timestamp_ms` to each line"
        )
    at = fields.number(row[name])
    if at is None or abs(at) > 2**63:
        raise InputError(f"`{name}` must be a time, not {shown(row[name])}", where=where)
    return name, at


def _unit_of(name: str, bare: Unit) -> Unit:
    return {"timestamp_s": "s", "timestamp_ms": "ms"}.get(name, bare)  # type: ignore[return-value]


def _unit(path: str, lines: Sequence[_Line], stated: Unit | None, *, guess: bool) -> tuple[Unit, str]:
    """The unit of a bare `timestamp`, and the source of the lines' units."""
    names = {line.name for line in lines} - {"timestamp"}
    bare = [line for line in lines if line.name == "timestamp"]
    for name in sorted(names):
        if stated is not None and _unit_of(name, stated) != stated:
            raise InputError(f"the key `{name}` contradicts `unit: {stated}`", where=path)
    if not bare:
        named = " and ".join(_UNIT_NAMES[_unit_of(name, "s")] for name in sorted(names))
        return "s", f"{named}, according to their keys"
    if stated is not None:
        return stated, f"{_UNIT_NAMES[stated]}, as set by `unit`"
    whole = all(float(line.at).is_integer() for line in bare)
    if whole and all(line.hash_ids is not None for line in bare):
        return "ms", "milliseconds, because they are whole numbers next to hash_ids, as in Mooncake's traces"
    times = [line.at for line in bare]
    spread = max(times) - min(times)
    both = f"{_seconds(spread / 1e3)} if timestamps are in milliseconds, {_seconds(spread)} if they are in seconds"
    if not guess:
        raise InputError(
            f"`timestamp` has no unit: the replay lasts {both}",
            where=path,
            fix="set `unit: ms` or `unit: s` next to the trace's path, or rename the key to timestamp_ms or timestamp_s",
        )
    taken: Unit = "ms" if whole else "s"
    return taken, f"{_UNIT_NAMES[taken]}. This unit is a guess (the replay lasts {both}): set `unit`"


def _seconds(value: float) -> str:
    return f"{value:,.6g} s" if value < 1e6 else f"{value / 86400:,.0f} days"


def _hash_ids(row: Mapping[str, Any], where: str) -> tuple[object, ...] | None:
    ids = row.get("hash_ids")
    if ids is None:
        return None
    if not isinstance(ids, list) or any(isinstance(block, dict | list) for block in ids):
        raise InputError(f"`hash_ids` must be a list of block ids, not {shown(ids)}", where=where)
    return tuple(ids)


def _output_length(reader: Reader, row: Mapping[str, Any], where: str) -> int | None:
    length = fields.length(row, OUTPUT_KEYS, where)
    for name, other in fields.disagree(row, OUTPUT_KEYS):
        reader.not_read[f"`{other}` is ignored, because `{name}` gives a different length"] += 1
    for name in fields.others(row, (*OUTPUT_KEYS, *INPUT_KEYS)):
        reader.not_read[f"`{name}` is ignored: output lengths are read from {', '.join(OUTPUT_KEYS)}"] += 1
    return length


def _prompt(reader: Reader, row: Mapping[str, Any], where: str) -> Turn:
    osl, answer = _output_length(reader, row, where), _answer(row, where)
    for unread in (key for key in INPUT_KEYS if key in row):
        reader.not_read[f"`{unread}` is ignored: the prompt is sent unchanged"] += 1
    present = [name for name in _PROMPTS if name in row]
    name = next((name for name in present if row[name] is not None), present[0] if present else None)
    if name is None:
        other = next((key for key in _SPOKEN if key in row), None)
        fix = f"set `shape: sharegpt` to read `{other}`" if other else ""
        raise InputError("no `prompt` with text or token ids", where=where, fix=fix)
    prompt = row[name]
    if isinstance(prompt, str) and prompt.strip():
        return Turn(messages=(("user", prompt),), answer=answer, osl=osl)
    if isinstance(prompt, list) and prompt:
        return Turn(ids=_ids(prompt, name, where, reader.vocab_size), answer=answer, isl=len(prompt), osl=osl)
    what = "an empty value" if prompt in ("", []) or isinstance(prompt, str) else shown(prompt)
    raise InputError(f"`{name}` must be text or token ids, not {what}", where=where)


def _ids(prompt: list[object], name: str, where: str, vocab_size: int | None) -> tuple[int, ...]:
    """Token ids. Raises InputError for other values: a server refuses them, or reads them as text."""
    ids = []
    for place, value in enumerate(prompt):
        token = None if isinstance(value, str) else fields.whole(value)
        if token is None or not 0 <= token < (vocab_size or 2**31):
            beyond = (
                f" (the vocabulary has {vocab_size:,} tokens)" if vocab_size and token is not None else ""
            )
            raise InputError(f"`{name}[{place}]` must be a token id, not {shown(value)}{beyond}", where=where)
        ids.append(token)
    return tuple(ids)


def _answer(row: Mapping[str, Any], where: str) -> str | None:
    name = next((name for name in _ANSWERS if row.get(name) is not None), None)
    if name is None:
        return None
    if not isinstance(row[name], str):
        raise InputError(
            f"`{name}` must be the text of a recorded answer, not {shown(row[name])}", where=where
        )
    return row[name] or None


def _sharegpt(reader: Reader, row: Mapping[str, Any], where: str) -> tuple[Turn, ...]:
    name = next((name for name in _SPOKEN if name in row), None)
    if name is None or not isinstance(row[name], list):
        fix = "set `shape: prompt` to read `prompt`" if "prompt" in row and name is None else ""
        what = "no `conversations` or `messages`" if name is None else f"`{name}` is not a list of messages"
        raise InputError(what, where=where, fix=fix)
    for key in fields.others(row, ()):
        reader.not_read[f"`{key}` is ignored: output lengths come from the answers in the conversation"] += 1
    turns: list[Turn] = []
    history: list[tuple[str, str]] = []
    for place, entry in enumerate(row[name], start=1):
        role, content = _message(entry, f"message {place}", where)
        if role == "assistant" and history and history[-1][0] == "user":
            turns.append(Turn(messages=tuple(history), answer=content or None))
        history.append((role, content))
    if history and history[-1][0] == "user":
        turns.append(Turn(messages=tuple(history)))
    if not turns:
        reader.not_read["no user message; skipped"] += 1
    return tuple(turns)


def _message(entry: object, which: str, where: str) -> tuple[str, str]:
    """(role, content) of one message."""
    if not isinstance(entry, dict):
        raise InputError(f"{which} has no role: {shown(entry)}", where=where)
    name = entry.get("from", entry.get("role"))
    content = entry.get("value", entry.get("content"))
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise InputError(f"{which} has an unknown role: {shown(name)}", where=where)
    if not isinstance(content, str):
        raise InputError(f"the content of {which} must be text, not {shown(content)}", where=where)
    if role == "user" and not content.strip():
        raise InputError(f"{which} is empty", where=where)
    return role, content


def _trace_turn(reader: Reader, row: Mapping[str, Any], where: str) -> Turn:
    for name in (name for name in _SESSIONS if row.get(name) is not None):
        reader.not_read[f"`{name}` is ignored: each line is a separate request"] += 1
    if any(name in row for name in _PROMPTS):
        return _prompt(reader, row, where)
    isl, osl = fields.length(row, INPUT_KEYS, where), _output_length(reader, row, where)
    if isl is None or osl is None:
        raise InputError(
            "no lengths", where=where, fix="give each line `input_length` and `output_length`, or a `prompt`"
        )
    for name, other in fields.disagree(row, INPUT_KEYS):
        reader.not_read[f"`{other}` is ignored, because `{name}` gives a different length"] += 1
    return Turn(isl=isl, osl=osl)
