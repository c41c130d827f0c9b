"""`bench report` and `bench export`: runs as files for readers and for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rocbench.commands import compared, options
from rocbench.errors import InputError

if TYPE_CHECKING:
    from rocbench.judgement.slo import Limit


def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Run folders, a folder of run folders, run ids, or latest."),
    ],
    out: Annotated[
        Path | None,
        options.option(
            "DIR",
            "Write to this folder. Default: RUN/report; for several runs, a folder `report` next to the last RUN.",
        ),
    ] = None,
    study: Annotated[
        bool, typer.Option("--study", help="Add the tables of a study as Markdown, CSV and LaTeX.")
    ] = False,
    slo: Annotated[
        list[str] | None,
        options.option(
            "LIMIT",
            "Use this limit instead of the sweep's SLO, for example 'p99_ttft_ms <= 2000'. Repeatable.",
        ),
    ] = None,
) -> None:
    """Write report.html, report.md and every plot as PNG and SVG."""
    from rocbench import console
    from rocbench.report import write

    folders = options.runs(runs)
    target = out or (folders[0].path if len(folders) == 1 else folders[-1].path.parent) / "report"
    several = len(folders) > 1
    names = [str(folder.path) for folder in folders]
    past = compared.history(None, names, [folder.cells() for folder in folders]) if several else None
    written = write.report(folders, target, _limits(slo), with_study=study, past=past)
    if written.banner[0]:
        console.say(": ".join(written.banner))
    for path in written.paths:
        console.say(str(path))
    console.say(f"{written.plots} plots as PNG and SVG in {target / write.PLOTS}")


def _limits(texts: list[str] | None) -> list[Limit]:
    from rocbench.judgement.gaterules import parse_limit

    try:
        return [parse_limit(text) for text in texts or []]
    except ValueError as error:
        raise InputError(str(error), where="--slo") from None


def export(
    run: options.Run,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Write vllm-bench, inferencex, pytorch, aiperf, csv-long or jsonl.",
        ),
    ],
    out: Annotated[
        Path | None, options.option("DIR", "Write to this folder. Default: RUN/export/FORMAT.")
    ] = None,
    include_invalid: Annotated[
        bool,
        typer.Option(
            "--include-invalid", help="Also write invalid rows to formats that cannot mark a row as invalid."
        ),
    ] = False,
) -> None:
    """Write a run's rows with the names and units of another tool (docs/exports.md)."""
    from rocbench import console
    from rocbench.export import write

    folder = options.one_run(run)
    target = out or folder.path / "export" / format_
    written = write.export(folder, format_, target, invalid=include_invalid)
    console.show_warnings(written.origins)
    console.say(f"{written.rows} rows in {len(written.files)} files: {target}")
    for reason, count in written.left_out.items():
        console.say(f"left out: {count} {reason}")
