"""`bench history`, `bench query`, `bench merge`: runs on disk, as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RESULTS = Path("results")

Results = Annotated[Path, typer.Option("--results", help="Folder that holds the run folders.")]


def history(
    metric: Annotated[str, typer.Option(help="A column of cells.")] = "output_throughput",
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    workload: Annotated[str | None, typer.Option(help="Only this workload.")] = None,
    key: Annotated[str | None, typer.Option(help="Only this MODEL/WORKLOAD/LEVEL.")] = None,
    results: Results = RESULTS,
) -> None:
    """A metric over all runs, with the change points of each cell's series."""
    from rocbench import console, ledger

    table = ledger.history(results, metric, model=model, workload=workload, key=key)
    console.show_history(table, metric)


def query(
    sql: Annotated[str, typer.Argument(help="SQL over cells, requests, server_metrics, gpu, histograms, timeline.")],
    results: Results = RESULTS,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
) -> None:
    """Ask all runs a question in SQL (DuckDB)."""
    from rocbench import console, ledger

    table = ledger.query(results, sql)
    if csv:
        typer.echo(table.to_csv(index=False), nl=False)
        return
    console.show_frame(table)


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of the shards.")],
    out: Annotated[Path, typer.Option(help="The new run folder.")],
) -> None:
    """Put the shards of one plan together."""
    from rocbench import console, ledger

    merged = ledger.merge(runs, out)
    console.show_cells(merged.cells(), merged.path)
