"""Rows for other programs: CSV with one line per figure, or JSON with one line per row. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

from rocbench.columns import CELLS
from rocbench.export.source import Source
from rocbench.harmless import csv_text

IDENTITY = (
    "run_id cell_id repeat model workload concurrency request_rate hardware vllm_version precision tp aiter axes "
    "simulated predicted valid reasons"
).split()


def csv_long(sources: Iterable[Source]) -> str:
    """CSV with one line per figure: the columns of IDENTITY, then `metric`, `unit`, `better` and `value`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*IDENTITY, "metric", "unit", "better", "value"])
    for source in sources:
        identity = [_cell(source.get(name)) for name in IDENTITY]
        for column in CELLS:
            value = source.get(column.name)
            if column.name in IDENTITY or isinstance(value, bool | str) or value is None:
                continue
            writer.writerow([*identity, column.name, column.unit, column.better or "", value])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str):
        return csv_text(value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def jsonl(sources: Iterable[Source]) -> str:
    """One JSON object per row, with every column that has a value."""
    names = [column.name for column in CELLS]
    return "".join(json.dumps(source.present(names), default=str) + "\n" for source in sources)
