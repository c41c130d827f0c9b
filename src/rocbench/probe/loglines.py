"""Parsing of the lines of a server's log: severity, text, and whether a phrase in them reports an event. Pure.

Servers log in the format of vLLM, Python, uvicorn or glog, as JSON or as logfmt; drivers write in any format.
A phrase in a line below ERROR, in advice or in quotation marks is not an event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """Severity of a line, as stated by its writer."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Entry:
    """A parsed line."""

    level: Severity | None
    """None without a level: lines of a driver, a shell or an uncaught exception."""
    text: str
    """Text without process, time, level and file; for a JSON line its message and exception."""
    writer: str = ""
    """The process named in the line."""

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
    # written by hand: warning: text. `error:` stays in the text, because `_RAISED` matches it
    re.compile(r"^(trace|debug|info|notice|warn|warning):\s*", re.IGNORECASE),
    # [WARNING|file.py:12] 2026-01-20 10:00:00 >> text, [INFO] text, <info> text
    re.compile(rf"^[\[<]({_LEVEL})(?:\|[^\]]*)?[\]>]:?\s*(?:{_STAMP})?\s*(?:>>)?\s?", re.IGNORECASE),
    # 2026-01-20 10:00:00,123 - name - WARNING - text, 2026-01-20 10:00:00 WARNING text
    re.compile(rf"^{_STAMP}[\s|:-]*(?:\[?[\w./:<>-]+\]?[\s|:-]+){{0,4}}?[\[(<]?({_LEVEL})\b[\])>]?[\s|:-]*"),
    # NCCL and RCCL: node:1:2 [0] NCCL INFO text
    re.compile(r"^.{0,80}?\b[NR]CCL (INFO|TRACE)\b\s*"),
    # ERROR text
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
    """Each line with its entry, without the code lines of tracebacks and warnings."""
    code_follows: dict[str, bool] = {}
    for line in lines:
        parsed = entry(line)
        is_frame = _FRAME.match(parsed.text) is not None
        is_code = code_follows.get(parsed.writer, False) and parsed.text[:1] in {" ", "\t"}
        code_follows[parsed.writer] = is_frame or _PYTHON_WARNING.match(parsed.text) is not None
        if not is_code and not is_frame:
            yield line, parsed


_FRAME = re.compile(r'^\s*File "[^"]*", line \d+')


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
    return (Severity.WARNING if _PYTHON_WARNING.match(rest) else None), rest


def _structured(rest: str) -> tuple[Severity | None, str] | None:
    """Level and text of a JSON or logfmt line; None if it is neither."""
    stripped = rest.strip()
    if stripped.startswith("{"):
        try:
            record = json.loads(stripped)
        except (ValueError, RecursionError):  # long lines are cut
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
    if isinstance(log, str):  # Docker's JSON around a line
        inner = entry(log.rstrip("\n"))
        return inner.level, inner.text
    inside = record.get("record")
    flat = {str(key).lower(): value for key, value in record.items()}
    if isinstance(inside, Mapping):  # loguru
        flat |= {str(key).lower(): value for key, value in inside.items()}
    level = next((flat[key] for key in _LEVEL_KEYS if key in flat), None)
    texts = [flat[key] for key in _TEXT_KEYS if isinstance(flat.get(key), str)][:1]
    texts += [_exception_text(flat[key]) for key in _RAISED_KEYS if flat.get(key)]
    return _level(level), "\n".join(texts) or json.dumps(record)


def _exception_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ": ".join(str(value[key]) for key in ("type", "value", "message", "stack") if key in value)
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _level(value: Any) -> Severity | None:
    if isinstance(value, Mapping):
        value = value.get("name")
    return _NAMES.get(value.strip().lower()) if isinstance(value, str) else None


def _unquoted(value: str) -> str:
    return value[1:-1].replace('\\"', '"') if len(value) > 1 and value[0] == value[-1] == '"' else value


# --- reports of events, as opposed to mentions

_RAISED = re.compile(r"^\s*(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt|Exit)\b(?::|\s*$)|^\s*\w+: error: ")
"""Last line of a traceback, or a command's error about its arguments."""
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


def reports(parsed: Entry, start: int) -> bool:
    """True if the phrase at offset `start` reports an event, by the line's level and form."""
    if parsed.quiet:
        return False
    sentence = _SENTENCE.split(parsed.text[:start])[-1]
    if _HINT.match(parsed.text) or _HINT.match(sentence) or _PURPOSE.search(sentence):
        return False
    if parsed.level is not None or _RAISED.match(parsed.text):
        return True
    return not _MAYBE.search(sentence) and not _quoted(parsed.text[:start])


def _quoted(before: str) -> bool:
    """True if quotation marks are open at the end of a text."""
    if before.count('"') % 2 or before.count("`") % 2:
        return True
    return len(_OPENS.findall(before)) > len(_CLOSES.findall(before))
