"""Throughput over load: saturation of a server's curves, and the meaning of a row for its level. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import pandas as pd

from rocbench.judgement import slo
from rocbench.judgement.compare import grouped, key_columns
from rocbench.judgement.slo import by_level, level_list
from rocbench.tables.row import Row, figures, records

LEVELS = ("concurrency", "request_rate")
NOT_DELIVERED = {"concurrency_not_delivered", "client_saturated", "open_file_limit", "late_sends"}
"""Codes of a load that may not have reached the server in full."""
OVERLOADED = {"closed": {"error_rate"}, "open": {"error_rate", "overloaded", "littles_law", "not_steady"}}
"""Codes that answer a search, by the load's shape: the server cannot take this load."""
METRIC = "output_throughput"

Meaning = Literal["figures", "overloaded", "not delivered", "invalid"]


def meaning(row: Row) -> Meaning:
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
    return pd.DataFrame(
        [
            dict(zip(names, key, strict=True)) | saturation(cells, gain)
            for key, cells in grouped(rows, names).items()
            if len(by_level(cells)) > 1
        ]
    )


def saturation(rows: Iterable[Row], gain: float) -> dict[str, Any]:
    """The saturation point of one curve's rows, as columns."""
    levels = by_level(row for row in rows if row.level is not None)
    throughput = {
        level: figures((row for row in at_level if meaning(row) == "figures"), METRIC)
        for level, at_level in levels.items()
    }
    delivered = {level: True for level, values in throughput.items() if values}
    invalid = [
        level
        for level, at_level in levels.items()
        if level not in delivered and all(meaning(row) != "not delivered" for row in at_level)
    ]
    curve = {level: values for level, values in throughput.items() if level not in invalid}
    point = slo.saturation(curve, delivered, gain=gain)
    notes = [point.note] if point.note else []
    if invalid:
        notes.append(f"no valid row at {level_list(invalid)}")
    return {
        "levels": level_list(delivered),
        "peak": point.peak,
        "saturation": point.level,
        "low": point.low,
        "high": point.high,
        "note": "; ".join(notes),
    }
