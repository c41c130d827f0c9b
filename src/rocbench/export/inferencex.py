"""The row of InferenceX (`agg_*.json`), which vLLM's perf-eval also uses, except for a few keys.

Keys and units: SemiAnalysisAI/InferenceX utils/process_result.py and utils/aggregate_power.py, 843c625;
vllm-project/perf-eval lib/ingest_perf.py, bbd3fc7. Latencies are in seconds, without a suffix.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from rocbench.export import vllm_bench
from rocbench.export.fields import Field, fixed, parallel, record, same
from rocbench.export.source import Source


def _hardware(source: Source) -> str | None:
    name = source.get("hardware")
    return None if name is None else f"{source.origin}-{name}" if source.origin else str(name)


def _per_gpu(*columns: str) -> Any:
    def value(source: Source) -> float | None:
        gpus, first = source.get("gpus"), source.get(columns[0])
        if not gpus or first is None:
            return None
        return (float(first) - sum(float(source.get(c) or 0.0) for c in columns[1:])) / float(gpus)

    return value


def _energy(unit: str, source: Source) -> float | None:
    """Joules per `query`, or per `input`, `output` or `total` token."""
    energy = source.get("energy_j")
    output, prompt = source.tokens("output_throughput"), source.input_tokens()
    if energy is None or output is None or prompt is None:
        return None
    counts = {"query": source.get("completed"), "input": prompt, "output": output, "total": prompt + output}
    return float(energy) / counts[unit] if counts[unit] else None


def _latencies() -> Iterable[Field]:
    for latency in vllm_bench.LATENCIES:
        for statistic in vllm_bench.STATISTICS:
            key = f"{statistic}_{latency}_ms"
            yield Field(
                key.removesuffix("_ms"), "s", f"`{key}` / 1000, as in vllm-bench", partial(_seconds, key)
            )
    for statistic in vllm_bench.STATISTICS:
        if statistic != "std":
            key = f"{statistic}_tpot_ms"
            yield Field(
                f"{statistic}_intvty", "tokens/s/user", f"1000 / `{key}`", partial(_interactivity, key)
            )


_BY_NAME = {field.name: field for field in vllm_bench.FIELDS}


def _seconds(key: str, source: Source) -> float | None:
    ms = _BY_NAME[key].value(source)
    return None if ms is None else float(ms) / 1000


def _interactivity(key: str, source: Source) -> float | None:
    ms = _BY_NAME[key].value(source)
    return 1000 / float(ms) if ms else None


def _expert_parallel(source: Source) -> int:
    return int(source.get("tp") or 1) if source.flags.get("--enable-expert-parallel") else 1


def _power_valid(source: Source) -> int | None:
    return None if source.get("energy_j") is None else int(source.row.valid is True)


FIELDS: tuple[Field, ...] = (
    Field(
        "hw", "", "`hardware`, with the prefix `simulated-` or `predicted-` if no GPU was measured", _hardware
    ),
    Field("conc", "requests", "`concurrency`", lambda s: s.get("concurrency")),
    Field("image", "", "the container's image", lambda s: s.server.get("image")),
    Field("model", "", "`hf_id` of the model's profile", lambda s: s.hf_id),
    fixed("framework", "vllm"),
    same("precision", ""),
    Field(
        "spec_decoding",
        "",
        "method of `--speculative-config`, `mtp` by default; `none` without the flag",
        lambda s: _speculation(s.flags.get("--speculative-config")),
    ),
    fixed("disagg", False),
    same("isl", "tokens"),
    same("osl", "tokens"),
    fixed("is_multinode", False),
    same("tp", ""),
    parallel("pp", "--pipeline-parallel-size"),
    parallel("dcp_size", "--decode-context-parallel-size"),
    parallel("pcp_size", "--prefill-context-parallel-size"),
    Field("ep", "", "`tp` with `--enable-expert-parallel`, else 1", _expert_parallel),
    Field(
        "dp_attention",
        "",
        "`true` with `--data-parallel-size` above 1",
        lambda s: "true" if s.parallel("--data-parallel-size") > 1 else "false",
    ),
    Field(
        "tput_per_gpu", "tokens/s", "`total_token_throughput` / `gpus`", _per_gpu("total_token_throughput")
    ),
    Field("output_tput_per_gpu", "tokens/s", "`output_throughput` / `gpus`", _per_gpu("output_throughput")),
    Field(
        "input_tput_per_gpu",
        "tokens/s",
        "(`total_token_throughput` - `output_throughput`) / `gpus`",
        _per_gpu("total_token_throughput", "output_throughput"),
    ),
    *_latencies(),
    Field("avg_power_w", "W", "`mean_power_w` / `gpus`", _per_gpu("mean_power_w")),
    same("avg_total_gpu_power_w", "W", "mean_power_w"),
    same("total_gpu_energy_j", "J", "energy_j"),
    Field("joules_per_successful_query", "J", "`energy_j` / `completed`", partial(_energy, "query")),
    Field(
        "joules_per_input_token", "J", "`energy_j` / input tokens of the window", partial(_energy, "input")
    ),
    Field(
        "joules_per_output_token", "J", "`energy_j` / output tokens of the window", partial(_energy, "output")
    ),
    Field("joules_per_total_token", "J", "`energy_j` / tokens of the window", partial(_energy, "total")),
    Field("power_valid", "", "1 when `valid` is true, else 0", _power_valid),
)


def _speculation(config: Any) -> str:
    return str(config.get("method", "mtp")) if isinstance(config, dict) else "mtp" if config else "none"


def takes(source: Source) -> bool:
    """True if the format can hold a row: `conc` needs users."""
    return source.get("concurrency") is not None


def files(sources: Iterable[Source]) -> dict[str, Any]:
    """`agg_<cell>.json` of each closed-loop row, and `rows.json` with all of them."""
    rows = {f"agg_{source.stem}.json": record(FIELDS, source) for source in sources if takes(source)}
    return rows | {"rows.json": list(rows.values())}
