"""`bench history`, `bench query`, `bench merge`, `bench summary`: runs on disk, as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rocbench.commands.reporting import RESULTS, left_out
from rocbench.errors import InputError

Results = Annotated[
    Path, typer.Option("--results", help="Folder that holds the run folders, or one run folder.")
]
Csv = Annotated[bool, typer.Option("--csv", help="As CSV.")]


def history(
    metric: Annotated[str, typer.Option(help="A column of cells.")] = "output_throughput",
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    workload: Annotated[str | None, typer.Option(help="Only this workload.")] = None,
    key: Annotated[str | None, typer.Option(help="Only this MODEL/WORKLOAD/LEVEL.")] = None,
    results: Results = RESULTS,
    csv: Csv = False,
) -> None:
    """A metric over all runs, with the change points of each cell's series."""
    from rocbench import console, harmless, ledger
    from rocbench.store.runs import find as find_runs

    asked = {"model": model, "workload": workload, "key": key}
    wanted = {name: value for name, value in asked.items() if value is not None}
    table = ledger.history(find_runs(results, left_out), metric, wanted)
    if table.empty:
        raise InputError("no valid row of such a cell", where=str(results))
    if csv:
        typer.echo(harmless.as_csv(table), nl=False)
        return
    console.show_history(table, metric)


def query(
    sql: Annotated[
        str, typer.Argument(help="SQL over cells, requests, server_metrics, gpu, histograms, timeline.")
    ],
    results: Results = RESULTS,
    csv: Csv = False,
    allow_files: Annotated[
        bool,
        typer.Option(
            "--allow-files",
            help="Let the query read and write files, reach the network, load extensions and change DuckDB's settings.",
        ),
    ] = False,
) -> None:
    """Ask all runs a question in SQL (DuckDB). The query sees these tables and nothing else, unless told."""
    from rocbench import console, harmless, ledger
    from rocbench.store.runs import find as find_runs

    table = ledger.query(find_runs(results, left_out), sql, files=allow_files)
    if csv:
        typer.echo(harmless.as_csv(table), nl=False)
        return
    console.show_frame(table)


def merge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders of the shards.")],
    out: Annotated[Path, typer.Option(help="The new run folder.")],
) -> None:
    """Put the shards of one plan together."""
    from rocbench import console, ledger

    merged = ledger.merge(runs, out)
    console.show_cells(merged.cells(), merged.path)


def summary(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, a run id, or latest.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="A column of cells; repeatable. Default: the headline ones.")
    ] = None,
    include_invalid: Annotated[
        bool, typer.Option("--include-invalid", help="Count invalid rows too.")
    ] = False,
    end_table: Annotated[
        bool, typer.Option("--end-table", help="The table that the sweep ended with instead.")
    ] = False,
    csv: Csv = False,
) -> None:
    """Repeats of each cell as one line: mean, 95 % interval, CoV, n; then searches and saturation points."""
    from pandas.api.types import is_numeric_dtype

    from rocbench import console, harmless
    from rocbench.commands.reporting import find
    from rocbench.judgement import repeats, search
    from rocbench.judgement.compare import DEFAULT_METRICS
    from rocbench.tables.row import records

    folders = find([run])
    if len(folders) > 1:
        raise InputError("that is a folder of several runs", where=run, fix="name one of them")
    cells = folders[0].cells()
    if cells.empty:
        raise InputError("nothing was measured", where=str(folders[0].path))
    if end_table:
        console.show_cells(cells, folders[0].path)
        return
    for name in metric or ():
        if name not in cells.columns or not is_numeric_dtype(cells[name]):
            raise InputError(
                f"{name!r} is no column of numbers", where="--metric", fix="docs/results.md lists all columns"
            )
    table = repeats.summary(cells, metric or DEFAULT_METRICS, include_invalid=include_invalid)
    if table.empty:
        raise InputError(
            "every row here is a discarded repeat", where=str(folders[0].path), fix="see it with --end-table"
        )
    if csv:
        typer.echo(harmless.as_csv(table), nl=False)
        return
    console.show_summary(table, (row.origin for row in records(cells)))
    sweep = (folders[0].read_json("plan.json") or {}).get("sweep") or {}
    gain = float(sweep.get("saturation_gain", 0.05))
    console.show_capacity(cells, search.stored(folders[0].read_json("search.json")), gain)
