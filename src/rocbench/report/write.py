"""A report on disk: report.html, report.md, and the plots as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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

    @property
    def simulated(self) -> bool:
        """True if some rows were not measured on a GPU."""
        return bool(self.banner[0])


def report(
    folders: Sequence[RunFolder],
    out: Path,
    limits: Sequence[Limit] = (),
    *,
    with_study: bool = False,
    own: Sequence[Table] = (),
) -> Written:
    """Write the report on some runs into `out`. `own` are additional tables of a study.

    Raises:
        InputError: another user's folder or a link is at the path of one of the report's folders.
        EnvironmentFault: the report cannot be written.
    """
    runs = material.read_runs(folders)
    made = document.build(runs, limits)
    try:
        for place in (out, out / PLOTS, *((out / STUDY,) if with_study else ())):
            writing.output_folder(place)
        files = static.write(made.charts(), out / PLOTS)
        html = writing.output_file(out / "report.html", page.html(made))
        text = writing.output_file(out / "report.md", markdown.text(made, files, PLOTS))
        more = _study([*study.build(runs, limits), *own], out, made.banner) if with_study else ()
    except OSError as error:
        raise EnvironmentFault(f"cannot write the report: {error.strerror}", where=str(out)) from None
    return Written((html, text, *more), sum(map(len, files.values())), made.banner)


def _study(made: Sequence[Table], out: Path, banner: tuple[str, str]) -> tuple[Path, ...]:
    """Write study.md with every table of a study, and each table as CSV and LaTeX in `study/`."""
    for number, each in enumerate(made, start=1):
        stem = f"{number:02d}-{each.id}"
        writing.output_file(out / STUDY / f"{stem}.csv", table.as_csv(each))
        writing.output_file(out / STUDY / f"{stem}.tex", table.latex(each))
    head = ["# Tables of the study", "", f"> **{banner[0]}.** {banner[1]}\n" if banner[0] else ""]
    body = [table.table_markdown(each, "##") for each in made]
    return (writing.output_file(out / "study.md", "\n".join([*head, *body])),)
