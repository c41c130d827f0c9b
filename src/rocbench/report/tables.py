"""Tables of a report below its summary: runs, cells, server commands, environment, definitions. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rocbench import stats, units
from rocbench.columns import CELLS, LATENCIES
from rocbench.report.chart import bracket, figure
from rocbench.report.curves import level_words, marked, reasons, verdict_word
from rocbench.report.material import RunData
from rocbench.report.table import Table, with_window_note
from rocbench.server.command import shell_line
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
P99_NOTE = f"p99 is shown only for at least {stats.min_samples(99)} requests, the minimum for a distribution-free interval"


def runs(covered: Sequence[RunData]) -> Table:
    """The runs that the report covers."""
    rows = tuple(
        (
            marked(run.info.label, run.info.synthetic),
            run.info.run_id,
            run.info.begun_at[:16].replace("T", " "),
            str(run.manifest.get("sweep", units.ABSENT)),
            str((run.manifest.get("hardware") or {}).get("name", units.ABSENT)),
            str((run.manifest.get("node") or {}).get("node", units.ABSENT)),
            str(run.manifest.get("rocbench", units.ABSENT)),
            f"{len(run.rows):,}",
        )
        for run in covered
    )
    header = ("run", "id", "started, UTC", "sweep", "hardware", "node", "rocbench", "rows")
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
            *(shown_value(row, column, style) for column, _, style in shown),
            verdict_words(row),
        )
        for row in rows
    )
    bad = frozenset(index for index, row in enumerate(rows) if row.valid is False)
    return with_window_note(Table("cells", "All rows", header, body, (P99_NOTE,), bad))


def shown_value(row: Row, column: str, style: str) -> str:
    """One figure as text; p99 of too few requests is not shown."""
    value = row.get(column)
    if value is None:
        return units.ABSENT
    match style:
        case "percent":
            return units.percent(float(value))
        case "count":
            return f"{value:,.0f}"
        case "p99" if row.few_samples(column):
            return f"(n={row.samples(column):,})"
        case _:
            return figure(float(value)) + bracket(row.within(column))


def verdict_words(row: Row) -> str:
    """`valid`, `INVALID: codes`, `unknown: codes`."""
    codes = reasons([row])
    return f"{verdict_word(row)}: {codes}" if codes else verdict_word(row)


# --- servers


def commands(plan: Json) -> list[tuple[str, str, Table]]:
    """Each server: its id, its command as one line for a shell, and the reason for each flag."""
    servers = []
    for server in plan.get("servers") or ():
        line = "a running server; nothing was launched"
        if server.get("argv"):
            env = {name: str(value) for name, value in (server.get("env") or {}).items()}
            line = shell_line(server["argv"], env)
        servers.append((str(server.get("server_id")), line, _provenance(server)))
    return servers


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
    flat = [dict(_flattened(m.get("node") or {})) | gpu_facts(m) for m in manifests]
    names = list(dict.fromkeys(name for facts in flat for name in facts))
    rows = tuple(
        (name, " | ".join(dict.fromkeys(facts.get(name, units.ABSENT) for facts in flat))) for name in names
    )
    return Table("environment", "Environment", ("fact", "value"), rows)


def gpu_facts(manifest: Json) -> dict[str, str]:
    """Number and kind of a run's GPUs, and their memory; empty without GPUs."""
    hardware = manifest.get("hardware") or {}
    gpu = hardware.get("gpu") or {}
    if not gpu:
        return {}
    return {
        "GPUs": f"{hardware.get('gpus')} x {gpu.get('name')} ({gpu.get('gfx')})",
        "HBM per GPU": units.size(gpu.get("hbm_bytes")),
        "HBM bandwidth per GPU": f"{gpu.get('hbm_bytes_per_s', 0) / 1e12:.2f} TB/s",
    }


def _flattened(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [
            pair
            for key, inner in value.items()
            for pair in _flattened(inner, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(value, list):
        distinct = _distinct(value)
        if len(distinct) == len(value) and name == "gpus":
            distinct = _distinct(
                {k: v for k, v in gpu.items() if k not in ("gpu", "pci", "numa_node")} for gpu in value
            )
        return [(name, f"{len(value)} x {text}" if len(distinct) == 1 else text) for text in distinct]
    return [(name, str(value))]


def _distinct(values: Iterable[Any]) -> list[str]:
    """The values as JSON, each once."""
    return list(dict.fromkeys(json.dumps(value, sort_keys=True, default=str) for value in values))


def definitions() -> Table:
    """Definition of each figure in the report, from the table of columns."""
    shown = {column for column, _, _ in CELL_COLUMNS} | {
        "goodput",
        "roofline_output_throughput",
        "joules_per_output_token",
        "input_throughput",
        "total_token_throughput",
    }
    rows = [(name.upper(), "ms", meaning) for name, meaning in LATENCIES.items()]
    rows += [(c.name, c.unit, c.meaning) for c in CELLS if c.name in shown and not c.name.endswith("_ms")]
    notes = (
        "throughput counts the tokens received in the measured window; latencies are those of requests that began in the window",
        "TPOT and ITL are defined as in vLLM (vllm/benchmarks/serve.py, calculate_metrics); AIPerf and GuideLLM use the name ITL for TPOT",
    )
    return Table("definitions", "Definitions", ("figure", "unit", "meaning"), tuple(rows), notes)
