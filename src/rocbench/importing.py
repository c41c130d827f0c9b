"""Rows of other tools: read, marked as imported, and checked as far as their data allow. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from rocbench import columns, jsontext
from rocbench.errors import InputError
from rocbench.model.architecture import from_config
from rocbench.physics import weights
from rocbench.plan.estimate import kv_capacity_of, settled
from rocbench.settings.schema import Hardware, ModelProfile
from rocbench.tables import limits, runformat
from rocbench.verdict.evidence import Evidence
from rocbench.verdict.judge import judge

Row = dict[str, Any]

VLLM_KEYS = {
    # `vllm bench serve --save-result` (vllm/benchmarks/serve.py) -> columns of `cells`
    "model_id": "model",
    "max_concurrency": "concurrency",
    "duration": "duration_s",
    "completed": "completed",
    "failed": "failed",
    "request_throughput": "request_throughput",
    "request_goodput": "goodput",
    "request_goodput:": "goodput",  # the form of benchmark_serving.py
    "output_throughput": "output_throughput",
    "total_token_throughput": "total_token_throughput",
}


def from_vllm_bench(data: Mapping[str, Any], where: str) -> Row:
    """Return a result of `vllm bench serve` as a row.

    Raises:
        InputError: it is not such a result.
    """
    missing = [key for key in ("output_throughput", "num_prompts") if key not in _mapping(data)]
    if missing:
        raise InputError(f"no result of `vllm bench serve`: `{missing[0]}` is missing", where=where)
    data = dict(data) | {
        key: _figure(key, data[key], where) for key in _VLLM_FIGURES if data.get(key) is not None
    }
    row: Row = {column: data[key] for key, column in VLLM_KEYS.items() if data.get(key) is not None}
    for key, value in data.items():
        if key.endswith("_ms") and value is not None:
            row[key] = value
    row |= _ended(data)
    completed = data.get("completed") or 0
    duration = data.get("duration")
    if completed and data.get("total_input_tokens"):
        row["isl"] = data["total_input_tokens"] / completed
        row["input_throughput"] = data["total_input_tokens"] / duration if duration else None
    if completed and data.get("total_output_tokens"):
        row["osl"] = data["total_output_tokens"] / completed
    accepted = data.get("spec_decode_acceptance_length")
    if accepted:
        row["spec_tokens_per_step"] = float(accepted)
    if data.get("max_concurrency"):
        row["requests_per_user"] = data["num_prompts"] / data["max_concurrency"]
        latency = data.get("mean_e2el_ms")
        if latency and data.get("request_throughput"):
            # Little's law: the tool does not report the number in flight.
            row["achieved_concurrency"] = data["request_throughput"] * latency / 1e3
    if str(data.get("request_rate")) not in ("inf", "None"):
        row["request_rate"] = _figure("request_rate", data["request_rate"], where)
    row["window_ended_by"] = "count"
    return row


def _ended(data: Mapping[str, Any]) -> Row:
    """Return `failed` of a result: its own value, its listed errors, or sent requests that did not complete,
    whichever is most.

    Older results have no `failed`, like those of `benchmark_serving.py`. `completed` is the rest, if it is
    missing.
    """
    told = [data["failed"]] if data.get("failed") is not None else []
    errors = data.get("errors")
    if isinstance(errors, list):
        told.append(sum(map(bool, errors)))
    sent, completed = data["num_prompts"], data.get("completed")
    if completed is not None and completed <= sent:
        told.append(sent - completed)
    if not told:
        return {}
    failed = int(max(told))
    return {"failed": failed} | ({"completed": sent - failed} if completed is None and failed <= sent else {})


def _counted(row: Row) -> Row:
    """Derive `completed`, `failed` and `success_rate` from each other if possible, else leave them unknown."""
    completed, failed, share = (row.get(name) for name in ("completed", "failed", "success_rate"))
    if completed is not None and failed is not None:
        return {"success_rate": completed / (completed + failed)} if completed + failed else {}
    if share is None or not 0 < share <= 1:
        return {}
    if completed is not None:
        name, other = "failed", completed * (1 - share) / share
    elif failed and share < 1:
        name, other = "completed", failed * share / (1 - share)
    else:
        return {}
    return {name: round(other)} if math.isfinite(other) else {}


def checked(row: Mapping[str, Any], where: str) -> Row:
    """Return a row whose figures are numbers, whose names are text, and that has a speed.

    Raises:
        InputError: a column has the wrong type, or there is no figure at all; the message names the column.
    """
    found = {name: value for name, value in row.items() if not _absent(value)}
    if not any(name in found for name in _RESULTS):
        raise InputError(
            "no figure in this row",
            where=where,
            fix=f"one of {', '.join(_RESULTS[:3])}, or a latency (docs/results.md)",
        )
    for name, value in found.items():
        if name in runformat.NUMBERS:
            found[name] = _figure(name, value, where)
        elif name in _TEXTS and not isinstance(value, str):
            raise InputError(f"`{name}` is {value!r}, it must be text", where=where)
        elif name == "serve_args":
            _flags(value, where)
    found = _counted(found) | found
    try:
        made = runformat.row({"repeat": 1} | found | {"cell_id": "imported"})
    except runformat.Mismatch as error:
        raise InputError(str(error), where=where) from None
    return {name: made[name] for name in found if name != "cell_id"}


def _figure(name: str, value: Any, where: str) -> float | int:
    """Return a number of a column or key, a whole one if it is a count.

    Raises:
        InputError: it is not a number, not finite, or below the minimum.
    """
    try:
        figure = float("nan") if isinstance(value, bool | list | dict) else float(value)
    except (TypeError, ValueError, OverflowError):
        figure = float("nan")
    if not math.isfinite(figure):
        raise InputError(f"`{name}` is {value!r:.100}, it must be a number", where=where)
    least = 1 if name in _COUNTS else 0
    if (name in _RESULTS or name in _COUNTS or name in _VLLM_FIGURES) and figure < least:
        raise InputError(f"`{name}` is {value!r}, it must be at least {least}", where=where)
    if name in _COUNTS and not figure.is_integer():
        raise InputError(f"`{name}` is {value!r}, it must be a whole number", where=where)
    return int(figure) if name in _COUNTS else figure


def _flags(value: Any, where: str) -> dict[str, Any]:
    """Return `serve_args` as a mapping."""
    try:
        found = jsontext.parse(value) if isinstance(value, str) else None
    except InputError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"`serve_args` is {value!r:.100}, it must be a JSON object of flags", where=where)
    return found


def _mapping(data: Any) -> Mapping[str, Any]:
    return data if isinstance(data, Mapping) else {}


def complete(row: Row, profile: ModelProfile | None, hardware: Hardware | None, source: str) -> Row:
    """Return a row with the other columns of a cell: marks, physics, verdict."""
    found = {name: value for name, value in row.items() if not _absent(value)}
    found |= {"imported": True, "server_kind": found.get("server_kind") or "imported", "source": source}
    found.setdefault("simulated", False)
    found.setdefault("repeat", 1)
    found["key"] = found.get("key") or _key(found)
    if profile is not None:
        arch = from_config(profile.config)
        found = {"family": arch.family, "precision": profile.precision, "tp": profile.tp} | found
        found["shape_doubts"] = "; ".join(weights.doubts(arch, profile.checkpoint)) or None
    if hardware is not None:
        found = {"hardware": hardware.name} | found
    share = None
    if profile is not None and hardware is not None:
        args = {"tensor-parallel-size": found.get("tp") or profile.tp} | _args(found, profile)
        share = limits.share(profile, hardware, args, found)
        found["limit"] = share.what if share else None
        found.setdefault("roofline_output_throughput", limits.most_output(profile, hardware, args, found))
        if settled(args) and "kv_capacity_tokens" not in found:  # set by its flags, not assumed
            capacity = kv_capacity_of(profile, hardware, args, found.get("vllm_version"))
            found["kv_capacity_tokens"] = capacity.tokens if capacity else None
    told = {name: value for name, value in found.items() if name in _KNOWN}
    judged = judge(Evidence.from_row(told, roofline_share=share.value if share else None))
    found["roofline_share"] = share.value if share else None
    found["valid"], found["reasons"] = judged.valid, ";".join(judged.reasons)
    found["unknown_checks"] = ";".join(judged.unknown) or None
    decides = json.dumps({name: found.get(name) for name in _DECIDES}, default=str)
    found["cell_id"] = hashlib.sha256(decides.encode()).hexdigest()[:12]
    return found


def numbered(rows: list[Row]) -> list[Row]:
    """Number on rows of one cell that carry the same repeat, so that none replaces another."""
    taken: set[tuple[str, int]] = set()
    found: list[Row] = []
    for row in rows:
        repeat = int(row["repeat"])
        while (row["cell_id"], repeat) in taken:
            repeat += 1
        taken.add((row["cell_id"], repeat))
        found.append(row | {"repeat": repeat})
    return found


_COUNTS = frozenset({"tp", "repeat", "concurrency"})
_KNOWN = runformat.NUMBERS | runformat.TRUTHS | runformat.TEXTS
"""Columns that can decide a check."""
_TEXTS = frozenset({"model", "hardware", "precision", "workload"})
_RESULTS = (
    "output_throughput", "total_token_throughput", "request_throughput",
    *(f"{statistic}_{name}_ms" for name in columns.LATENCIES for statistic in columns.STATISTICS),
)  # fmt: skip
"""Columns that give a speed: a row has at least one of them."""
_VLLM_FIGURES = (
    "num_prompts", "completed", "failed", "duration", "total_input_tokens", "total_output_tokens", "request_throughput",
    "mean_e2el_ms", "max_concurrency", "spec_decode_acceptance_length",
)  # fmt: skip
"""Numbers of `vllm bench serve` from which others are computed."""
_DECIDES = (
    "model", "key", "source", "concurrency", "request_rate", "workload", "isl", "osl", "images", "tp", "aiter",
    "precision", "vllm_version", "hardware", "serve_args", "serve_env",
)  # fmt: skip
"""Columns whose difference makes two imported rows two cells."""


def _args(row: Row, profile: ModelProfile) -> dict[str, Any]:
    """Return flags that decide the limits: from the row, else from its precision."""
    if isinstance(row.get("serve_args"), str):
        return {name.lstrip("-"): value for name, value in runformat.json_column(row, "serve_args").items()}
    online = profile.checkpoint.quantization == "none" and row.get("precision", profile.precision) == "fp8"
    return {"quantization": "fp8"} if online else {}


def _key(row: Row) -> str:
    level = f"c{row['concurrency']:.0f}" if row.get("concurrency") else "-"
    return f"{row.get('model', '?')}/{row.get('workload', 'imported')}/{level}"


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
