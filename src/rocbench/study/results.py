"""A study's own tables in addition to the report: artefacts, and figures next to the published ones. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rocbench import units
from rocbench.report.curves import marked
from rocbench.report.table import Table
from rocbench.study import agreement, faults
from rocbench.study.agreement import PredictedLevel
from rocbench.study.faults import CurveLevel
from rocbench.study.parts import StudyPart
from rocbench.study.schema import Study, Tables
from rocbench.tables.row import Row, listed
from rocbench.verdict.codes import VOIDING

Runs = Sequence[tuple[StudyPart, Sequence[Row]]]
LEVELS = (  # total tokens/s, output tokens/s and p99 E2EL: published, in these rows, and the error
    "",
    "model",
    "workload",
    "requests",
    "users",
    "in flight",
    "published tok/s",
    "tok/s",
    "error",
    "published output tok/s",
    "output tok/s",
    "published p99, s",
    "p99, s",
    "error",
)
VOID = (
    "part, configuration and workload",
    "users",
    "n",
    "in flight",
    "total tok/s",
    "CoV of total",
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
JUDGE = "these differences are not judged; to judge them, run: bench ablate RUN --factor aiter=off,on --include-invalid"


def artefacts(study: Study, runs: Runs) -> Table:
    """Return the artefacts that each method's rows show, with place and code."""
    by_method = {
        name: [
            artefact
            for part, rows in runs
            if part.method == name
            for artefact in faults.examine(rows, method.headline)
        ]
        for name, method in study.methods.items()
        if any(part.method == name for part, _ in runs)
    }
    lines = []
    for check in faults.CHECKS:
        for method, artefacts in by_method.items():
            matches = [artefact for artefact in artefacts if artefact.check == check.id]
            codes = sorted({code for artefact in matches for code in artefact.codes})
            example = f"{matches[0].where}: {matches[0].evidence}" if matches else units.ABSENT
            lines.append((check.title, method, str(len(matches)), ", ".join(codes) or units.ABSENT, example))
    valid = [
        f"valid rows of {part.id}: {sum(row.valid is True for row in rows)} of {len(rows)}"
        for part, rows in runs
    ]
    header = ("effect of the harness", "method", "occurrences", "codes", "example")
    return Table("artefacts", "Figures caused by the harness", header, tuple(lines), tuple(valid))


def void(study: Study, runs: Runs) -> list[Table]:
    """Return the void figures of methods that void their rows: they describe the method, not the server.

    No other table has them. Every level is listed; if a part has AITER off and on, one row has both arms.
    """
    curves_of = [
        (part, faults.curves(faults.counted(rows)))
        for part, rows in runs
        if study.methods[part.method].by_design
    ]
    levels = tuple(
        _void_cells(part, name, level)
        for part, curves in curves_of
        for name, levels in curves.items()
        for level in levels
    )
    arms = tuple(cells for part, curves in curves_of for cells in _arms(part, curves))
    note = (
        "these figures are void because of their method: at full scale, compare them only with published figures of the same"
        " method"
    )
    tables = (
        Table(
            "void-levels", "Void figures of a replay", VOID, levels, (note,), frozenset(range(len(levels)))
        ),
        Table("void-arms", "Void figures of AITER off and on", ARMS, arms, (note, JUDGE)),
    )
    return [table for table in tables if table.rows]


def _void_cells(part: StudyPart, name: str, level: CurveLevel) -> tuple[str, ...]:
    void = VOIDING.intersection(listed(level.rows))
    latencies = ("median_ttft_ms", "median_tpot_ms", "p99_e2el_ms")
    return (
        f"{_place(part, level)}: {name}",
        str(level.users),
        str(len(level.rows)),
        f"{level.in_flight:.0f}",
        f"{level.total:,.0f}",
        units.percent(level.spread("total_token_throughput")),
        f"{level.output:,.0f}",
        *(units.number(level.mean(column)) for column in latencies),
        f"VOID: {', '.join(sorted(void))}" if void else "not void",
    )


def _arms(part: StudyPart, curves: Mapping[str, Sequence[CurveLevel]]) -> Iterator[tuple[str, ...]]:
    """Yield each level that has AITER off and on."""
    for name, levels in curves.items():
        on = {level.users: level for level in curves.get(name.replace(" AITER off", " AITER on"), ())}
        for off in levels if " AITER off" in name else ():
            if off.users in on:
                other = on[off.users]
                yield (
                    f"{_place(part, off)}: {name.replace(' AITER off', '')}",
                    str(off.users),
                    f"{len(off.rows)}, {len(other.rows)}",
                    f"{off.total:,.0f}",
                    f"{other.total:,.0f}",
                    f"{other.total / off.total - 1:+.1%}",
                    units.percent(off.spread("total_token_throughput")),
                    units.percent(other.spread("total_token_throughput")),
                )


def _place(part: StudyPart, level: CurveLevel) -> str:
    """Return the part, and the origin of its figures."""
    return marked(part.id, level.rows[0].origin)


def published(tables: Tables | None, runs: Runs) -> list[Table]:
    """Return the rows of replayed sweeps next to the published figures, and the errors by model."""
    if tables is None:
        return []
    plans = {part.sweep: part.plan for part, _ in runs}
    levels = agreement.predicted_levels(tables, plans, [row for _, rows in runs for row in rows])
    simulated = any(row.get("simulated") for _, rows in runs for row in rows)
    note = "rows are simulated: no hardware was measured" if simulated else ""
    return [replace(published_levels(levels), notes=(note,)), errors(levels)] if levels else []


def published_levels(levels: Sequence[PredictedLevel]) -> Table:
    """Return the published levels next to their predictions."""
    return Table("published", "Published levels", LEVELS, tuple(map(_level_cells, levels)))


def errors(levels: Sequence[PredictedLevel]) -> Table:
    """Return the errors of total tokens/s and p99 by model, fitted and held out."""
    header = ("", "levels", "median error of total tok/s", "maximum", "median error of p99")
    rows = tuple(
        (
            s.name,
            str(s.levels),
            units.percent(s.median),
            units.percent(s.maximum),
            units.percent(s.p99_median),
        )
        for s in agreement.summaries(levels)
    )
    return Table("errors", "Errors against the published levels", header, rows)


def _level_cells(level: PredictedLevel) -> tuple[str, ...]:
    curve = level.curve
    arm = f" AITER {curve.aiter}" if curve.aiter else ""
    return (
        "inferred" if curve.peak else "held out" if curve.held_out else "fitted",
        curve.model + arm,
        curve.workload,
        str(curve.requests),
        str(level.users),
        f"{level.in_flight:.0f}",
        f"{level.total:,.0f}",
        f"{level.predicted_total:,.0f}",
        f"{level.error:+.1%}",
        units.ABSENT if level.output is None else f"{level.output:,.0f}",
        f"{level.predicted_output:,.0f}",
        units.ABSENT if level.p99_s is None else f"{level.p99_s:.2f}",
        f"{level.predicted_p99_s:.2f}",
        units.ABSENT if level.p99_error is None else f"{level.p99_error:+.1%}",
    )
