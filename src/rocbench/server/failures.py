"""Known causes of a vLLM server's death, matched in its log. The table is `configs/failures.yaml`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from rocbench.errors import ServerFault
from rocbench.probe import loglines

HEAD_BYTES = 1024**2
TAIL_BYTES = 8 * 1024**2
"""A log is read at both ends only: a server may have logged 1 GB."""

_EXCEPTION = re.compile(r"(?:^|\s)(?:[\w.]*(?:Error|Exception|Interrupt)\b): ?\S")
_LONGEST = 300


class Signature(BaseModel):
    """One known failure: the pattern of its log line, the cause, the remedy, and the source of that knowledge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    regex: re.Pattern[str]
    cause: str
    fix: str
    source: str
    example: str
    """A line of a real log, which a test matches against `regex`."""
    unless: re.Pattern[str] | None = None
    """A line that matches this pattern too has another cause."""
    generic: bool = False
    """True if it only reports that something failed; counts when no other signature matches."""


@dataclass(frozen=True, slots=True)
class Match:
    """The signature of the root cause, and its line."""

    signature: Signature
    line: str


@cache
def signatures() -> tuple[Signature, ...]:
    """The table, in its order."""
    text = (resources.files("rocbench") / "configs" / "failures.yaml").read_text(encoding="utf-8")
    return tuple(Signature(**entry) for entry in yaml.safe_load(text)["signatures"])


def known(code: str) -> Signature | None:
    """The signature of a reason code; None if the code is not one of the table."""
    return next((signature for signature in signatures() if signature.id == code), None)


def root_cause(lines: list[str]) -> Match | None:
    """The first line that matches a specific signature, else the first that matches a generic one. Pure.

    The first, because the worker that fails logs the reason, and the processes above it repeat that something
    failed. Lines below ERROR, advice and quotations are skipped: they name errors that did not happen.
    """
    generic: Match | None = None
    for line, entry in loglines.entries(lines):
        if entry.quiet:
            continue
        for signature in signatures():
            match = signature.regex.search(entry.text)
            if match is None or not loglines.reports(entry, match.start()):
                continue
            if signature.unless and signature.unless.search(entry.text):
                continue
            if not signature.generic:
                return Match(signature, tidy(line))
            generic = generic or Match(signature, tidy(line))
    return generic


def exception_line(lines: list[str]) -> str:
    """The last line that names an exception, else the last line; empty for an empty log. Pure."""
    for line, entry in reversed(list(loglines.entries(lines))):
        match = _EXCEPTION.search(entry.text)
        if match is not None and loglines.reports(entry, match.start()):
            return tidy(line)
    return tidy(lines[-1]) if lines else ""


def tidy(line: str) -> str:
    """The line's text (without process, level, time, file), cut to 300 characters."""
    return loglines.entry(line).text.strip()[:_LONGEST]


def read_log(path: Path | None, start: int = 0) -> list[str]:
    """Lines of a log from an offset: its first MiB and its last 8 MiB. Empty without a log."""
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(start)
            head = file.read(min(HEAD_BYTES, end - start))
            file.seek(max(file.tell(), end - TAIL_BYTES))
            tail = file.read()
    except OSError:
        return []
    joint = b"" if start + len(head) + len(tail) >= end else b"\n"
    text = (head + joint + tail).decode(errors="replace")
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


def server_fault(what: str, log_path: Path | None, log_start: int = 0) -> ServerFault:
    """The error for a server that failed: the event, the known cause and its fix, and the line that shows it."""
    if log_path is None:
        return ServerFault(what, fix="bench did not start this server: read the log where the server runs")
    where, lines = str(log_path), read_log(log_path, log_start)
    match = root_cause(lines)
    if match is None:
        return ServerFault(
            what, where=where, fix="read the log; it shows no known cause", line=exception_line(lines)
        )
    return ServerFault(
        f"{what}: {match.signature.cause}",
        where=where,
        fix=match.signature.fix,
        code=match.signature.id,
        line=match.line,
    )
