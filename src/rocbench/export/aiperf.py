"""JSON in the format of AIPerf's `profile_export_aiperf.json`: `{metric: {unit, avg, p50, ..., count}}`.

Metric tags and units: aiperf 0.13.0, `aiperf/metrics/types` and `common/models/export_models.py` (schema
1.4). AIPerf's inter-token latency is TPOT here, and its inter-chunk latency is ICL.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from rocbench.export.fields import Field
from rocbench.export.source import Distribution, Source, whole

SCHEMA_VERSION = "1.4"
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def spread(name: str, unit: str, ours: str, said: str) -> Field:
    """Return a metric of every request, with its distribution."""
    return Field(name, unit, said, lambda source: _summary(source.latencies[ours], unit))


def single(name: str, unit: str, said: str, value: Any) -> Field:
    """Return a metric of the whole run: `avg` alone."""

    def wrapped(source: Source) -> dict[str, Any] | None:
        figure = value(source)
        return None if figure is None else {"unit": unit, "avg": float(figure)}

    return Field(name, unit, said, wrapped)


def _summary(there: Distribution, unit: str) -> dict[str, Any] | None:
    if there.mean is None:
        return None
    percentiles = {f"p{q}": there.percentile(q) for q in PERCENTILES}
    ends = {"min": there.least, "max": there.most, "std": there.std, "count": there.count, "sum": there.total}
    return {"unit": unit, "avg": there.mean} | percentiles | ends


def _good(source: Source) -> float | None:
    share, completed, failed = (source.get(n) for n in ("goodput_share", "completed", "failed"))
    return None if share is None or completed is None else whole(float(share) * (completed + (failed or 0)))


FIELDS: tuple[Field, ...] = (
    spread("time_to_first_token", "ms", "ttft", "TTFT"),
    spread("inter_token_latency", "ms", "tpot", "TPOT"),
    spread("inter_chunk_latency", "ms", "icl", "ICL, from its histogram"),
    spread("request_latency", "ms", "e2el", "E2EL"),
    spread("output_token_throughput_per_user", "tokens/sec/user", "pace", "1000 / TPOT of each request"),
    spread("input_sequence_length", "tokens", "isl", "prompt tokens of each request"),
    spread("output_sequence_length", "tokens", "osl", "output tokens of each request"),
    single(
        "request_throughput", "requests/sec", "`request_throughput`", lambda s: s.get("request_throughput")
    ),
    single(
        "output_token_throughput", "tokens/sec", "`output_throughput`", lambda s: s.get("output_throughput")
    ),
    single(
        "total_token_throughput",
        "tokens/sec",
        "`total_token_throughput`",
        lambda s: s.get("total_token_throughput"),
    ),
    single("goodput", "requests/sec", "`goodput`", lambda s: s.get("goodput")),
    single("good_request_count", "requests", "`goodput_share` x (`completed` + `failed`)", _good),
    single("request_count", "requests", "`completed`", lambda s: s.get("completed")),
    single("error_request_count", "requests", "`failed`, left out when 0", lambda s: s.get("failed") or None),
    single("benchmark_duration", "sec", "`duration_s`", lambda s: s.get("duration_s")),
    single("amd_total_gpu_power", "W", "`mean_power_w`", lambda s: s.get("mean_power_w")),
    single("amd_total_gpu_energy", "J", "`energy_j`", lambda s: s.get("energy_j")),
    single(
        "amd_energy_per_output_token",
        "mJ/token",
        "1000 x `joules_per_output_token`",
        lambda s: s.scaled("joules_per_output_token", 1000.0),
    ),
)


def export(source: Source) -> dict[str, Any]:
    """Return one file. AIPerf allows further keys: `metadata` has the row's identity and verdict."""
    found: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    found["benchmark_id"] = f"{source.get('run_id')}/{source.get('cell_id')}/{source.get('repeat')}"
    found |= {field.name: value for field in FIELDS if (value := field.value(source)) is not None}
    if source.get("started_at") is not None and source.get("duration_s"):
        start = datetime.datetime.fromisoformat(str(source.get("started_at")))
        found["start_time"] = start.isoformat()
        with suppress(OverflowError):  # of a row that somebody edited
            end = start + datetime.timedelta(seconds=float(source.get("duration_s")))
            found["end_time"] = end.isoformat()
    names = (
        "model",
        "workload",
        "concurrency",
        "request_rate",
        "hardware",
        "vllm_version",
        "valid",
        "reasons",
    )
    kept = {name: source.get(name) for name in names if source.get(name) is not None}
    marks = {"simulated": source.simulated, "predicted": source.origin == "predicted"}
    return found | {"metadata": {"made_by": "rocbench"} | marks | kept}


def files(sources: Iterable[Source]) -> dict[str, Any]:
    """Return `<cell>/profile_export_aiperf.json` of each row."""
    return {f"{source.stem}/profile_export_aiperf.json": export(source) for source in sources}
