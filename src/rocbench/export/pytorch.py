"""Records of the PyTorch benchmark database: one per metric, with the values of all repeats of a cell.

Keys: https://github.com/pytorch/pytorch/wiki/How-to-integrate-with-PyTorch-OSS-benchmark-database, and vLLM's own
writer (vllm/benchmarks/lib/utils.py, `convert_to_pytorch_benchmark_format`, v0.32.0).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rocbench.export import vllm_bench
from rocbench.export.fields import Field, fixed, record
from rocbench.export.source import Source

METRICS = tuple(
    field
    for field in vllm_bench.FIELDS
    if field.name.endswith("_ms") or field.name.endswith("_throughput") or field.name == "request_goodput"
)
ARGS = (
    "max_concurrency request_rate num_prompts tensor_parallel_size random_input_len random_output_len"
).split()


def _name(source: Source) -> str:
    return f"rocbench ({source.origin})" if source.origin else "rocbench"


def _args(source: Source) -> dict[str, Any]:
    flags = {name.lstrip("-").replace("-", "_"): value for name, value in source.flags.items()}
    load = record([f for f in (*vllm_bench.FIELDS, *vllm_bench.METADATA) if f.name in ARGS], source)
    return {"model": source.hf_id} | flags | load


FIELDS: tuple[Field, ...] = (
    Field("benchmark.name", "", "`rocbench`, `rocbench (simulated)` or `rocbench (predicted)`", _name),
    fixed("benchmark.mode", "inference"),
    Field("benchmark.dtype", "", "`precision`", lambda s: s.get("precision")),
    Field("benchmark.extra_info.args", "", "the load and the server's flags", _args),
    Field("model.name", "", "`hf_id` of the model's profile", lambda s: s.hf_id),
    Field("model.type", "", "`family`", lambda s: s.get("family")),
    fixed("model.backend", "vllm"),
)
MAPPING: tuple[Field, ...] = (
    *FIELDS,
    *(
        Field(
            f"metric.name = {f.name}",
            f.unit,
            f"{f.origin}; `benchmark_values` has the values of all repeats",
            f.value,
        )
        for f in METRICS
    ),
)


def files(sources: Iterable[Source]) -> dict[str, Any]:
    """`benchmark_results.json`: all records of all cells."""
    cells: dict[str, list[Source]] = {}
    for source in sources:
        cells.setdefault(str(source.get("cell_id")), []).append(source)
    return {"benchmark_results.json": [record for repeats in cells.values() for record in _records(repeats)]}


def _records(repeats: list[Source]) -> Iterable[dict[str, Any]]:
    first = repeats[0]
    parts: dict[str, Any] = {}
    for field in FIELDS:
        part = parts
        *path, name = field.name.split(".")
        for key in path:
            part = part.setdefault(key, {})
        part[name] = field.value(first)
    extra = record(vllm_bench.METADATA, first)
    extra.pop("run_number", None)
    for field in METRICS:
        values = [value for source in repeats if (value := field.value(source)) is not None]
        if values:
            metric = {"name": field.name, "benchmark_values": values, "extra_info": extra}
            yield parts | {"metric": metric}
