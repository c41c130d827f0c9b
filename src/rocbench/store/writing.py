"""Write files of a run atomically, and copy them between folders."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rocbench import private
from rocbench.errors import DiskFault, InputError
from rocbench.store import reading


def copy(paths: Iterable[Path], root: Path, other: Path) -> None:
    """Copy files to the same places under another folder."""
    for path in paths:
        target = other / path.relative_to(root)
        folder(target.parent)
        try:
            shutil.copy2(path, target)
        except OSError as error:
            raise full(target, error) from None


def full(path: Path, error: OSError) -> DiskFault:
    """Return the error for a file that could not be written."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = "free space, then resume with `bench sweep --resume`" if is_full else "choose a writable folder"
    return DiskFault(f"cannot write results: {error.strerror or error}", where=str(path), fix=fix)


def folder(path: Path) -> Path:
    """Create a folder and return it. Raises DiskFault."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise full(path, error) from None
    return path


def refuse_anothers(path: Path, fix: str = "choose another --out") -> None:
    """Refuse to write through another user's link, or into another user's folder that may contain such links.

    An empty folder of another user is accepted, such as a mounted one. Inside a run folder no link is followed.

    Raises:
        InputError: the path has such a link or folder.
    """
    path, inside = path.absolute(), False
    for place in (*reversed(path.parents), path):
        try:
            status = place.lstat()
        except OSError:  # it does not exist yet: the code that creates it reports errors
            return
        _refuse(place, status, fix, inside=inside)
        is_run = False
        with suppress(OSError):
            is_run = reading.is_run(place)
        if place == path or is_run:
            with suppress(OSError):
                owner = place.stat().st_uid
                if _is_another_user(owner) and any(place.iterdir()):
                    raise InputError(
                        f"this folder belongs to another user (uid {owner}) and is not empty",
                        where=str(place),
                        fix=fix,
                    )
        inside = inside or is_run


def refuse_anothers_run(path: Path, fix: str = "choose another --out") -> None:
    """Apply the same check to a whole run folder before it is filled, or its plan is executed.

    Raises:
        InputError: it or something in it belongs to another user, or is a link.
    """
    refuse_anothers(path, fix)
    places = [path / name for name in ("plan.json", "manifest.json", "parts", "servers")]
    for place in places:  # grows by the subfolders of checked folders
        with suppress(OSError):  # missing or not readable: nothing is written below it
            _refuse(place, place.lstat(), fix, inside=True)
            if place.is_dir():
                places += [child for child in place.iterdir() if child.is_dir()]


def _refuse(place: Path, status: os.stat_result, fix: str, *, inside: bool) -> None:
    """Refuse another user's link; inside a run folder any link, and everything that belongs to another user."""
    is_anothers, is_link = _is_another_user(status.st_uid), stat.S_ISLNK(status.st_mode)
    if not (is_link and is_anothers) and not (inside and (is_link or is_anothers)):
        return
    kind = "link" if is_link else "folder" if stat.S_ISDIR(status.st_mode) else "file"
    reason = f"belongs to another user (uid {status.st_uid})" if is_anothers else "is part of a run folder"
    raise InputError(
        f"this {kind} {reason}: bench does not write there",
        where=str(place),
        fix=f"remove it, or {fix}" if is_anothers else "replace the link with its target",
    )


def _is_another_user(owner: int) -> bool:
    """Return True if the owner is neither this user nor root."""
    return owner not in (os.geteuid(), 0)


def output_folder(path: Path) -> Path:
    """Return a folder for a report or an export, created if missing.

    Raises:
        InputError: another user's folder or link is there (`refuse_anothers`).
        OSError: it cannot be created.
    """
    refuse_anothers(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def output_file(path: Path, data: bytes | str) -> Path:
    """Write a file of a report or an export atomically, and replace an existing one.

    Unlike the files of a run it gets the permissions of the shell's umask.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return path


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `path` when it is complete. Raises DiskFault."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb", opener=private.fresh) as file:
            yield file
        os.replace(temporary, path)
    except (OSError, InputError) as error:
        temporary.unlink(missing_ok=True)  # its space may be enough for smaller files
        if isinstance(error, InputError):
            raise
        raise full(path, error) from None


def table(path: Path, table: pa.Table) -> None:
    """Write a table. Raises DiskFault."""
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd")


def whole(path: Path, data: bytes) -> None:
    """Write a file, and wait until it is on disk. Raises DiskFault."""
    with replacing(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def plain(value: Any) -> Any:
    """Return the JSON form of the few other types that rows hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return str(value)
