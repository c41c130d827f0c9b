"""TTFT and ITL as cumulative distributions, one view per load level. Pure; samples come from a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from rocbench.harmless import plotly
from rocbench.report.chart import PALETTE, Chart, Panel, Series, View
from rocbench.report.curves import Curve, Point, by_load, drawn, level_words, load_name
from rocbench.report.plots import chart_id
from rocbench.tables.row import Row, synthetic

Floats = npt.NDArray[np.float64]
Samples = Callable[[Row], tuple[Floats, Floats]]
"""A row's values in ms and their weights; both are empty if nothing was recorded."""

LEVELS = 6
"""Maximum levels in a chart."""
ROWS = 3
"""Maximum rows in a distribution: the latest."""

_QUANTILES = np.unique(
    np.concatenate([[0.0, 0.001, 0.005], np.linspace(0.01, 0.99, 80), [0.995, 0.999, 0.9999, 1.0]])
)


def ttft(curves: Sequence[Curve], samples: Samples) -> list[Chart]:
    """Distribution of TTFT over requests."""
    caption = "Share of completed requests whose first token arrived within this time."
    return _charts(curves, samples, "ttft", "Time to first token", "requests", caption)


def itl(curves: Sequence[Curve], samples: Samples) -> list[Chart]:
    """Distribution of ITL over tokens."""
    caption = "Share of tokens that arrived within this time after the previous token."
    return _charts(curves, samples, "itl", "Inter-token latency", "tokens", caption)


def _charts(
    curves: Sequence[Curve], samples: Samples, name: str, title: str, counted: str, caption: str
) -> list[Chart]:
    charts = []
    for (workload, shape), configurations in by_load(curves).items():
        shown, left_out = drawn(configurations, len(PALETTE))
        views = []
        for level in _levels(shown):
            series = [s for curve in shown if (s := _series(curve, level, samples, counted)) is not None]
            if series:
                panel = Panel(f"share of {counted}, %", tuple(series), y_max=1.0, percent=True)
                views.append(View(level_words(shape, level), (panel,), f"{name.upper()}, ms", log_x=True))
        charts.append(
            Chart(
                chart_id(name, workload, shape),
                f"{title}, {load_name(workload, shape)}",
                f"{caption} All repeats of a cell are combined (at most the latest {ROWS}); invalid rows are excluded.{left_out}",
                tuple(views),
                synthetic=synthetic(curve.origin for curve in shown),
                choose="load",
            )
        )
    return [chart for chart in charts if not chart.empty]


def _levels(curves: Sequence[Curve]) -> list[float]:
    """At most LEVELS levels, spread over the range, highest first."""
    levels = sorted({p.level for curve in curves for p in curve.points if p.rows})
    if len(levels) > LEVELS:
        places = np.linspace(0, len(levels) - 1, LEVELS).round().astype(int)
        levels = [levels[place] for place in places]
    return levels[::-1]


def _series(curve: Curve, level: float, samples: Samples, counted: str) -> Series | None:
    point = next((p for p in curve.points if p.level == level and p.rows), None)
    if point is None:
        return None
    values, weights = _combined(point, samples)
    if not len(values):
        return None
    x = weighted_quantiles(values, weights, _QUANTILES)
    positive = x > 0  # a log axis cannot show 0
    return Series(
        curve.name,
        tuple(x[positive].tolist()),
        tuple(_QUANTILES[positive].tolist()),
        curve.colour,
        hover_all=f"<b>{plotly(curve.name)}</b><br>%{{y:.2%}} of {counted} within %{{x:,.4~g}} ms",
    )


def _combined(point: Point, samples: Samples) -> tuple[Floats, Floats]:
    latest = sorted(point.rows, key=lambda row: str(row.get("started_at") or ""))[-ROWS:]
    values, weights = zip(*map(samples, latest), strict=True)
    return np.concatenate(values), np.concatenate(weights)


def weighted_quantiles(values: Floats, weights: Floats, shares: Floats) -> Floats:
    """Quantile for each share: the smallest value that at least this share of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached / reached[-1], shares - 1e-12)
    return np.asarray(values[order][np.minimum(places, len(values) - 1)], dtype=float)
