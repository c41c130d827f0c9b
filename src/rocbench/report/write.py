"""A report on disk: report.html, report.md, and the plots as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rocbench.errors import EnvironmentFault
from rocbench.judgement.slo import Limit
from rocbench.report import document, markdown, material, page, static, study, table
from rocbench.report.table import Table
from rocbench.store import writing
from rocbench.store.folder import RunFolder

PLOTS, STUDY = "plots", "study"


@dataclass(frozen=True, slots=True)
class Written:
    """Paths of a written report."""

    paths: tuple[Path, ...]
    """Paths of all files, report.html first."""
    plots: int
    """Number of plots, each as PNG and SVG."""
    banner: tuple[str, str]
    """The banner as the report shows it; empty texts if every row was measured."""


def report(
    folders: Sequence[RunFolder],
    out: Path,
    limits: Sequence[Limit] = (),
    *,
    with_study: bool = False,
    more_tables: Sequence[Table] = (),
    past: pd.DataFrame | None = None,
) -> Written:
    """Write the report on some runs into `out`.

    Args:
        folders: the runs.
        out: the folder of the report.
        limits: the SLO; if empty, the sweeps' own SLO.
        with_study: write the tables of a study too.
        more_tables: added to those of the study.
        past: rows of the runs around them, which show comparisons how far nights differ.

    Raises:
        InputError: another user's folder or a link is at the path of one of the report's folders.
        EnvironmentFault: the report cannot be written.
    """
    runs = material.read_runs(folders)
    content = document.build(runs, limits, past)
    try:
        for folder in (out, out / PLOTS, *((out / STUDY,) if with_study else ())):
            writing.output_folder(folder)
        files = static.write(content.charts(), out / PLOTS)
        paths = [
            writing.output_file(out / "report.html", page.html(content)),
            writing.output_file(out / "report.md", markdown.report_markdown(content, files, PLOTS)),
        ]
        if with_study:
            paths.append(_study([*study.build(runs, limits), *more_tables], out, content.banner))
    except OSError as error:
        raise EnvironmentFault(f"cannot write the report: {error.strerror}", where=str(out)) from None
    return Written(tuple(paths), sum(map(len, files.values())), content.banner)


def _study(tables: Sequence[Table], out: Path, banner: tuple[str, str]) -> Path:
    """Write study.md with every table of a study, and each table as CSV and LaTeX in `study/`."""
    for number, each in enumerate(tables, start=1):
        stem = f"{number:02d}-{each.id}"
        writing.output_file(out / STUDY / f"{stem}.csv", table.as_csv(each))
        writing.output_file(out / STUDY / f"{stem}.tex", table.latex(each))
    head = ["# Tables of the study", "", f"> **{banner[0]}.** {banner[1]}\n" if banner[0] else ""]
    body = [table.table_markdown(each, "##") for each in tables]
    return writing.output_file(out / "study.md", "\n".join([*head, *body]))
