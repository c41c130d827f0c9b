"""Many runs over time: one figure of each configuration by day, and its change points. Pure."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

from rocbench import columns, stats
from rocbench.harmless import plotly
from rocbench.judgement import detectable, trend
from rocbench.report.chart import Chart, Panel, Series, View, figure
from rocbench.report.curves import Curve, RunInfo, drawn
from rocbench.report.plots import slug
from rocbench.report.table import Table
from rocbench.tables.row import Row, figures, number, synthetic

METRICS = ("output_throughput", "median_ttft_ms", "median_tpot_ms")


def changes(curves: Sequence[Curve], runs: Sequence[RunInfo]) -> tuple[list[Chart], list[Table]]:
    """The best level of each configuration over all runs, one chart per workload; the changes, and what could be seen."""
    starts = {run.run_id: seconds(run.begun_at) for run in runs}
    unit = {column.name: column.unit for column in columns.CELLS}
    charts: list[Chart] = []
    rows: list[tuple[str, ...]] = []
    sights: list[tuple[str, ...]] = []
    for workload in dict.fromkeys(curve.workload for curve in curves):
        configurations = [curve for curve in curves if curve.workload == workload]
        shown, left_out = drawn(configurations)
        views = []
        for metric in METRICS:
            series = [_line(curve, metric, starts) for curve in shown]
            for curve in configurations:
                found, view = _changes(curve, metric, starts)
                rows += found
                sights += view
            panel = Panel(f"{metric}, {unit[metric]}", tuple(s for s in series if s.x))
            views.append(View(metric, (panel,), "start of the run, UTC", date_x=True))
        charts.append(
            Chart(
                slug("history", workload),
                f"History over the runs, {workload}",
                "Each configuration at the load level that is best over all runs. Each mark is the mean of a run's repeats, with 95 % interval. "
                f"Invalid rows are excluded.{left_out}",
                tuple(views),
                synthetic=synthetic(curve.origin for curve in shown),
                choose="metric",
            )
        )
    none = () if rows else ("no change was found",)
    notes = (*none, detectable.rate(len(sights)), KEPT)
    header = (
        "configuration",
        "workload",
        "metric",
        "changed at",
        "change",
        "p",
        "in words",
        "first told after",
    )
    changes_ = Table("changes", "Changes over the runs", header, tuple(rows), notes)
    columns_ = ("configuration", "workload", "metric", "nights", "spread", "minimum step")
    could = Table(
        "sight", "Smallest change that the next nights would show", columns_, tuple(sights), (STEP,)
    )
    return [chart for chart in charts if not chart.empty], [changes_, could]


KEPT = (
    "a change that was told stays in this table; later nights correct its date, kind and size, "
    "and mark it as contradicted if the 95 % interval of its size includes 0"
)
STEP = (
    f"minimum step: the smallest step after the last night that is told within {detectable.WITHIN} nights with 80 % power; "
    "a dash: not known yet, or no step would be told so soon"
)


def _by_run(curve: Curve, metric: str, starts: dict[str, float]) -> list[tuple[float, stats.Interval, Row]]:
    """Start of each run, its figure at the curve's best level, and one of its rows, oldest first."""
    point = curve.best()
    by_run: dict[str, list[Row]] = {}
    for row in point.rows if point else ():
        by_run.setdefault(str(row.get("run_id")), []).append(row)
    return [
        (starts[run], stats.mean_interval(figures(rows, metric)), rows[0])
        for run, rows in sorted(by_run.items(), key=lambda item: starts.get(item[0], 0.0))
        if run in starts and figures(rows, metric)
    ]


def _line(curve: Curve, metric: str, starts: dict[str, float]) -> Series:
    runs = _by_run(curve, metric, starts)
    return Series(
        curve.name,
        tuple(start for start, _, _ in runs),
        tuple(i.estimate for _, i, _ in runs),
        curve.colour,
        symbol=curve.symbol,
        low=tuple(number(i.low) for _, i, _ in runs),
        high=tuple(number(i.high) for _, i, _ in runs),
        hover=tuple(
            "<br>".join(
                [
                    f"<b>{plotly(curve.name)}</b>",
                    plotly(str(row.get("key"))),
                    plotly(str(row.get("run_id"))),
                    f"{figure(i.estimate)} {metric}, n={i.n}",
                ]
            )
            for _, i, row in runs
        ),
    )


def _changes(
    curve: Curve, metric: str, starts: dict[str, float]
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Rows of a series for the table of changes, and its row for the table of what could be seen."""
    runs = _by_run(curve, metric, starts)
    nights = [i.estimate for _, i, _ in runs]
    if not nights:
        return [], []
    of = curve.name, curve.workload, metric
    rows: list[tuple[str, ...]] = [
        (
            *of,
            _minute(runs[c.index][0]),
            f"{c.change:+.1%}",
            f"{c.p:.3f}",
            trend.words(c.kind, c.change, c.low, c.high, c.nights),
            _minute(runs[c.told][0]),
        )
        for c in trend.change_points(nights)
    ]
    view = detectable.sight(nights)
    sizes = (f"{size:.2%}" if math.isfinite(size) else "-" for size in (view.spread, view.smallest))
    return rows, [(*of, str(view.nights), *sizes)]


def _minute(start: float) -> str:
    return datetime.datetime.fromtimestamp(start, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def seconds(begun_at: str) -> float:
    """ISO time as seconds since 1970; 0 if there is none."""
    try:
        return datetime.datetime.fromisoformat(begun_at).timestamp()
    except ValueError:
        return 0.0
