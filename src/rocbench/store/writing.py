"""Files of a run, written whole or not at all, and copied from one folder into another."""

from __future__ import annotations

import errno
import os
import shutil
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
    """What to say of a file that was not written."""
    room = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = (
        "free space, then resume with `bench sweep --resume`" if room else "give a folder that can be written"
    )
    return DiskFault(f"cannot write results: {error.strerror or error}", where=str(path), fix=fix)


def refuse_anothers(path: Path) -> None:
    """An empty folder of another user is fine (a mounted one); a full one may hold links to files of ours."""
    with suppress(OSError):
        owner = path.stat().st_uid
        if owner not in (os.geteuid(), 0) and any(path.iterdir()):
            raise InputError(
                f"this folder belongs to another user (uid {owner}) and is not empty",
                where=str(path),
                fix="choose another --out",
            )


def last_byte(file: BinaryIO) -> bytes:
    """The byte that a file ends with."""
    file.seek(-1, os.SEEK_END)
    return file.read(1)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when it is whole. Raises DiskFault."""
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
    """Write a file, and wait until it is on the disk. Raises DiskFault."""
    with replacing(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def plain(value: Any) -> Any:
    """JSON form of the few other types that rows hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return str(value)
