"""Results of a study as tables: per workload, per model, reliability, variability, bounds and limits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rocbench import stats, units
from rocbench.report.chart import figure
from rocbench.report.curves import Curve, Point, level_words
from rocbench.report.material import RunData
from rocbench.report.plots import slug
from rocbench.report.summary import with_interval
from rocbench.report.table import Table
from rocbench.tables import kept
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
        load = (run.plan.get("sweep") or {}).get("load") or {}
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
    notes = ("output tokens are the headline, input and image tokens are never added to it",)
    return Table("workloads", "Workloads", header, tuple(rows), notes)


def _bounds(row: Row) -> dict[str, Any]:
    """Limits other than time that ended a row's load; absent if there were none."""
    said = kept.held(row, "load_spec")
    return {
        "max_requests": row.get("max_requests"),
        "max_requests_per_user": said.get("max_requests_per_user"),
    }


def _workload(workload: Mapping[str, Any], load: Mapping[str, Any]) -> tuple[str, ...]:
    images = workload.get("images")
    shape = (load.get("shape") or {}).get("kind", "closed")
    window = f"at least {load.get('duration_s', 0):g} s and {load.get('min_requests_per_user', 0):g} requests a user"
    if load.get("max_requests"):
        window = f"{int(load['max_requests']):,} requests in all"
        if load.get("max_requests_per_user"):
            window += f", at most {load['max_requests_per_user']:,} a user"
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
        return f"{pool:,}, again and again"
    return f"{units.percent(shared)} shared" if shared else "each unique"


def _length(length: Mapping[str, Any]) -> str:
    if length.get("kind") == "uniform":
        return f"{length['low']:,} to {length['high']:,}"
    return f"{length['mean']:,}" + (" (lognormal)" if length.get("kind") == "lognormal" else "")


def by_workload(found: Sequence[Curve]) -> list[Table]:
    """One table for each workload: every configuration at every level."""
    return [
        _results(
            slug("results", "workload", workload),
            f"Results, {workload}",
            "configuration",
            [(curve.name, curve) for curve in found if curve.workload == workload],
        )
        for workload in dict.fromkeys(curve.workload for curve in found)
    ]


def by_model(found: Sequence[Curve]) -> list[Table]:
    """One table for each model: every workload at every level."""
    return [
        _results(
            slug("results", "model", model),
            f"Results, {model}",
            "configuration and workload",
            [(f"{curve.name}, {curve.load}", curve) for curve in found if curve.model == model],
        )
        for model in dict.fromkeys(curve.model for curve in found)
    ]


def _results(ident: str, title: str, what: str, mine: Iterable[tuple[str, Curve]]) -> Table:
    rows: list[tuple[str, ...]] = []
    bad: set[int] = set()
    for name, curve in mine:
        for point in curve.points:
            if point.mark == "invalid":
                bad.add(len(rows))
            rows.append((name, level_words(curve.shape, point.level), *_figures(point), verdict_of(point)))
    header = (what, "load", "n", *(heading for _, heading in _RESULTS), "of roofline", "verdict")
    notes = (
        "mean over repeats ± half the width of its 95 % t interval; n counts repeats that are not invalid",
        f"p99 is shown where each repeat has the {stats.min_samples(99)} requests that an interval without an assumed distribution needs",
    )
    return Table(ident, title, header, tuple(rows), notes, frozenset(bad))


def _figures(point: Point) -> tuple[str, ...]:
    shown = [with_interval(point.interval(column)) for column, _ in _RESULTS]
    return (str(len(point.rows)), *shown, units.percent(point.mean("roofline_share")))


def verdict_of(point: Point) -> str:
    """`valid`, `unknown` or `INVALID`, with the codes of the rows left out."""
    codes = [code for code in listed(point.invalid) if code in VOIDING]
    if not point.rows:
        return f"INVALID: {', '.join(codes)}"
    left = f"; {len(point.invalid)} invalid: {', '.join(codes)}" if point.invalid else ""
    return point.mark + left


# --- reliability and limits


def reliability(found: Sequence[Curve]) -> Table:
    """Requests, tokens and failures of each configuration, over all rows, including invalid rows."""
    rows = []
    for curve in found:
        mine = [row for point in curve.points for row in (*point.rows, *point.invalid)]
        completed, failed = (sum(figures(mine, column)) for column in ("completed", "failed"))
        rows.append(
            (
                curve.name,
                curve.load,
                f"{len(mine):,}",
                f"{completed:,.0f}",
                f"{failed:,.0f}",
                units.percent(completed / (completed + failed), 3) if completed + failed else units.ABSENT,
                f"{sum(figures(mine, 'client_prompt_tokens')):,.0f}",
                f"{sum(figures(mine, 'client_output_tokens')):,.0f}",
                _failures(mine),
                f"{sum(row.get('server_restarted') is True for row in mine)}",
                f"{sum(row.valid is False for row in mine)}",
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
        "server deaths",
        "invalid rows",
    )
    notes = (
        "requests that began in a measured window; tokens of all phases",
        "a request counts as completed when its stream ended whole, with the length asked for; HTTP 200 alone is not enough",
    )
    return Table("reliability", "Reliability", header, tuple(rows), notes)


def _failures(rows: Sequence[Row]) -> str:
    counts: dict[str, float] = {}
    for row in rows:
        for name, count in kept.held(row, "failures").items():
            counts[name] = counts.get(name, 0) + (count or 0)
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def variability(found: Sequence[Curve]) -> Table:
    """Spread of the repeats of each cell that has several."""
    rows = []
    for curve in found:
        for point in curve.points:
            n = len(figures(point.rows, "output_throughput"))
            if n < 2:
                continue
            rows.append(
                (
                    curve.name,
                    curve.workload,
                    level_words(curve.shape, point.level),
                    str(n),
                    *(_cov(point, column) for column in _SPREAD),
                    _range(point),
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
        "output tok/s, least to most",
    )
    notes = (
        f"CoV: standard deviation / mean over repeats that are not invalid; of p99 where each has {stats.min_samples(99)} requests",
    )
    return Table("variability", "Variability between repeats", header, tuple(rows), notes)


def _cov(point: Point, column: str) -> str:
    interval = point.interval(column)
    there = figures(point.rows, column)
    if interval.n < 2 or not interval.estimate:
        return units.ABSENT
    mean = sum(there) / len(there)
    deviation = (sum((v - mean) ** 2 for v in there) / (len(there) - 1)) ** 0.5
    return units.percent(deviation / mean, 2)


def _range(point: Point) -> str:
    there = figures(point.rows, "output_throughput")
    return f"{figure(min(there))} to {figure(max(there))}"


def bounds(found: Sequence[Curve]) -> Table:
    """Physical limits next to measured values: KV capacity, roofline, power."""
    rows = tuple(
        (
            curve.name,
            curve.workload,
            level_words(curve.shape, best.level),
            figure(best.mean("kv_capacity_tokens")),
            units.percent(best.mean("server_kv_usage_max")),
            figure(best.mean("roofline_output_throughput")),
            units.percent(best.mean("roofline_share")),
            figure(best.mean("mean_power_w")),
            figure(best.mean("joules_per_output_token")),
        )
        for curve in found
        if (best := curve.best()) is not None
    )
    header = (
        "configuration",
        "workload",
        "load",
        "KV capacity, tokens",
        "KV in use, most",
        "roofline bound, tok/s",
        "reached",
        "power, W",
        "J/output token",
    )
    notes = (
        "at the load of highest output throughput; the bound is what published peaks allow at that load",
    )
    return Table("bounds", "Physical bounds", header, rows, notes)


def limits(runs: Sequence[RunData], rows: Sequence[Row]) -> Table:
    """Limits of the results: conclusions that these figures do not support."""
    said = []
    origins = {row.origin for row in rows}
    if "simulated" in origins:
        said.append(("simulated", "figures of the simulated server: they say nothing about any hardware"))
    if "predicted" in origins:
        said.append(("predicted", "figures computed in virtual time: they say nothing about any hardware"))
    nodes = {
        str(row.get("node") or (run.manifest.get("node") or {}).get("node"))
        for run in runs
        for row in run.rows
    }
    if len(nodes) == 1:
        said.append(("one node", f"all rows come from {nodes.pop()}: how nodes differ is not known"))
    if rows and max(int(row.get("repeat") or 1) for row in rows) == 1:
        said.append(
            ("one repeat", "no cell was repeated: there is no interval, and no difference can be judged")
        )
    elif any(row.get("restart") == "never" for row in rows):
        said.append(
            (
                "repeats share a server",
                "the intervals leave out how a configuration differs between server starts",
            )
        )
    precisions = {row.get("model"): row.get("precision") for row in rows}
    if len(set(precisions.values())) > 1:
        told = ", ".join(f"{model} {precision}" for model, precision in precisions.items())
        said.append(("models differ in more than architecture", f"precision: {told}"))
    labels = sorted(listed(rows, "accuracy_labels"))
    if labels:
        said.append(
            ("answers were not scored", f"switches in force that may change them: {', '.join(labels)}")
        )
    unmade = sorted(listed(rows, "unknown_checks"))
    if unmade:
        said.append(("not checked", f"on some rows: {', '.join(unmade)}"))
    if any(row.get("images") for row in rows):
        said.append(
            ("vision and text", "image tokens are counted apart: total throughputs do not compare with text")
        )
    return Table("limits", "Limits", ("limit", "what it means"), tuple(said))
