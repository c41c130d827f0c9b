"""Where `bench` keeps state on a node: a folder of each user's own, beside lock files that all users share.

A GPU node is a shared machine, and anybody can put anything into /var/tmp. So a folder is used only if it is this
user's, a record is read only if it is a regular file of this user's, and no link is followed.
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

_EVERYBODYS = "/var/tmp"  # noqa: S108 - one place for all users of a node is the point
_VARIABLE = "ROCBENCH_STATE"
_OURS_ONLY = 0o700
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def shared_dir() -> Path:
    """Where the node's lock files stand: $ROCBENCH_STATE, else /var/tmp. Made when missing, for this user alone.

    Not where $TMPDIR says: two runs that each have one of their own would not see one another.

    Raises:
        NodeFault: it cannot be made, or is another user's link.
    """
    named = os.environ.get(_VARIABLE)
    if not named:
        return Path(_EVERYBODYS)
    path = Path(named)
    try:
        path.mkdir(_OURS_ONLY, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise unwritable(path, error) from None
    if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
        raise _foreign(path)
    return path.resolve()


def state_dir() -> Path:
    """This user's own folder: `rocbench-<uid>` in `shared_dir()`, with mode 0700; that itself where no other may use it.

    Raises:
        NodeFault: it cannot be written, or what stands there is not this user's folder.
    """
    with opened_state_dir() as (path, _):
        return path


@contextmanager
def opened_state_dir() -> Iterator[tuple[Path, int]]:
    """The same folder and a descriptor of it, so that nobody can put another in its place. Raises NodeFault."""
    path = shared_dir()
    found = path.stat()
    if str(path) == _EVERYBODYS or found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
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
    """Makes a folder that this user alone may use, or sees to it that the one that is there is such.

    Args:
        named_by: variable that names another place.

    Raises:
        NodeFault: it cannot be made, or is a link, no folder, or another user's.
    """
    try:
        with suppress(FileExistsError):
            path.mkdir(_OURS_ONLY)
    except OSError as error:
        raise unwritable(path, error, named_by) from None
    folder = _opened(path, named_by)
    try:
        if stat.S_IMODE(os.fstat(folder).st_mode) != _OURS_ONLY:
            os.fchmod(folder, _OURS_ONLY)
    finally:
        os.close(folder)


def _opened(path: Path, named_by: str = _VARIABLE) -> int:
    """A descriptor of a folder of this user's. Raises NodeFault."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _foreign(path, error, named_by) from None
    if os.fstat(folder).st_uid != os.geteuid():
        os.close(folder)
        raise _foreign(path, None, named_by)
    return folder


def open_unlinked(path: Path | str, flags: int, *, folder: int | None = None) -> int:
    """Opens a regular file that has this one name, made with mode 0600 where `flags` say so. No link is followed.

    Args:
        path: the file; below `folder` (an open folder) where one is given.
        flags: of `os.open`.

    Raises:
        OSError: it cannot be opened, as by `os.open`.
        NodeFault: it is a link or no regular file, so that something else would be read or written.
    """
    more = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        file = os.open(path, flags | more, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise no_plain_file(path, folder) from None
        raise
    found = os.fstat(file)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return file
    os.close(file)
    raise no_plain_file(path, folder)


def open_log(path: Path) -> BinaryIO:
    """A server's log, to be added to; its owner's alone unless asked (`rocbench.private`). Raises as `open_unlinked`."""
    mode = private.mode()
    file = open_unlinked(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with suppress(OSError):  # another's file, or a file system without permissions
        os.fchmod(file, mode)
    return os.fdopen(file, "ab")


def no_plain_file(path: Path | str, folder: int | None = None) -> NodeFault:
    """What to say of a path where a plain file is expected and something else stands."""
    what, whose = _who_put_what(path, folder)
    return NodeFault(f"{path} is {what} of {whose}, where a plain file is expected", fix=removal(whose))


def unwritable(path: Path, error: OSError | None = None, named_by: str = _VARIABLE) -> NodeFault:
    """What to say of a folder of state that does not take what must be written."""
    return NodeFault(
        f"{path} cannot be written{f': {error.strerror}' if error else ''}",
        fix=f"set {named_by} to a folder that you may write, with room in it (mode 1777 where users share it)",
    )


def user_name(uid: int) -> str:
    """`alice (uid 1001)`; the number alone where it has no name."""
    with suppress(KeyError):
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    return f"uid {uid}"


def _foreign(path: Path, error: OSError | None = None, named_by: str = _VARIABLE) -> NodeFault:
    what, whose = _who_put_what(path)
    why = f" ({error.strerror})" if error else ""
    return NodeFault(
        f"{path} is {what} of {whose}, not a folder of yours{why}",
        fix=f"{removal(whose)}, or set {named_by} to a folder of your own",
    )


def removal(whose: str) -> str:
    """What to do about something of a user's that is in the way."""
    if whose == user_name(os.geteuid()):
        return "remove it"
    return f"let {whose} remove it" if whose == user_name(0) else f"let {whose} or root remove it"


def _who_put_what(path: Path | str, folder: int | None = None) -> tuple[str, str]:
    """Kind and owner of what stands there."""
    try:
        found = os.lstat(path) if folder is None else os.lstat(path, dir_fd=folder)
    except OSError:
        return "gone", "somebody"
    what = next((name for fits, name in _KINDS if fits(found.st_mode)), "a device")
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        what = "a file of several names"
    return what, user_name(found.st_uid)
