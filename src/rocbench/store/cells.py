"""Cell rows as a frame, and reading a single cells file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from rocbench import harmless, textfile
from rocbench.columns import CELLS
from rocbench.errors import InputError
from rocbench.store.reading import LARGEST, UNREADABLE, one_line
from rocbench.tables import runformat


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
    # The copy joins the columns of each type, which convert_dtypes leaves as separate blocks.
    return pd.DataFrame(columns).convert_dtypes().copy()


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Return the values of an undocumented column: booleans, numbers or, if the kinds are mixed, text."""
    kinds = {
        bool if isinstance(value, bool) else str if isinstance(value, str) else float
        for value in values
        if value is not None
    }
    return values if len(kinds) <= 1 else [None if value is None else str(value) for value in values]
