"""A study's own rows in addition to the report: artefacts, and figures next to the published ones. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rocbench.report.curves import marked
from rocbench.report.table import Table
from rocbench.study import agreement, faults
from rocbench.study.agreement import Line
from rocbench.study.faults import Point
from rocbench.study.parts import Part
from rocbench.study.schema import Study, Tables
from rocbench.tables.row import Row, listed
from rocbench.verdict.codes import VOIDING

Runs = Sequence[tuple[Part, Sequence[Row]]]
LINES = (  # total tokens/s, output tokens/s and p99 E2EL: published, here, and how far that is off
    "",
    "model",
    "workload",
    "requests",
    "users",
    "in flight",
    "tok/s",
    "here",
    "error",
    "output tok/s",
    "here",
    "p99 s",
    "here",
    "error",
)
VOID = (
    "part, configuration and workload",
    "users",
    "n",
    "in flight",
    "total tok/s",
    "its CoV",
    "output tok/s",
    "TTFT p50, ms",
    "TPOT p50, ms",
    "E2EL p99, ms",
    "verdict",
)
ARMS = (
    "part, configuration and workload",
    "users",
    "n off, on",
    "total tok/s, off",
    "on",
    "difference",
    "CoV, off",
    "on",
)
JUDGED = "a difference is no verdict: bench ablate RUN --factor aiter=off,on --include-invalid judges it"


def artefacts(study: Study, runs: Runs) -> Table:
    """Return the artefacts that each method's rows show, with place and code."""
    found = {
        name: [
            finding
            for part, rows in runs
            if part.method == name
            for finding in faults.examine(rows, method.headline)
        ]
        for name, method in study.methods.items()
        if any(part.method == name for part, _ in runs)
    }
    rows = []
    for fault in faults.FAULTS:
        for method, findings in found.items():
            mine = [finding for finding in findings if finding.fault == fault.id]
            codes = sorted({code for finding in mine for code in finding.codes})
            example = f"{mine[0].where}: {mine[0].evidence}" if mine else "-"
            rows.append((fault.what, method, str(len(mine)), ", ".join(codes) or "-", example))
    valid = [
        f"{part.id}: {sum(row.valid is True for row in rows_)} of {len(rows_)} rows valid"
        for part, rows_ in runs
    ]
    header = ("artefact", "method", "places", "codes", "for example")
    return Table("artefacts", "What of the figures comes from the harness", header, tuple(rows), tuple(valid))


def void(study: Study, runs: Runs) -> list[Table]:
    """Return figures of methods that void their rows, which no other table has: they describe the method, not
    the server.

    Every level is listed; where a part has AITER off and on, both arms are in one row.
    """
    parts = [(part, faults.judged(rows)) for part, rows in runs if study.methods[part.method].by_design]
    found = [(part, faults.curves(rows)) for part, rows in parts]
    levels = tuple(
        _void_cells(part, name, point)
        for part, curves in found
        for name, points in curves.items()
        for point in points
    )
    arms = tuple(cells for part, curves in found for cells in _arms(part, curves))
    note = (
        "void by their method: at full scale they may be held against what was published by that method, and never"
        " against figures of another"
    )
    tables = (
        Table(
            "void-levels", "Void figures of a replay", VOID, levels, (note,), frozenset(range(len(levels)))
        ),
        Table("void-arms", "Void figures of AITER off and on", ARMS, arms, (note, JUDGED)),
    )
    return [table for table in tables if table.rows]


def _void_cells(part: Part, name: str, point: Point) -> tuple[str, ...]:
    void = VOIDING.intersection(listed(point.rows))
    return (
        f"{_place(part, point)}: {name}",
        str(point.users),
        str(len(point.rows)),
        f"{point.in_flight:.0f}",
        f"{point.total:,.0f}",
        _percent(point.spread("total_token_throughput")),
        f"{point.output:,.0f}",
        *(_figure(point.mean(column)) for column in ("median_ttft_ms", "median_tpot_ms", "p99_e2el_ms")),
        f"VOID: {', '.join(sorted(void))}" if void else "not void",
    )


def _arms(part: Part, curves: Mapping[str, Sequence[Point]]) -> Iterator[tuple[str, ...]]:
    """Yield each level that has AITER off and on."""
    for name, points in curves.items():
        on = {point.users: point for point in curves.get(name.replace(" AITER off", " AITER on"), ())}
        for off in points if " AITER off" in name else ():
            if off.users in on:
                other = on[off.users]
                yield (
                    f"{_place(part, off)}: {name.replace(' AITER off', '')}",
                    str(off.users),
                    f"{len(off.rows)}, {len(other.rows)}",
                    f"{off.total:,.0f}",
                    f"{other.total:,.0f}",
                    f"{other.total / off.total - 1:+.1%}",
                    _percent(off.spread("total_token_throughput")),
                    _percent(other.spread("total_token_throughput")),
                )


def _place(part: Part, point: Point) -> str:
    """Return the part, and the origin of its figures."""
    return marked(part.id, point.rows[0].origin)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def published(tables: Tables | None, runs: Runs) -> list[Table]:
    """Return the rows of replayed sweeps next to the published figures, and the errors by model."""
    if tables is None:
        return []
    plans = {part.sweep: part.plan for part, _ in runs}
    lines = agreement.lines(tables, plans, [row for _, rows in runs for row in rows])
    if not lines:
        return []
    simulated = any(row.get("simulated") for _, rows in runs for row in rows)
    note = "simulated rows: no measurement of hardware" if simulated else ""
    levels = Table("published", "Published levels", LINES, tuple(line_cells(line) for line in lines), (note,))
    return [levels, summary(lines)]


def summary(lines: Sequence[Line]) -> Table:
    """Return the errors of total tokens/s and p99 by model, fitted and held out."""
    header = ("", "levels", "median error of total tok/s", "largest", "median error of p99")
    rows = tuple(
        (s.name, str(s.levels), f"{s.median:.1%}", f"{s.largest:.1%}", _percent(s.p99_median))
        for s in agreement.summaries(lines)
    )
    return Table("errors", "Errors against the published levels", header, rows)


def line_cells(line: Line) -> tuple[str, ...]:
    """Return one level with the columns of LINES."""
    curve = line.curve
    arm = f" AITER {curve.aiter}" if curve.aiter else ""
    return (
        "inferred" if curve.peak else "held out" if curve.held_out else "fitted",
        curve.model + arm,
        curve.workload,
        str(curve.requests),
        str(line.users),
        f"{line.in_flight:.0f}",
        f"{line.total:,.0f}",
        f"{line.predicted_total:,.0f}",
        f"{line.error:+.1%}",
        "-" if line.output is None else f"{line.output:,.0f}",
        f"{line.predicted_output:,.0f}",
        "-" if line.p99_s is None else f"{line.p99_s:.2f}",
        f"{line.predicted_p99_s:.2f}",
        "-" if line.p99_error is None else f"{line.p99_error:+.1%}",
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
