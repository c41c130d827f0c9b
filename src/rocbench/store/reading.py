"""Files of a run that may be damaged: read within bounds, and what is wrong told with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rocbench import jsontext, textfile
from rocbench.errors import InputError
from rocbench.tables import kept
from rocbench.tables.row import Key, Row

AGAIN = "then `bench sweep --resume` measures that cell again"
REBUILD = "`bench sweep --resume` writes it anew from parts/"
RESTORE = "restore the file from a copy, or leave this run out"
UNREADABLE = (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError, pa.ArrowException)
"""What the readers of Parquet and CSV raise of damaged files."""
LARGEST = 1 << 30
"""Bytes of a file that is read as a whole; a plan of ten thousand cells has 0.1 GiB."""
MOST_VALUES = 50_000_000


def again(part: Path) -> str:
    """What to do about a part that is damaged."""
    return f"delete it and parts/cells/{part.stem}.json, {AGAIN}"


def damaged(path: Path, why: str, fix: str) -> InputError:
    """What to say of a file that is damaged."""
    return InputError(f"this file is damaged: {why}", where=str(path), fix=fix)


@contextmanager
def damage(path: Path, fix: str) -> Iterator[None]:
    """Whatever goes wrong with reading a file, as its damage.

    Raises:
        InputError: something did.
    """
    try:
        yield
    except UNREADABLE as error:
        raise damaged(path, one_line(error), fix) from None


def one_line(error: Exception) -> str:
    """An exception's first line."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def value(path: Path, fix: str) -> Any:
    """What a file of JSON holds. Raises InputError."""
    try:
        text = textfile.read_text(path, most=LARGEST)
        return jsontext.parse(text, finite=False, most=MOST_VALUES)
    except InputError as error:
        raise damaged(path, error.what, fix) from None


def row(path: Path) -> Row:
    """A row of `cells`, checked. Raises InputError."""
    fix = f"delete it, {AGAIN}"
    found = value(path, fix)
    with damage(path, fix):
        return Row(kept.row(found))


def once(rows: Iterable[Row]) -> list[Row]:
    """The rows of a run. Raises kept.Unlike: a measurement stands there twice, as in another table of the run."""
    found: dict[Key, Row] = {}
    for each in rows:
        if found.setdefault(each.key, each) is not each:
            raise kept.Unlike(f"cell {each.key[0]} repeat {each.key[1]} stands there twice")
    return list(found.values())


def json_files(folder: Path) -> list[Path]:
    """Those of a folder, where there is one. Raises PermissionError, which a glob is silent about."""
    try:
        return [path for path in folder.iterdir() if path.suffix == ".json"]
    except PermissionError:
        raise
    except OSError:
        return []


def by_time(paths: Iterable[Path]) -> list[Path]:
    """Files as they were written, oldest first."""
    return sorted(paths, key=lambda path: path.lstat().st_mtime_ns)


def schema(path: Path, name: str, fix: str) -> pa.Schema:
    """A table's columns, which stand at its end, checked; its rows are not read."""
    with damage(path, fix):
        schema = pq.read_schema(path)
        kept.check_table(name, schema)
        return schema.remove_metadata()


def part(path: Path, name: str) -> pa.Table:
    """A part's rows, to the last of them."""
    with damage(path, again(path)):
        table = pq.read_table(path)
        kept.check_table(name, table.schema)
        table.validate(full=True)
        return table.replace_schema_metadata()


def together(name: str, schemas: Sequence[pa.Schema], paths: Sequence[Path]) -> pa.Schema:
    """The columns of several files of one table.

    Raises:
        InputError: a column is text in one and numbers in another.
    """
    try:
        return pa.unify_schemas([pa.schema([]), *schemas], promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(
            f"{name}.parquet of these runs does not go together: {one_line(error)}",
            where=", ".join(map(str, paths[:3])),
            fix="leave one of them out",
        ) from None
