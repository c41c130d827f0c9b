"""State of `bench` on a node: a private folder per user, and lock files that all users share.

A GPU node is a shared machine, and any user can write to /var/tmp. So bench uses a folder only if this user owns
it, reads a record only if it is a regular file of this user, and follows no links.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from rocbench import private
from rocbench.errors import NodeFault

_SHARED = "/var/tmp"  # noqa: S108 - all users of a node need the same place
_VARIABLE = "ROCBENCH_STATE"
_PRIVATE = 0o700
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def shared_dir() -> Path:
    """The folder of the node's lock files: $ROCBENCH_STATE, else /var/tmp. Created if missing, private.

    Not $TMPDIR: two runs with different values would not see each other.

    Raises:
        NodeFault: it cannot be created, or is another user's link.
    """
    named = os.environ.get(_VARIABLE)
    if not named:
        return Path(_SHARED)
    path = Path(named)
    try:
        path.mkdir(_PRIVATE, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise unwritable(path, error) from None
    if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
        raise _foreign(path)
    return path.resolve()


def state_dir() -> Path:
    """This user's folder: `rocbench-<uid>` in `shared_dir()`, mode 0700; or a private `shared_dir()` itself.

    Raises:
        NodeFault: it cannot be written, or the path is not a folder of this user.
    """
    with opened_state_dir() as (path, _):
        return path


@contextmanager
def opened_state_dir() -> Iterator[tuple[Path, int]]:
    """The same folder with an open descriptor, so that it cannot be swapped. Raises NodeFault."""
    path = shared_dir()
    status = path.stat()
    if str(path) == _SHARED or status.st_uid != os.geteuid() or status.st_mode & stat.S_IWOTH:
        path = path / f"rocbench-{os.geteuid()}"
        make_own(path)
    folder = _opened(path)
    try:
        if not os.access(path, os.W_OK):
            raise unwritable(path)
        yield path, folder
    finally:
        os.close(folder)


def make_own(path: Path, *, named_by: str = _VARIABLE) -> None:
    """Creates a folder for this user only, or checks that the existing one is.

    Args:
        named_by: variable that sets another path.

    Raises:
        NodeFault: it cannot be created, or is a link, not a folder, or another user's.
    """
    try:
        with suppress(FileExistsError):
            path.mkdir(_PRIVATE)
    except OSError as error:
        raise unwritable(path, error, named_by) from None
    folder = _opened(path, named_by)
    try:
        if stat.S_IMODE(os.fstat(folder).st_mode) != _PRIVATE:
            os.fchmod(folder, _PRIVATE)
    finally:
        os.close(folder)


def _opened(path: Path, named_by: str = _VARIABLE) -> int:
    """A descriptor of a folder of this user. Raises NodeFault."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _foreign(path, error, named_by) from None
    if os.fstat(folder).st_uid != os.geteuid():
        os.close(folder)
        raise _foreign(path, None, named_by)
    return folder


def open_unlinked(path: Path | str, flags: int, *, folder: int | None = None) -> int:
    """Opens a regular file with a single name; `flags` may create it, with mode 0600. Follows no links.

    Args:
        path: the file; relative to `folder` (an open folder) if given.
        flags: of `os.open`.

    Raises:
        OSError: it cannot be opened, as by `os.open`.
        NodeFault: it is a link or not a regular file, so that another file would be read or written.
    """
    more = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        file = os.open(path, flags | more, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise not_a_plain_file(path, folder) from None
        raise
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return file
    os.close(file)
    raise not_a_plain_file(path, folder)


def open_log(path: Path) -> BinaryIO:
    """A server's log, opened for appending, private by default (`rocbench.private`). Raises as `open_unlinked`."""
    mode = private.mode()
    file = open_unlinked(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with suppress(OSError):  # another user's file, or a file system without permissions
        os.fchmod(file, mode)
    return os.fdopen(file, "ab")


def not_a_plain_file(path: Path | str, folder: int | None = None) -> NodeFault:
    """The error for a path that should be a plain file and is not."""
    kind, owner = _kind_and_owner(path, folder)
    return NodeFault(f"{path} is {kind} of {owner}, not a plain file", fix=removal(owner))


def unwritable(path: Path, error: OSError | None = None, named_by: str = _VARIABLE) -> NodeFault:
    """The error for a state folder that cannot be written."""
    return NodeFault(
        f"{path} cannot be written{f': {error.strerror}' if error else ''}",
        fix=f"set {named_by} to a folder with free space where you may write (mode 1777 if several users share it)",
    )


def user_name(uid: int) -> str:
    """`alice (uid 1001)`; the number alone without a name."""
    with suppress(KeyError):
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    return f"uid {uid}"


def _foreign(path: Path, error: OSError | None = None, named_by: str = _VARIABLE) -> NodeFault:
    kind, owner = _kind_and_owner(path)
    reason = f" ({error.strerror})" if error else ""
    return NodeFault(
        f"{path} is {kind} of {owner}, not a folder that you own{reason}",
        fix=f"{removal(owner)}, or set {named_by} to a folder that you own",
    )


def removal(owner: str) -> str:
    """The advice for a user's file that is in the way."""
    if owner == user_name(os.geteuid()):
        return "remove it"
    return f"let {owner} remove it" if owner == user_name(0) else f"let {owner} or root remove it"


def _kind_and_owner(path: Path | str, folder: int | None = None) -> tuple[str, str]:
    """Kind and owner of the object at a path."""
    try:
        status = os.lstat(path, dir_fd=folder)
    except OSError:
        return "a removed file", "an unknown user"
    kind = next((name for fits, name in _KINDS if fits(status.st_mode)), "a device")
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        kind = "a file with several hard links"
    return kind, user_name(status.st_uid)
