"""`bench history`, `bench query`, `bench merge`, `bench summary`: many runs as one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rocbench.commands import options
from rocbench.errors import InputError

if TYPE_CHECKING:
    from rocbench.store.folder import RunFolder

Results = Annotated[
    Path,
    typer.Option("--results", metavar="DIR", help="Read this run folder, or all run folders in this folder."),
]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


def history(
    metric: Annotated[str, options.option("COLUMN", "Show this column of cells.csv.")] = "output_throughput",
    model: Annotated[str | None, options.option("NAME", "Select this model.")] = None,
    workload: Annotated[str | None, options.option("NAME", "Select this workload.")] = None,
    key: Annotated[str | None, options.option("MODEL/WORKLOAD/LEVEL", "Select this cell.")] = None,
    results: Results = options.RESULTS,
    csv: Csv = False,
) -> None:
    """Show a metric over all runs, with the change points of each cell's series."""
    from rocbench import console, harmless, ledger

    given = {"model": model, "workload": workload, "key": key}
    filters = {name: value for name, value in given.items() if value is not None}
    table = ledger.history(_runs(results), metric, filters)
    if table.empty:
        raise InputError("no valid row matches", where=str(results))
    if csv:
        typer.echo(harmless.as_csv(table), nl=False)
        return
    console.show_history(table, metric)


def query(
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL", help="Query over cells, requests, server_metrics, gpu, histograms, timeline."
        ),
    ],
    results: Results = options.RESULTS,
    csv: Csv = False,
    allow_files: Annotated[
        bool,
        typer.Option(
            "--allow-files",
            help="Let the query read and write files, use the network, load extensions and change DuckDB's settings.",
        ),
    ] = False,
) -> None:
    """Query all runs in SQL (DuckDB). The query can read only the tables of bench, unless --allow-files is given."""
    from rocbench import console, harmless, ledger

    table = ledger.query(_runs(results), sql, files=allow_files)
    if csv:
        typer.echo(harmless.as_csv(table), nl=False)
        return
    console.show_frame(table)


def _runs(results: Path) -> list[RunFolder]:
    from rocbench.store.runs import find

    return find(results, options.skipped)


def merge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders of the shards.")],
    out: Annotated[Path, options.option("DIR", "Write this new run folder.")],
) -> None:
    """Merge the shards of one plan into one run folder."""
    from rocbench import console, ledger

    merged = ledger.merge(runs, out)
    console.show_cells(merged.cells(), merged.path)


def summary(
    run: options.Run,
    metric: options.Metrics = None,
    include_invalid: options.IncludeInvalid = False,
    end_table: Annotated[
        bool, typer.Option("--end-table", help="Print the table from the end of the sweep instead.")
    ] = False,
    csv: Csv = False,
) -> None:
    """Print mean, 95 % interval, CoV and n of each cell, and the searches and saturation points."""
    from pandas.api.types import is_numeric_dtype

    from rocbench import console, harmless
    from rocbench.judgement import promise, repeats, search
    from rocbench.judgement.verdicts import DEFAULT_METRICS
    from rocbench.tables.row import records

    folder = options.one_run(run)
    cells = folder.cells()
    if cells.empty:
        raise InputError("nothing was measured", where=str(folder.path))
    if end_table:
        console.show_cells(cells, folder.path)
        return
    for name in metric or ():
        if name not in cells.columns or not is_numeric_dtype(cells[name]):
            raise InputError(
                f"{name!r} is not a numeric column", where="--metric", fix="docs/results.md lists all columns"
            )
    table = repeats.summary(cells, metric or DEFAULT_METRICS, include_invalid=include_invalid)
    if table.empty:
        raise InputError(
            "all rows are discarded repeats", where=str(folder.path), fix="show them with --end-table"
        )
    if csv:
        typer.echo(harmless.as_csv(table), nl=False)
        return
    console.show_summary(table, (row.origin for row in records(cells)))
    plan = folder.read_json("plan.json") or {}
    console.show_held(promise.held(plan.get("promises") or (), records(cells)))
    gain = float((plan.get("sweep") or {}).get("saturation_gain", 0.05))
    console.show_capacity(cells, search.stored(folder.read_json("search.json")), gain)
