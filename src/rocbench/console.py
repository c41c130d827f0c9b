"""Tables and texts for the terminal. Only this module and `report/` print; they compute nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rocbench import plaintable
from rocbench.judgement import capacity, detectable, render, search, trend
from rocbench.judgement.promise import Promise
from rocbench.plan.planned import Cell, Group, Plan
from rocbench.report import endtable
from rocbench.report.curves import level_words
from rocbench.report.live import LiveScreen, PlainScreen, Screen
from rocbench.report.terminal import Terminal
from rocbench.rules import multinode
from rocbench.rules.resolve import Resolution
from rocbench.server.command import shell_line
from rocbench.server.secretvalues import secret_values
from rocbench.settings.schema import Server, Sweep
from rocbench.tables.row import Row, records
from rocbench.units import ABSENT, count_of, duration, number, percent

NARROWEST = 20
"""Minimum columns of every table: some terminals report none, and nothing would be shown."""


def out() -> Console:
    """Standard output. Its width is COLUMNS or the terminal's; 160 in files and pipes."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    console = Terminal(width=width)
    console.width = max(NARROWEST, console.width)
    return console


def screen() -> Screen:
    """The live view on a terminal, else plain lines. On standard error, as the table uses standard output."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return LiveScreen()
    return PlainScreen()


def show_plan(plan: Plan) -> None:
    """Print every server with its command and cells, in order."""
    console = out()
    sweep = plan.sweep
    console.print(
        f"[bold]{escape(sweep.name)}[/]: {count_of(len(plan.groups), 'server')}, "
        f"{count_of(len(plan.launches), 'launch', 'launches')}, {count_of(plan.runs, 'measurement')} on "
        f"{plan.groups[0].hardware.name if plan.groups and plan.groups[0].hardware else '-'}"
    )
    if sweep.server.kind == "simulated":
        console.print(
            "[yellow]SIMULATED[/]: these are the commands of real servers; the sweep starts simulated servers instead"
        )
    for number_, group in enumerate(plan.groups, start=1):
        _show_group(console, number_, group, sweep)
    if order := _launch_order(plan):
        console.print(f"\n{order}", highlight=False)
    for note in plan.notes:
        console.print(f"[yellow]note[/] {escape(note)}")
    for skip in plan.skipped:
        console.print(f"[dim]skipped {escape(skip.key)}: {escape(skip.reason)}[/]")
    if plan.estimate_s is not None:
        console.print(f"\nestimated time: {duration(plan.estimate_s)}")
        for line in _assumptions(plan):
            console.print(f"[dim]  {line}[/]")


_SHOWN_REPEATS = 6
"""Repeats whose launches a plan lists."""


def _launch_order(plan: Plan) -> str:
    """The servers by number in the order of their launches, repeat by repeat; empty if each starts once."""
    if len(plan.launches) <= len(plan.groups):
        return ""
    number = {group.server_id: str(n) for n, group in enumerate(plan.groups, start=1)}
    repeats: dict[int, list[str]] = {}
    for launch in plan.launches:
        if launch.runs:
            repeats.setdefault(launch.runs[0].repeat, []).append(number[launch.group.server_id])
    shown = "; ".join(" ".join(each) for each in list(repeats.values())[:_SHOWN_REPEATS])
    return f"launches in order, a repeat between semicolons: {shown}{'; ...' if len(repeats) > _SHOWN_REPEATS else ''}"


def show_promises(promises: Iterable[Promise]) -> None:
    """Print the change that the planned repeats can tell."""
    for promise in promises:
        for line in promise.lines():
            out().print(escape(line), highlight=False)


def show_held(sentences: Iterable[str]) -> None:
    """Print what came of the plan's promises."""
    for sentence in sentences:
        say(sentence)


def _assumptions(plan: Plan) -> list[str]:
    """The assumptions of the time estimate, and where to set them."""
    assume = plan.sweep.assume
    known = [g for g in plan.groups if g.hardware is not None and g.hardware.gpu is not None]
    if not known:
        return []
    lines = [
        f"assumes that steps reach {assume.efficiency:.0%} of the hardware's maximum speed (assume.efficiency)"
    ]
    load_s = {g.model: g.cells[0].estimate.server_load_s for g in known if g.cells}
    if plan.sweep.server.kind not in ("simulated", "attached") and load_s:
        listing = ", ".join(f"{model} {duration(seconds)}" for model, seconds in load_s.items())
        lines.append(
            f"and server starts of {assume.start_s:g} s (assume.start_s) plus loading weights at "
            f"{assume.load_bytes_per_s / 1e9:g} GB/s (assume.load_bytes_per_s): {listing}"
        )
    return lines


def _show_group(console: Console, index: int, group: Group, sweep: Sweep) -> None:
    console.print(f"\n[bold]{index}. {escape(group.server_id[3:])}[/]  vLLM {group.vllm or 'unknown'}")
    if group.resolution is not None:
        # Printed raw and unwrapped: a line to paste must stay one line.
        for line in _command_lines(group.resolution, sweep.server):
            print(f"  {line}")
        for finding in group.resolution.warnings:
            console.print(
                f"  [yellow]{finding.severity}[/] {escape(finding.message)} [dim]({finding.rule})[/]"
            )
    elif sweep.server.kind == "attached":
        console.print("  a running server; nothing is launched")
    if sweep.server.kind == "container":
        console.print(
            f"  in a container of {escape(group.image(sweep) or 'no image')} ({sweep.server.runtime})"
        )
    if group.cells:
        _show_cells(console, group.cells)
    for workload in group.searches:
        console.print(f"  search {escape(workload.name)}: {_search_line(sweep)}")


def _command_lines(resolution: Resolution, server: Server) -> list[str]:
    """The command of each host; HEAD_IP is a placeholder for the address of the first host."""
    environment = resolution.environment()
    launched = server.kind in ("process", "container")
    hosts = multinode.host_commands(resolution, (launched and server.command) or ("vllm",))
    return [
        (f"host {host.host}: " if len(hosts) > 1 else "")
        + " && ".join(shell_line(words, environment, environment_secrets()) for words in host.commands)
        for host in hosts
    ]


def _search_line(sweep: Sweep) -> str:
    """The goal of a search, and its bounds."""
    bounds = sweep.search
    assert bounds is not None
    unit = "requests/s" if sweep.load.shape.kind == "open" else "users"
    limits = ", ".join(str(limit) for limit in search.limits_of(bounds))
    return (
        f"search for the maximum {unit} between {bounds.low:g} and {bounds.high:g} that meets {limits}; "
        f"at most {bounds.max_measurements} measurements"
    )


_CELL = ("cell", "id", "ISL", "OSL", "KV capacity", "users that fit", "roofline tok/s", "estimate")


def _show_cells(console: Console, cells: Iterable[Cell]) -> None:
    """Print a table, or two lines per cell if it is too wide: a plan hides no value."""
    rows = [_cell_texts(cell) for cell in cells]
    widths = [max(len(text) for text in column) for column in zip(_CELL, *rows, strict=True)]
    if 2 + sum(widths) + 2 * len(widths) > console.width:
        for key, cell_id, *values in rows:
            console.print(f"  {escape(key)}  {cell_id}")
            named = [f"{name} {text}" for name, text in zip(_CELL[2:], values, strict=True) if text != ABSENT]
            console.print(f"    {', '.join(named)}")
        return
    table = _table(header_style="dim")
    for name in _CELL:
        at_left = name in ("cell", "id")
        table.add_column(f"  {name}" if name == "cell" else name, justify="left" if at_left else "right")
    for key, *values in rows:
        table.add_row(f"  {escape(key)}", *values)
    console.print(table)


_FROM_FILE = "in file"
"""Shown if the length differs per request and is in the dataset's file."""


def _cell_texts(cell: Cell) -> tuple[str, ...]:
    e, dataset = cell.estimate, cell.workload.dataset
    traced = cell.load.shape.kind == "trace" or (dataset is not None and dataset.shape == "trace")
    recorded = traced or dataset is not None
    return (
        cell.key,
        cell.cell_id,
        (_FROM_FILE if recorded else number(cell.workload.isl.mean))
        + (f" + {number(e.image_tokens)} image" if e.image_tokens else ""),
        _FROM_FILE if traced else number(cell.workload.osl.mean),
        number(e.kv_capacity_tokens),
        number(e.users_that_fit),
        number(e.roofline_output_throughput, 0),
        duration(e.duration_s),
    )


def show_cells(cells: pd.DataFrame, folder: Path) -> None:
    """Print the end table of a run, and where its results are."""
    console = out()
    if cells.empty:
        console.print(f"no cell was measured; see {folder}")
        return
    endtable.show(records(cells), console)
    console.print(f"results: {escape(str(folder))}")


def show_warnings(origins: Iterable[str]) -> None:
    """Print the warnings that every reader of figures needs, by the origin of the figures."""
    for line in endtable.warnings(origins):
        out().print(f"[yellow]{line}[/]")


def show_summary(table: pd.DataFrame, origins: Iterable[str]) -> None:
    """Print mean, interval, CoV and n of each cell and metric."""
    show_warnings(origins)
    keys = [str(name) for name in table.columns[: list(table.columns).index("metric")]]
    shown = render.varying(table, keys) or keys[:1]
    show_text(
        [*map(_heading, shown), "metric", "mean", "95 % interval", "CoV", "n", "requests", "note"],
        [
            [
                *(render.plain(row[name]) for name in shown),
                row["metric"],
                number(_float(row["mean"]), 2),
                f"[{number(_float(row['low']), 2)}, {number(_float(row['high']), 2)}]"
                if _float(row["low"]) is not None
                else ABSENT,
                percent(_float(row["cov"])),
                str(row["n"]) + (f" ({row['dropped']} invalid)" if row["dropped"] else ""),
                number(_float(row["samples"]), 0),
                row["note"],
            ]
            for row in table.to_dict("records")
        ],
    )


def _heading(column: str) -> str:
    return column.removeprefix("axis.")


def show_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that breaks no word: long rows continue on further lines."""
    print(plaintable.text_table(header, rows, out().width))


def show_capacity(cells: pd.DataFrame, searches: Sequence[Mapping[str, Any]], gain: float) -> None:
    """Print the result of each search, and the saturation point of each curve."""
    for each in searches:
        say(_search_result(each))
    curves = capacity.curves(cells, gain)
    if curves.empty:
        return
    keys = [str(name) for name in curves.columns[: list(curves.columns).index("levels")]]
    shown = ["model", *render.varying(curves, [name for name in keys if name != "model"])]
    say(
        f"saturation: smallest load above which doubling the load raises output throughput by less than {gain:.0%}"
    )
    show_text(
        [*map(_heading, shown), "levels", "peak tok/s", "saturation", "95 % interval", "note"],
        [
            [
                *(render.plain(row[name]) for name in shown),
                row["levels"],
                number(_float(row["peak"]), 0),
                level_words(str(row.get("load_shape") or "closed"), _float(row["saturation"])),
                _between(_float(row["low"]), _float(row["high"]), _float(row["saturation"])),
                row["note"],
            ]
            for row in curves.to_dict("records")
        ],
    )


def _search_result(result: Mapping[str, Any]) -> str:
    """One search in one line."""
    limits = ", ".join(result["limits"])
    best = "no level was shown to meet the limits"
    if result["best"] is not None:
        best = f"shown to be met up to {result['best']:g} {result['unit']}"
    if result["failed"] is not None:
        best += f", capacity below {result['failed']:g}"
    axes = ",".join(f"{axis}={render.plain(value)}" for axis, value in result["axes"].items())
    name = f"{result['model']}{'@' if axes else ''}{axes}/{result['workload']}"
    counted = count_of(result["measurements"], "measurement")
    said = [result["why"], *result.get("notes", ())]
    said += [] if counted in result["why"] else [counted]
    return f"search {name}: {limits}: {best} ({'; '.join(said)})"


def _float(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _between(low: float | None, high: float | None, level: float | None) -> str:
    """An interval of levels; its upper end is open if some resamples never saturate."""
    if low is None and high is None:
        return ABSENT
    return f"[{number(low, 0)}, {'not reached' if high is None and level is not None else number(high, 0)}]"


def show_rows(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    title: str = "",
    whole: Collection[str] = (),
) -> None:
    """Print a plain table of text; columns named in `whole` are not broken on a narrow terminal."""
    table = _table(header_style="bold", title=title or None)
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header in whole)
    for row in rows:
        table.add_row(*map(escape, row))
    out().print(table)


def _table(header_style: str, title: str | None = None) -> Table:
    """An empty table without borders."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=header_style, title=title)


def say(text: str) -> None:
    """Print one line on standard output."""
    out().print(escape(text))


@cache
def environment_secrets() -> tuple[str, ...]:
    """Secrets in this process's environment."""
    return secret_values(os.environ)


def show_frame(frame: pd.DataFrame) -> None:
    """Print a frame as a plain table; absent values as a dash."""
    rows = [
        [ABSENT if pd.isna(v) else number(v, 3) if isinstance(v, float) else str(v) for v in row]
        for row in frame.itertuples(index=False)
    ]
    show_rows([str(column) for column in frame.columns], rows)


def show_history(table: pd.DataFrame, metric: str) -> None:
    """Print each series over the runs, with its change points and what could be seen; below, how often they are false."""
    series_of = list(table.columns[: list(table.columns).index("begun_at")])
    for (key, *_), series in table.groupby(series_of, sort=False, dropna=False):
        say(str(key))
        show_rows(
            ["run", "started, UTC", "vLLM", metric, "std", "n", ""],
            [
                [
                    str(row["run"]),
                    str(row["begun_at"])[:16].replace("T", " "),
                    str(row["vllm_version"] or "-"),
                    number(_float(row["mean"]), 2),
                    number(_float(row["std"]), 2),
                    str(row["n"]),
                    _history_notes(row),
                ]
                for row in series.to_dict("records")
            ],
            whole={"started, UTC"},
        )
        last = series.iloc[-1]
        say(detectable.seen(len(series), float(last["spread"]), float(last["minimum_step"])))
    say(f"Rate: {detectable.rate(table.groupby(series_of, dropna=False).ngroups)}")


def _change(row: Mapping[Hashable, Any]) -> str:
    change, low, high = (float(row[name]) for name in ("change", "change_low", "change_high"))
    words = trend.words(row["change_kind"], change, low, high, int(row["change_nights"]))
    return f"change point: {words}, told after {row['change_told']}"


def _history_notes(row: Mapping[Hashable, Any]) -> str:
    notes = [
        _change(row) if row["change_kind"] else "",
        "configuration changed" if row["changed"] else "",
        Row({str(name): value for name, value in row.items()}).origin,
    ]
    return ", ".join(note for note in notes if note)
