"""TTFT and ITL as cumulative distributions, one view per load level. Pure; samples come from a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from rocbench.harmless import plotly
from rocbench.report.chart import PALETTE, Chart, Panel, Series, View
from rocbench.report.curves import Curve, Point, drawn, level_words, load_name, workloads
from rocbench.report.plots import slug
from rocbench.tables.row import Row, synthetic

Floats = npt.NDArray[np.float64]
Samples = Callable[[Row], tuple[Floats, Floats]]
"""A row's values in ms and their weights; both are empty if nothing was recorded."""

LEVELS = 6
ROWS = 3
"""Maximum number of levels in a chart (LEVELS), and of rows, the latest, in a distribution (ROWS)."""

_QUANTILES = np.unique(
    np.concatenate([[0.0, 0.001, 0.005], np.linspace(0.01, 0.99, 80), [0.995, 0.999, 0.9999, 1.0]])
)


def ttft(found: Sequence[Curve], samples: Samples) -> list[Chart]:
    """Distribution of TTFT over requests."""
    return _charts(
        found,
        samples,
        "ttft",
        "Time to first token",
        "TTFT, ms",
        "share of requests, %",
        "Share of completed requests whose first token had come after so many ms.",
    )


def itl(found: Sequence[Curve], samples: Samples) -> list[Chart]:
    """Distribution of ITL over tokens."""
    return _charts(
        found,
        samples,
        "itl",
        "Inter-token latency",
        "ITL, ms",
        "share of tokens, %",
        "Share of tokens that came within so many ms of the one before.",
    )


def _charts(
    found: Sequence[Curve], samples: Samples, name: str, title: str, x: str, y: str, caption: str
) -> list[Chart]:
    charts = []
    for workload, shape in workloads(found):
        mine, left = drawn([c for c in found if (c.workload, c.shape) == (workload, shape)], len(PALETTE))
        views = []
        for level in chosen_levels(mine):
            series = [s for curve in mine if (s := _series(curve, level, samples, y)) is not None]
            if series:
                label = level_words(shape, level)
                views.append(View(label, (Panel(y, tuple(series), y_max=1.0, percent=True),), x, log_x=True))
        charts.append(
            Chart(
                slug(name, workload, "" if shape == "closed" else shape),
                f"{title}, {load_name(workload, shape)}",
                f"{caption} Repeats are taken together, at most the latest {ROWS}; invalid rows are left out.{left}",
                tuple(views),
                synthetic=synthetic(curve.origin for curve in mine),
                choose="load",
            )
        )
    return [chart for chart in charts if not chart.empty]


def chosen_levels(mine: Sequence[Curve]) -> list[float]:
    """At most LEVELS levels: the highest first, then others spread over the range."""
    levels = sorted({p.level for curve in mine for p in curve.points if p.rows})
    if len(levels) > LEVELS:
        places = np.linspace(0, len(levels) - 1, LEVELS).round().astype(int)
        levels = [levels[place] for place in places]
    return levels[::-1]


def _series(curve: Curve, level: float, samples: Samples, unit: str) -> Series | None:
    point = next((p for p in curve.points if p.level == level and p.rows), None)
    if point is None:
        return None
    values, weights = _taken(point, samples)
    if not len(values):
        return None
    x = weighted_quantiles(values, weights, _QUANTILES)
    positive = x > 0  # a log axis cannot show 0
    return Series(
        curve.name,
        tuple(_short(v) for v in x[positive]),
        tuple(float(q) for q in _QUANTILES[positive]),
        curve.colour,
        hover_all=f"<b>{plotly(curve.name)}</b><br>%{{y:.2%}} of {unit.removeprefix('share of ').removesuffix(', %')} within %{{x:,.4~g}} ms",
    )


def _taken(point: Point, samples: Samples) -> tuple[Floats, Floats]:
    latest = sorted(point.rows, key=lambda row: str(row.get("started_at") or ""))[-ROWS:]
    parts = [samples(row) for row in latest]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def weighted_quantiles(values: Floats, weights: Floats, shares: Floats) -> Floats:
    """Quantile for each share: the smallest value that at least this share of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached / reached[-1], shares - 1e-12)
    return np.asarray(values[order][np.minimum(places, len(values) - 1)], dtype=float)


def _short(value: float) -> float:
    return float(f"{value:.5g}")
