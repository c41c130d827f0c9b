"""Throughput over load: saturation of a server's curves, and the meaning of a row for its level. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import pandas as pd

from rocbench.judgement import slo
from rocbench.judgement.compare import by, key_columns
from rocbench.tables.row import Row, records

LEVELS = ("concurrency", "request_rate")
NOT_DELIVERED = {"concurrency_not_delivered", "client_saturated", "open_file_limit", "late_sends"}
"""Codes of a load that may not have reached the server in full."""
OVERLOADED = {"closed": {"error_rate"}, "open": {"error_rate", "overloaded", "littles_law", "not_steady"}}
"""Codes that answer a search, by the load's shape: the server cannot take this load."""
METRIC = "output_throughput"

Said = Literal["figures", "overloaded", "not delivered", "invalid"]


def said(row: Row) -> Said:
    """Meaning of a row for its level: figures, an overloaded server, or the reason why it means nothing."""
    if row.valid is not False:
        return "figures"
    if OVERLOADED.get(str(row.get("load_shape")), set()).intersection(row.codes):
        return "overloaded"
    return "not delivered" if NOT_DELIVERED.intersection(row.codes) else "invalid"


def curves(frame: pd.DataFrame, gain: float = 0.05) -> pd.DataFrame:
    """The saturation point of every curve: a row per server and workload measured at 2 or more levels.

    Columns: properties that differ between curves, levels, peak (output tokens/s), saturation, low, high
    (95 % interval), note.

    Args:
        frame: `cells` rows.
        gain: share of throughput that a doubling of the load must bring.
    """
    rows = [row for row in records(frame) if row.level is not None]
    names = [name for name in key_columns(rows, []) if name not in LEVELS]
    found = []
    for key, cells in by(rows, names).items():
        if len({row.level for row in cells}) > 1:
            found.append(dict(zip(names, key, strict=True)) | saturation(cells, gain))
    return pd.DataFrame(found)


def saturation(rows: Iterable[Row], gain: float) -> dict[str, Any]:
    """The saturation point of one curve's rows, as columns."""
    listed = [row for row in rows if row.level is not None]
    figures: dict[float, list[float]] = {}
    for row in listed:
        if said(row) == "figures" and (output := row.figure(METRIC)) is not None:
            figures.setdefault(row.level or 0.0, []).append(output)
    delivered = dict.fromkeys(figures, True)
    lost: set[float] = set()
    for row in listed:
        level = row.level or 0.0
        if level not in figures:
            (delivered.__setitem__(level, False) if said(row) == "not delivered" else lost.add(level))
    lost -= delivered.keys()
    found = slo.saturation(
        figures | {level: [] for level, there in delivered.items() if not there}, delivered, gain=gain
    )
    notes = [found.note] if found.note else []
    if lost:
        notes.append("no valid row at " + ", ".join(f"{level:g}" for level in sorted(lost)))
    return {
        "levels": ", ".join(f"{level:g}" for level in sorted(figures)),
        "peak": found.peak,
        "saturation": found.level,
        "low": found.low,
        "high": found.high,
        "note": "; ".join(notes),
    }
