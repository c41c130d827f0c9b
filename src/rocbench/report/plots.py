"""Throughput against load with its roofline, and throughput per GPU against interactivity. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from rocbench import units
from rocbench.harmless import plotly
from rocbench.report.chart import GREY, Chart, Mark, Panel, Series, View, bracket, figure, spread_ticks
from rocbench.report.curves import Curve, Point, by_load, drawn, load_name, reasons
from rocbench.tables.row import Row, figures, number, synthetic

MARKS = "Filled marks are valid, marks with a dot have unknown validity"
LOAD = {"closed": "concurrency, users", "open": "request rate, requests/s", "trace": "trace"}
INVALID: tuple[Mark, ...] = ("invalid",)
SHORT = 1.15
"""Factor below and above a level between which its bound is drawn, if there is only one level."""
LABELS_UP_TO = 40
"""Maximum levels with labels; with more, the marks would cover the labels."""


def slug(*parts: str) -> str:
    """A file name and anchor made from words."""
    text = "-".join(parts).lower()
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in text).split())


def chart_id(name: str, workload: str, shape: str) -> str:
    """The id of a chart of one workload."""
    return slug(name, workload, "" if shape == "closed" else shape)


def throughput(curves: Sequence[Curve]) -> list[Chart]:
    """Output tokens/s against the load, one chart for each workload."""
    charts = [_throughput(*load, group) for load, group in by_load(curves).items()]
    return [chart for chart in charts if not chart.empty]


def _throughput(workload: str, shape: str, curves: list[Curve]) -> Chart:
    shown, left_out = drawn(curves)
    series = [part for curve in shown for part in _with_bound(curve)]
    levels = tuple(sorted({point.level for curve in shown for point in curve.points}))
    roofline = ""
    if any(s.line == "dash" for s in series):
        series.append(Series("roofline bound", (), (), GREY, "dash"))
        roofline = (
            " The dashed line of the same colour is the roofline bound: the maximum at that load according to the published "
            "peaks of the hardware."
        )
    return Chart(
        chart_id("throughput", workload, shape),
        f"Output throughput, {load_name(workload, shape)}",
        "Output tokens per second of the measured window: mean of the repeats, with its 95 % interval if there are "
        f"several repeats.{_thin(series)}{roofline} {MARKS}, hollow marks are invalid: no line connects them, and no figure includes them.{left_out}",
        (
            View(
                "",
                (Panel("output throughput, tokens/s", tuple(series), log_y=True),),
                LOAD[shape],
                log_x=True,
                x_ticks=spread_ticks(levels, log=True),
            ),
        ),
        synthetic=synthetic(curve.origin for curve in shown),
    )


def _thin(series: Sequence[Series]) -> str:
    """The sentence on bars from within one window, if there are any."""
    if not any(s.within for s in series):
        return ""
    return (
        " A thin bar without caps is the interval from within the window of a single repeat: repeats differ by at least "
        "this much."
    )


def _with_bound(curve: Curve) -> list[Series]:
    series = _measured(curve)
    bound = [(p.level, _bound(p)) for p in curve.points if p.level and _bound(p)]
    if len(bound) == 1:  # a line of one point is invisible
        ((level, limit),) = bound
        bound = [(level / SHORT, limit), (level * SHORT, limit)]
    if bound:
        x, y = zip(*bound, strict=True)
        series.append(
            Series(
                f"bound: {curve.name}",
                x,
                y,
                curve.colour,
                "dash",
                hover_all=f"roofline bound of {plotly(curve.name)}<br>%{{y:,.0f}} tokens/s",
                legend=False,
            )
        )
    return series


def _bound(point: Point) -> float | None:
    return max(figures((*point.rows, *point.invalid), "roofline_output_throughput"), default=None)


def _measured(curve: Curve) -> list[Series]:
    """A curve's mean output throughput with intervals, and its invalid rows one by one."""
    column = "output_throughput"
    points = [p for p in curve.points if p.mean(column) is not None and p.level]
    intervals = [p.interval(column) for p in points]
    series = [
        Series(
            curve.name,
            tuple(p.level for p in points),
            tuple(i.estimate for i in intervals),
            curve.colour,
            symbol=curve.symbol,
            marks=tuple(p.mark for p in points),
            low=tuple(number(i.low) for i in intervals),
            high=tuple(number(i.high) for i in intervals),
            hover=tuple(_hover(curve, p) for p in points),
        )
    ]
    single = [(p.level, i) for p in points if not math.isnan((i := p.within(column)).low)]
    if single:
        series.append(
            Series(
                f"{curve.name}, within the window",
                tuple(level for level, _ in single),
                tuple(i.estimate for _, i in single),
                curve.colour,
                "none",
                low=tuple(i.low for _, i in single),
                high=tuple(number(i.high) for _, i in single),
                legend=False,
                within=True,
            )
        )
    bad = [(p, row) for p in curve.points for row in p.invalid if row.get(column) is not None and p.level]
    if bad:
        series.append(
            Series(
                f"{curve.name}, invalid",
                tuple(p.level for p, _ in bad),
                tuple(float(row[column]) for _, row in bad),
                curve.colour,
                "none",
                curve.symbol,
                INVALID * len(bad),
                hover=tuple(_hover_row(curve, p, row) for p, row in bad),
                legend=not points,
            )
        )
    return [s for s in series if s.x]


def _hover(curve: Curve, point: Point) -> str:
    output = point.interval("output_throughput")
    spread = f" ± {figure(output.half_width)}" if output.n > 1 else bracket(point.within("output_throughput"))
    lines = [
        f"<b>{plotly(curve.name)}</b>",
        f"{curve.level(point)}, n={output.n}",
        f"{figure(output.estimate)}{spread} output tokens/s",
        f"{figure(point.mean('output_throughput_per_gpu'))} per GPU",
        f"TTFT p50 {figure(point.mean('median_ttft_ms'), 'ms')}, p99 {_p99(point, 'ttft')}",
        f"TPOT p50 {figure(point.mean('median_tpot_ms'), 'ms')}, p99 {_p99(point, 'tpot')}",
        f"{units.percent(point.mean('roofline_share'))} of the roofline bound",
        {"valid": "valid", "unknown": "validity unknown"}.get(point.mark, "") + _reasons(point.rows),
    ]
    return "<br>".join(lines)


def _p99(point: Point, latency: str) -> str:
    """A p99 in ms: `812 ± 20` between repeats, or `812 [790, 870]` within the window of a single one."""
    interval = point.interval(f"p99_{latency}_ms")
    spread = (
        f" ± {figure(interval.half_width)}" if interval.n > 1 else bracket(point.within(f"p99_{latency}_ms"))
    )
    return f"{figure(interval.estimate)}{spread} ms" if interval.n else units.ABSENT


def _hover_row(curve: Curve, point: Point, row: Row) -> str:
    lines = [
        f"<b>{plotly(curve.name)}</b>",
        f"{curve.level(point)}, repeat {row.get('repeat')}",
        f"{figure(row.get('output_throughput'))} output tokens/s",
        f"INVALID{_reasons((row,))}",
    ]
    return "<br>".join(lines)


def _reasons(rows: Iterable[Row]) -> str:
    codes = reasons(rows)
    return f": {codes}" if codes else ""


# --- Pareto


def pareto(curves: Sequence[Curve]) -> list[Chart]:
    """Throughput per GPU against interactivity, one chart for each workload."""
    charts = [_pareto(*load, group) for load, group in by_load(curves).items()]
    return [chart for chart in charts if not chart.empty]


def interactivity(point: Point) -> float | None:
    """Output tokens/s per user: 1000 / median TPOT in ms."""
    tpot = point.mean("median_tpot_ms")
    return 1000 / tpot if tpot else None


def _pareto(workload: str, shape: str, curves: list[Curve]) -> Chart:
    shown, left_out = drawn(curves)
    per_gpu = any(p.mean("output_throughput_per_gpu") is not None for c in shown for p in c.points)
    column = "output_throughput_per_gpu" if per_gpu else "output_throughput"
    series = [_pareto_series(curve, column) for curve in shown]
    series = _labelled([s for s in series if s.x])
    front = frontier([(x, y) for s in series for x, y in zip(s.x, s.y, strict=True) if y is not None])
    if len(front) > 1:
        x, y = zip(*front, strict=True)
        series.append(Series("Pareto frontier", x, y, GREY, "dot", hover_all="Pareto frontier"))
    return Chart(
        chart_id("pareto", workload, shape),
        f"Throughput vs interactivity, {load_name(workload, shape)}",
        "Each mark is one load level, labelled with its number. Further right, each user gets more tokens/s "
        "(1000 / median TPOT in ms); further up, each GPU delivers more tokens/s. No other configuration is better in both "
        f"than a point on the dotted frontier. {MARKS}; invalid rows are excluded.{left_out}",
        (
            View(
                "",
                (
                    Panel(
                        f"output throughput, tokens/s{'/GPU' if per_gpu else ''}", tuple(series), log_y=True
                    ),
                ),
                "interactivity, tokens/s/user",
                log_x=True,
            ),
        ),
        synthetic=synthetic(curve.origin for curve in shown),
    )


def _pareto_series(curve: Curve, column: str) -> Series:
    points = [p for p in curve.points if interactivity(p) and p.mean(column) is not None]
    return Series(
        curve.name,
        tuple(interactivity(p) or 0.0 for p in points),
        tuple(p.mean(column) for p in points),
        curve.colour,
        symbol=curve.symbol,
        marks=tuple(p.mark for p in points),
        hover=tuple(f"{_hover(curve, p)}<br>{figure(interactivity(p))} tokens/s/user" for p in points),
        labels=tuple(f"{p.level:,g}" for p in points),
    )


def _labelled(series: list[Series]) -> list[Series]:
    """The series with labels: marks at the same place share one label; too many marks have none."""
    if sum(len(s.x) for s in series) > LABELS_UP_TO:
        return [replace(s, labels=()) for s in series]
    near = [
        max(_decades(axis) * 0.04, 1e-9)
        for axis in ([x for s in series for x in s.x], [y for s in series for y in s.y])
    ]
    labelled = []
    for s in series:
        labels = list(s.labels)
        places = [
            (i, math.log10(x), math.log10(y))
            for i, (x, y) in enumerate(zip(s.x, s.y, strict=True))
            if x > 0 and y is not None and y > 0
        ]
        for (i, *a), (j, *b) in pairwise(places):
            if abs(a[0] - b[0]) < near[0] and abs(a[1] - b[1]) < near[1]:
                labels[i], labels[j] = "", f"{labels[i]}, {labels[j]}"
        labelled.append(replace(s, labels=tuple(labels)))
    return labelled


def _decades(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None and value > 0]
    return math.log10(max(known) / min(known)) if known else 0.0


def frontier(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point beats in both x and y, sorted by x."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (-point[0], -point[1])):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept[::-1]
