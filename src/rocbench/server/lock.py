"""Locks for one run per node and one server per GPU. The kernel releases them when their holder dies.

All users of the node share the files, so they are only locked: never written and never read. The
kernel names the holder.
"""

from __future__ import annotations

import datetime
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from rocbench import processes
from rocbench.errors import NodeFault
from rocbench.redact import masked_argv
from rocbench.server.state import not_a_plain_file, open_unlinked, removal, shared_dir, unwritable, user_name

_LOCKS = Path("/proc/locks")
_TRIES = 20
"""Number of attempts to take a lock whose file is removed meanwhile."""


@contextmanager
def node_lock(*, shared: bool = False) -> Iterator[None]:
    """Holds the node, so that two runs, such as a nightly and a manual one, do not disturb each other.

    Args:
        shared: hold it together with other shared holders (servers without a measurement), never with a run.

    Raises:
        NodeFault: another run holds it, and is named; or the lock's file was replaced by something else.
    """
    with _held("node", "the node", shared=shared):
        yield


@contextmanager
def gpu_locks(gpus: Sequence[int]) -> Iterator[None]:
    """Holds GPUs by index, so that no two bench servers of any user share one. Raises NodeFault."""
    with ExitStack() as stack:
        for gpu in sorted(set(gpus)):
            stack.enter_context(_held(f"gpu-{gpu}", f"GPU {gpu}"))
        yield


def choose_gpus(count: int, available: Sequence[int]) -> tuple[int, ...]:
    """The first `count` GPUs of `available` that no bench server holds.

    Nearest indices are taken. On an 8-GPU MI300 node every pair is linked directly (xGMI, ~48 GB/s usable per
    link), so all choices are equal; with fewer than 8 only the links among the chosen are used.

    Raises:
        NodeFault: fewer are free.
    """
    holders = {gpu: _holder_of(f"gpu-{gpu}") for gpu in sorted(available)}
    free = [gpu for gpu, holder in holders.items() if holder is None]
    if len(free) < count:
        names = ", ".join(dict.fromkeys(holder for holder in holders.values() if holder))
        raise NodeFault(
            f"{count} GPUs are needed, {len(free)} of {len(available)} are free"
            + (f"; held by {names}" if names else ""),
            fix="wait for the other server, or choose a smaller tensor parallel size",
        )
    if count == 0:
        return ()
    first = min(range(len(free) - count + 1), key=lambda at: (free[at + count - 1] - free[at], at))
    return tuple(free[first : first + count])


@contextmanager
def _held(name: str, what: str, *, shared: bool = False) -> Iterator[None]:
    file = _locked(name, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    if file is None:
        raise NodeFault(
            f"{what} is held by {_holder_names(name)}",
            fix="wait until the holder ends, or end it; bench has started nothing",
        )
    try:
        yield
    finally:
        os.close(file)


def _locked(name: str, how: int) -> int | None:
    """The lock's file, locked; None if another process holds it."""
    for _ in range(_TRIES):
        path, file = _open(name)
        if not _try(path, file, how):
            os.close(file)
            return None
        if _is_at(path, file):
            return file
        os.close(file)
    raise NodeFault(
        f"another program keeps removing the lock file {name}",
        fix=f"stop the program that cleans {shared_dir()}",
    )


def _open(name: str) -> tuple[Path, int]:
    """The lock's file, created if missing so that every user can lock it. Raises NodeFault."""
    path = shared_dir() / f"rocbench-{name}.lock"
    for _ in range(_TRIES):
        try:
            # Not with O_CREAT first: in a sticky folder the kernel refuses that for a file of another user
            # (fs.protected_regular). Read access is enough to lock it; only NFS needs more, from its owner.
            try:
                return path, open_unlinked(path, os.O_RDWR)
            except PermissionError:
                return path, open_unlinked(path, os.O_RDONLY)
        except FileNotFoundError:
            with suppress(FileExistsError):
                _make(path)
        except OSError as error:
            raise _not_lockable(path, error) from None
    raise not_a_plain_file(path)


def _make(path: Path) -> None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        raise
    except OSError as error:
        raise unwritable(path, error) from None
    with suppress(OSError):
        os.fchmod(file, 0o644)  # regardless of the umask: all users of the node lock it
    os.close(file)


def _try(path: Path, file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _not_lockable(path, error) from None
    return True


def _is_at(path: Path, file: int) -> bool:
    """True if the path still leads to this file: a cleaner of old files may have removed it."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _not_lockable(path: Path, error: OSError) -> NodeFault:
    try:
        owner = user_name(path.lstat().st_uid)
    except OSError:
        owner = "an unknown user"
    return NodeFault(
        f"{path} (of {owner}) cannot be locked: {error.strerror}",
        fix=f"{removal(owner)}, or set ROCBENCH_STATE to a folder on a local disk",
    )


def _holder_of(name: str) -> str | None:
    """The holder of a GPU; None without one. Simultaneous queries do not block each other."""
    path, file = _open(name)
    try:
        return None if _try(path, file, fcntl.LOCK_SH) else _holder_names(name)
    finally:
        os.close(file)


def _holder_names(name: str) -> str:
    _, file = _open(name)
    try:
        pids = _holders(os.fstat(file))
    finally:
        os.close(file)
    return (
        ", ".join(map(_holder, pids))
        or "a run that is not visible here (it has just ended, or runs in another container)"
    )


def _holders(file: os.stat_result, table: Path = _LOCKS) -> list[int]:
    """Pids of the visible processes that hold a lock (flock) on a file (proc_locks(5))."""
    same_file: list[int] = []
    same_number: list[int] = []
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    with suppress(OSError):
        for line in table.read_text(encoding="ascii", errors="replace").splitlines():
            words = line.split()
            if len(words) < 6 or words[1] != "FLOCK" or not words[4].isdigit() or words[4] == "0":
                continue
            where, _, inode = words[5].rpartition(":")
            if inode == str(file.st_ino):
                same_number.append(int(words[4]))
                same_file += [int(words[4])] if where == device else []
    # Some file systems (btrfs, overlayfs) report one device there and another in stat.
    return sorted(set(same_file or same_number))


def _holder(pid: int) -> str:
    """`alice (uid 1001), pid 4711: bench sweep nightly, since 2026-03-01 01:17`, all but the words from the kernel."""
    uid = processes.user_of(pid)
    user = "another user" if uid is None else user_name(uid)
    words = " ".join(_words(processes.arguments(pid)))
    since = ""
    with suppress(psutil.Error, OSError):
        began = datetime.datetime.fromtimestamp(psutil.Process(pid).create_time()).astimezone()
        since = f", since {began:%Y-%m-%d %H:%M}"
    return f"{user}, pid {pid}{f': {words}' if words else ''}{since}"


def _words(argv: Sequence[str]) -> list[str]:
    """The first words of a command line, without the interpreter and folders. A process can set them."""
    words = masked_argv(argv)
    if words and Path(words[0]).name.startswith("python"):
        words = [word for word in words[1:] if word != "-m"]
    words = [Path(word).name if index == 0 else word for index, word in enumerate(words[:3])]
    return ["".join(char if char.isprintable() else "?" for char in word)[:60] for word in words]
