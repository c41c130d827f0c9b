"""A report as Markdown that links to the static plots. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rocbench.harmless import fenced
from rocbench.harmless import safe_markdown as line
from rocbench.report.chart import Chart
from rocbench.report.document import SERVERS_NOTE, Document
from rocbench.report.table import table_markdown

_BRACKETS = str.maketrans("[]", "()")

Files = Mapping[str, Sequence[tuple[str, str]]]
"""Chart id to (view, file name without suffix)."""


def report_markdown(document: Document, files: Files, folder: str) -> str:
    """The text of report.md.

    Args:
        document: the report.
        files: the plots' files, from `static.write`.
        folder: the plots' folder, relative to report.md.
    """
    parts = [f"# {line(document.title)}", line(document.subtitle)]
    if document.banner[0]:
        parts.append("> **{}.** {}".format(*map(line, document.banner)))
    parts += ["## Summary", *(table_markdown(table) for table in document.summary)]
    for section in document.sections:
        parts.append(f"## {line(section.title)}")
        parts += [_chart(chart, files, folder) for chart in section.charts]
        parts += [table_markdown(table.cut()) for table in section.tables]
    if document.servers:
        parts.append(f"## Servers\n\n{SERVERS_NOTE}")
    for server, command, table in document.servers:
        parts += [f"### {line(server)}", fenced(command, "sh")]
        if table.rows:
            parts.append(table_markdown(table, "").partition("\n\n")[2])
    parts += [table_markdown(table, "##") for table in document.after]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _chart(chart: Chart, files: Files, folder: str) -> str:
    lines = [f"### {line(chart.title)}", "", line(chart.caption)]
    for view, stem in files.get(chart.id, ()):
        name = f"{chart.title}: {view}" if view else chart.title
        lines += ["", f"![{line(name.translate(_BRACKETS))}]({folder}/{stem}.png)"]
    return "\n".join(lines)
