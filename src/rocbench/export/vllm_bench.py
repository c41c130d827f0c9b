"""The JSON of `vllm bench serve --save-result`, in the folders of `vllm bench sweep serve`.

Keys and units: vllm/benchmarks/serve.py, `benchmark` and `main_async`, v0.32.0. `vllm bench sweep plot` and
`plot_pareto` read these folders (vllm/benchmarks/sweep/serve.py, `_get_comb_base_path`).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from functools import partial
from typing import Any

from rocbench.export.fields import Field, parallel, record, same
from rocbench.export.source import Source
from rocbench.tables import runformat

LATENCIES = {"ttft": "ttft", "tpot": "tpot", "itl": "icl", "e2el": "e2el"}
"""vLLM's name of each latency, and its name in rocbench."""
STATISTICS = ("mean", "median", "std", "p90", "p95", "p99")


def _statistics() -> Iterable[Field]:
    for key, name in LATENCIES.items():
        origin = "ICL: gaps between chunks" if name == "icl" else f"{name.upper()} of completed requests"
        for statistic in STATISTICS:
            yield Field(f"{statistic}_{key}_ms", "ms", origin, partial(_statistic, name, statistic))


def _statistic(name: str, statistic: str, source: Source) -> float | None:
    """The row's column if it has one, else computed from the requests."""
    column = source.get(f"{statistic}_{name}_ms")
    if column is not None:
        return float(column)
    values = source.latencies[name]
    match statistic:
        case "mean":
            return values.mean
        case "std":
            return values.std
        case "median":
            return values.percentile(50)
        case _:
            return values.percentile(float(statistic[1:]))


def _date(source: Source) -> str | None:
    at = source.get("started_at")
    return None if at is None else datetime.datetime.fromisoformat(str(at)).strftime("%Y%m%d-%H%M%S")


def _prompts(source: Source) -> int | None:
    counts = [source.get(name) for name in ("completed", "failed", "unfinished")]
    return None if counts[0] is None else sum(int(n or 0) for n in counts)


FIELDS: tuple[Field, ...] = (
    Field("date", "", "`started_at`, UTC", _date),
    Field("endpoint_type", "", "the API used", lambda s: "openai-chat" if s.chat else "openai"),
    Field("backend", "", "the API used", lambda s: "openai-chat" if s.chat else "openai"),
    Field(
        "label",
        "",
        "`rocbench`, `rocbench-simulated` or `rocbench-predicted`",
        lambda s: f"rocbench-{s.origin}" if s.origin else "rocbench",
    ),
    Field("model_id", "", "`hf_id` of the model's profile", lambda s: s.hf_id),
    Field("num_prompts", "requests", "requests that began in the window", _prompts),
    Field(
        "request_rate",
        "requests/s",
        "`request_rate`, or `inf` under closed loop",
        lambda s: s.get("request_rate") or "inf",
    ),
    same("max_concurrency", "requests", "concurrency"),
    same("duration", "s", "duration_s"),
    same("completed", "requests"),
    same("failed", "requests"),
    Field(
        "total_input_tokens",
        "tokens",
        "(`input_throughput` + `image_token_throughput`) x `duration_s`",
        Source.input_tokens,
    ),
    Field(
        "total_output_tokens",
        "tokens",
        "`output_throughput` x `duration_s`",
        lambda s: s.tokens("output_throughput"),
    ),
    same("request_throughput", "requests/s"),
    same("request_goodput", "requests/s", "goodput"),
    same("output_throughput", "tokens/s"),
    same("total_token_throughput", "tokens/s"),
    *_statistics(),
)

METADATA: tuple[Field, ...] = (
    # keys that `--metadata KEY=VALUE` would add, for grouping in plots
    Field("tensor_parallel_size", "", "`tp`", lambda s: s.get("tp")),
    parallel("pipeline_parallel_size", "--pipeline-parallel-size"),
    same("gpu_count", "", "gpus"),
    same("workload", ""),
    same("random_input_len", "tokens", "isl"),
    same("random_output_len", "tokens", "osl"),
    same("hardware", ""),
    same("vllm_version", ""),
    same("precision", ""),
    same("aiter", ""),
    Field("simulated", "", "`true` for simulated and predicted rows", lambda s: str(s.simulated).lower()),
    Field("valid", "", "`valid`", lambda s: "unknown" if s.row.valid is None else str(s.row.valid).lower()),
    same("reasons", ""),
    same("run_id", ""),
    same("cell_id", ""),
    Field("run_number", "", "`repeat`, from 0", lambda s: int(s.get("repeat") or 1) - 1),
)


def result(source: Source) -> dict[str, Any]:
    """One `run=N.json`. Each axis of the matrix is a key next to the metadata."""
    axes = runformat.json_column(source.row, "axes")
    return record(FIELDS, source) | record(METADATA, source) | {str(k): v for k, v in axes.items()}


def folder(source: Source) -> str:
    """Folder name: `SERVE--<configuration>-BENCH--<workload>-<level>`."""
    key = str(source.get("key") or source.get("cell_id"))
    serve, _, bench = key.rpartition("/")[0].rpartition("/")
    name = f"SERVE--{serve}-BENCH--{bench}-{key.rpartition('/')[2]}"
    return "".join(c if c.isalnum() or c in "-._=," else "_" for c in name)


def files(sources: Iterable[Source]) -> dict[str, Any]:
    """Paths with their JSON: `run=N.json` of each row, and `summary.json` of each cell."""
    cells: dict[str, list[dict[str, Any]]] = {}
    for source in sources:
        cells.setdefault(folder(source), []).append(result(source))
    runs = {f"{path}/run={run['run_number']}.json": run for path, runs in cells.items() for run in runs}
    return runs | {f"{path}/summary.json": runs for path, runs in cells.items()}
