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
from rocbench.tables import kept


def read_cells(path: Path) -> pd.DataFrame:
    """Read a cells file by itself: cells.csv or cells.parquet, from any place.

    Raises:
        InputError: it is not a cells file.
    """
    held = io.BytesIO(textfile.read_bytes(path, most=LARGEST))
    try:
        if path.suffix == ".csv":
            texts = dict.fromkeys(kept.TEXTS, str)
            frame = harmless.undone(pd.read_csv(held, dtype=texts, low_memory=False))
            rows = kept.rows(frame)
            names = set(frame.columns)
        else:
            table = pq.read_table(held)
            rows, names = table.to_pylist(), set(table.column_names)
        if not {"cell_id", "repeat"} <= names:
            raise InputError("these are no cells: cell_id and repeat are missing", where=str(path))
        return frame_of([kept.row(row) for row in rows])
    except UNREADABLE as error:
        raise InputError(f"cannot be read as cells: {one_line(error)}", where=str(path)) from None


def frame_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return cell rows as a frame: documented columns first, one dtype per column."""
    documented = [column.name for column in CELLS]
    extra = sorted({name for row in rows for name in row} - set(documented))
    held = {name: [row.get(name) for row in rows] for name in documented}
    held |= {name: _of_one_kind([row.get(name) for row in rows]) for name in extra}
    frame = pd.DataFrame(held)
    # The copy joins the columns of one type, each of which is a separate block before.
    return frame.convert_dtypes().copy()


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Return values of a column with a free name: booleans, numbers or, if the kinds are mixed, text."""
    kinds = {
        bool if isinstance(value, bool) else str if isinstance(value, str) else float
        for value in values
        if value is not None
    }
    return values if len(kinds) <= 1 else [None if value is None else str(value) for value in values]
