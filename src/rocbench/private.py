"""Permissions of a run's files: the owner's alone (0600) by default, as they may hold private text.

$ROCBENCH_UMASK changes that: 027 lets the group read. The shell's own umask has no effect.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from rocbench.errors import InputError

VARIABLE = "ROCBENCH_UMASK"


def mode() -> int:
    """Return the permissions of a new file.

    Raises:
        InputError: $ROCBENCH_UMASK is not a umask that leaves the owner reading and writing.
    """
    text = os.environ.get(VARIABLE) or "077"
    try:
        umask = int(text, 8)
    except ValueError:
        umask = -1
    if not 0 <= umask <= 0o177:
        raise InputError(
            f"{text!r} is not a umask",
            where=f"${VARIABLE}",
            fix="give 027 (the group may read), 022 (everybody may read) or none",
        )
    return 0o666 & ~umask


def opener(path: str, flags: int) -> int:
    """For `open(..., opener=)`: the file has its permissions before it has content. A link is refused."""
    permissions = mode()
    file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.fstat(file).st_mode & 0o777 != permissions:
        with suppress(OSError):  # another user's file, or a file system without permissions
            os.fchmod(file, permissions)
    return file


def fresh(path: str, flags: int) -> int:
    """The same for a temporary file: an existing file, perhaps another user's, is removed first."""
    Path(path).unlink(missing_ok=True)
    return opener(path, flags | os.O_EXCL)


def write(path: Path, text: str) -> None:
    """Write a small text file."""
    with open(path, "w", encoding="utf-8", opener=opener) as file:
        file.write(text)
