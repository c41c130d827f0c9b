"""A chart for plotly.js: plain JSON values, one figure for each view. Pure."""

from __future__ import annotations

import datetime
import math
from typing import Any

from rocbench.harmless import plotly
from rocbench.report.chart import GRID, INK, Chart, Panel, Series, View, colour, log_ticks, symbol, tick_text

Json = dict[str, Any]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
GAP = 0.05
"""Between panels, as a share of the height."""
HEIGHT, PANEL_HEIGHT, ROW_HEIGHT, LEGEND_LINE = 440, 165, 30, 19
"""Pixels of a chart of one panel, of each of several panels, of each row of effects, of a legend line."""

_SUFFIX = {"valid": "", "unknown": "-open-dot", "invalid": "-open"}
_DASH = {"solid": "solid", "dash": "dash", "dot": "dot"}


def figures(chart: Chart) -> list[Json]:
    """`[{name, data, layout, height, legend, rows, log}]` per view; a wide page adds `legend` to `height`."""
    return [_figure(view) for view in chart.views]


def _figure(view: View) -> Json:
    axes: Json = {"xaxis": _x_axis(view)}
    data: list[Json] = []
    count = len(view.panels)
    for index, panel in enumerate(view.panels):
        axis = f"yaxis{index + 1 if index else ''}"
        top = 1 - index * (1 + GAP) / count
        bottom = 0.0 if index == count - 1 else top - (1 - GAP) / count
        axes[axis] = _y_axis(panel) | {"domain": [round(bottom, 4), round(min(top, 1.0), 4)]}
        place = {"yaxis": f"y{index + 1 if index else ''}"}
        data += [_trace(series, panel, view) | place for series in panel.series]
    axes["xaxis"]["anchor"] = f"y{count if count > 1 else ''}"
    rows = view.panels[0].rows
    layout = _LAYOUT | axes | {"shapes": _shapes(view)}
    height = PANEL_HEIGHT * count + 90 if count > 1 else HEIGHT
    if rows:
        height = ROW_HEIGHT * len(rows) + 130
        layout["hovermode"] = "closest"
    return {
        "name": view.name,
        "data": data,
        "layout": layout,
        "height": height,
        "legend": _legend_height(data),
        "rows": [plotly(name) for name in rows],
        "log": [name for name, value in axes.items() if name[0] == "y" and value.get("type") == "log"],
    }


def _legend_height(data: list[Json]) -> int:
    """Pixels of legend lines after the third (three have room); plotly sets columns by the longest name."""
    names = [trace["name"] for trace in data if trace["showlegend"]]
    columns = max(1, int(1090 / (7 * max(map(len, names), default=1) + 50)))
    return LEGEND_LINE * max(0, -(-len(names) // columns) - 3)


_LAYOUT: Json = {
    "font": {"family": FONT, "size": 13, "color": INK},
    "paper_bgcolor": "#ffffff",
    "plot_bgcolor": "#ffffff",
    "margin": {"l": 64, "r": 20, "t": 16, "b": 52},
    "legend": {
        "orientation": "h",
        "x": 0,
        "y": 1.02,
        "yanchor": "bottom",
        "tracegroupgap": 0,
        "font": {"size": 12},
    },
    "hoverlabel": {
        "align": "left",
        "bgcolor": "#ffffff",
        "bordercolor": "#8c959f",
        "font": {"size": 12, "color": INK},
    },
    "hovermode": "closest",
    "modebar": {
        "orientation": "v",
        "bgcolor": "rgba(255,255,255,0.7)",
        "color": "#8c959f",
        "activecolor": INK,
    },
}

_AXIS: Json = {
    "gridcolor": GRID,
    "linecolor": "#8c959f",
    "showline": True,
    "zeroline": False,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": "#8c959f",
    "automargin": True,
}


def _x_axis(view: View) -> Json:
    axis = _AXIS | {"title": {"text": view.x_title, "standoff": 8}}
    if view.date_x:
        return axis | {"type": "date"}
    if view.log_x:
        values: list[float | None] = [x for panel in view.panels for series in panel.series for x in series.x]
        ticks = _ticks(view.x_ticks or log_ticks(values))
        return axis | {"type": "log"} | ticks | {"tickangle": 0} | _around_one(values)
    return axis | {"separatethousands": True, "exponentformat": "none"}


def _y_axis(panel: Panel) -> Json:
    axis = _AXIS | {"title": {"text": panel.y_title, "standoff": 8}}
    if panel.rows:
        places = list(range(len(panel.rows)))
        return axis | {
            "tickvals": places,
            "ticktext": [plotly(name) for name in panel.rows],
            "range": [len(places) - 0.5, -0.5],
            "ticks": "",
            "title": {"text": ""},
        }
    if panel.log_y:
        values = [y for series in panel.series for y in series.y]
        return axis | {"type": "log"} | _ticks(log_ticks(values)) | _around_one(values)
    ends = {"range": [0, panel.y_max * 1.02]} if panel.y_max else {"rangemode": "tozero"}
    shown = {"tickformat": ".0%"} if panel.percent else {"separatethousands": True, "exponentformat": "none"}
    return axis | ends | shown | {"nticks": 6}


def _around_one(values: list[float | None]) -> Json:
    """Range of a log axis for one value: plotly's default is a decade to each side, wider than the ticks."""
    known = {value for value in values if value is not None and value > 0}
    if len(known) != 1:
        return {}
    at = math.log10(known.pop())
    return {"range": [at - 0.3, at + 0.3]}


def _ticks(values: tuple[float, ...]) -> Json:
    return {"tickvals": list(values), "ticktext": [tick_text(value) for value in values]}


def _trace(series: Series, panel: Panel, view: View) -> Json:
    trace: Json = {
        "type": "scatter",
        "name": plotly(series.name),
        "legendgroup": series.name.removeprefix("bound: ")
        .removesuffix(", invalid")
        .removesuffix(", within the window"),
        "showlegend": series.legend,
        "x": [_iso(x) for x in series.x] if view.date_x else [_short(x) for x in series.x],
        "y": [_short(y) for y in series.y],
        "mode": _mode(series),
    }
    if not series.x:  # a line that represents others in the legend
        trace |= {"x": [None], "y": [None]}
    if series.line != "none":
        trace["line"] = {
            "color": colour(series.colour),
            "width": 2 if series.line == "solid" else 1.6,
            "dash": _DASH[series.line],
            "shape": "hv" if series.step else "linear",
        }
    if series.symbol is not None:
        name = symbol(series.symbol)
        marks = [f"{name}{_SUFFIX[mark]}" for mark in series.marks] or name
        trace["marker"] = {
            "symbol": marks,
            "size": 9,
            "color": colour(series.colour),
            "line": {"width": 1.5, "color": colour(series.colour)},
        }
    if any(end is not None for end in series.high):
        trace["error_x" if panel.rows else "error_y"] = _error_bars(
            series, series.x if panel.rows else series.y
        )
    if series.hover:
        trace |= {"text": list(series.hover), "hovertemplate": "%{text}<extra></extra>"}
    elif series.within:
        trace["hoverinfo"] = "skip"
    elif series.hover_all:
        trace["hovertemplate"] = f"{series.hover_all}<extra></extra>"
    if series.labels:
        trace |= {"hovertext": trace.pop("text", None), "hovertemplate": "%{hovertext}<extra></extra>"}
        trace |= {
            "text": [plotly(label) for label in series.labels],
            "textposition": "top center",
            "textfont": {"size": 10},
        }
    return trace


def _mode(series: Series) -> str:
    parts = ["lines"] if series.line != "none" else []
    if series.symbol is not None:
        parts.append("markers")
    if series.labels:
        parts.append("text")
    return "+".join(parts) or "none"


def _error_bars(series: Series, centre: tuple[float | None, ...]) -> Json:
    pairs = list(zip(centre, series.low, series.high, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [None if c is None or h is None else _short(h - c) for c, _, h in pairs],
        "arrayminus": [None if c is None or lo is None else _short(c - lo) for c, lo, _ in pairs],
        "thickness": 0.8 if series.within else 1.2,
        "width": 0 if series.within else 4,
        "color": colour(series.colour),
    }


def _shapes(view: View) -> list[Json]:
    shapes: list[Json] = []
    if view.band:
        shapes.append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": view.band[0],
                "x1": view.band[1],
                "y0": 0,
                "y1": 1,
                "fillcolor": "#0072B2",
                "opacity": 0.08,
                "line": {"width": 0},
                "layer": "below",
            }
        )
    if view.zero is not None:
        line = {"color": "#57606a", "width": 1}
        shapes.append(
            {
                "type": "line",
                "xref": "x",
                "yref": "paper",
                "x0": view.zero,
                "x1": view.zero,
                "y0": 0,
                "y1": 1,
                "line": line,
            }
        )
    return shapes


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _short(value: float | None) -> float | None:
    """The value to five significant digits: more are not visible and cost bytes."""
    return None if value is None else float(f"{value:.5g}")
