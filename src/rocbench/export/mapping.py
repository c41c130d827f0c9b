"""docs/exports.md: every key of every format, and its source."""

from __future__ import annotations

from rocbench.export import aiperf, fields, inferencex, pytorch, vllm_bench

_HEAD = """# Exports

    bench export RUN --format vllm-bench|inferencex|pytorch|aiperf|csv-long|jsonl [--out DIR]

Each format has the names and units of its own tool. What has no equivalent here is left out, not invented. A key is
absent where a row has no value for it. Rows of discarded repeats are never written; invalid rows only where the format
can say that they are (`csv-long`, `jsonl`), or with `--include-invalid`. A simulated row and a predicted one say so in
every format.

Latencies are of completed requests that began in the measured window, throughputs of tokens stamped in it: ramp and
tail, which the other tools count in, are not.
"""

_VLLM = """## vllm-bench

The JSON of `vllm bench serve --save-result` (vllm/benchmarks/serve.py, v0.32.0), laid out as `vllm bench sweep serve`
does: `SERVE--<configuration>-BENCH--<workload>-<level>/run=N.json` and `summary.json` beside it. To plot:

    vllm bench sweep plot DIR --var-x max_concurrency --var-y p99_ttft_ms --curve-by model_id
    vllm bench sweep plot_pareto DIR --label-by max_concurrency,tensor_parallel_size
"""

_VLLM_LEFT = """Beside these stand the keys that `--metadata KEY=VALUE` would add, and one for each axis of the matrix:
"""

_VLLM_OUT = """Left out: `tokenizer_id` (prompts are sent as token ids), `burstiness` (not kept in a row),
`max_concurrent_requests` (counted per second there; ours is exact and another number), `max_output_tokens_per_s`
(counts chunks there), `rtfx`, `client_queue_time`, the speculative-decoding keys, and the arrays of
`--save-detailed`.
"""

_INFERENCEX = """## inferencex

The row of InferenceX, `agg_*.json` (utils/process_result.py and utils/aggregate_power.py at 843c625), and `rows.json`
with all rows. vLLM's perf-eval has the same keys, but `device` for `hw` (lib/ingest_perf.py at bbd3fc7). Open-loop rows
have no `conc` and are not written.
"""

_INFERENCEX_OUT = """Left out: `infmax_model_prefix` and `recipe_fingerprint` (names of that project),
`power_metric_schema_version` (power is not integrated by that project's method), and `std_intvty`, which has no
meaning.
"""

_PYTORCH = """## pytorch

`benchmark_results.json`: one record a metric and cell, in the schema of the PyTorch benchmark database
(`benchmark`, `model`, `metric`), as `SAVE_TO_PYTORCH_BENCHMARK_FORMAT=1 vllm bench serve` writes it
(vllm/benchmarks/lib/utils.py, v0.32.0), but for the benchmark's name: it is not vLLM's. Keys of vllm-bench's metadata
stand in `metric.extra_info`.
"""

_AIPERF = """## aiperf

`<cell>/profile_export_aiperf.json`, schema 1.4 of AIPerf 0.13.0: `{metric: {unit, avg, p1, ..., p99, min, max, std,
count, sum}}`. **What AIPerf calls inter-token latency is TPOT here**, and its inter-chunk latency is our ICL.
`metadata` says which row it is, and whether it may be believed.
"""

_AIPERF_OUT = """Left out: `aiperf_version` and `input_config` (no AIPerf ran), `telemetry_data` (by GPU; see `gpu.parquet`), energy
metrics that AIPerf derives from the ones above.
"""

_TIDY = """## csv-long

`cells-long.csv`: one line a figure. Columns that say which row it is, then `metric`, `unit`, `better` (`higher`,
`lower` or empty) and `value`. Metrics and units are those of [results.md](results.md).

## jsonl

`cells.jsonl`: one object a row with every column of [results.md](results.md) that has a value.
"""


def mapping_page() -> str:
    """Return the page."""
    parts = [
        _HEAD,
        _VLLM,
        _table(vllm_bench.FIELDS),
        _VLLM_LEFT,
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
