"""Takes secrets out of a log that a server has written."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path


def scrub(path: Path, secrets: Iterable[str]) -> int:
    """Overwrites each secret in a file with asterisks of the same length, in place; returns how many.

    For server logs, which another process wrote. Works on a file of any size without reading it into memory.
    """
    needles = [secret.encode() for secret in secrets]
    if not needles or not path.exists() or path.stat().st_size == 0:
        return 0
    found = 0
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        for needle in needles:
            at = content.find(needle)
            while at >= 0:
                content[at : at + len(needle)] = b"*" * len(needle)
                found += 1
                at = content.find(needle, at + len(needle))
    return found
