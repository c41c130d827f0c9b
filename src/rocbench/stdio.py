"""Standard streams that may be missing at the start, or whose reader may go: a pipe, a full disk."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO, cast

from rocbench.errors import DiskFault, ReaderGone
from rocbench.harmless import visible


class _Unfiltered:
    """A stream for code that makes its own control sequences; everything else is the stream's."""

    def __init__(self, stream: _Shown) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text as it is."""
        return self._stream.pass_on(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class _Shown(io.TextIOWrapper):
    """A stream on which control characters are shown, not executed: foreign names and messages reach it."""

    def write(self, text: str, /) -> int:
        """Write text. Raises like `pass_on`."""
        self.pass_on(visible(text))
        return len(text)

    def pass_on(self, text: str) -> int:
        """Write text unchanged."""
        return super().write(text)

    @property
    def rich_proxied_file(self) -> _Unfiltered:
        """The stream that rich writes to instead; `report.terminal` makes its texts harmless."""
        return _Unfiltered(self)


class _Output(_Shown):
    """Standard output. A failed write has an error class of its own, distinct from errors of files and sockets."""

    def pass_on(self, text: str) -> int:
        """Write text unchanged.

        Raises:
            ReaderGone: it was a pipe, and its reader has closed it.
            DiskFault: it cannot be written.
        """
        try:
            return super().pass_on(text)
        except OSError as error:
            raise _lost(error) from None

    def flush(self) -> None:
        """Pass on the written text. Raises like `write`."""
        try:
            super().flush()
        except OSError as error:
            raise _lost(error) from None


class _Closed(_Output):
    """Standard output that was closed before the start: like a full disk, it cannot be written."""

    def pass_on(self, text: str) -> int:
        """Refuse text. Raises DiskFault."""
        if text:
            raise _unwritable("it is closed", "redirect it, for example to /dev/null")
        return 0


class _Errors(_Shown):
    """Standard error. A failed write cannot be reported anywhere, and stops nothing."""

    def pass_on(self, text: str) -> int:
        """Write text unchanged, if it can be written."""
        try:
            return super().pass_on(text)
        except OSError:
            _discard(2)
            return len(text)

    def flush(self) -> None:
        """Pass on the written text, if possible."""
        try:
            super().flush()
        except OSError:
            _discard(2)


def prepare() -> None:
    """Replace sys.stdout and sys.stderr with these; a closed stream is opened on /dev/null.

    Text for a closed standard output is a fault, as on a full disk; for a closed standard error it is lost.
    Text that the locale's encoding cannot hold is written with escapes.
    """
    output = _Closed if getattr(sys, "stdout", None) is None else _Output
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _discard(number)
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, closefd=False, encoding="utf-8"))  # noqa: SIM115 - for good
            setattr(sys, f"__{name}__", getattr(sys, name))
    if sys.stdout is sys.__stdout__:  # else it is replaced already
        sys.stdout = _as(output, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _as(_Errors, sys.stderr)


def _as(kind: type[_Output | _Errors], stream: TextIO | None) -> TextIO:
    old = cast("io.TextIOWrapper", stream)
    encoding, by_line = old.encoding, old.line_buffering
    wrapped = kind(old.detach(), encoding=encoding, errors="backslashreplace", line_buffering=by_line)
    return cast("TextIO", wrapped)


def _lost(error: OSError) -> ReaderGone | DiskFault:
    """The fault of a failed write; later output is discarded, so that Python's last flush is quiet."""
    _discard(1)
    if isinstance(error, BrokenPipeError):
        return ReaderGone("the reader of standard output closed the pipe")
    return _unwritable(error.strerror or str(error), "free space there")


def _unwritable(why: str, fix: str) -> DiskFault:
    return DiskFault(f"cannot write: {why}", where="standard output", fix=fix)


def _discard(number: int) -> None:
    """Redirect a file descriptor to /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
