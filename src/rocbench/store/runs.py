"""Several run folders: find them under one folder, and read them as one table."""

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
        left_out: called for each run that cannot be read; without it the first one raises.

    Raises:
        InputError: there is no run, or one is damaged.
        OSError: it is not readable.
    """
    if reading.is_run(root):
        return [RunFolder.open(root)]
    folders = []
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        try:
            if reading.is_run(path):
                folders.append(RunFolder.open(path))
        except (InputError, OSError) as error:
            if left_out is None:
                raise
            if isinstance(error, OSError):
                what = f"cannot be read: {error.strerror or error}"
                error = InputError(what, where=str(error.filename or path))
            left_out(error)
    if not folders:
        raise InputError(
            "no run folder here", where=str(root), fix="give the folder that `bench sweep` wrote"
        )
    return sorted(folders, key=lambda folder: str(folder.manifest.get("begun_at")))


def dataset(folders: Sequence[RunFolder], name: str) -> Dataset | None:
    """Return one of TABLES over several runs, not read yet; None if no run recorded it.

    A column that only some runs have is null in the others; numbers of two types are read as the wider type.

    Raises:
        InputError: a file is damaged, or a column is text in one run and numbers in another.
    """
    from pyarrow import dataset as arrow  # takes 50 ms, and only queries need it

    paths = [path for folder in folders if (path := folder.path / f"{name}.parquet").is_file()]
    schemas = []
    for path in paths:
        with reading.damage(path, reading.REBUILD):
            schemas.append(pq.read_schema(path))
    schema = reading.together(name, schemas, paths)
    return arrow.dataset([str(path) for path in paths], schema=schema, format="parquet") if paths else None
