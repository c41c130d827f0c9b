"""Processes as the Linux kernel lists them: identity, process group, CPU time."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from rocbench.redact import masked_argv

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process identity that differs from any later process with the same pid."""

    pid: int
    started: int
    """Start time in clock ticks since boot, which do not shift with the clock as seconds since the epoch do."""


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One line of /proc/<pid>/stat (proc(5))."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int
    cpu_s: float
    """User and system time in seconds, with its threads, without its children."""
    started: int
    """Clock ticks since boot."""
    threads: int = 1

    @property
    def identity(self) -> ProcessIdentity:
        """Pid and start time."""
        return ProcessIdentity(self.pid, self.started)

    @property
    def alive(self) -> bool:
        """False for a zombie: it holds no memory and no GPU, only a row in the table.

        A process whose first thread has ended is also listed as a zombie while its other threads run.
        """
        return self.state not in ("Z", "X", "x") or self.threads > 1


def read_process(pid: int, proc: Path = Path("/proc")) -> ProcessRow | None:
    """The row of one pid; None if there is no such process."""
    try:
        with open(proc / str(pid) / "stat", "rb") as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    # The name is in parentheses and may hold any characters, also parentheses and blanks.
    name, _, rest = text.partition("(")[2].rpartition(")")
    words = rest.split()
    ticks = int(words[11]) + int(words[12])
    return ProcessRow(
        pid=pid,
        name=name,
        state=words[0],
        parent=int(words[1]),
        group=int(words[2]),
        session=int(words[3]),
        cpu_s=ticks / _TICKS_PER_S,
        started=int(words[19]),
        threads=int(words[17]),
    )


def table() -> dict[int, ProcessRow]:
    """All processes of this machine, by pid."""
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    rows = (read_process(pid) for pid in pids)
    return {row.pid: row for row in rows if row is not None}


def identity_of(pid: int) -> ProcessIdentity:
    """The process that has this pid now; a start time of -1, which matches no process, if the pid is free."""
    row = read_process(pid)
    return row.identity if row else ProcessIdentity(pid, -1)


def is_alive(identity: ProcessIdentity) -> bool:
    """True if the same process still runs: same pid, same start, not a zombie."""
    row = read_process(identity.pid)
    return row is not None and row.started == identity.started and row.alive


def arguments(pid: int) -> tuple[str, ...]:
    """The words of the command line as the kernel has them now; empty if the process is gone or hidden."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.removesuffix("\0").split("\0")) if text else ()


def fingerprint(pid: int) -> list[str]:
    """The command line for a file: its program, and a hash of all words, because a flag can hold a secret.

    Empty if the process is gone or hidden.
    """
    words = arguments(pid)
    return [words[0], hashlib.sha256("\0".join(words).encode()).hexdigest()] if words else []


def command_line(pid: int) -> str:
    """The command line as in `ps`, without secrets and control characters; empty if gone or hidden."""
    text = " ".join(masked_argv(arguments(pid))).strip()
    return "".join(char if char.isprintable() else "?" for char in text)


def user_of(pid: int) -> int | None:
    """The real user id of a process; None if it is gone or hidden.

    Not the owner of /proc/<pid>, which is root if the process has changed its user (proc(5)).
    """
    try:
        return int(psutil.Process(pid).uids().real)
    except psutil.Error:
        return None


def pid_space() -> str:
    """Name of the boot and the pid namespace: identities are valid only within them."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{file.read().strip()} {Path('/proc/self/ns/pid').readlink()}"


@dataclass(slots=True)
class ProcessTree:
    """A server's first process and all processes it started, as far as they were seen.

    Members are descendants of the leader, and members of its process group or session if it leads one:
    workers whose parent was killed are no longer descendants, but keep group and session.
    """

    leader: ProcessIdentity
    seen: dict[int, ProcessIdentity] = field(default_factory=dict)
    by_group: bool = True
    """False if there is no evidence that the group of the leader's number still is the server's."""

    def refresh(self) -> tuple[ProcessIdentity, ...]:
        """Looks for new members; returns the living ones, leader first."""
        rows = table()
        self._note_members(rows)
        living = [
            row.identity for row in rows.values() if row.alive and self.seen.get(row.pid) == row.identity
        ]
        return tuple(sorted(living, key=lambda identity: (identity != self.leader, identity.pid)))

    def _note_members(self, rows: dict[int, ProcessRow]) -> None:
        leader = rows.get(self.leader.pid)
        if leader is not None and leader.started != self.leader.started:
            return  # another process has the pid now, which is impossible while a member of the group lives
        children: dict[int, list[ProcessRow]] = {}
        for row in rows.values():
            children.setdefault(row.parent, []).append(row)
        queue = [
            row
            for row in rows.values()
            if (self.by_group and self.leader.pid in (row.group, row.session))
            or row.identity in (self.leader, self.seen.get(row.pid))
        ]
        visited: set[int] = set()
        while queue:
            row = queue.pop()
            if row.pid in visited:
                continue
            visited.add(row.pid)
            self.seen[row.pid] = row.identity
            queue += children.get(row.pid, ())
