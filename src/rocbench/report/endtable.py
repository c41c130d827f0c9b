"""The end table of a sweep: throughput, latency, share of the roofline bound and verdict of each level.

Repeats are one line: the mean and the half width of its 95 % interval. One repeat has the half width from within
its window, marked `≥`, because repeats differ by at least as much. Narrow terminals get fewer columns; lines never
wrap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from rocbench import units
from rocbench.harmless import one_line
from rocbench.judgement.disambiguation import disambiguated
from rocbench.report.curves import Curve, Point, RunInfo, curves, load_notes, reasons
from rocbench.server import failures
from rocbench.tables.row import Row, figures, listed
from rocbench.verdict.codes import meaning

NARROW = 110
"""Terminal width, in characters, below which only the deciding columns are shown."""
BROAD = 135
"""Terminal width, in characters, from which p99s have their intervals."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of figures."""

    heading: str
    column: str
    """Column of `cells`."""
    digits: int
    """Decimals; -1 for a percentage."""
    width: int = 0
    """Minimum terminal width, in characters."""


COLUMNS = (
    TableColumn("out tok/s", "output_throughput", 0),
    TableColumn("±", "output_throughput", 0),
    TableColumn("/GPU", "output_throughput_per_gpu", 0, NARROW),
    TableColumn("of bound", "roofline_share", -1),
    TableColumn("TTFT p50", "median_ttft_ms", 1),
    TableColumn("p99", "p99_ttft_ms", 1, NARROW),
    TableColumn("±", "p99_ttft_ms", 0, BROAD),
    TableColumn("TPOT p50", "median_tpot_ms", 1),
    TableColumn("p99", "p99_tpot_ms", 1, NARROW),
    TableColumn("±", "p99_tpot_ms", 0, BROAD),
    TableColumn("done", "completed", 0, NARROW),
    TableColumn("failed", "failed", 0, NARROW),
)

SINGLE = "≥: from within the window of one repeat; repeats differ by at least this much. ≥?: the window is too short to tell"
NOTICES = {
    "simulated": "SIMULATED: these figures come from the simulated server, not from hardware",
    "predicted": "PREDICTED: these figures were computed in virtual time; nothing ran",
}
LEVELS = {"closed": "users", "open": "requests/s", "trace": "load"}
"""Unit of the first column, by the shape of the load."""


def show(rows: Iterable[Row], console: Console) -> None:
    """Print the table, then the meaning of each code in it."""
    counted = disambiguated(row for row in rows if not row.discarded)
    for warning in warnings(row.origin for row in counted):
        console.print(f"[yellow]{warning}[/]")
    table = lines(curves([(RunInfo("", "", ""), counted)]), console.width)
    for line in table:
        console.print(line, no_wrap=True, overflow="ellipsis", soft_wrap=False)
    if any("≥" in line.plain for line in table):
        console.print(Text(f"  {SINGLE}", style="dim"))
    _meanings(counted, console)


def warnings(origins: Iterable[str]) -> list[str]:
    """The warning lines above figures that were not measured on a GPU."""
    present = set(origins)
    return [line for name, line in NOTICES.items() if name in present]


def lines(configurations: Sequence[Curve], width: int) -> list[Text]:
    """The table as lines that fit the width."""
    points = [point for curve in configurations for point in curve.points]
    known = {c.column for c in COLUMNS if any(_spread(point, c.column) != units.ABSENT for point in points)}
    shown = [c for c in COLUMNS if width >= c.width and (c.column in known or c.heading != "±")]
    headings = [c.heading for c in shown]
    body = [(curve, point, _figures(point, shown)) for curve in configurations for point in curve.points]
    header = [max((LEVELS[curve.shape] for curve in configurations), key=len, default=""), *headings]
    widths = [
        max(len(name), *(len(cells[index]) for _, _, cells in body), 4) for index, name in enumerate(header)
    ]
    out: list[Text] = []
    last = None
    for curve, point, cells in body:
        if last is None or curve.shape != last.shape:
            out.append(_line([LEVELS[curve.shape], *headings], widths, Text("verdict"), "bold"))
        if curve is not last:
            out.append(Text(one_line(f"{curve.name}, {curve.load}"), style="bold cyan"))
            last = curve
        out.append(_line(cells, widths, verdict_text(point), ""))
    for line in out:
        line.truncate(width, overflow="ellipsis")
    return out


def _line(cells: Sequence[str], widths: Sequence[int], last: Text, style: str) -> Text:
    padded = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return Text.assemble((f"  {padded}  ", style), last)


def _figures(point: Point, shown: Sequence[TableColumn]) -> list[str]:
    rows = point.rows or point.invalid
    return [f"{point.level:,g}" if point.level else "-", *(_cell(point, rows, column) for column in shown)]


def _cell(point: Point, rows: Sequence[Row], shown: TableColumn) -> str:
    if shown.heading == "±":
        return _spread(point, shown.column)
    values = figures(rows, shown.column)
    if not values or any(row.few_samples(shown.column) for row in rows):
        return units.ABSENT
    if shown.column in {"completed", "failed"}:
        return f"{sum(values):,.0f}"
    mean = sum(values) / len(values)
    return units.percent(mean) if shown.digits < 0 else units.number(mean, shown.digits)


def _spread(point: Point, column: str) -> str:
    """`1.2 %` between repeats, `≥0.8 %` within the window of a single one, `≥?` if that has no upper end.

    None for predicted rows: how their repeats differ says nothing of how far the prediction is from a measurement.
    """
    if any(row.origin == "predicted" for row in point.rows):
        return units.ABSENT
    interval = point.interval(column)
    if interval.n > 1:
        return units.percent(interval.relative_half_width)
    within = point.within(column)
    if math.isnan(within.low):
        return units.ABSENT
    return f"≥{units.percent(within.relative_half_width)}" if math.isfinite(within.high) else "≥?"


def verdict_text(point: Point) -> Text:
    """`valid`, `INVALID codes`, `unknown codes`; `2 of 3 invalid: codes` if repeats differ."""
    invalid = len(point.invalid)
    codes = reasons(point.invalid or point.rows)
    if invalid and point.rows:
        return Text(f"{invalid} of {invalid + len(point.rows)} INVALID: {codes}", style="red")
    match point.mark:
        case "invalid":
            return Text(f"INVALID {codes}", style="red")
        case "unknown":
            return Text(f"unknown {codes}", style="yellow")
        case _:
            return Text.assemble(("valid", "green"), (f" {codes}" if codes else "", "dim"))


def _meanings(rows: Sequence[Row], console: Console) -> None:
    for code in sorted(listed(rows)):
        cause = failures.known(code)
        console.print(Text.assemble((f"  {code}", "bold"), f": {cause.cause if cause else meaning(code)}"))
    for error in dict.fromkeys(str(row["common_error"]) for row in rows if row.get("common_error")):
        console.print(
            Text.assemble(("  requests failed", "bold"), f"; most frequent error: {one_line(error)}")
        )
    for note, noted in load_notes(rows).items():
        count = units.count_of(len(noted), "row")
        console.print(Text.assemble(("  load", "bold"), f": {note}", (f" ({count})", "dim")))
    if unchecked := sorted(listed(rows, "unknown_checks")):
        console.print(Text(f"  not checked: {', '.join(unchecked)}", style="dim"))
