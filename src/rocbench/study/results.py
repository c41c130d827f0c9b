"""What a study's own rows say beside the report: its artefacts, and its figures beside the published ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rocbench.report.table import Table
from rocbench.study import agreement, faults
from rocbench.study.agreement import Line
from rocbench.study.parts import Part
from rocbench.study.schema import Study, Tables

Row = Mapping[str, Any]
Runs = Sequence[tuple[Part, Sequence[Row]]]
LINES = (  # total tokens/s and p99 E2EL: published, here, and how far that is off
    "",
    "model",
    "workload",
    "requests",
    "users",
    "in flight",
    "tok/s",
    "here",
    "error",
    "p99 s",
    "here",
    "error",
)


def artefacts(study: Study, runs: Runs) -> Table:
    """Which of the eight artefacts each method's rows show, where, and by which code."""
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
        f"{part.id}: {sum(row.get('valid') is True for row in rows_)} of {len(rows_)} rows valid"
        for part, rows_ in runs
    ]
    header = ("artefact", "method", "places", "codes", "for example")
    return Table("artefacts", "What of the figures comes from the harness", header, tuple(rows), tuple(valid))


def published(tables: Tables | None, runs: Runs) -> list[Table]:
    """The rows of replayed sweeps beside what was published, and the errors by model."""
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
    """Errors of total tokens/s and p99 by model, fitted and held out."""
    header = ("", "levels", "median error of total tok/s", "largest", "median error of p99")
    rows = tuple(
        (s.name, str(s.levels), f"{s.median:.1%}", f"{s.largest:.1%}", _percent(s.p99_median))
        for s in agreement.summaries(lines)
    )
    return Table("errors", "Errors against the published levels", header, rows)


def line_cells(line: Line) -> tuple[str, ...]:
    """One level as LINES has it."""
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
        "-" if line.p99_s is None else f"{line.p99_s:.2f}",
        f"{line.predicted_p99_s:.2f}",
        "-" if line.p99_error is None else f"{line.p99_error:+.1%}",
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
