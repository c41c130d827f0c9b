"""docs/exports.md: every key of every format, and its origin."""

from __future__ import annotations

from rocbench.export import aiperf, fields, inferencex, pytorch, vllm_bench, write

_HEAD = """# Exports

    bench export RUN --format FORMATS [--out DIR]

Each format has the names and units of its tool. Keys without an equivalent in rocbench are omitted. A key
is absent if the row has no value for it. Rows of discarded repeats are never written. Invalid rows are written only in
formats that can mark them (`csv-long`, `jsonl`), or with `--include-invalid`. Every format marks simulated and predicted
rows.

Latencies are those of completed requests that began in the measured window, and throughput counts tokens in the window.
The other tools also count ramp-up and tail.
"""

_VLLM = """## vllm-bench

The JSON of `vllm bench serve --save-result` (vllm/benchmarks/serve.py, v0.32.0), in the folders of `vllm bench sweep
serve`: `SERVE--<configuration>-BENCH--<workload>-<level>/run=N.json` and `summary.json`. To plot these files:

    vllm bench sweep plot DIR --var-x max_concurrency --var-y p99_ttft_ms --curve-by model_id
    vllm bench sweep plot_pareto DIR --label-by max_concurrency,tensor_parallel_size
"""

_VLLM_METADATA = """The files also have the keys that `--metadata KEY=VALUE` would add, and one key for each axis of the matrix:
"""

_VLLM_OUT = """Left out: `tokenizer_id` (prompts are sent as token ids), `burstiness` (not stored in a row),
`max_concurrent_requests` (vLLM counts requests in flight per second; `peak_concurrency` is exact, so the two differ), `max_output_tokens_per_s`
(vLLM counts chunks), `rtfx`, `client_queue_time`, the speculative-decoding keys, and the arrays of `--save-detailed`.
"""

_INFERENCEX = """## inferencex

The row of InferenceX, `agg_*.json` (utils/process_result.py and utils/aggregate_power.py at 843c625), and `rows.json`
with all rows. vLLM's perf-eval has the same keys, except `device` instead of `hw` (lib/ingest_perf.py at bbd3fc7).
Open-loop rows have no `conc` and are not written.
"""

_INFERENCEX_OUT = """Left out: `infmax_model_prefix` and `recipe_fingerprint` (names of that project),
`power_metric_schema_version` (rocbench integrates power by another method), and `std_intvty`, which has no meaning.
"""

_PYTORCH = """## pytorch

`benchmark_results.json`: one record per metric and cell, in the schema of the PyTorch benchmark database (`benchmark`,
`model`, `metric`), as written by `SAVE_TO_PYTORCH_BENCHMARK_FORMAT=1 vllm bench serve` (vllm/benchmarks/lib/utils.py,
v0.32.0), except for the benchmark's name. `metric.extra_info` has the metadata keys of vllm-bench.
"""

_AIPERF = """## aiperf

`<cell>/profile_export_aiperf.json`, schema 1.4 of AIPerf 0.13.0: `{metric: {unit, avg, p1, ..., p99, min, max, std,
count, sum}}`. **AIPerf's inter-token latency is TPOT in rocbench**, and its inter-chunk latency is ICL. `metadata`
identifies the row and has its verdict.
"""

_AIPERF_OUT = """Left out: `aiperf_version` and `input_config` (AIPerf did not run), `telemetry_data` (per GPU; see `gpu.parquet`),
and the metrics that AIPerf computes from the energy metrics above.
"""

_TIDY = """## csv-long

`cells-long.csv`: one line per figure. The line begins with the columns that identify the row, followed by `metric`, `unit`, `better` (`higher`, `lower` or
empty) and `value`. Metrics and units are those of [results.md](results.md).

## jsonl

`cells.jsonl`: one object per row, with every column of [results.md](results.md) that has a value.
"""


def mapping_page() -> str:
    """docs/exports.md as text."""
    parts = [
        _HEAD.replace("FORMATS", "|".join(write.FORMATS)),
        _VLLM,
        _table(vllm_bench.FIELDS),
        _VLLM_METADATA,
        _table(vllm_bench.METADATA),
        _VLLM_OUT,
        _INFERENCEX,
        _table(inferencex.FIELDS),
        _INFERENCEX_OUT,
        _PYTORCH,
        _table(pytorch.MAPPING),
        _AIPERF,
        _table(aiperf.FIELDS),
        _AIPERF_OUT,
        _TIDY,
    ]
    return "\n".join(parts)


def _table(rows: tuple[fields.Field, ...]) -> str:
    return "\n".join([*fields.field_lines(rows), ""])
