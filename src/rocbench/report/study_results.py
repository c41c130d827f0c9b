"""Results of a study as tables: per workload, per model, reliability, variability, bounds and limits. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rocbench import units
from rocbench.report.chart import figure
from rocbench.report.curves import Curve, Point
from rocbench.report.material import RunData
from rocbench.report.plots import slug
from rocbench.report.summary import with_interval
from rocbench.report.table import Table, with_window_note
from rocbench.report.tables import P99_NOTE
from rocbench.tables import runformat
from rocbench.tables.row import Row, figures, listed
from rocbench.verdict.codes import VOIDING

_RESULTS: tuple[tuple[str, str], ...] = (
    ("output_throughput", "output tok/s"),
    ("output_throughput_per_gpu", "tok/s/GPU"),
    ("total_token_throughput", "total tok/s"),
    ("median_ttft_ms", "TTFT p50, ms"),
    ("p99_ttft_ms", "TTFT p99, ms"),
    ("median_tpot_ms", "TPOT p50, ms"),
    ("p99_tpot_ms", "TPOT p99, ms"),
    ("p99_e2el_ms", "E2EL p99, ms"),
)
_SPREAD = ("output_throughput", "median_ttft_ms", "median_tpot_ms", "p99_e2el_ms")


def workloads(runs: Sequence[RunData]) -> Table:
    """Requests of each workload, and the measured time of each cell."""
    rows: dict[tuple[str, ...], None] = {}
    for run in runs:
        load = run.sweep.get("load") or {}
        bounds = {row["cell_id"]: _bounds(row) for row in run.rows}  # a cell's own load is only in its rows
        for server in run.plan.get("servers") or ():
            for cell in server.get("cells") or ():
                rows[_workload(cell["workload"], load | bounds.get(cell["cell_id"], {}))] = None
    header = (
        "workload",
        "ISL, tokens",
        "OSL, tokens",
        "images",
        "prompts",
        "end of sequence",
        "load",
        "window",
    )
    notes = ("the headline figure is output tokens; it never includes input or image tokens",)
    return Table("workloads", "Workloads", header, tuple(rows), notes)


def _bounds(row: Row) -> dict[str, Any]:
    """Limits on the requests of a row's load; None if it has none."""
    return {
        "max_requests": row.get("max_requests"),
        "max_requests_per_user": runformat.json_column(row, "load_spec").get("max_requests_per_user"),
    }


def _workload(workload: Mapping[str, Any], load: Mapping[str, Any]) -> tuple[str, ...]:
    images = workload.get("images")
    shape = (load.get("shape") or {}).get("kind", "closed")
    window = f"at least {load.get('duration_s', 0):g} s and {load.get('min_requests_per_user', 0):g} requests per user"
    if load.get("max_requests"):
        window = f"{int(load['max_requests']):,} requests"
        if load.get("max_requests_per_user"):
            window += f", at most {load['max_requests_per_user']:,} per user"
    return (
        str(workload["name"]),
        _length(workload["isl"]),
        _length(workload["osl"]),
        f"{images['count']} x {images['width']}x{images['height']} {images['format']}" if images else "none",
        _prompts(workload),
        "ignored" if workload.get("ignore_eos") else "ends the answer",
        f"{shape} loop" if shape != "trace" else "trace",
        window,
    )


def _prompts(workload: Mapping[str, Any]) -> str:
    """The reuse of prompts, as text."""
    pool, shared = workload.get("prompt_pool"), workload.get("shared_prefix_ratio")
    if pool:
        return f"{pool:,}, repeated"
    return f"{units.percent(shared)} shared" if shared else "each unique"


def _length(length: Mapping[str, Any]) -> str:
    if length.get("kind") == "uniform":
        return f"{length['low']:,} to {length['high']:,}"
    return f"{length['mean']:,}" + (" (lognormal)" if length.get("kind") == "lognormal" else "")


def by_workload(curves: Sequence[Curve]) -> list[Table]:
    """One table for each workload: every configuration at every level."""
    return [
        _results(
            slug("results", "workload", workload),
            f"Results, {workload}",
            "configuration",
            [(curve.name, curve) for curve in curves if curve.workload == workload],
        )
        for workload in dict.fromkeys(curve.workload for curve in curves)
    ]


def by_model(curves: Sequence[Curve]) -> list[Table]:
    """One table for each model: every workload at every level."""
    return [
        _results(
            slug("results", "model", model),
            f"Results, {model}",
            "configuration and workload",
            [(f"{curve.name}, {curve.load}", curve) for curve in curves if curve.model == model],
        )
        for model in dict.fromkeys(curve.model for curve in curves)
    ]


def _results(ident: str, title: str, heading: str, named: Iterable[tuple[str, Curve]]) -> Table:
    points = [(name, curve, point) for name, curve in named for point in curve.points]
    rows = tuple(
        (
            name,
            curve.level(point),
            str(len(point.rows)),
            *(with_interval(point, column) for column, _ in _RESULTS),
            units.percent(point.mean("roofline_share")),
            _verdict(point),
        )
        for name, curve, point in points
    )
    bad = frozenset(n for n, (_, _, point) in enumerate(points) if point.mark == "invalid")
    header = (heading, "load", "n", *(heading for _, heading in _RESULTS), "of roofline", "verdict")
    notes = (
        "mean over repeats ± half the width of the 95 % t interval; n is the number of repeats, without invalid repeats",
        P99_NOTE,
    )
    return with_window_note(Table(ident, title, header, rows, notes, bad))


def _verdict(point: Point) -> str:
    """`valid`, `unknown` or `INVALID`, with the codes of the rows left out."""
    codes = ", ".join(code for code in listed(point.invalid) if code in VOIDING)
    if not point.rows:
        return f"INVALID: {codes}"
    return point.mark + (f"; {len(point.invalid)} invalid: {codes}" if point.invalid else "")


# --- reliability and limits


def reliability(curves: Sequence[Curve]) -> Table:
    """Requests, tokens and failures of each configuration, over all rows, including invalid rows."""
    table_rows = []
    for curve in curves:
        rows = [row for point in curve.points for row in (*point.rows, *point.invalid)]
        completed, failed = (sum(figures(rows, column)) for column in ("completed", "failed"))
        table_rows.append(
            (
                curve.name,
                curve.load,
                f"{len(rows):,}",
                f"{completed:,.0f}",
                f"{failed:,.0f}",
                units.percent(completed / (completed + failed), 3) if completed + failed else units.ABSENT,
                f"{sum(figures(rows, 'client_prompt_tokens')):,.0f}",
                f"{sum(figures(rows, 'client_output_tokens')):,.0f}",
                _failures(rows),
                f"{sum(row.get('server_restarted') is True for row in rows)}",
                f"{sum(row.valid is False for row in rows)}",
            )
        )
    header = (
        "configuration",
        "workload",
        "rows",
        "completed",
        "failed",
        "success",
        "input tokens",
        "output tokens",
        "failures by class",
        "server restarts",
        "invalid rows",
    )
    notes = (
        "requests are those that began in a measured window; tokens are those of all phases",
        "a request is completed if its stream was complete and had the requested length; HTTP 200 alone is not enough",
    )
    return Table("reliability", "Reliability", header, tuple(table_rows), notes)


def _failures(rows: Sequence[Row]) -> str:
    counts: dict[str, float] = {}
    for row in rows:
        for name, count in runformat.json_column(row, "failures").items():
            counts[name] = counts.get(name, 0) + (count or 0)
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def variability(curves: Sequence[Curve]) -> Table:
    """Spread of the repeats of each cell that has several."""
    rows = []
    for curve in curves:
        for point in curve.points:
            output = figures(point.rows, "output_throughput")
            if len(output) < 2:
                continue
            rows.append(
                (
                    curve.name,
                    curve.workload,
                    curve.level(point),
                    str(len(output)),
                    *(_cov(point, column) for column in _SPREAD),
                    f"{figure(min(output))} to {figure(max(output))}",
                )
            )
    header = (
        "configuration",
        "workload",
        "load",
        "n",
        "CoV output tok/s",
        "CoV TTFT p50",
        "CoV TPOT p50",
        "CoV E2EL p99",
        "output tok/s, range",
    )
    notes = ("CoV: standard deviation / mean over the repeats, without invalid repeats", P99_NOTE)
    return Table("variability", "Variability between repeats", header, tuple(rows), notes)


def _cov(point: Point, column: str) -> str:
    interval = point.interval(column)
    if interval.n < 2 or not interval.estimate:
        return units.ABSENT
    return units.percent(statistics.stdev(figures(point.rows, column)) / interval.estimate, 2)


def bounds(curves: Sequence[Curve]) -> Table:
    """Physical limits next to measured values: KV capacity, roofline, power."""
    rows = tuple(
        (
            curve.name,
            curve.workload,
            curve.level(best),
            figure(best.mean("kv_capacity_tokens")),
            units.percent(best.mean("server_kv_usage_max")),
            figure(best.mean("roofline_output_throughput")),
            units.percent(best.mean("roofline_share")),
            figure(best.mean("mean_power_w")),
            figure(best.mean("joules_per_output_token")),
        )
        for curve in curves
        if (best := curve.best()) is not None
    )
    header = (
        "configuration",
        "workload",
        "load",
        "KV capacity, tokens",
        "KV max",
        "roofline bound, tok/s",
        "of roofline",
        "power, W",
        "J/output token",
    )
    notes = (
        "at the load with the highest output throughput; the roofline bound is the maximum throughput at that load according to the published peaks of the hardware",
    )
    return Table("bounds", "Physical limits", header, rows, notes)


def limits(runs: Sequence[RunData], rows: Sequence[Row]) -> Table:
    """Limits of the results: conclusions that these figures do not support."""
    found = []
    origins = {row.origin for row in rows}
    if "simulated" in origins:
        found.append(("simulated", "the figures come from the simulated server and describe no hardware"))
    if "predicted" in origins:
        found.append(("predicted", "the figures were computed in virtual time and describe no hardware"))
    nodes = {
        str(row.get("node") or (run.manifest.get("node") or {}).get("node"))
        for run in runs
        for row in run.rows
    }
    if len(nodes) == 1:
        found.append(("one node", f"all rows come from {nodes.pop()}: differences between nodes are unknown"))
    if rows and max(int(row.get("repeat") or 1) for row in rows) == 1:
        found.append(
            ("one repeat", "no cell was repeated: there are no intervals, and no difference can be judged")
        )
    elif any(row.get("restart") == "never" for row in rows):
        found.append(
            ("repeats share a server", "the intervals do not include the variation between server starts")
        )
    precisions = {row.get("model"): row.get("precision") for row in rows}
    if len(set(precisions.values())) > 1:
        listing = ", ".join(f"{model} {precision}" for model, precision in precisions.items())
        found.append(("models differ in more than architecture", f"precision: {listing}"))
    if labels := sorted(listed(rows, "accuracy_labels")):
        found.append(("answers were not scored", f"settings that may change answers: {', '.join(labels)}"))
    if unchecked := sorted(listed(rows, "unknown_checks")):
        found.append(("not checked", f"on some rows: {', '.join(unchecked)}"))
    if any(row.get("images") for row in rows):
        found.append(
            (
                "vision and text",
                "image tokens are counted separately: total tokens are not comparable with those of text workloads",
            )
        )
    return Table("limits", "Limits", ("limit", "meaning"), tuple(found))
