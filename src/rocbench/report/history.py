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
from rocbench.tables.row import Row, figures, synthetic

METRICS = ("output_throughput", "median_ttft_ms", "median_tpot_ms")


def charts(found: Sequence[Curve], runs: Sequence[RunInfo]) -> tuple[list[Chart], list[Table]]:
    """The best level of each configuration over all runs, one chart per workload, and the change points."""
    days = {run.run_id: seconds(run.begun_at) for run in runs}
    unit = {column.name: column.unit for column in columns.CELLS}
    made, moved = [], []
    for workload in dict.fromkeys(curve.workload for curve in found):
        every = [curve for curve in found if curve.workload == workload]
        mine, left = drawn(every)
        views = []
        for metric in METRICS:
            series = [_line(curve, metric, days) for curve in mine]
            moved += [change for curve in every for change in _changes(curve, metric, days)]
            panel = Panel(f"{metric}, {unit[metric]}", tuple(s for s in series if s.x))
            views.append(View(metric, (panel,), "begin of the run, UTC", date_x=True))
        made.append(
            Chart(
                slug("history", workload),
                f"Over the runs, {workload}",
                "Each configuration at the level at which it did best over all runs; mean of a run's repeats with its "
                f"95 % interval. Invalid rows are left out.{left}",
                tuple(views),
                synthetic=synthetic(curve.origin for curve in mine),
                choose="metric",
            )
        )
    found_none = () if moved else ("no figure changed its level",)
    notes = (*found_none, "changes of level by binary segmentation with permutation tests at the 1 % level")
    header = ("configuration", "workload", "metric", "moved at", "change", "p")
    return [chart for chart in made if not chart.empty], [
        Table("changes", "Where figures moved", header, tuple(moved), notes)
    ]


def _nights(curve: Curve, metric: str, days: dict[str, float]) -> list[tuple[float, stats.Interval, Row]]:
    """Start of each run, its figure at the curve's best level, and one of its rows, oldest first."""
    point = curve.best()
    by_run: dict[str, list[Row]] = {}
    for row in point.rows if point else ():
        by_run.setdefault(str(row.get("run_id")), []).append(row)
    return [
        (days[run], stats.mean_interval(figures(rows, metric)), rows[0])
        for run, rows in sorted(by_run.items(), key=lambda item: days.get(item[0], 0.0))
        if run in days and figures(rows, metric)
    ]


def _line(curve: Curve, metric: str, days: dict[str, float]) -> Series:
    figures = _nights(curve, metric, days)
    return Series(
        curve.name,
        tuple(at for at, _, _ in figures),
        tuple(i.estimate for _, i, _ in figures),
        curve.colour,
        symbol=curve.symbol,
        low=tuple(i.low if i.n > 1 else None for _, i, _ in figures),
        high=tuple(i.high if i.n > 1 else None for _, i, _ in figures),
        hover=tuple(
            "<br>".join(
                [
                    f"<b>{plotly(curve.name)}</b>",
                    plotly(str(row.get("key"))),
                    plotly(str(row.get("run_id"))),
                    f"{figure(i.estimate)} {metric}, n={i.n}",
                ]
            )
            for _, i, row in figures
        ),
    )


def _changes(curve: Curve, metric: str, days: dict[str, float]) -> list[tuple[str, str, str, str, str, str]]:
    figures = _nights(curve, metric, days)
    return [
        (
            curve.name,
            curve.workload,
            metric,
            datetime.datetime.fromtimestamp(figures[c.index][0], datetime.UTC).strftime("%Y-%m-%d %H:%M"),
            f"{c.change:+.1%}",
            f"{c.p:.3f}",
        )
        for c in trend.change_points([i.estimate for _, i, _ in figures])
    ]


def seconds(begun_at: str) -> float:
    """ISO time as seconds since 1970; 0 if there is none."""
    try:
        return datetime.datetime.fromisoformat(begun_at).timestamp()
    except ValueError:
        return 0.0
