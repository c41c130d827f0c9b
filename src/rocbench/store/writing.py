"""Write files of a run atomically, and copy them from one folder into another."""

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


def copy(paths: Iterable[Path], root: Path, other: Path) -> None:
    """Copy files to the same places under another folder."""
    for path in paths:
        target = other / path.relative_to(root)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        except OSError as error:
            raise full(target, error) from None


def full(path: Path, error: OSError) -> DiskFault:
    """Return the error for a file that could not be written."""
    room = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = (
        "free space, then resume with `bench sweep --resume`" if room else "give a folder that can be written"
    )
    return DiskFault(f"cannot write results: {error.strerror or error}", where=str(path), fix=fix)


def refuse_anothers(path: Path, fix: str = "choose another --out") -> None:
    """Refuse to write through another user's link, or into another user's folder that may hold such links.

    An empty folder of another user is fine (a mounted one). Inside a run folder no link is followed, whoever
    owns it.

    Raises:
        InputError: the path has such a link or folder.
    """
    path, inside = path.absolute(), False
    for place in (*reversed(path.parents), path):
        try:
            found = place.lstat()
        except OSError:  # it does not exist yet: the code that creates it reports any fault
            return
        _refuse(place, found, fix, links=inside, folders=inside)
        a_run = _is_run(place)
        if place == path or a_run:
            with suppress(OSError):
                owner = place.stat().st_uid
                if _strange(owner) and any(place.iterdir()):
                    raise InputError(
                        f"this folder belongs to another user (uid {owner}) and is not empty",
                        where=str(place),
                        fix=fix,
                    )
        inside = inside or a_run


def refuse_anothers_run(path: Path, fix: str = "choose another --out") -> None:
    """Apply the same check to a whole run folder that is to be filled or resumed: its plan is carried out.

    Raises:
        InputError: it is another user's, or something in it is, or is a link.
    """
    refuse_anothers(path, fix)
    places = [path / name for name in ("plan.json", "manifest.json", "parts", "servers")]
    for place in places:  # grows by the folders below those that are sound
        with suppress(OSError):  # not there, or not to be entered: nothing is written below it then
            _refuse(place, place.lstat(), fix, links=True, folders=True)
            if place.is_dir():
                places += [below for below in place.iterdir() if below.is_dir()]


def _refuse(place: Path, found: os.stat_result, fix: str, *, links: bool, folders: bool) -> None:
    """Refuse anything of another user's here; with `links` this user's own links too."""
    strange, link = _strange(found.st_uid), stat.S_ISLNK(found.st_mode)
    if not (link and (links or strange)) and not (folders and strange):
        return
    what = "link" if link else "folder" if stat.S_ISDIR(found.st_mode) else "file"
    whose = f"belongs to another user (uid {found.st_uid})" if strange else "is part of a run folder"
    raise InputError(
        f"this {what} {whose}: nothing is written through it",
        where=str(place),
        fix=f"remove it, or {fix}" if strange else "put what it leads to in its place",
    )


def _strange(owner: int) -> bool:
    """Return whether somebody other than this user and root owns it."""
    return owner not in (os.geteuid(), 0)


def _is_run(path: Path) -> bool:
    with suppress(OSError):
        return (path / "manifest.json").is_file()
    return False


def output_folder(folder: Path) -> Path:
    """Return a folder for a report or an export, created if missing.

    Raises:
        InputError: another user's folder or link is there (`refuse_anothers`).
        OSError: it cannot be created.
    """
    refuse_anothers(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def output_file(path: Path, data: bytes | str) -> Path:
    """Write a file of a report or an export atomically, and replace an existing one.

    Unlike the files of a run it has the permissions that the shell asks for.

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


def last_byte(file: BinaryIO) -> bytes:
    """Return the last byte of a file."""
    file.seek(-1, os.SEEK_END)
    return file.read(1)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `path` when it is complete. Raises DiskFault."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb", opener=private.fresh) as file:
            yield file
        os.replace(temporary, path)
    except (OSError, InputError) as error:
        temporary.unlink(missing_ok=True)  # the room it took may be enough for smaller files
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
