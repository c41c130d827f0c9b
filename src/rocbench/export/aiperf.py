"""JSON in the format of AIPerf's `profile_export_aiperf.json`: `{metric: {unit, avg, p50, ..., count}}`.

Metric tags and units: aiperf 0.13.0, `aiperf/metrics/types` and `common/models/export_models.py` (schema
1.4). AIPerf's inter-token latency is TPOT in rocbench, and its inter-chunk latency is ICL.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from rocbench.export.fields import Field, record
from rocbench.export.source import Distribution, Source, whole

SCHEMA_VERSION = "1.4"
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def spread(name: str, unit: str, latency: str, origin: str) -> Field:
    """A metric of each request, with its distribution (`Source.latencies`)."""
    return Field(name, unit, origin, lambda source: _summary(source.latencies[latency], unit))


def single(name: str, unit: str, origin: str, value: Callable[[Source], float | None]) -> Field:
    """A metric of the whole run, with `avg` only."""

    def average(source: Source) -> dict[str, Any] | None:
        figure = value(source)
        return None if figure is None else {"unit": unit, "avg": float(figure)}

    return Field(name, unit, origin, average)


def same(name: str, unit: str, column: str | None = None) -> Field:
    """A metric of the whole run that is a column of `cells`; by default of the same name."""
    return single(name, unit, f"`{column or name}`", lambda source: source.get(column or name))


def _summary(values: Distribution, unit: str) -> dict[str, Any] | None:
    if values.mean is None:
        return None
    return {
        "unit": unit,
        "avg": values.mean,
        **{f"p{q}": values.percentile(q) for q in PERCENTILES},
        "min": values.minimum,
        "max": values.maximum,
        "std": values.std,
        "count": values.count,
        "sum": values.total,
    }


def _good(source: Source) -> float | None:
    share, completed, failed = (source.get(n) for n in ("goodput_share", "completed", "failed"))
    return None if share is None or completed is None else whole(float(share) * (completed + (failed or 0)))


FIELDS: tuple[Field, ...] = (
    spread("time_to_first_token", "ms", "ttft", "TTFT"),
    spread("inter_token_latency", "ms", "tpot", "TPOT"),
    spread("inter_chunk_latency", "ms", "icl", "ICL, from its histogram"),
    spread("request_latency", "ms", "e2el", "E2EL"),
    spread(
        "output_token_throughput_per_user", "tokens/sec/user", "interactivity", "1000 / TPOT of each request"
    ),
    spread("input_sequence_length", "tokens", "isl", "prompt tokens of each request"),
    spread("output_sequence_length", "tokens", "osl", "output tokens of each request"),
    same("request_throughput", "requests/sec"),
    same("output_token_throughput", "tokens/sec", "output_throughput"),
    same("total_token_throughput", "tokens/sec"),
    same("goodput", "requests/sec"),
    single("good_request_count", "requests", "`goodput_share` x (`completed` + `failed`)", _good),
    same("request_count", "requests", "completed"),
    single("error_request_count", "requests", "`failed`; absent when 0", lambda s: s.get("failed") or None),
    same("benchmark_duration", "sec", "duration_s"),
    same("amd_total_gpu_power", "W", "mean_power_w"),
    same("amd_total_gpu_energy", "J", "energy_j"),
    single(
        "amd_energy_per_output_token",
        "mJ/token",
        "1000 x `joules_per_output_token`",
        lambda s: s.scaled("joules_per_output_token", 1000.0),
    ),
)


def export(source: Source) -> dict[str, Any]:
    """One file. AIPerf allows additional keys: `metadata` has the row's identity and verdict."""
    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    content["benchmark_id"] = f"{source.get('run_id')}/{source.get('cell_id')}/{source.get('repeat')}"
    content |= record(FIELDS, source)
    if source.get("started_at") is not None and source.get("duration_s"):
        start = datetime.datetime.fromisoformat(str(source.get("started_at")))
        content["start_time"] = start.isoformat()
        with suppress(OverflowError):  # an edited row may last longer than any date allows
            end = start + datetime.timedelta(seconds=float(source.get("duration_s")))
            content["end_time"] = end.isoformat()
    names = "model workload concurrency request_rate hardware vllm_version valid reasons".split()
    marks = {"simulated": source.simulated, "predicted": source.origin == "predicted"}
    return content | {"metadata": {"made_by": "rocbench"} | marks | source.present(names)}


def files(sources: Iterable[Source]) -> dict[str, Any]:
    """`<cell>/profile_export_aiperf.json` of each row."""
    return {f"{source.stem}/profile_export_aiperf.json": export(source) for source in sources}
