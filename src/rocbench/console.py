"""The screen: tables for people. The only module beside `report/` that prints; everything it shows was computed elsewhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rocbench import trend
from rocbench.planned import Cell, Group, Plan
from rocbench.report.live import LiveScreen, PlainScreen, Screen
from rocbench.rules import explain
from rocbench.rules.resolve import Resolution
from rocbench.rules.table import Rule
from rocbench.server.command import shell_line
from rocbench.units import duration, number, percent

NARROW = 110
"""Below so many columns a table shows only what decides."""


def out() -> Console:
    """Standard output; as wide as COLUMNS or the terminal says, 160 in files and pipes."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    return Console(width=width, highlight=False, soft_wrap=False)


def screen() -> Screen:
    """The live view on a terminal, plain lines elsewhere. On standard error: the table goes to standard output."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return LiveScreen()
    return PlainScreen()


def show_plan(plan: Plan) -> None:
    """Every server with its command and cells, in order."""
    console = out()
    sweep = plan.sweep
    console.print(
        f"[bold]{escape(sweep.name)}[/]: {len(plan.groups)} servers, {len(plan.launches)} launches, "
        f"{plan.runs} measurements on {plan.groups[0].hardware.name if plan.groups and plan.groups[0].hardware else '-'}"
    )
    if sweep.server.kind == "simulated":
        console.print(
            "[yellow]SIMULATED[/]: the commands are those of the real servers; the sweep starts simulated ones"
        )
    for number_, group in enumerate(plan.groups, start=1):
        _show_group(console, number_, group, sweep.server.kind)
    for skip in plan.skipped:
        console.print(f"[dim]skipped {escape(skip.key)}: {escape(skip.reason)}[/]")
    if plan.estimate_s is not None:
        console.print(f"\nestimated time: {duration(plan.estimate_s)}")


def _show_group(console: Console, index: int, group: Group, kind: str) -> None:
    console.print(f"\n[bold]{index}. {escape(group.server_id[3:])}[/]  vLLM {group.vllm or 'unknown'}")
    if group.resolution is not None:
        line = shell_line(("vllm", "serve", *group.resolution.argv()), group.resolution.environment())
        # Printed raw and unwrapped: a line to paste must stay one line.
        print(f"  {line}")
        for finding in group.resolution.warnings:
            console.print(
                f"  [yellow]{finding.severity}[/] {escape(finding.message)} [dim]({finding.rule})[/]"
            )
    elif kind == "attached":
        console.print("  a running server; nothing is launched")
    console.print(_cells_table(group.cells))


def _cells_table(cells: Iterable[Cell]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    for name in ("  cell", "id", "ISL", "OSL", "KV capacity", "users that fit", "bound tok/s", "estimate"):
        table.add_column(name, justify="left" if name in ("  cell", "id") else "right", no_wrap=True)
    for cell in cells:
        e = cell.estimate
        table.add_row(
            f"  {escape(cell.key)}",
            cell.cell_id,
            number(cell.workload.isl.mean),
            number(cell.workload.osl.mean),
            number(e.kv_capacity_tokens),
            number(e.users_that_fit),
            number(e.roofline_output_throughput, 0),
            duration(e.duration_s),
        )
    return table


def show_cells(cells: pd.DataFrame, folder: Path) -> None:
    """The end table: per model the levels, throughput, latency, verdict."""
    console = out()
    if cells.empty:
        console.print(f"no cell was measured; see {folder}")
        return
    rows = [{str(k): v for k, v in row.items()} for row in cells.to_dict("records")]
    if any(row.get("simulated") is True for row in rows):
        console.print("[yellow]SIMULATED: these figures come from the simulated server, not from hardware[/]")
    console.print(cells_table(rows, console.width))
    _show_reasons(console, rows)
    console.print(f"results: {escape(str(folder))}")


Columns = tuple[tuple[str, str, int, bool], ...]

COLUMNS: Columns = (
    # header, column, digits, shown on narrow terminals
    ("users", "level", 0, True),
    ("rep", "repeat", 0, False),
    ("out tok/s", "output_throughput", 0, True),
    ("/GPU", "output_throughput_per_gpu", 0, False),
    ("bound", "roofline_share", -1, False),
    ("TTFT p50", "median_ttft_ms", 1, True),
    ("p99", "p99_ttft_ms", 1, False),
    ("TPOT p50", "median_tpot_ms", 1, True),
    ("p99", "p99_tpot_ms", 1, False),
    ("req ok", "completed", 0, False),
    ("fail", "failed", 0, False),
)


def cells_table(rows: list[dict[str, Any]], width: int) -> Table:
    """Rows as a table; narrow terminals get fewer columns. Milliseconds, tokens per second."""
    shown = [column for column in COLUMNS if column[3] or width >= NARROW]
    if len({row.get("repeat") for row in rows}) == 1:
        shown = [column for column in shown if column[1] != "repeat"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("server / workload", no_wrap=True, overflow="ellipsis")
    for header, *_ in shown:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, overflow="ellipsis")
    last = None
    for row in rows:
        name = _row_name(row)
        table.add_row(
            escape(name) if name != last else "",
            *(_cell_text(row, column, digits) for _, column, digits, _ in shown),
            verdict_mark(row),
        )
        last = name
    return table


def _row_name(row: Mapping[str, Any]) -> str:
    key = str(row.get("key") or f"{row.get('model')}/{row.get('workload')}")
    return key.rsplit("/", 1)[0] if key.count("/") >= 2 else key


def _cell_text(row: Mapping[str, Any], column: str, digits: int) -> str:
    if column == "level":
        return str(row.get("key", "")).rsplit("/", 1)[-1].removeprefix("c")
    value = row.get(column)
    if value is None or pd.isna(value):
        return "-"
    if digits == -1:
        return percent(float(value))
    return number(float(value), digits) if digits else f"{float(value):,.0f}"


def verdict_mark(row: Mapping[str, Any]) -> str:
    """`valid`, `INVALID codes`, or `unknown` with the checks that could not be made."""
    valid = row.get("valid")
    reasons = str(row.get("reasons") or "")
    if valid is True or valid == "true":
        return "[green]valid[/]" + (f" [dim]{escape(reasons)}[/]" if reasons else "")
    if valid is False or valid == "false":
        return f"[red]INVALID[/] {escape(reasons)}"
    return f"[yellow]unknown[/] {escape(reasons)}"


def _show_reasons(console: Console, rows: list[dict[str, Any]]) -> None:
    from rocbench import verdict

    codes = sorted({code for row in rows for code in str(row.get("reasons") or "").split(";") if code})
    for code in codes:
        console.print(f"  [bold]{code}[/]: {escape(verdict.meaning(code))}")
    unknown = sorted({c for row in rows for c in str(row.get("unknown_checks") or "").split(";") if c})
    if unknown:
        console.print(f"  [dim]not judged: {', '.join(unknown)}[/]")


def show_rows(headers: list[str], rows: list[list[str]], title: str = "") -> None:
    """A plain table of text."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title=title or None)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out().print(table)


def say(text: str) -> None:
    """One line on standard output."""
    out().print(escape(text))


def show_resolution(resolved: Resolution, *, as_json: bool) -> None:
    """Each flag and variable with its origin, then what rules say."""
    rows = explain.explain(resolved)
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "findings": _findings(resolved)}, indent=2))
        return
    facts = resolved.facts
    console = out()
    console.print(
        f"[bold]{escape(resolved.model)}[/]  vLLM {facts.vllm or 'unknown'}  {facts.gpu or facts.platform}  "
        f"{facts.family}, {facts.heads} heads a rank, back end {facts.backend or 'unknown'}"
    )
    if facts.backend_reason:
        console.print(f"[dim]{escape(facts.backend_reason)} ({escape(facts.backend_source)})[/]")
    show_rows(
        ["flag or variable", "value", "by", "why", "source"],
        [[row.name, row.value, row.provenance, row.why, row.source] for row in rows],
    )
    for title, style, findings in (
        ("refused", "red", resolved.contradictions),
        ("warning", "yellow", resolved.warnings),
        ("undecided", "dim", resolved.undecided),
        ("offered", "dim", resolved.offers),
    ):
        for finding in findings:
            console.print(f"[{style}]{title}[/] {escape(finding.text())} [dim]({escape(finding.source)})[/]")
    if resolved.accuracy_labels:
        console.print(f"[yellow]accuracy-affecting[/]: {escape(', '.join(resolved.accuracy_labels))}")


def _findings(resolved: Resolution) -> dict[str, list[dict[str, Any]]]:
    kinds = ("contradictions", "warnings", "undecided", "offers")
    return {kind: [asdict(finding) for finding in getattr(resolved, kind)] for kind in kinds}


def show_diff(
    model: str, versions: tuple[str, str], one: Resolution, other: Resolution, *, as_json: bool
) -> None:
    """What changes from one version to another."""
    changes = explain.diff(one, other)
    if as_json:
        print(json.dumps([asdict(change) for change in changes], indent=2))
        return
    show_rows(
        ["", model, versions[0], versions[1], "why"],
        [[c.kind, c.name, c.before or "-", c.after or "-", c.why] for c in changes],
    )


def show_rules(rules: Iterable[Rule]) -> None:
    """Rules as a table."""
    show_rows(
        ["rule", "vLLM", "severity", "when", "does", "says", "source"],
        [
            [
                rule.id,
                (rule.span.text if rule.span else "any") + (" (historical)" if rule.historical else ""),
                rule.severity,
                explain.condition(rule),
                explain.effects(rule),
                rule.message,
                rule.source,
            ]
            for rule in rules
        ],
    )


def show_frame(frame: pd.DataFrame) -> None:
    """A frame as a plain table; absent values as a dash."""
    rows = [["-" if pd.isna(v) else _plain(v) for v in row] for row in frame.itertuples(index=False)]
    show_rows([str(column) for column in frame.columns], rows)


def _plain(value: Any) -> str:
    return number(value, 3) if isinstance(value, float) else str(value)


def show_history(table: pd.DataFrame, metric: str) -> None:
    """Each cell's series over the runs, with its change points."""
    for key, series in table.groupby("key", sort=False):
        values = [float(v) for v in series["mean"]]
        changes = {point.index for point in trend.change_points(values)}
        show_rows(
            [str(key), "began", metric, "std", "n", ""],
            [
                [
                    str(row.run),
                    str(row.begun_at)[:19],
                    number(float(row.mean), 2),
                    number(None if pd.isna(row.std) else float(row.std), 2),
                    str(row.count),
                    ("change point " if i in changes else "") + ("simulated" if row.simulated else ""),
                ]
                for i, row in enumerate(series.itertuples(index=False))
            ],
        )
