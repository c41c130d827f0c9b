"""`bench report` and `bench export`: runs as files for people and for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rocbench.errors import InputError

if TYPE_CHECKING:
    from rocbench.judgement.slo import Limit
    from rocbench.store.folder import RunFolder

RESULTS = Path("results")

Runs = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Run folders, a folder of them, run ids, or latest.")
]


def report(
    runs: Runs,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report; default RUN/report, or report beside several runs."),
    ] = None,
    study: Annotated[
        bool, typer.Option("--study", help="Also the tables of a study: Markdown, CSV and LaTeX.")
    ] = False,
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="LIMIT", help="'p99_ttft_ms <= 2000' in place of the sweep's SLO; repeatable."),
    ] = None,
) -> None:
    """Write report.html, report.md and every plot as PNG and SVG."""
    from rocbench import console
    from rocbench.report import write

    folders = find(runs)
    target = out or (folders[0].path if len(folders) == 1 else folders[-1].path.parent) / "report"
    written = write.report(folders, target, _limits(slo), with_study=study)
    if written.banner[0]:
        console.say(": ".join(written.banner))
    for path in written.paths:
        console.say(str(path))
    console.say(f"{written.plots} plots as PNG and SVG in {target / write.PLOTS}")


def find(names: list[str]) -> list[RunFolder]:
    """The run folders that these names mean, each once.

    Raises:
        InputError: a name means none.
    """
    from rocbench.store.runs import find as find_runs

    found: dict[Path, RunFolder] = {}
    for name in names:
        if name == "latest" and not Path(name).exists():
            folders = find_runs(RESULTS, left_out)[-1:]
        else:
            path = next((p for p in (Path(name), RESULTS / name) if p.is_dir()), None)
            if path is None:
                raise InputError(
                    "no such run", where=name, fix=f"give a run folder, or a run id under {RESULTS}/"
                )
            folders = find_runs(path, left_out)
        found |= {folder.path.resolve(): folder for folder in folders}
    return list(found.values())


def left_out(error: InputError) -> None:
    """Name a damaged run among several; the others are read all the same."""
    typer.echo(f"bench: this run is left out: {error.text()}", err=True)


def _limits(texts: list[str] | None) -> list[Limit]:
    from rocbench.judgement.gaterules import parse_limit

    try:
        return [parse_limit(text) for text in texts or []]
    except ValueError as error:
        raise InputError(str(error), where="--slo") from None


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, a run id, or latest.")],
    format_: Annotated[
        str, typer.Option("--format", help="vllm-bench, inferencex, pytorch, aiperf, csv-long or jsonl.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the files; default RUN/export/FORMAT.")] = None,
    include_invalid: Annotated[
        bool, typer.Option("--include-invalid", help="Write invalid rows too, in formats without a verdict.")
    ] = False,
) -> None:
    """Write a run's rows with the names and units of another tool (docs/exports.md)."""
    from rocbench import console
    from rocbench.export import write

    folders = find([run])
    if len(folders) > 1:
        raise InputError("that is a folder of several runs", where=run, fix="name one of them")
    target = out or folders[0].path / "export" / format_
    done = write.export(folders[0], format_, target, invalid=include_invalid)
    console.show_warnings(done.origins)
    console.say(f"{done.rows} rows in {len(done.files)} files: {target}")
    for reason, count in done.left_out.items():
        console.say(f"left out: {count} {reason}")
