"""Follows a server's log from an offset, in bounded pieces, and notes what a measured window must know."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

PIECE_BYTES = 4 * 1024**2
"""Most that is read at once. A log that grows faster than it is read is skipped forward, and that is counted."""

_LINE_END = re.compile(rb"[\r\n]+")
_LONGEST_LINE = 4096


@dataclass(slots=True)
class LogFollower:
    """Gives new complete lines of a file that another process writes. Progress bars end lines with a CR."""

    path: Path
    offset: int = 0
    skipped_bytes: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def lines(self) -> list[str]:
        """Complete lines since the last call, at most `PIECE_BYTES` of them; empty when there is no file."""
        try:
            size = self.path.stat().st_size
            if size - self.offset > 2 * PIECE_BYTES:
                self.skipped_bytes += size - PIECE_BYTES - self.offset
                self.offset, self._rest = size - PIECE_BYTES, b""
            with self.path.open("rb") as file:
                file.seek(self.offset)
                piece = file.read(PIECE_BYTES)
        except OSError:
            return []
        self.offset += len(piece)
        parts = _LINE_END.split(self._rest + piece)
        self._rest = parts.pop()[-_LONGEST_LINE:]
        return [part[:_LONGEST_LINE].decode(errors="replace") for part in parts if part]


_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    # ROCm/aiter aiter/jit/core.py; vLLM utils/jit_monitor.py; Triton's own autotuner
    ("jit", re.compile(r"(?:start|finish) build \[|JIT compilation during inference|Triton autotuning for")),
    (
        "compile",
        re.compile(
            r"torch\.compile (?:takes|took)|Compiling a graph|Dynamo bytecode transform|Capturing CUDA graph"
        ),
    ),
    ("preemption", re.compile(r"\bpreempted\b|[Pp]reemption")),
    ("error", re.compile(r"\bERROR\b|^Traceback|\bCRITICAL\b|Memory access fault|\bFatal\b")),
)
_KEPT_LINES = 200
_POLL_S = 0.25


def kind_of(line: str) -> str | None:
    """`jit`, `compile`, `preemption` or `error` for a line that a measured window must know of. Pure."""
    for kind, pattern in _KINDS:
        if pattern.search(line):
            return kind
    return None


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A line that matters, written between two looks at the log (ns of CLOCK_REALTIME)."""

    after_ns: int
    before_ns: int
    kind: str
    line: str


@dataclass(slots=True)
class LogWatch:
    """Looks at a server's log four times a second while it is open, and keeps the lines that matter.

    AITER's lines carry no time, so a line's time is that of the look. At most 200 lines of a kind are kept;
    all are counted. Without a log (attached server) nothing is seen, and `view` says None.
    """

    path: Path | None
    events: list[LogEvent] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    skipped_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        if self.path is not None:
            size = self.path.stat().st_size if self.path.exists() else 0
            follower = LogFollower(self.path, size)
            self._thread = threading.Thread(target=self._run, args=(follower,), daemon=True, name="log")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10.0)

    def view(self, start_ns: int, end_ns: int) -> dict[str, int | None]:
        """Lines of each kind inside the window, as columns of `cells`; None where there is no log.

        A line that may have been written inside counts: a build that is noted at the edge lasted seconds.
        """
        kinds = {"jit_lines": "jit", "compile_lines": "compile", "error_lines": "error"}
        if self.path is None:
            return dict.fromkeys(kinds)
        inside = [event for event in self.events if event.before_ns >= start_ns and event.after_ns < end_ns]
        return {column: sum(event.kind == kind for event in inside) for column, kind in kinds.items()}

    def _run(self, follower: LogFollower) -> None:
        last_ns = time.time_ns()
        while True:
            ended = self._stop.wait(_POLL_S)
            now_ns = time.time_ns()
            for line in follower.lines():
                self._note(line, last_ns, now_ns)
            self.skipped_bytes = follower.skipped_bytes
            last_ns = now_ns
            if ended:
                return

    def _note(self, line: str, after_ns: int, before_ns: int) -> None:
        kind = kind_of(line)
        if kind is None:
            return
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= _KEPT_LINES:
            self.events.append(LogEvent(after_ns, before_ns, kind, line[:500]))
