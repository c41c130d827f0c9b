"""Follows a server's log from an offset, in bounded pieces, and notes what a measured window must know."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

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
