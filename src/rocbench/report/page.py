"""A report as one HTML file that needs no network: it contains plotly.js and all data."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from rocbench.harmless import visible
from rocbench.report.document import SERVERS_NOTE, Document
from rocbench.report.plotly_page import figures
from rocbench.report.table import sentence


def html(document: Document) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rocbench.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"code": code, "sentence": sentence}
    template = environment.get_template("report.html")
    return template.render(
        document=document,
        plotly=get_plotlyjs(),
        figures={chart.id: script_json(figures(chart)) for chart in document.charts()},
        servers_note=SERVERS_NOTE,
    )


def _shown(value: Any) -> Any:
    """A value for the page without control characters. Markup stays, and jinja escapes everything else."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def code(text: str) -> Markup:
    """Text in which `words in backticks` are code."""
    parts = re.split(r"`([^`]+)`", visible(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )


def script_json(value: Any) -> str:
    """JSON for a script element: `<` is escaped and cannot end the element. Infinity becomes a gap."""
    return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
