"""The table of prediction intervals, and their origin."""

from __future__ import annotations

from typing import Any

from rocbench.report import predicted
from rocbench.tables.row import Row


def row(cell: str, repeat: int = 1, **columns: Any) -> Row:
    """A predicted row."""
    return Row({"cell_id": cell, "key": f"m/short/{cell}", "repeat": repeat, "predicted": True, **columns})


NEAR = {
    "predicted_output_throughput_low": 900.0,
    "predicted_output_throughput_high": 1100.0,
    "predicted_median_tpot_ms_low": 10.0,
    "predicted_median_tpot_ms_high": 12.5,
    "predicted_intervals_from": "errors of m at 9 conditions that were left out",
    "predicted_extrapolation": "",
}
FAR = NEAR | {
    "predicted_output_throughput_high": 9000.0,
    "predicted_extrapolation": "1,000 requests in flight is 8 times the highest fitted load; no fitted row has tp 4",
}


def test_a_level_has_one_line_with_its_intervals():
    """Repeats have the same; figures without an interval have no column; the farthest respect stands beside it."""
    table = predicted.table([row("c1", **NEAR), row("c1", 2, **NEAR), row("c1000", **FAR)])
    assert table.header == ("level", "out tok/s", "TPOT p50 ms", "extrapolated")
    assert table.rows == (
        ("m/short/c1", "900 to 1,100", "10.0 to 12.5", "-"),
        (
            "m/short/c1000",
            "900 to 9,000",
            "10.0 to 12.5",
            "1,000 requests in flight is 8 times the highest fitted load",
        ),
    )


def test_the_notes_say_where_intervals_come_from():
    """Once, with the number of levels that are extrapolated, or why there are none."""
    notes = predicted.notes([row("c1", **NEAR), row("c1000", **FAR)])
    assert notes[0] == "prediction intervals: errors of m at 9 conditions that were left out"
    assert notes[1].startswith("extrapolated: 1 of 2 levels")
    without = row("c1", predicted_intervals_from="none for output_throughput: no row was measured")
    assert predicted.notes([without]) == [
        "prediction intervals: none for output_throughput: no row was measured"
    ]
    assert not predicted.table([without]).rows


def test_measured_rows_have_none():
    """No table, no note."""
    assert not predicted.table([row("c1")]).rows
    assert predicted.notes([row("c1")]) == []
