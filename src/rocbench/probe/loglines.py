"""Parsing of a line of a server's log: its severity, its text, and whether a text in it reports an event.

Servers log in vLLM's form, Python's, uvicorn's, glog's, as JSON or as logfmt; drivers write in any form.
A text in a line below ERROR, in advice or in quotation marks is not an event. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """Severity that the writer stated."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Entry:
    """A parsed line."""

    level: Severity | None
    """None if the line has no level: lines of a driver, a shell or an uncaught exception."""
    text: str
    """Text without process, time, level and file; of a JSON line its message and its exception."""
    writer: str = ""
    """The writing process, as named in the line."""

    @property
    def quiet(self) -> bool:
        """True if the writer's level is below ERROR."""
        return self.level is not None and self.level < Severity.ERROR


_NAMES = {
    "trace": Severity.DEBUG,
    "debug": Severity.DEBUG,
    "info": Severity.INFO,
    "notice": Severity.INFO,
    "success": Severity.INFO,
    "warn": Severity.WARNING,
    "warning": Severity.WARNING,
    "err": Severity.ERROR,
    "error": Severity.ERROR,
    "fatal": Severity.ERROR,
    "critical": Severity.ERROR,
    "panic": Severity.ERROR,
    "alert": Severity.ERROR,
}
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|SUCCESS|WARN|WARNING|ERR|ERROR|FATAL|CRITICAL|PANIC)"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_STAMP = r"\[?(?:\d{4}[-/])?\d{1,2}[-/]\d{1,2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d+)?(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?\]?"
_WRITER = re.compile(r"^\s*((?:\([^()]*\bpid=\d+[^()]*\)\s*|\[rank\d+\]:\s?|\[\d+,\d+\]<\w+>:?\s?)+)")
_COLLECTOR = re.compile(
    rf"^{_STAMP} (?:stdout|stderr) [FP] |^[\w.-]+\s*\| (?=\S)"
    r"|^[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \S+ [\w./-]+(?:\[\d+\])?: "
)
"""Prefix of a line from a container runtime, compose or the journal."""
_HEADS = (
    # vLLM: INFO 01-20 10:00:00 [file.py:12] text; the indentation after the file belongs to a traceback
    re.compile(rf"^({_LEVEL})\s+{_STAMP}(?:\s+\[[^\]]*\])? ?"),
    # uvicorn and logging's own: INFO:     text, WARNING:root:text
    re.compile(rf"^({_LEVEL}):(?:[\w.]+:)?\s*"),
    # what tools write by hand: warning: text; an error so called keeps its word, which tells a command's own
    re.compile(r"^(trace|debug|info|notice|warn|warning):\s*", re.IGNORECASE),
    # [WARNING|file.py:12] 2026-01-20 10:00:00 >> text, [INFO] text, <info> text
    re.compile(rf"^[\[<]({_LEVEL})(?:\|[^\]]*)?[\]>]:?\s*(?:{_STAMP})?\s*(?:>>)?\s?", re.IGNORECASE),
    # 2026-01-20 10:00:00,123 - name - WARNING - text; the time may stand alone before the level
    re.compile(rf"^{_STAMP}[\s|:-]*(?:\[?[\w./:<>-]+\]?[\s|:-]+){{0,4}}?[\[(<]?({_LEVEL})\b[\])>]?[\s|:-]*"),
    # NCCL and RCCL: node:1:2 [0] NCCL INFO text
    re.compile(r"^.{0,80}?\b[NR]CCL (INFO|TRACE)\b\s*"),
    # a bare word in capitals: ERROR text
    re.compile(rf"^({_LEVEL})\s+"),
)
_GLOG = re.compile(r"^\[?([IWEF])\d{4} \d{2}:\d{2}:\d{2}(?:\.\d+)?\s[^\]]*\]\s?")
_GLOG_LEVELS = {"I": Severity.INFO, "W": Severity.WARNING, "E": Severity.ERROR, "F": Severity.ERROR}
_PYTHON_WARNING = re.compile(r"^\S+:\d+: (?:[\w.]*Warning|FutureWarning): ")
_LOGFMT = re.compile(r'(?:^|\s)([A-Za-z_][\w.]*)=("(?:[^"\\]|\\.)*"|[^\s"]*)')
_LEVEL_KEYS = ("level", "levelname", "severity", "lvl", "log.level", "loglevel", "level_name")
_TEXT_KEYS = ("message", "msg", "event", "text", "body")
_RAISED_KEYS = ("exc_info", "exception", "exc_text", "error", "err", "stack", "stack_trace", "traceback")
_JSON_LEVEL = re.compile(r'"(?:level|levelname|severity|lvl)"\s*:\s*"(\w+)"', re.IGNORECASE)


def entries(lines: Iterable[str]) -> Iterator[tuple[str, Entry]]:
    """Each line with its entry; code lines of a traceback or a warning are skipped."""
    code: dict[str, bool] = {}
    for line in lines:
        found = entry(line)
        shown = code.get(found.writer, False)
        code[found.writer] = bool(_FRAME.match(found.text)) or _is_warning(found.text)
        if not (shown and found.text[:1] in {" ", "\t"}) and not _FRAME.match(found.text):
            yield line, found


_FRAME = re.compile(r'^\s*File "[^"]*", line \d+')


def _is_warning(text: str) -> bool:
    return bool(_PYTHON_WARNING.match(text))


def entry(line: str) -> Entry:
    """Parse one line."""
    rest = _COLLECTOR.sub("", _ANSI.sub("", line), count=1)
    match = _WRITER.match(rest)
    writer = "" if match is None else match[1].strip()
    rest = rest if match is None else rest[match.end() :]
    level, text = _structured(rest) or _headed(rest)
    return Entry(level, text, writer)


def _headed(rest: str) -> tuple[Severity | None, str]:
    """The level before the text, and the text."""
    match = _GLOG.match(rest)
    if match is not None:
        return _GLOG_LEVELS[match[1]], rest[match.end() :]
    for head in _HEADS:
        match = head.match(rest)
        if match is not None:
            return _NAMES[match[1].lower()], rest[match.end() :]
    return (Severity.WARNING if _is_warning(rest) else None), rest


def _structured(rest: str) -> tuple[Severity | None, str] | None:
    """Level and text of a JSON or logfmt line; None if it is neither."""
    stripped = rest.strip()
    if stripped.startswith("{"):
        try:
            record = json.loads(stripped)
        except (ValueError, RecursionError):  # cut short, as long lines are
            match = _JSON_LEVEL.search(stripped)
            return None if match is None else (_NAMES.get(match[1].lower()), stripped)
        return _of_record(record)
    pairs = {name.lower(): value for name, value in _LOGFMT.findall(rest)}
    if not any(key in pairs for key in _LEVEL_KEYS):
        return None
    level = next((_level(_unquoted(pairs[key])) for key in _LEVEL_KEYS if key in pairs), None)
    if level is None:
        return None
    texts = [_unquoted(pairs[key]) for key in (*_TEXT_KEYS, *_RAISED_KEYS) if key in pairs]
    return level, " ".join(texts) or rest


def _of_record(record: Any) -> tuple[Severity | None, str] | None:
    if not isinstance(record, Mapping):
        return None
    log = record.get("log")
    if isinstance(log, str):  # Docker's own form around a line
        inner = entry(log.rstrip("\n"))
        return inner.level, inner.text
    inside = record.get("record")
    flat = {str(key).lower(): value for key, value in record.items()}
    if isinstance(inside, Mapping):  # loguru
        flat |= {str(key).lower(): value for key, value in inside.items()}
    told = next((flat[key] for key in _LEVEL_KEYS if key in flat), None)
    texts = [flat[key] for key in _TEXT_KEYS if isinstance(flat.get(key), str)][:1]
    texts += [_words(flat[key]) for key in _RAISED_KEYS if flat.get(key)]
    return _level(told), "\n".join(texts) or json.dumps(record)


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ": ".join(str(value[key]) for key in ("type", "value", "message", "stack") if key in value)
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _level(told: Any) -> Severity | None:
    if isinstance(told, Mapping):
        told = told.get("name")
    return _NAMES.get(told.strip().lower()) if isinstance(told, str) else None


def _unquoted(value: str) -> str:
    return value[1:-1].replace('\\"', '"') if len(value) > 1 and value[0] == value[-1] == '"' else value


# --- reports of events, as opposed to mentions

_RAISED = re.compile(r"^\s*(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt|Exit)\b(?::|\s*$)|^\s*\w+: error: ")
"""Last line of an exception's traceback, or a command's refusal of its arguments."""
_HINT = re.compile(
    r"^\W*(?:hints?|tips?|notes?|advice|suggestions?|remember|recommendation)\b\s*[:!-]", re.IGNORECASE
)
_PURPOSE = re.compile(
    r"\b(?:to|help(?:s)?|will|can|should) (?:avoid|prevent|fix|work around|get rid of|reduce|recover from|"
    r"protect against)\b|\b(?:avoid(?:s|ing)?|prevent(?:s|ing)?)\b"
    r"|\b(?:errors?|messages?|faults?|failures?|exceptions?|problems?|lines?) (?:like|such as|as)\b|\be\.g\.|\bfor example\b"
    r"|\b(?:if|whenever|in case) (?:you|it|there|this|that|they|of|the|vllm|an?)\b",
    re.IGNORECASE,
)
_MAYBE = re.compile(
    r"\b(?:may|might|can|could|would)\b(?! ?not\b)|\b(?:if|instead of|unless|without|against)\b\W*$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?;]\s|\n")
_OPENS, _CLOSES = re.compile(r"(?:^|[\s(\[{=:,])'"), re.compile(r"'(?=$|[\s)\]},.;:!?])")


def reports(found: Entry, start: int) -> bool:
    """Return whether the text at this place reports an event, by the line's level and form."""
    if found.quiet:
        return False
    sentence = _SENTENCE.split(found.text[:start])[-1]
    if _HINT.match(found.text) or _HINT.match(sentence) or _PURPOSE.search(sentence):
        return False
    if found.level is not None or _RAISED.match(found.text):
        return True
    return not _MAYBE.search(sentence) and not _quoted(found.text[:start])


def _quoted(before: str) -> bool:
    """Return whether quotation marks are open at the end of a text."""
    if before.count('"') % 2 or before.count("`") % 2:
        return True
    return len(_OPENS.findall(before)) > len(_CLOSES.findall(before))
