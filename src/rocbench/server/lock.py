"""One run a node, and one server a GPU: locks that the kernel lets go of when their holder dies."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rocbench.errors import NodeFault
from rocbench.server.orphans import state_dir


@contextmanager
def node_lock(purpose: str, *, wait_s: float = 0.0, shared: bool = False) -> Iterator[None]:
    """Holds the node, so that a nightly and a person do not measure each other.

    Args:
        purpose: shown to whoever finds it held (`bench sweep nightly.yaml`).
        wait_s: how long to wait for another holder.
        shared: beside others that share it, as servers that nobody measures; never beside a run.

    Raises:
        NodeFault: another run holds it; its user, pid and purpose are named.
    """
    with _held("node", purpose, "the node", wait_s, shared=shared):
        yield


@contextmanager
def gpu_locks(gpus: Sequence[int], purpose: str) -> Iterator[None]:
    """Holds GPUs by index, so that no two servers of ours ever share one. Raises NodeFault."""
    with ExitStack() as stack:
        for gpu in sorted(set(gpus)):
            stack.enter_context(_held(f"gpu-{gpu}", purpose, f"GPU {gpu}", 0.0))
        yield


def choose_gpus(count: int, available: Sequence[int]) -> tuple[int, ...]:
    """The first `count` GPUs of `available` that no server of ours holds.

    Nearest indices are taken. On an 8-GPU MI300 node every pair is linked directly (xGMI, ~48 GB/s usable a
    link), so any choice is as good; with fewer than 8 only the links among the chosen are used.

    Raises:
        NodeFault: fewer are free.
    """
    holders = {gpu: _holder_of(f"gpu-{gpu}") for gpu in sorted(available)}
    free = [gpu for gpu, holder in holders.items() if holder is None]
    if len(free) < count:
        who = ", ".join(dict.fromkeys(holder for holder in holders.values() if holder))
        raise NodeFault(
            f"{count} GPUs are wanted, {len(free)} of {len(available)} are free"
            + (f"; held by {who}" if who else ""),
            fix="wait for the other server, or choose a smaller tensor parallel size",
        )
    if count == 0:
        return ()
    first = min(range(len(free) - count + 1), key=lambda at: (free[at + count - 1] - free[at], at))
    return tuple(free[first : first + count])


@contextmanager
def _held(name: str, purpose: str, what: str, wait_s: float, *, shared: bool = False) -> Iterator[None]:
    file = _open(name)
    try:
        deadline = time.monotonic() + wait_s
        while not _try(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise NodeFault(
                    f"{what} is held by {_holder(file)}",
                    fix="wait until it ends, or end it; nothing was started",
                )
            time.sleep(0.2)
        note = {"user": _user(), "pid": os.getpid(), "purpose": purpose, "since": time.strftime("%F %T")}
        with suppress(OSError):  # a full disk takes the note, not the lock
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(note).encode(), 0)
        yield
    finally:
        with suppress(OSError):
            os.ftruncate(file, 0) if _mine(file) else None
        os.close(file)


def _open(name: str) -> int:
    path = _path(name)
    try:
        with suppress(FileNotFoundError):
            # Not O_CREAT first: in a sticky folder the kernel refuses that for a file of another user
            # (fs.protected_regular), though it may be written.
            return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        with suppress(OSError):
            os.fchmod(file, 0o666)  # whatever the umask: all users of the node share it
        return file
    except OSError as error:
        raise NodeFault(
            f"{path} cannot be opened: {error.strerror}", fix="set ROCBENCH_STATE to another folder"
        ) from error


def _try(file: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder_of(name: str) -> str | None:
    """Who holds it; None when nobody does."""
    file = _open(name)
    try:
        return None if _try(file) else _holder(file)
    finally:
        os.close(file)


def _mine(file: int) -> bool:
    with suppress(ValueError, AttributeError):
        return bool(json.loads(os.pread(file, 4096, 0)).get("pid") == os.getpid())
    return False


def _holder(file: int) -> str:
    with suppress(ValueError, AttributeError):
        note = json.loads(os.pread(file, 4096, 0))
        return f"{note['user']} (pid {note['pid']}, {note['purpose']}, since {note['since']})"
    return "another run"


def _user() -> str:
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())


def _path(name: str) -> Path:
    return state_dir() / f"{name}.lock"
