"""Many runs over time: one figure of each configuration by day, and its change points. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from rocbench import columns, stats
from rocbench.harmless import plotly
from rocbench.judgement import trend
from rocbench.report.chart import Chart, Panel, Series, View, figure
from rocbench.report.curves import Curve, RunInfo, drawn
from rocbench.report.plots import slug
from rocbench.report.table import Table
from rocbench.tables.row import Row, figures, number, synthetic

METRICS = ("output_throughput", "median_ttft_ms", "median_tpot_ms")


def changes(curves: Sequence[Curve], runs: Sequence[RunInfo]) -> tuple[list[Chart], list[Table]]:
    """The best level of each configuration over all runs, one chart per workload, and the change points."""
    starts = {run.run_id: seconds(run.begun_at) for run in runs}
    unit = {column.name: column.unit for column in columns.CELLS}
    charts, rows = [], []
    for workload in dict.fromkeys(curve.workload for curve in curves):
        configurations = [curve for curve in curves if curve.workload == workload]
        shown, left_out = drawn(configurations)
        views = []
        for metric in METRICS:
            series = [_line(curve, metric, starts) for curve in shown]
            rows += [change for curve in configurations for change in _changes(curve, metric, starts)]
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
    notes = (*none, "change points are found by binary segmentation, with permutation tests at the 1 % level")
    header = ("configuration", "workload", "metric", "changed at", "change", "p")
    table = Table("changes", "Changes over the runs", header, tuple(rows), notes)
    return [chart for chart in charts if not chart.empty], [table]


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
) -> list[tuple[str, str, str, str, str, str]]:
    runs = _by_run(curve, metric, starts)
    return [
        (
            curve.name,
            curve.workload,
            metric,
            datetime.datetime.fromtimestamp(runs[c.index][0], datetime.UTC).strftime("%Y-%m-%d %H:%M"),
            f"{c.change:+.1%}",
            f"{c.p:.3f}",
        )
        for c in trend.change_points([i.estimate for _, i, _ in runs])
    ]


def seconds(begun_at: str) -> float:
    """ISO time as seconds since 1970; 0 if there is none."""
    try:
        return datetime.datetime.fromisoformat(begun_at).timestamp()
    except ValueError:
        return 0.0
