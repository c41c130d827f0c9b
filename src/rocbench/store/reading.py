"""Read files of a run that may be damaged: bounded, with errors that name the damage and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rocbench import jsontext, textfile
from rocbench.errors import InputError
from rocbench.tables import runformat
from rocbench.tables.row import Key, Row

AGAIN = "then `bench sweep --resume` measures that cell again"
REBUILD = "`bench sweep --resume` rebuilds it from parts/"
RESTORE = "restore the file from a copy, or omit this run"
UNREADABLE = (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError, pa.ArrowException)
"""Exceptions that the readers of Parquet and CSV raise for damaged files."""
LARGEST = 1 << 30
"""Maximum bytes of a file that is read at once; a plan of ten thousand cells has 0.1 GiB."""
MOST_VALUES = 50_000_000


def is_run(path: Path) -> bool:
    """Return True if a folder is a run folder: it has a manifest. Raises OSError if it cannot be read."""
    return (path / "manifest.json").is_file()


def again(part: Path) -> str:
    """Return the remedy for a damaged part."""
    return f"delete this file and parts/cells/{part.stem}.json, {AGAIN}"


def damaged(path: Path, why: str, fix: str) -> InputError:
    """Return the error for a damaged file."""
    return InputError(f"this file is damaged: {why}", where=str(path), fix=fix)


@contextmanager
def damage(path: Path, fix: str) -> Iterator[None]:
    """Convert any error in reading a file into an InputError that reports the damage.

    Raises:
        InputError: the file could not be read.
    """
    try:
        yield
    except UNREADABLE as error:
        raise damaged(path, one_line(error), fix) from None


def one_line(error: Exception) -> str:
    """Return an exception's first line."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def value(path: Path, fix: str) -> Any:
    """Return the content of a JSON file. Raises InputError."""
    try:
        text = textfile.read_text(path, most=LARGEST)
        return jsontext.parse(text, finite=False, most=MOST_VALUES)
    except InputError as error:
        raise damaged(path, error.what, fix) from None


def row(path: Path) -> Row:
    """Return a row of `cells`, checked. Raises InputError."""
    fix = f"delete this file, {AGAIN}"
    columns = value(path, fix)
    with damage(path, fix):
        return Row(runformat.row(columns))


def once(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of a run. Raises runformat.Mismatch if a measurement has two rows."""
    by_key: dict[Key, Row] = {}
    for each in rows:
        if by_key.setdefault(each.key, each) is not each:
            raise runformat.Mismatch(f"cell {each.key[0]} repeat {each.key[1]} has two rows")
    return list(by_key.values())


def json_files(folder: Path) -> list[Path]:
    """Return the JSON files of a folder, oldest first; empty without the folder. Raises OSError, unlike a glob."""
    try:
        paths = [path for path in folder.iterdir() if path.suffix == ".json"]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(paths, key=lambda path: path.lstat().st_mtime_ns)


def schema(path: Path, name: str, fix: str) -> pa.Schema:
    """Return a table's columns, checked, without reading its rows."""
    with damage(path, fix):
        schema = pq.read_schema(path)
        runformat.check_table(name, schema)
        return schema.remove_metadata()


def part(path: Path, name: str) -> pa.Table:
    """Return all rows of a part."""
    with damage(path, again(path)):
        table = pq.read_table(path)
        runformat.check_table(name, table.schema)
        table.validate(full=True)
        return table.replace_schema_metadata()


def together(name: str, schemas: Sequence[pa.Schema], paths: Sequence[Path]) -> pa.Schema:
    """Return the columns of several files of one table.

    Raises:
        InputError: a column is text in one and numbers in another.
    """
    try:
        return pa.unify_schemas([pa.schema([]), *schemas], promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(
            f"the runs have different column types in {name}.parquet: {one_line(error)}",
            where=", ".join(map(str, paths[:3])),
            fix="omit one of these runs",
        ) from None
