"""Prediction intervals of predicted rows as a table, with their origin. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from rocbench.columns import PREDICTED_FIGURES
from rocbench.report.table import Table
from rocbench.tables.row import Row, text
from rocbench.units import number

NAMES = {
    "output_throughput": "out tok/s",
    "total_token_throughput": "total tok/s",
    "median_ttft_ms": "TTFT p50 ms",
    "p99_ttft_ms": "TTFT p99 ms",
    "median_tpot_ms": "TPOT p50 ms",
    "p99_tpot_ms": "TPOT p99 ms",
    "median_e2el_ms": "E2EL p50 ms",
    "p99_e2el_ms": "E2EL p99 ms",
}


def table(rows: Iterable[Row]) -> Table:
    """Return the 95 % prediction intervals of each level, of its first repeat; without rows if none has any."""
    firsts: dict[str, Row] = {}
    for row in rows:
        if any(row.figure(f"predicted_{name}_high") is not None for name in PREDICTED_FIGURES):
            firsts.setdefault(str(row.get("cell_id")), row)
    body = tuple(
        (
            text(row.get("key")),
            *(_interval(row, name) for name in PREDICTED_FIGURES),
            text(row.get("predicted_extrapolation")).split("; ")[0] or "-",
        )
        for row in firsts.values()
    )
    header = ("level", *(NAMES[name] for name in PREDICTED_FIGURES), "extrapolated")
    return Table(
        "predicted", "95 % prediction intervals", header, body, tuple(notes(firsts.values()))
    ).without_absent()


def _interval(row: Row, name: str) -> str:
    low, high = (row.figure(f"predicted_{name}_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return "-"
    digits = 1 if name.endswith("_ms") and high < 1000 else 0
    return f"{number(low, digits)} to {number(high, digits)}"


def notes(rows: Iterable[Row]) -> list[str]:
    """Return the origin of the intervals, or why there are none, once each, and the number of extrapolated levels."""
    rows = list(rows)
    origins = dict.fromkeys(text(row.get("predicted_intervals_from")) for row in rows)
    found = [f"prediction intervals: {origin}" for origin in origins if origin]
    far = {row.get("cell_id") for row in rows if text(row.get("predicted_extrapolation"))}
    if far:
        found.append(
            f"extrapolated: {len(far)} of {len({row.get('cell_id') for row in rows})} levels are outside those that the"
            " calibration was fitted to, or in a gap between them (column predicted_extrapolation): their intervals are"
            " wider"
        )
    return found
