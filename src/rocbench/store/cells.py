"""Cell rows as a frame, and reading a single cells file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from rocbench import harmless, textfile
from rocbench.columns import CELLS
from rocbench.errors import InputError
from rocbench.store.reading import LARGEST, UNREADABLE, one_line
from rocbench.tables import runformat

_MAX_INT = 2**63


def read_cells(path: Path) -> pd.DataFrame:
    """Read a cells file without its run folder: cells.csv or cells.parquet.

    Raises:
        InputError: it is not a cells file.
    """
    content = io.BytesIO(textfile.read_bytes(path, most=LARGEST))
    try:
        if path.suffix == ".csv":
            texts = dict.fromkeys(runformat.TEXTS, str)
            frame = harmless.undone(pd.read_csv(content, dtype=texts, low_memory=False))
            rows = runformat.rows(frame)
            names = set(frame.columns)
        else:
            table = pq.read_table(content)
            rows, names = table.to_pylist(), set(table.column_names)
        if not {"cell_id", "repeat"} <= names:
            raise InputError(
                "not a table of cells: the columns cell_id and repeat are missing", where=str(path)
            )
        return frame_of([runformat.row(row) for row in rows])
    except UNREADABLE as error:
        raise InputError(f"cannot be read as a table of cells: {one_line(error)}", where=str(path)) from None


def frame_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return cell rows as a frame: documented columns first, one dtype per column."""
    documented = [column.name for column in CELLS]
    extra = sorted({name for row in rows for name in row} - set(documented))
    columns = {name: [row.get(name) for row in rows] for name in documented}
    columns |= {name: _of_one_kind([row.get(name) for row in rows]) for name in extra}
    if not rows:
        return pd.DataFrame(columns).convert_dtypes()
    return pd.DataFrame({name: _array(values) for name, values in columns.items()})


def _array(values: list[Any]) -> Any:
    """Return a column's values with the type that `convert_dtypes` gives them, in a third of its time."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return np.array(values, dtype=object)
    if kinds == {str}:
        return pd.array(values, dtype="string")
    absent = np.array([value is None for value in values])
    if kinds == {bool}:
        return pd.arrays.BooleanArray(np.array(values, dtype=np.bool_), absent)
    if any(type(value) is int and not -_MAX_INT <= value < _MAX_INT for value in values):
        kinds = set()  # no array of numbers holds it
    if kinds == {int}:
        return pd.arrays.IntegerArray(np.array([value or 0 for value in values], dtype=np.int64), absent)
    if kinds in ({float}, {int, float}):
        figures = np.array(values, dtype=np.float64)  # an absent one becomes NaN
        absent = np.isnan(figures)
        figures[absent] = 0.0
        if ((np.abs(figures) < _MAX_INT) & (figures == np.rint(figures))).all():
            return pd.arrays.IntegerArray(figures.astype(np.int64), absent)
        return pd.arrays.FloatingArray(figures, absent)
    return pd.Series(values).convert_dtypes().array


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Return the values of an undocumented column: booleans, numbers or, if the kinds are mixed, text."""
    kinds = {
        bool if isinstance(value, bool) else str if isinstance(value, str) else float
        for value in values
        if value is not None
    }
    return values if len(kinds) <= 1 else [None if value is None else str(value) for value in values]
