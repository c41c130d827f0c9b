"""Follows a server's log from an offset, in bounded pieces, and counts the lines that affect a measured window."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from rocbench.probe import loglines
from rocbench.probe.monitor import Monitor

PIECE_BYTES = 4 * 1024**2
"""Maximum bytes of one read. If a log grows faster, the follower skips forward and counts the skipped bytes."""

_LINE_END = re.compile(rb"[\r\n]+")
_LONGEST_LINE = 4096


@dataclass(slots=True)
class LogFollower:
    """Reads new complete lines of a file that another process writes. Progress bars end lines with a CR."""

    path: Path
    offset: int = 0
    skipped_bytes: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def lines(self) -> list[str]:
        """Complete lines since the last call, at most `PIECE_BYTES`; empty without a file."""
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
)
_FATAL = re.compile(r"^\s*Traceback|Memory access fault|\bFatal\b|\b(?:ERROR|CRITICAL)\b")
"""Pattern of an error in a line without a level."""

_COLUMNS = {"jit_lines": "jit", "compile_lines": "compile", "error_lines": "error"}
_PIECES = 3
"""Pieces per look: all that `LogFollower` does not skip, so that no line waits for a later look."""
_POLL_S = 0.25


def kind_of(line: str) -> str | None:
    """`jit`, `compile` or `error` for a line that affects a measured window; else None. Pure."""
    for kind, pattern in _KINDS:
        if pattern.search(line):
            return kind
    entry = loglines.entry(line)
    is_error = _FATAL.search(entry.text) if entry.level is None else not entry.quiet
    return "error" if is_error else None


@dataclass(frozen=True, slots=True)
class LogLook:
    """Lines written between two looks at the log (ns of CLOCK_REALTIME)."""

    after_ns: int
    before_ns: int
    counts: Mapping[str, int]
    """Kind to number of lines."""
    skipped: bool = False
    """True if the log grew faster than it is read, and a part of it was skipped."""


@dataclass(slots=True)
class LogWatch(Monitor):
    """Reads a server's log four times a second while the context is open, and counts the lines of each kind.

    AITER's lines have no time, so a line's time is that of the look. Without a log (attached server) `view` gives
    None.
    """

    path: Path | None
    looks: list[LogLook] = field(default_factory=list)
    """Looks with lines to count."""

    _follower: LogFollower | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        if self.path is None:
            return self
        self._follower = LogFollower(self.path, self.path.stat().st_size if self.path.exists() else 0)
        return Monitor.__enter__(self)

    def view(self, start_ns: int, end_ns: int) -> dict[str, int | None]:
        """Number of lines of each kind in the window, as columns of `cells`.

        A line that may have been written in the window counts: a build that is logged at its edge took seconds.
        None without a log, and if there is no line but a part of the log was skipped.
        """
        if self.path is None:
            return dict.fromkeys(_COLUMNS)
        inside = [look for look in self.looks if look.before_ns >= start_ns and look.after_ns < end_ns]
        none = None if any(look.skipped for look in inside) else 0
        return {
            column: sum(look.counts.get(kind, 0) for look in inside) or none
            for column, kind in _COLUMNS.items()
        }

    def _run(self) -> None:
        assert self._follower is not None
        last_ns, closing = time.time_ns(), False
        while not closing:
            closing = self._closing.wait(_POLL_S)
            now_ns = time.time_ns()
            self._look(self._follower, last_ns)
            last_ns = now_ns

    def _look(self, follower: LogFollower, after_ns: int) -> None:
        skipped = follower.skipped_bytes
        kinds = (kind_of(line) for _ in range(_PIECES) for line in follower.lines())
        counts = Counter(kind for kind in kinds if kind is not None)
        has_skipped = follower.skipped_bytes > skipped
        if counts or has_skipped:
            # The time after reading: a line may have been written while the log was read.
            self.looks.append(LogLook(after_ns, time.time_ns(), counts, has_skipped))
