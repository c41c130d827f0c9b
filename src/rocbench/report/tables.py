"""Tables of a report below its summary: runs, cells, server commands, environment, definitions. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rocbench import stats, units
from rocbench.columns import CELLS, LATENCIES
from rocbench.report.chart import figure
from rocbench.report.curves import RunInfo, level_words, marked, reasons, verdict_word
from rocbench.report.table import Table
from rocbench.tables.row import Row

Json = Mapping[str, Any]

CELL_COLUMNS: tuple[tuple[str, str, str], ...] = (
    # column, heading, format
    ("output_throughput", "output tok/s", "figure"),
    ("output_throughput_per_gpu", "tok/s/GPU", "figure"),
    ("roofline_share", "of roofline", "percent"),
    ("request_throughput", "requests/s", "figure"),
    ("achieved_concurrency", "in flight", "figure"),
    ("median_ttft_ms", "TTFT p50, ms", "figure"),
    ("p99_ttft_ms", "TTFT p99, ms", "p99"),
    ("median_tpot_ms", "TPOT p50, ms", "figure"),
    ("p99_tpot_ms", "TPOT p99, ms", "p99"),
    ("median_itl_ms", "ITL p50, ms", "figure"),
    ("p99_e2el_ms", "E2EL p99, ms", "p99"),
    ("completed", "completed", "count"),
    ("failed", "failed", "count"),
    ("server_kv_usage_max", "KV max", "percent"),
    ("mean_power_w", "power, W", "figure"),
)


def runs(infos: Sequence[RunInfo], manifests: Sequence[Json], counts: Sequence[int]) -> Table:
    """The runs that the report covers."""
    rows = tuple(
        (
            marked(info.label, info.synthetic),
            info.run_id,
            info.begun_at[:16].replace("T", " "),
            str(manifest.get("sweep", units.ABSENT)),
            str((manifest.get("hardware") or {}).get("name", units.ABSENT)),
            str((manifest.get("node") or {}).get("node", units.ABSENT)),
            str(manifest.get("rocbench", units.ABSENT)),
            f"{count:,}",
        )
        for info, manifest, count in zip(infos, manifests, counts, strict=True)
    )
    header = ("run", "id", "begun, UTC", "sweep", "hardware", "node", "rocbench", "rows")
    return Table("runs", "Runs", header, rows)


def cells(rows: Sequence[Row], names: Mapping[str, str]) -> Table:
    """Every row with its figures and verdict; columns that are empty in all rows are left out.

    Args:
        rows: `cells` rows.
        names: run_id to label; several runs get a column of runs.
    """
    shown = [c for c in CELL_COLUMNS if any(row.get(c[0]) is not None for row in rows)]
    several = len(names) > 1
    header = (
        *(("run",) if several else ()),
        "configuration",
        "workload",
        "load",
        "repeat",
        *(heading for _, heading, _ in shown),
        "verdict",
    )
    body = tuple(
        (
            *((names.get(str(row.get("run_id")), units.ABSENT),) if several else ()),
            marked(row.configuration, row.origin),
            str(row.get("workload")),
            level_words(row.shape, row.level),
            str(row.get("repeat")),
            *(shown_value(row, column, how) for column, _, how in shown),
            verdict_words(row),
        )
        for row in rows
    )
    bad = frozenset(index for index, row in enumerate(rows) if row.valid is False)
    notes = (
        f"p99 is shown from {stats.min_samples(99)} requests on, the least for an interval that assumes no distribution",
    )
    return Table("cells", "All rows", header, body, notes, bad)


def shown_value(row: Row, column: str, how: str) -> str:
    """One figure as text; p99 of too few requests is not shown."""
    value = row.get(column)
    if value is None:
        return units.ABSENT
    match how:
        case "percent":
            return units.percent(float(value))
        case "count":
            return f"{value:,.0f}"
        case "p99" if row.few_samples(column):
            return f"(n={row.samples(column):,})"
        case _:
            return figure(float(value))


def verdict_words(row: Row) -> str:
    """`valid`, `INVALID: codes`, `unknown: codes`."""
    codes = reasons([row])
    return f"{verdict_word(row)}: {codes}" if codes else verdict_word(row)


# --- servers


def commands(plan: Json) -> list[tuple[str, str, Table]]:
    """Each server: its id, its command as one line for a shell, and the reason for each flag."""
    found = []
    for server in plan.get("servers") or ():
        if server.get("argv"):
            env = [f"{name}={shlex.quote(str(value))}" for name, value in (server.get("env") or {}).items()]
            line = " ".join([*env, shlex.join(server["argv"])])
        else:
            line = "a running server; nothing was launched"
        found.append((str(server.get("server_id")), line, _provenance(server)))
    return found


def _provenance(server: Json) -> Table:
    rows = tuple(
        (
            str(entry.get("name")),
            _flag(entry.get("value")),
            str(entry.get("by")) + (f": {entry['rule']}" if entry.get("rule") else ""),
            str(entry.get("why") or ""),
            str(entry.get("source") or ""),
        )
        for entry in server.get("provenance") or ()
    )
    return Table(
        f"server-{server.get('server_id')}",
        str(server.get("server_id")),
        ("flag or variable", "value", "set by", "why", "source"),
        rows,
        tuple(str(w).replace("\n", " ") for w in server.get("warnings") or ()),
    )


def _flag(value: Any) -> str:
    match value:
        case True:
            return "on"
        case False:
            return "off"
        case dict() | list():
            return json.dumps(value)
        case _:
            return str(value)


# --- environment and words


def environment(manifests: Sequence[Json]) -> Table:
    """Facts of the nodes, one column for each run; facts that all runs share are listed once."""
    flat = [dict(_flattened(m.get("node") or {})) | _hardware(m) for m in manifests]
    names = list(dict.fromkeys(name for facts in flat for name in facts))
    rows = []
    for name in names:
        there = list(dict.fromkeys(facts.get(name, units.ABSENT) for facts in flat))
        rows.append((name, " | ".join(there)))
    return Table("environment", "Environment", ("fact", "value"), tuple(rows))


def _hardware(manifest: Json) -> dict[str, str]:
    hardware = manifest.get("hardware") or {}
    gpu = hardware.get("gpu") or {}
    if not gpu:
        return {}
    return {
        "GPUs": f"{hardware.get('gpus')} x {gpu.get('name')} ({gpu.get('gfx')})",
        "HBM a GPU": units.size(gpu.get("hbm_bytes")),
        "HBM bandwidth a GPU": f"{gpu.get('hbm_bytes_per_s', 0) / 1e12:.2f} TB/s",
    }


def _flattened(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [
            pair
            for key, inner in value.items()
            for pair in _flattened(inner, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(value, list):
        unlike = list(dict.fromkeys(json.dumps(inner, sort_keys=True, default=str) for inner in value))
        if len(unlike) == len(value) and name == "gpus":
            value = [
                {k: v for k, v in inner.items() if k not in ("gpu", "pci", "numa_node")} for inner in value
            ]
            unlike = list(dict.fromkeys(json.dumps(inner, sort_keys=True, default=str) for inner in value))
        return [(name, f"{len(value)} x {text}" if len(unlike) == 1 else text) for text in unlike]
    return [(name, str(value))]


def definitions() -> Table:
    """Definition of each figure in the report, from the table of columns."""
    wanted = {column for column, _, _ in CELL_COLUMNS} | {
        "goodput",
        "roofline_output_throughput",
        "joules_per_output_token",
        "input_throughput",
        "total_token_throughput",
    }
    rows = [(name.upper(), "ms", meaning) for name, meaning in LATENCIES.items()]
    rows += [(c.name, c.unit, c.meaning) for c in CELLS if c.name in wanted and not c.name.endswith("_ms")]
    notes = (
        "throughput counts tokens stamped in the measured window, latencies are of requests that began in it",
        "TPOT and ITL are as vLLM defines them (vllm/benchmarks/serve.py, calculate_metrics); what AIPerf and GuideLLM call ITL is TPOT here",
    )
    return Table("definitions", "What the figures are", ("figure", "unit", "meaning"), tuple(rows), notes)
