"""Read a named file within bounds: a folder, pipe, device or far too large file gives an error at once."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from rocbench import jsontext
from rocbench.errors import InputError
from rocbench.units import size

LARGEST = 16 << 20
"""Maximum bytes of a file that a person writes or a model brings: the largest config.json has 0.3 MiB."""


def read_bytes(path: Path, *, most: int = LARGEST, fix: str = "") -> bytes:
    """Return the content of a regular file.

    Args:
        path: links are followed; `~` is not expanded.
        most: maximum number of bytes.
        fix: the remedy if there is no such file.

    Raises:
        InputError: there is no such file, it is not a regular file, holds more than `most` bytes, or cannot
            be read.
    """
    try:
        # A pipe without a writer would block forever.
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise InputError(
                    "is a pipe, device or socket, not a regular file",
                    where=_shown(path),
                    fix="write its content to a file first",
                )
            content = file.read(most + 1)
    except FileNotFoundError:
        raise InputError("no such file", where=_shown(path), fix=fix) from None
    except IsADirectoryError:
        raise InputError(
            "is a folder, not a file", where=_shown(path), fix="give the path of a file in this folder"
        ) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=_shown(path)) from None
    except ValueError:  # a zero byte, or half a character, in the path
        raise InputError("is not a valid path", where=_shown(path), fix=fix) from None
    if len(content) > most:
        raise InputError(
            f"holds more than {size(most)}", where=_shown(path), fix="check that it is the right file"
        )
    return content


def read_text(path: Path, *, most: int = LARGEST, fix: str = "") -> str:
    """As `read_bytes`, as text in UTF-8; a byte order mark is skipped.

    Raises:
        InputError: as `read_bytes`, or it is not in UTF-8.
    """
    content = read_bytes(path, most=most, fix=fix)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        fix = "convert it to UTF-8 with `iconv -f UTF-16 -t UTF-8`"
        raise InputError("is UTF-16", where=_shown(path), fix=fix)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            "is not UTF-8 text", where=f"{_shown(path)}:{line}", fix="check that it is the right file"
        ) from None


def read_json(
    path: Path,
    *,
    most: int = LARGEST,
    fix: str = "",
    finite: bool = True,
    repeated: list[str] | None = None,
) -> Any:
    """As `read_text`, as the value of its JSON (`jsontext.parse`, which takes `finite` and `repeated`).

    Raises:
        InputError: as `read_text` and `jsontext.parse`.
    """
    text = read_text(path, most=most, fix=fix)
    return jsontext.parse(text, _shown(path), finite=finite, repeated=repeated)


def is_file(path: Path) -> bool:
    """True if a path names a regular file; False also for an impossible or forbidden name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _shown(path: Path) -> str:
    """A path as a message shows it."""
    return str(path).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
