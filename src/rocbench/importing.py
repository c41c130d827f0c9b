"""Rows of other tools: read, mark as imported, and check as far as their data allow. Pure."""

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


def from_vllm_bench(data: Any, where: str) -> dict[str, Any]:
    """A result of `vllm bench serve` as a row.

    Raises:
        InputError: it is not such a result.
    """
    for key in ("output_throughput", "num_prompts"):
        if not isinstance(data, Mapping) or key not in data:
            raise InputError(f"not a result of `vllm bench serve`: `{key}` is missing", where=where)
    data = dict(data) | {
        key: _figure(key, data[key], where) for key in _VLLM_FIGURES if data.get(key) is not None
    }
    row: dict[str, Any] = {
        column: data[key] for key, column in VLLM_KEYS.items() if data.get(key) is not None
    }
    row |= {key: value for key, value in data.items() if key.endswith("_ms") and value is not None}
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


def _ended(data: Mapping[str, Any]) -> dict[str, Any]:
    """`failed`: the largest of the result's own value, its errors, and the requests that did not complete.

    Older results and those of `benchmark_serving.py` have no `failed`. If `completed` is missing, it is the
    other requests.
    """
    counts = [data["failed"]] if data.get("failed") is not None else []
    errors = data.get("errors")
    if isinstance(errors, list):
        counts.append(sum(map(bool, errors)))
    sent, completed = data["num_prompts"], data.get("completed")
    if completed is not None and completed <= sent:
        counts.append(sent - completed)
    if not counts:
        return {}
    failed = int(max(counts))
    return {"failed": failed} | ({"completed": sent - failed} if completed is None and failed <= sent else {})


def _counted(row: Mapping[str, Any]) -> dict[str, Any]:
    """Derive `completed`, `failed` and `success_rate` from each other as far as possible."""
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


def checked(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a row whose figures are numbers, whose names are text, and that has a throughput or a latency.

    Raises:
        InputError: a column has the wrong type, or the row has no result; the message names the column.
    """
    values = _present(row)
    if not any(name in values for name in _RESULTS):
        raise InputError(
            "the row has neither a throughput nor a latency",
            where=where,
            fix=f"add one of {', '.join(_RESULTS[:3])}, or a latency (docs/results.md)",
        )
    for name, value in values.items():
        if name in runformat.NUMBERS:
            values[name] = _figure(name, value, where)
        elif name in _TEXTS and not isinstance(value, str):
            raise InputError(f"`{name}` must be text, not {value!r}", where=where)
        elif name == "serve_args":
            _check_flags(value, where)
    values = _counted(values) | values
    try:
        result = runformat.row({"repeat": 1} | values | {"cell_id": "imported"})
    except runformat.Mismatch as error:
        raise InputError(str(error), where=where) from None
    return {name: result[name] for name in values if name != "cell_id"}


def _figure(name: str, value: Any, where: str) -> float | int:
    """The number of a column or key; an integer if it is a count.

    Raises:
        InputError: it is not a finite number, or below the minimum.
    """
    try:
        figure = float("nan") if isinstance(value, bool | list | dict) else float(value)
    except (TypeError, ValueError, OverflowError):
        figure = float("nan")
    if not math.isfinite(figure):
        raise InputError(f"`{name}` must be a number, not {value!r:.100}", where=where)
    minimum = 1 if name in _COUNTS else 0
    if (name in _RESULTS or name in _COUNTS or name in _VLLM_FIGURES) and figure < minimum:
        raise InputError(f"`{name}` must be at least {minimum}, not {value!r}", where=where)
    if name in _COUNTS and not figure.is_integer():
        raise InputError(f"`{name}` must be a whole number, not {value!r}", where=where)
    return int(figure) if name in _COUNTS else figure


def _check_flags(value: Any, where: str) -> None:
    try:
        flags = jsontext.parse(value) if isinstance(value, str) else None
    except InputError:
        flags = None
    if not isinstance(flags, dict):
        raise InputError(f"`serve_args` must be a JSON object of flags, not {value!r:.100}", where=where)


def complete(
    row: Mapping[str, Any], profile: ModelProfile | None, hardware: Hardware | None, source: str
) -> dict[str, Any]:
    """Return a row with the other columns of a cell: marks, physics, verdict."""
    cell = _present(row)
    cell |= {"imported": True, "server_kind": cell.get("server_kind") or "imported", "source": source}
    cell.setdefault("simulated", False)
    cell.setdefault("repeat", 1)
    cell["key"] = cell.get("key") or _key(cell)
    if profile is not None:
        arch = from_config(profile.config)
        cell = {"family": arch.family, "precision": profile.precision, "tp": profile.tp} | cell
        cell["shape_doubts"] = "; ".join(weights.doubts(arch, profile.checkpoint, hardware)) or None
    if hardware is not None:
        cell = {"hardware": hardware.name} | cell
    share = None
    if profile is not None and hardware is not None:
        args = {"tensor-parallel-size": cell.get("tp") or profile.tp} | _args(cell, profile)
        share = limits.share(profile, hardware, args, cell)
        cell["limit"] = share.what if share else None
        cell.setdefault("roofline_output_throughput", limits.most_output(profile, hardware, args, cell))
        if settled(args) and "kv_capacity_tokens" not in cell:  # set by its flags, not assumed
            capacity = kv_capacity_of(profile, hardware, args, cell.get("vllm_version"))
            cell["kv_capacity_tokens"] = capacity.tokens if capacity else None
    known = {name: value for name, value in cell.items() if name in _KNOWN}
    verdict = judge(Evidence.from_row(known, roofline_share=share.value if share else None))
    cell["roofline_share"] = share.value if share else None
    cell["valid"], cell["reasons"] = verdict.valid, ";".join(verdict.reasons)
    cell["unknown_checks"] = ";".join(verdict.unknown) or None
    identity = json.dumps({name: cell.get(name) for name in _IDENTITY}, default=str)
    cell["cell_id"] = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return cell


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give rows of one cell with the same repeat the next free numbers, so that none replaces another."""
    taken: set[tuple[str, int]] = set()
    result = []
    for row in rows:
        repeat = int(row["repeat"])
        while (row["cell_id"], repeat) in taken:
            repeat += 1
        taken.add((row["cell_id"], repeat))
        result.append(row | {"repeat": repeat})
    return result


_COUNTS = frozenset({"tp", "repeat", "concurrency"})
_KNOWN = runformat.NUMBERS | runformat.TRUTHS | runformat.TEXTS
"""Columns that a check may use."""
_TEXTS = frozenset({"model", "hardware", "precision", "workload"})
_RESULTS = (
    "output_throughput", "total_token_throughput", "request_throughput",
    *(f"{statistic}_{name}_ms" for name in columns.LATENCIES for statistic in columns.STATISTICS),
)  # fmt: skip
"""Results: a row has at least one of them."""
_VLLM_FIGURES = (
    "num_prompts", "completed", "failed", "duration", "total_input_tokens", "total_output_tokens", "request_throughput",
    "mean_e2el_ms", "max_concurrency", "spec_decode_acceptance_length",
)  # fmt: skip
"""Figures of `vllm bench serve` from which columns are computed."""
_IDENTITY = (
    "model", "key", "source", "concurrency", "request_rate", "workload", "isl", "osl", "images", "tp", "aiter",
    "precision", "vllm_version", "hardware", "serve_args", "serve_env",
)  # fmt: skip
"""Columns that identify the cell of an imported row."""


def _args(row: Mapping[str, Any], profile: ModelProfile) -> dict[str, Any]:
    """The flags that affect the limits: from the row, else from its precision."""
    if isinstance(row.get("serve_args"), str):
        return {name.lstrip("-"): value for name, value in runformat.json_column(row, "serve_args").items()}
    online = profile.checkpoint.quantization == "none" and row.get("precision", profile.precision) == "fp8"
    return {"quantization": "fp8"} if online else {}


def _key(row: Mapping[str, Any]) -> str:
    level = f"c{row['concurrency']:.0f}" if row.get("concurrency") else "-"
    return f"{row.get('model', '?')}/{row.get('workload', 'imported')}/{level}"


def _present(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that are not None or NaN."""
    return {
        name: value
        for name, value in row.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }
