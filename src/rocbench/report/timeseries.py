"""Time series around one measured window: requests, tokens, KV cache, power. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rocbench.report.chart import Chart, Panel, Series, View
from rocbench.report.curves import Curve, Point
from rocbench.tables.row import Row, synthetic

Floats = npt.NDArray[np.float64]
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
"""Gauges of the server that are drawn."""
CELLS = 12
"""Maximum cells in the chart."""
POINTS = 240
"""Maximum points of a series."""


@dataclass(frozen=True, slots=True)
class Course:
    """Recorded series of one row; empty if not recorded. Times are in s from the measured window's start."""

    duration_s: float
    sent_s: Floats
    end_s: Floats
    tokens_per_s: Floats
    """Tokens in each whole second of the window."""
    server: dict[str, tuple[Floats, Floats]]
    """Times and values, by gauge."""
    power: tuple[Floats, Floats]
    """Times, and total power of the server's GPUs in W."""


def charts(curves: Sequence[Curve], course_of: Callable[[Row], Course | None]) -> list[Chart]:
    """One chart with a view for the best cell of each curve; none if nothing was recorded."""
    views, origins = [], set()
    cells = [(curve, _row(best)) for curve in curves if (best := curve.best()) is not None]
    for curve, row in cells[:CELLS]:
        course = course_of(row)
        name = f"{row.get('key')}, repeat {row.get('repeat')}"
        view = _view(f"{name} · {curve.run}" if curve.run else name, course) if course is not None else None
        if view is not None and view.panels:
            views.append(view)
            origins.add(curve.origin)
    left_out = f" The first {CELLS} of {len(cells)} configurations are shown." if len(cells) > CELLS else ""
    chart = Chart(
        "time-series",
        "Course of a cell before, during and after the window",
        "The list has the best cell of each configuration. The shaded area is the measured window. Before the "
        "window is warm-up; after the window, the load stays full until the last measured request has ended. Requests "
        "in flight come from the client's timestamps and are exact; running, queued and KV cache are the server's gauges."
        + left_out,
        tuple(views),
        synthetic(origins),
        "cell",
    )
    return [] if chart.empty else [chart]


def _row(point: Point) -> Row:
    """The last valid row of a point, else the last row."""
    return next((row for row in reversed(point.rows) if row.valid), point.rows[-1])


def _view(name: str, course: Course) -> View:
    requests = [_in_flight(course)] if len(course.sent_s) else []
    running, waiting, kv = (course.server.get(gauge, (np.empty(0), np.empty(0))) for gauge in GAUGES)
    requests += [
        _line("running at the server", running, 1, "requests", dash=True),
        _line("queued at the server", waiting, 3, "requests"),
    ]
    tokens = (np.arange(len(course.tokens_per_s), dtype=float), course.tokens_per_s)
    panels = (
        Panel("requests", tuple(s for s in requests if s.x)),
        Panel("tokens/s", (_line("output tokens/s", tokens, 2, "tokens/s"),)),
        Panel("KV cache, %", (_line("KV cache in use", (kv[0], 100 * kv[1]), 4, "%"),)),
        Panel("power, W", (_line("GPU power", course.power, 6, "W"),)),
    )
    return View(
        name,
        tuple(panel for panel in panels if any(series.x for series in panel.series)),
        "time from the start of the measured window, s",
        band=(0.0, course.duration_s),
    )


def _in_flight(course: Course) -> Series:
    known = course.end_s[np.isfinite(course.end_s)]
    last = float(known.max()) if len(known) else course.duration_s
    times = np.linspace(float(course.sent_s.min()), last, POINTS)
    counts = in_flight_at(times, course.sent_s, course.end_s)
    return _line("in flight at the client", (times, counts), 0, "requests", step=True)


def in_flight_at(times: Floats, sent: Floats, end: Floats) -> Floats:
    """Requests in flight at each time; a request with an unknown end (NaN) stays in flight."""
    ended = np.searchsorted(np.sort(end[np.isfinite(end)]), times, side="right")
    return np.asarray(np.searchsorted(np.sort(sent), times, side="right") - ended, dtype=float)


def _line(
    name: str,
    data: tuple[Floats, Floats],
    colour: int,
    unit: str,
    *,
    step: bool = False,
    dash: bool = False,
) -> Series:
    x, y = thinned(*data)
    return Series(
        name,
        tuple(x.tolist()),
        tuple(y.tolist()),
        colour,
        "dot" if dash else "solid",
        hover_all=f"{name}: %{{y:,.4~g}} {unit}<br>at %{{x:.1f}} s",
        step=step,
    )


def thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """At most POINTS points of a series: the means of equal sections."""
    if len(x) <= POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), POINTS)
    return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])
