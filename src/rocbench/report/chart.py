"""A chart as data: series with units, intervals and verdicts. `plotly_page` and `static` draw it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rocbench import stats, units

Mark = Literal["valid", "unknown", "invalid"]
Line = Literal["solid", "dash", "dot", "none"]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#4D4D4D")
"""Okabe and Ito's colours, distinct in all common forms of colour blindness, without the pale yellow."""
INK, GRID = "#1f2328", "#e4e7eb"
"""Colours of text and of grid lines."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star", "hexagon")
GREY = -1
"""Colour of points that belong to no series."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line, cloud or row of points. An absent value is None and leaves a gap."""

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    colour: int = 0
    """Index into PALETTE, or GREY."""
    line: Line = "solid"
    symbol: int | None = None
    """Index into SYMBOLS; None draws no marks."""
    marks: tuple[Mark, ...] = ()
    """The verdict of each point, drawn as filled, dotted or hollow. Empty means all valid."""
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    """Ends of the 95 % interval of y (of x in a panel with `rows`)."""
    hover: tuple[str, ...] = ()
    hover_all: str = ""
    """One text for all points, with plotly's `%{x}` and `%{y}`, used if `hover` is empty."""
    legend: bool = True
    step: bool = False
    """True if each value holds until the next x."""
    labels: tuple[str, ...] = ()
    """Short text next to each point."""
    within: bool = False
    """True if the interval is from within one window: its bars are thin and have no caps."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes."""

    y_title: str
    """Title of the y axis, with its unit."""
    series: tuple[Series, ...]
    log_y: bool = False
    rows: tuple[str, ...] = ()
    """Names of rows, top first. If set, y of each point is the index of its row."""
    y_max: float | None = None
    """Upper end of the axis; None if it follows the data."""
    percent: bool = False
    """True if y is a share, shown as a percentage."""


@dataclass(frozen=True, slots=True)
class View:
    """One state of a chart: stacked panels that share one x axis. A menu switches between several views."""

    name: str
    panels: tuple[Panel, ...]
    x_title: str
    log_x: bool = False
    date_x: bool = False
    """True if x is in seconds since 1970, UTC."""
    x_ticks: tuple[float, ...] = ()
    """Levels to label on the axis; if empty, the plotter chooses."""
    band: tuple[float, float] | None = None
    """The measured window, shaded."""
    zero: float | None = None
    """Position of a vertical line that means "no effect"."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot with its explanation."""

    id: str
    """Name of the chart's files, and its anchor in the page."""
    title: str
    caption: str
    """Explanation of the content, the symbols, and how to read them."""
    views: tuple[View, ...]
    synthetic: str = ""
    """The origin of figures that were not measured on a GPU: simulated, predicted, or both."""
    choose: str = ""
    """Label of the menu of views: `cell`, `load`, `metric`."""

    @property
    def empty(self) -> bool:
        """True if there is nothing to draw."""
        return not any(series.x for view in self.views for panel in view.panels for series in panel.series)


def colour(index: int) -> str:
    """A series' colour as hex."""
    return "#8C8C8C" if index == GREY else PALETTE[index % len(PALETTE)]


def symbol(index: int) -> str:
    """A series' mark, by plotly's name. The marks shift by one each time the colours repeat."""
    return SYMBOLS[(index + index // len(PALETTE)) % len(SYMBOLS)]


def spread_ticks(levels: tuple[float, ...], *, log: bool, share: float = 0.11) -> tuple[float, ...]:
    """The levels that are at least `share` of the axis apart, so that their labels do not overlap."""
    positions = sorted(
        (math.log10(level) if log else level, level) for level in set(levels) if level > 0 or not log
    )
    if len(positions) < 2:
        return tuple(level for _, level in positions)
    width = positions[-1][0] - positions[0][0]
    kept = [positions[-1]]  # the highest level always has its label
    for position in reversed(positions[:-1]):
        if kept[-1][0] - position[0] >= share * width:
            kept.append(position)
    return tuple(level for _, level in reversed(kept))


def log_ticks(values: Iterable[float | None], most: int = 9) -> tuple[float, ...]:
    """1, 2, 5, 10, ... around positive values; finer within one decade, only powers of ten over many."""
    known = [value for value in values if value is not None and value > 0]
    if not known:
        return ()
    first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    decades = math.log10(max(known) / min(known))
    steps: tuple[float, ...] = (1, 2, 5) if 3 * (last - first) <= 2 * most else (1,)
    if decades < 1.2:
        steps = (1, 1.5, 2, 3, 5, 7) if decades > 0.5 else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    return tuple(step * 10.0**power for power in range(first - 1, last + 1) for step in steps)


def tick_text(value: float) -> str:
    """`0.05`, `20`, `1,000`, `100k`."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e5 else f"{value:,g}" if value >= 1 else f"{value:g}"


def bracket(interval: stats.Interval) -> str:
    """` [790, 870]`, the interval from within one window; ` [790, -]` without an upper end; empty without any."""
    if math.isnan(interval.low):
        return ""
    return f" [{figure(interval.low)}, {figure(interval.high)}]"


def figure(value: float | None, unit: str = "") -> str:
    """A figure for hover texts and tables: at least three significant digits, with thousands separators."""
    if value is None or not math.isfinite(value):
        return units.ABSENT
    size = abs(value)
    if size < 0.995 and value:
        text = f"{value:.3g}" if size >= 1e-4 else f"{value:.2e}"
    else:
        text = f"{value:,.{0 if size >= 99.95 else 1 if size >= 9.995 else 2}f}"
    return f"{text} {unit}" if unit else text
