"""Many run folders: search them under one folder, and read them as one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from rocbench.errors import InputError
from rocbench.store import reading
from rocbench.store.folder import RunFolder

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset


def find(root: Path, left_out: Callable[[InputError], None] | None = None) -> list[RunFolder]:
    """Return every run folder under `root`, oldest first; a run folder itself is a list of one.

    Args:
        root: the folder to search.
        left_out: called for each of several that cannot be read; without it the first one is an error.

    Raises:
        InputError: there is no run, or one is damaged.
        OSError: it is not readable.
    """
    if (root / "manifest.json").is_file():
        return [RunFolder.open(root)]
    found = []
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        try:
            if _is_run(path):
                found.append(RunFolder.open(path))
        except (InputError, OSError) as error:
            if left_out is None:
                raise
            left_out(error if isinstance(error, InputError) else _unreadable(path, error))
    if not found:
        raise InputError("no run folder here", where=str(root), fix="bench sweep writes one")
    return sorted(found, key=lambda folder: str(folder.manifest.get("begun_at")))


def _is_run(path: Path) -> bool:
    try:
        (path / "manifest.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot be read: {error.strerror or error}", where=str(error.filename or path))


def dataset(folders: Sequence[RunFolder], name: str) -> Dataset | None:
    """Return one of TABLES over several runs, not read yet; None when no run recorded it.

    A column that only some runs have is null in the others; numbers of two types are read as the wider one.

    Raises:
        InputError: a file is damaged, or a column is text in one run and numbers in another.
    """
    from pyarrow import dataset as arrow  # 50 ms, for queries alone

    there = [path for folder in folders if (path := folder.path / f"{name}.parquet").is_file()]
    schemas = []
    for path in there:
        with reading.damage(path, reading.REBUILD):
            schemas.append(pq.read_schema(path))
    schema = reading.together(name, schemas, there)
    return arrow.dataset([str(path) for path in there], schema=schema, format="parquet") if there else None
