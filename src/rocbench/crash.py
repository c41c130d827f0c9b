"""Uncaught errors: a fault of the user's files or machine, or a crash of bench, written down for a report."""

from __future__ import annotations

import datetime
import errno
import os
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

from rocbench.errors import BenchError, EnvironmentFault, InputError

_UNUSABLE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
"""The given path cannot be used."""
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
"""This machine refuses access."""
_OPEN_FILES = (errno.EMFILE, errno.ENFILE)
_SHOWN = 120
"""Characters of a path that a message shows."""
_LINE = 300
"""Characters of an exception's own text."""


def foreseen(error: BaseException) -> BenchError | None:
    """Return the fault behind an error of the operating system; None if it is a crash.

    A named file that cannot be used is never a fault of bench.
    """
    if isinstance(error, RuntimeError) and str(error).startswith("Could not determine home directory"):
        return EnvironmentFault("this user has no home folder", fix="set HOME")
    if not isinstance(error, OSError):
        return None
    if error.errno in _OPEN_FILES:
        return EnvironmentFault("too many files are open", fix="raise the limit: ulimit -n 65536")
    if error.filename is None:
        return None if error.errno != errno.ENOENT or _working_folder() else _NO_FOLDER
    reason, where = (error.strerror or str(error)).lower(), _short(str(error.filename))
    if error.errno in _UNUSABLE:
        return InputError(f"cannot be used: {reason}", where=where)
    if error.errno in _REFUSED:
        return EnvironmentFault(f"cannot be used: {reason}", where=where)
    return None


_NO_FOLDER = InputError("the working folder no longer exists", fix="change to an existing folder: cd")


def _working_folder() -> bool:
    """True if the folder in which bench was started still exists."""
    with suppress(FileNotFoundError):
        return bool(Path.cwd())
    return False


def _short(text: str) -> str:
    """Return a path with its middle cut out if it is long."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


def message(error: BaseException) -> str:
    """The message for a crash: the kind, one line, the place of the traceback, and the notes of the error."""
    from rocbench.redact import redacted
    from rocbench.server.secretvalues import secret_values

    secrets = secret_values(os.environ)
    text = redacted(str(error), secrets).strip().partition("\n")[0][:_LINE]
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    whole = redacted("".join(traceback.format_exception(error)), secrets)
    path = _write(whole)
    where = f"the traceback is in {path}" if path else f"its traceback:\n{whole}"
    notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    kind = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"bench crashed: {kind}; {where}; please report it{notes}"


def _write(text: str) -> str | None:
    """Write the traceback to a new private file in the state folder; None if no file can be written."""
    from rocbench.server.state import state_dir

    at = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    for folder in (state_dir, tempfile.gettempdir):
        with suppress(OSError, BenchError):
            file, path = tempfile.mkstemp(".txt", f"crash-{at}-", folder())
            with os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
            return path
    return None
