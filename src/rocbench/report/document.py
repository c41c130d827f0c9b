"""A whole report as data: text, charts and tables, ready to be written as a page or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rocbench import __version__, units
from rocbench.judgement.slo import Limit
from rocbench.report import distributions, effects, history, plots, summary, tables, timeseries
from rocbench.report.chart import Chart
from rocbench.report.curves import POOLED_FROM, Curve, curves
from rocbench.report.material import Readings, RunData
from rocbench.report.table import Table
from rocbench.tables.row import Row


@dataclass(slots=True)
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


def build(runs: Sequence[RunData], limits: Sequence[Limit] = ()) -> Document:
    """Build the report on some runs.

    Args:
        runs: as `material.read` gives them.
        limits: the SLO; if empty, the sweeps' own SLO.
    """
    found = curves([(run.info, run.rows) for run in runs])
    rows = [row for run in runs for row in run.rows]
    words = ", ".join(str(limit) for limit in limits)
    judged, words = (list(limits), words) if limits else summary.sweep_limits([run.plan for run in runs])
    gain = summary.gain_of([run.plan for run in runs])
    searched = summary.searched([(run.info, run.rows, run.searches) for run in runs])
    capacity = summary.capacity(found, judged, words)
    goals = [table for table in (capacity, searched) if table.rows] or [capacity]
    return Document(
        title=_title(runs),
        subtitle=_subtitle(runs),
        banner=_banner({row.origin for row in rows}),
        summary=(
            summary.best(found).without_constant("workload").without_absent(),
            summary.saturation(found, gain).without_constant("workload").without_absent(),
            *(table.without_constant("workload").without_absent() for table in goals),
            summary.doubts(rows),
            *(
                table
                for table in (summary.failed(rows), summary.errors(rows), summary.notes(rows))
                if table.rows
            ),
        ),
        sections=(*(s for s in _sections(runs, found) if s.charts or s.tables), _rows(runs, rows)),
        servers=tuple(_servers(runs)),
        after=(tables.environment([run.manifest for run in runs]), tables.definitions()),
    )


def _banner(origins: set[str]) -> tuple[str, str]:
    """The note on rows that were not measured on a GPU."""
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
            'No GPU was measured: rows "(predicted)" were computed in virtual time, the others simulated.',
        )
    ends = " or ".join(f'"({name})"' for name in sorted(synthetic))
    return "SIMULATED IN PART", f"Rows whose name ends in {ends} come from no GPU."


def _rows(runs: Sequence[RunData], rows: Sequence[Row]) -> Section:
    names = {run.info.run_id: run.info.label for run in runs}
    if len(runs) >= POOLED_FROM:
        rows = [row for run in reversed(runs) for row in run.rows]  # latest first: long tables are cut
    counts = [len(run.rows) for run in runs]
    read = tables.runs([run.info for run in runs], [run.manifest for run in runs], counts)
    return Section("rows", "Rows", tables=[read, tables.cells(rows, names)])


def _title(runs: Sequence[RunData]) -> str:
    sweeps = list(dict.fromkeys(str(run.manifest.get("sweep", "run")) for run in runs))
    return ", ".join(sweeps[:3]) + (" and others" if len(sweeps) > 3 else "")


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


def _sections(runs: Sequence[RunData], found: Sequence[Curve]) -> list[Section]:
    readings = Readings(runs)
    sections = [
        Section("throughput", "Throughput", plots.throughput(found)),
        Section("pareto", "Throughput vs interactivity", plots.pareto(found)),
        Section(
            "latency",
            "Latency",
            [*distributions.ttft(found, readings.ttft), *distributions.itl(found, readings.itl)],
        ),
        Section("time", "Over time", timeseries.chart(found, readings.course)),
        _ablation(runs),
        _comparison(runs),
    ]
    if len(runs) >= POOLED_FROM:
        charts, moved = history.charts(found, [run.info for run in runs])
        sections.append(Section("history", "Over the runs", charts, moved))
    return sections


def _ablation(runs: Sequence[RunData]) -> Section:
    section = Section("ablation", "Ablation")
    for run in runs[-POOLED_FROM:]:
        factors = (run.plan.get("sweep") or {}).get("factors") or {}
        if factors:
            charts, made = effects.ablation(run.cells, factors)
            section.charts += [_renamed(c, run, runs) for c in charts]
            section.tables += made
    return section


def _renamed(chart: Chart, run: RunData, runs: Sequence[RunData]) -> Chart:
    from dataclasses import replace

    if len(runs) == 1:
        return chart
    return replace(chart, id=plots.slug(chart.id, run.info.label), title=f"{chart.title}, {run.info.label}")


def _comparison(runs: Sequence[RunData]) -> Section:
    """Each run against the first; among many runs, the last against the latest that shares a cell with it."""
    section = Section("comparison", "Comparison")
    if len(runs) < 2:
        return section
    pairs = [(runs[0], run) for run in runs[1:]]
    if len(runs) >= POOLED_FROM:
        mine = {row.get("key") for row in runs[-1].rows}
        alike = (run for run in reversed(runs[:-1]) if mine & {row.get("key") for row in run.rows})
        pairs = [(next(alike, runs[-2]), runs[-1])]
    for a, b in pairs:
        charts, made = effects.comparison((a.info.label, a.cells), (b.info.label, b.cells))
        section.charts += charts
        section.tables += made
    return section


def _servers(runs: Sequence[RunData]) -> list[tuple[str, str, Table]]:
    """Each server command once, with its runs: runs of the same plan launch the same servers."""
    found: dict[tuple[str, str], tuple[Table, list[str]]] = {}
    for run in runs:
        for server, line, table in tables.commands(run.plan):
            found.setdefault((server, line), (table, []))[1].append(run.info.label)
    return [
        (f"{server} · {units.some(labels)}" if len(runs) > 1 else server, line, table)
        for (server, line), (table, labels) in found.items()
    ]
