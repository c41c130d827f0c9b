"""All errors that reach a user, and the one table of exit codes.

BenchError
 +-- InputError            2  bad input: YAML, flag, file
 |    +-- ConfigError      2  a YAML file, with file, line and key
 +-- EnvironmentFault      4  server, node, missing part
 |    +-- ServerFault      4  a server failed to start, answer or stop
 |    |    +-- RequestRefused     4  a running server refuses the requests of a cell
 |    |    +-- ServerUnreachable  4  a server does not answer
 |    +-- LoadFault        4  a load worker died or hangs
 |    +-- NodeFault        4  the node is busy or sick
 |    +-- DiskFault        4  results cannot be written
 +-- Interrupted         130  Ctrl-C or another signal that ends a run
 +-- ReaderGone          141  the reader of standard output closed it

Any other exception is a crash (`crash`): code 70. Each message says what happened, where, and what to do. Only the CLI exits the process.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command (docs/exit-codes.md)."""

    DONE = 0
    DONE_WITH_FAULTS = 1
    BAD_INPUT = 2
    CANNOT_TELL = 3
    ENVIRONMENT = 4
    CRASHED = 70
    """A bug in bench: EX_SOFTWARE of sysexits.h."""
    INTERRUPTED = 130
    READER_GONE = 141
    """The code that a shell reports for a command ended by SIGPIPE."""


class BenchError(Exception):
    """An error a user can act on.

    Args:
        what: the event, in one sentence.
        where: file, line and key, flag, or log path; empty if none applies.
        fix: the remedy; empty if nothing is known.
    """

    exit_code: Exit = Exit.ENVIRONMENT

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(self.text())

    def text(self) -> str:
        """Return the message in one to three lines."""
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.fix:
            parts.append(f"  fix: {self.fix}")
        return "\n".join(parts)


class InputError(BenchError):
    """A flag, argument or file that cannot be used."""

    exit_code = Exit.BAD_INPUT


class ConfigError(InputError):
    """A YAML file with wrong content."""


class EnvironmentFault(BenchError):
    """The machine lacks something, or a part of it failed."""

    exit_code = Exit.ENVIRONMENT


class ServerFault(EnvironmentFault):
    """A server failed to start, answer or stop.

    Args:
        where: path of its log.
        code: id of the known cause in `configs/failures.yaml`; empty when none is known.
        line: the log line that shows the cause.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "", code: str = "", line: str = "") -> None:
        self.code, self.line = code, line
        super().__init__(what, where=where, fix=fix)

    def text(self) -> str:
        """Return the event, the remedy, and the log with its relevant line."""
        log = f"  log: {self.where}" if self.where else ""
        if log and self.line:
            log = f"{log}: {self.line}"
        return "\n".join(part for part in (self.what, f"  fix: {self.fix}" if self.fix else "", log) if part)


class RequestRefused(ServerFault):
    """A running server refuses the requests of a cell; it may accept those of another cell."""

    def __init__(self, what: str, *, where: str = "", fix: str = "", code: str = "request_refused") -> None:
        super().__init__(what, where=where, fix=fix, code=code)


class ServerUnreachable(ServerFault):
    """A server does not answer; its state is unknown."""


class LoadFault(EnvironmentFault):
    """A load worker died or hangs: its cell has no figures, and the next cell gets new workers."""


class DiskFault(EnvironmentFault):
    """Results cannot be written: all further measurements would be lost."""


class NodeFault(EnvironmentFault):
    """The node is busy with another run, or fails its checks."""


class Interrupted(BenchError):
    """The user or the job scheduler asked to stop."""

    exit_code = Exit.INTERRUPTED


class ReaderGone(BenchError):
    """Standard output was a pipe, and its reader closed it (`bench rules | head`)."""

    exit_code = Exit.READER_GONE
