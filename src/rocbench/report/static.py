"""Charts as PNG and SVG files, drawn by matplotlib for papers and READMEs without a browser."""

from __future__ import annotations

import datetime
import io
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullFormatter, NullLocator

from rocbench.report.chart import GRID, INK, Chart, Panel, Series, View, colour, log_ticks, symbol, tick_text
from rocbench.report.plots import slug
from rocbench.store import writing

WIDTH = 8.0
"""Width of a chart in inches, with 150 dots per inch in PNG."""
DPI = 150
LEGEND_LINE = 0.17
"""Height of a legend line in inches; the first three already have room."""
VIEWS = 4
"""Maximum views of a chart that become files; the page has all of them."""

_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "pentagon": "p",
    "star": "*",
    "hexagon": "h",
}
_LINES = {"solid": "-", "dash": "--", "dot": ":"}
_KINDS: dict[str, dict[str, Any]] = {"png": {"dpi": DPI}, "svg": {"metadata": {"Date": None}}}
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#8c959f",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "rocbench",
    "text.parse_math": False,  # a name with $ is not a formula
}


def write(charts: Sequence[Chart], folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Write `<chart>[-<view>].png` and `.svg` into an existing folder.

    Returns:
        chart id to the view's name and the file's name without its suffix, in order.
    """
    files: dict[str, list[tuple[str, str]]] = {}
    for chart in charts:
        for view in chart.views[:VIEWS]:
            stem = slug(chart.id, view.name) if len(chart.views) > 1 else chart.id
            with mpl.rc_context(_STYLE), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing")  # a name may be in any script
                figure = draw(chart, view)
                for kind, options in _KINDS.items():
                    image = io.BytesIO()
                    figure.savefig(image, format=kind, bbox_inches="tight", pad_inches=0.1, **options)
                    writing.output_file(folder / f"{stem}.{kind}", image.getvalue())
            files.setdefault(chart.id, []).append((view.name, stem))
    return files


def draw(chart: Chart, view: View) -> Figure:
    """One view as a figure."""
    rows = view.panels[0].rows
    count = len(view.panels)
    height = 0.34 * len(rows) + 1.4 if rows else 4.4 if count == 1 else 1.5 * count + 0.8
    names = {series.name for panel in view.panels for series in panel.series if series.legend}
    height += LEGEND_LINE * max(0, -(-len(names) // _columns(names)) - 3)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0].tolist()
    for panel, ax in zip(view.panels, axes, strict=True):
        _panel(ax, panel, view)
    _x_axis(axes[-1], view)
    for ax in axes:
        if view.band:
            ax.axvspan(*view.band, color=colour(0), alpha=0.08, linewidth=0)
        if view.zero is not None:
            ax.axvline(view.zero, color="#57606a", linewidth=1)
    _legend(figure, axes, f"{chart.title}: {view.name}" if view.name else chart.title)
    if chart.synthetic:
        figure.supxlabel(
            f"{chart.synthetic.upper()}: no GPU was measured",
            x=0.99,
            ha="right",
            fontsize=7.5,
            color="#9a6700",
        )
    return figure


def _legend(figure: Figure, axes: Sequence[Axes], title: str) -> None:
    """Draw the title, and below it each name once, in as many columns as fit."""
    entries: dict[str, Any] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    legend = figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside upper left",
        ncols=_columns(entries),
        title=title,
        title_fontproperties={"size": 10.5, "weight": "bold"},
        alignment="left",
    )
    legend.get_title().set_horizontalalignment("left")


def _columns(names: Collection[str]) -> int:
    """Number of names that fit in one line."""
    longest = max(map(len, names), default=0)
    return max(1, min(len(names), int(125 / (longest + 8))))


def _panel(ax: Axes, panel: Panel, view: View) -> None:
    if panel.log_y:
        ax.set_yscale("log")
        _fixed(ax.yaxis, log_ticks([y for s in panel.series for y in s.y]))
    for series in panel.series:
        _series(ax, series, panel, view)
    ax.set_ylabel(panel.y_title)
    if panel.rows:
        ax.set_yticks(range(len(panel.rows)), panel.rows)
        ax.set_ylim(len(panel.rows) - 0.5, -0.5)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    elif panel.log_y:
        # the ticks extend beyond the data; the axis must not
        known = [y for s in panel.series for y in (*s.y, *s.high, *s.low) if y is not None and y > 0]
        if known:  # a failed cell has a name and no figure
            ax.set_ylim(min(known) / 1.4, max(known) * 1.4)
    else:
        highest = max((y for s in panel.series for y in (*s.y, *s.high) if y is not None), default=1.0)
        ax.set_ylim(0, panel.y_max * 1.02 if panel.y_max else (highest or 1.0) * 1.08)
        ax.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:.0%}" if panel.percent else f"{value:,g}")
        )


def _fixed(axis: Any, ticks: Sequence[float]) -> None:
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FixedFormatter([tick_text(tick) for tick in ticks]))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _x_axis(ax: Axes, view: View) -> None:
    ax.set_xlabel(view.x_title)
    if view.log_x:
        values = [x for panel in view.panels for s in panel.series for x in s.x if x > 0]
        ax.set_xscale("log")
        _fixed(ax.xaxis, view.x_ticks or log_ticks(values))
        room = 1.15 if len(values) > 1 else 2.0
        if values:
            ax.set_xlim(min(values) / room, max(values) * room)
    elif view.date_x and isinstance(ax.figure, Figure):
        ax.figure.autofmt_xdate()


def _series(ax: Axes, series: Series, panel: Panel, view: View) -> None:
    name = series.name if series.legend else "_nolegend_"
    ink = colour(series.colour)
    if not series.x:
        ax.plot([], [], _LINES.get(series.line, "-"), color=ink, label=name)
        return
    x: list[Any] = (
        [datetime.datetime.fromtimestamp(v, datetime.UTC) for v in series.x]
        if view.date_x
        else list(series.x)
    )
    y = [float("nan") if value is None else value for value in series.y]
    marker = None if series.symbol is None else _MARKERS[symbol(series.symbol)]
    if series.line != "none":
        ax.plot(
            x,
            y,
            _LINES[series.line],
            color=ink,
            linewidth=1.6 if series.line == "solid" else 1.2,
            drawstyle="steps-post" if series.step else "default",
        )
    _error_bars(ax, series, x, y, panel)
    if marker is not None:
        for mark in dict.fromkeys(series.marks or ("valid",)):
            _points(ax, series, x, y, mark)
    line = _LINES.get(series.line, "")
    hollow = bool(series.marks) and set(series.marks) <= {"invalid"}
    ax.plot(
        [],
        [],
        line,
        color=ink,
        marker=marker,
        markersize=6,
        label=name,
        markerfacecolor="none" if hollow else ink,
    )
    for at, value, text in zip(x, y, series.labels, strict=False):
        ax.annotate(text, (at, value), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7)


def _points(ax: Axes, series: Series, x: list[Any], y: list[float], mark: str) -> None:
    """The points of one verdict: filled, dotted, or hollow."""
    marks = series.marks or ("valid",) * len(x)
    chosen = [index for index, other in enumerate(marks) if other == mark]
    places = [x[i] for i in chosen], [y[i] for i in chosen]
    ink = colour(series.colour)
    face = ink if mark == "valid" else "white"
    shape = _MARKERS[symbol(series.symbol or 0)]
    ax.plot(*places, linestyle="none", marker=shape, markersize=6, color=ink, markerfacecolor=face, zorder=3)
    if mark == "unknown":
        ax.plot(*places, linestyle="none", marker=".", markersize=3, color=ink, zorder=4)


def _error_bars(ax: Axes, series: Series, x: list[Any], y: list[float], panel: Panel) -> None:
    known = [
        index
        for index, ends in enumerate(zip(series.low, series.high, strict=True))
        if None not in ends and y[index] == y[index]
    ]
    if not known:
        return
    centre = series.x if panel.rows else series.y
    below = [(centre[i] or 0.0) - (series.low[i] or 0.0) for i in known]
    above = [(series.high[i] or 0.0) - (centre[i] or 0.0) for i in known]
    bars = {"xerr" if panel.rows else "yerr": [below, above]}
    ax.errorbar(
        [x[i] for i in known],
        [y[i] for i in known],
        **bars,  # type: ignore[arg-type]
        linestyle="none",
        color=colour(series.colour),
        elinewidth=0.6 if series.within else 1,
        capsize=0 if series.within else 2.5,
    )
