"""A whole report as data: text, charts and tables, ready to be written as a page or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from rocbench import __version__, units
from rocbench.judgement.slo import Limit
from rocbench.report import distributions, effects, history, plots, predicted, summary, tables, timeseries
from rocbench.report.chart import Chart
from rocbench.report.curves import POOLED_FROM, Curve
from rocbench.report.material import Readings, RunData, curves_of
from rocbench.report.table import Table
from rocbench.tables.row import Row

SERVERS_NOTE = "Launch commands to paste into a shell, with the origin of each flag."


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its content, in order."""

    id: str
    title: str
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Document:
    """A report."""

    title: str
    subtitle: str
    banner: tuple[str, str]
    """Warning for every reader: a word and a sentence; both are empty if every row was measured."""
    summary: tuple[Table, ...]
    sections: tuple[Section, ...]
    servers: tuple[tuple[str, str, Table], ...]
    """For each server: its name, its command line, and the provenance of each flag."""
    after: tuple[Table, ...]
    """Tables of the environment and of definitions."""

    def charts(self) -> list[Chart]:
        """Every plot, in order."""
        return [chart for section in self.sections for chart in section.charts]


def build(
    runs: Sequence[RunData], limits: Sequence[Limit] = (), past: pd.DataFrame | None = None
) -> Document:
    """Build the report on some runs.

    Args:
        runs: as `material.read_runs` gives them.
        limits: the SLO; if empty, the sweeps' own SLO.
        past: rows of the runs around them, which show comparisons how far nights differ.
    """
    curves = curves_of(runs)
    rows = [row for run in runs for row in run.rows]
    saturation, capacity, searched = summary.loads(runs, curves, limits)
    goals = [table for table in (capacity, searched) if table.rows] or [capacity]
    findings = (
        predicted.table(rows),
        summary.failed(rows),
        summary.errors(rows),
        summary.notes(rows),
        summary.power(runs),
    )
    return Document(
        title=_title(runs),
        subtitle=_subtitle(runs),
        banner=_banner({row.origin for row in rows}),
        summary=(
            *(
                table.without_constant("workload").without_absent()
                for table in (summary.best(curves), saturation, *goals)
            ),
            summary.doubts(rows),
            *(table for table in findings if table.rows),
        ),
        sections=(*(s for s in _sections(runs, curves, past) if s.charts or s.tables), _rows(runs, rows)),
        servers=tuple(_servers(runs)),
        after=(tables.environment([run.manifest for run in runs]), tables.definitions()),
    )


def _banner(origins: set[str]) -> tuple[str, str]:
    """The warning about rows that were not measured on a GPU."""
    synthetic = origins & {"simulated", "predicted"}
    if not synthetic:
        return "", ""
    if origins == {"predicted"}:
        return (
            "PREDICTED",
            "Every figure here was computed in virtual time. Nothing ran, and no GPU was measured.",
        )
    if origins == {"simulated"}:
        return "SIMULATED", "Every figure here comes from the simulated server. No GPU was measured."
    if origins == synthetic:
        return (
            "SIMULATED",
            'No GPU was measured. Rows marked "(predicted)" were computed in virtual time; all other rows come from the simulated server.',
        )
    ends = " or ".join(f'"({name})"' for name in sorted(synthetic))
    return "SIMULATED IN PART", f"Rows whose name ends in {ends} were not measured on a GPU."


def _rows(runs: Sequence[RunData], rows: Sequence[Row]) -> Section:
    names = {run.info.run_id: run.info.label for run in runs}
    if len(runs) >= POOLED_FROM:
        rows = [row for run in reversed(runs) for row in run.rows]  # latest first: long tables are cut
    return Section("rows", "Rows", tables=[tables.runs(runs), tables.cells(rows, names)])


def _title(runs: Sequence[RunData]) -> str:
    return units.some(list(dict.fromkeys(str(run.manifest.get("sweep", "run")) for run in runs)))


def _subtitle(runs: Sequence[RunData]) -> str:
    first, last = runs[0].info, runs[-1].info
    when = first.begun_at[:16].replace("T", " ")
    name = first.run_id
    if len(runs) > 1:
        when = f"{len(runs)} runs, {when} to {last.begun_at[:16].replace('T', ' ')}"
        name = (
            ", ".join(run.info.label for run in runs) if len(runs) < POOLED_FROM else f"the last {last.label}"
        )
    return f"{when} UTC · {name} · rocbench {__version__}"


def _sections(runs: Sequence[RunData], curves: Sequence[Curve], past: pd.DataFrame | None) -> list[Section]:
    readings = Readings(runs)
    sections = [
        Section("throughput", "Throughput", plots.throughput(curves)),
        Section("pareto", "Throughput vs interactivity", plots.pareto(curves)),
        Section(
            "latency",
            "Latency",
            [*distributions.ttft(curves, readings.ttft), *distributions.itl(curves, readings.itl)],
        ),
        Section("time", "Over time", timeseries.charts(curves, readings.course)),
        _ablation(runs),
        _comparison(runs, past),
    ]
    if len(runs) >= POOLED_FROM:
        sections.append(
            Section("history", "Over the runs", *history.changes(curves, [run.info for run in runs]))
        )
    return sections


def _ablation(runs: Sequence[RunData]) -> Section:
    section = Section("ablation", "Ablation")
    for run in runs[-POOLED_FROM:]:
        charts, effect_tables = effects.ablation(run)
        section.charts.extend(charts if len(runs) == 1 else (_renamed(c, run.info.label) for c in charts))
        section.tables.extend(effect_tables)
    return section


def _renamed(chart: Chart, label: str) -> Chart:
    return replace(chart, id=plots.slug(chart.id, label), title=f"{chart.title}, {label}")


def _comparison(runs: Sequence[RunData], past: pd.DataFrame | None) -> Section:
    """Each run against the first; among many runs, the last against the latest that shares a cell with it."""
    section = Section("comparison", "Comparison")
    pairs = [(runs[0], run) for run in runs[1:]]
    if len(runs) >= POOLED_FROM:
        keys = {row.get("key") for row in runs[-1].rows}
        related = (run for run in reversed(runs[:-1]) if keys & {row.get("key") for row in run.rows})
        pairs = [(next(related, runs[-2]), runs[-1])]
    for a, b in pairs:
        charts, effect_tables = effects.comparison(a, b, past)
        section.charts.extend(charts)
        section.tables.extend(effect_tables)
    return section


def _servers(runs: Sequence[RunData]) -> list[tuple[str, str, Table]]:
    """Each server command once, with its runs: runs of the same plan launch the same servers."""
    servers: dict[tuple[str, str], tuple[Table, list[str]]] = {}
    for run in runs:
        for server, line, table in tables.commands(run.plan):
            servers.setdefault((server, line), (table, []))[1].append(run.info.label)
    return [
        (f"{server} · {units.some(labels)}" if len(runs) > 1 else server, line, table)
        for (server, line), (table, labels) in servers.items()
    ]
