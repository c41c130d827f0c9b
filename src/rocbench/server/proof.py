"""The actual settings of a running server, from its configuration, metrics and log, compared with the plan.

A requested flag is not proof: vLLM changes block size, prefix caching or the attention back end on its
own (`CPU MLA backend requires block_size=16, overriding user-specified block_size=1.`), and logs it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from packaging.version import InvalidVersion, Version

from rocbench.probe.scrape import labels
from rocbench.server import control
from rocbench.server.failures import read_log
from rocbench.server.spec import RunningServer
from rocbench.server.versions import packages_of
from rocbench.variables import shown

_NAMED_BACKENDS = {
    # as v0.14.1 platforms/rocm.py:187-300 logs them
    "Aiter Flash Attention": "ROCM_AITER_FA",
    "AITER MLA": "ROCM_AITER_MLA",
    "Triton MLA": "TRITON_MLA",
    "Sparse MLA": "ROCM_AITER_MLA_SPARSE",
    "Triton Attention": "TRITON_ATTN",
    "Rocm Attention": "ROCM_ATTN",
    "Aiter Unified Attention": "ROCM_AITER_UNIFIED_ATTN",
}
_BY_LABEL = re.compile(rf"Using ({'|'.join(_NAMED_BACKENDS)}) backend")
_BY_NAME = re.compile(
    r"(?:Using|Overriding with) (?:AttentionBackendEnum\.)?"
    r"([A-Z0-9_]*(?:ATTN|ATTENTION|MLA|_FA|SPARSE|_DSA|FLASHINFER|QUANT|OCTAVE)[A-Z0-9_]*)"
    r"(?: backend)?(?: \(selected| out of|\.)"
)
_KV_TOKENS = re.compile(r"KV cache size: ([\d,]{1,20}) tokens")
_CONCURRENCY = re.compile(r"Maximum concurrency for ([\d,]{1,20}) tokens per request: (\d{1,12}(?:\.\d+)?)x")
_ENGINE = re.compile(r"EngineCore\w*")
_BLOCK_SIZE = re.compile(
    r"Setting (?:attention|kv cache) block size to (\d+)|requires block_size=(\d+), overriding"
)
_KV_DTYPE = re.compile(r"Using (fp8\w*) data type to store kv cache", re.IGNORECASE)
_ROUNDING = 0.01
"""Maximum share of a KV size that the rounding of the logged concurrency to two decimals may hide."""
_BLOCKS = 0.02
"""Share by which two figures of one cache differ when requests fill whole blocks."""
_RUNNER_V2 = "Using V2 Model Runner"
"""Logged by each worker from 0.16 (v0.16.0 v1/worker/gpu_worker.py:241; v0.33.0:513); V1 logs no such line."""
_WEIGHTS = re.compile(r"Model loading took (\d{1,9}(?:\.\d+)?) GiB")

_CONFIG = {
    # section of vllm_config: keys that affect a result; everything else in /server_info is left out
    "cache_config": (
        "block_size cache_dtype enable_prefix_caching gpu_memory_utilization num_gpu_blocks kv_cache_size_tokens "
        "kv_offloading_size kv_offloading_backend cpu_offload_gb swap_space prefix_caching_hash_algo"
    ),
    "parallel_config": (
        "tensor_parallel_size pipeline_parallel_size data_parallel_size decode_context_parallel_size "
        "enable_expert_parallel enable_eplb distributed_executor_backend all2all_backend"
    ),
    "scheduler_config": (
        "max_num_seqs max_num_batched_tokens enable_chunked_prefill async_scheduling policy stream_interval "
        "disable_hybrid_kv_cache_manager"
    ),
    "model_config": "dtype quantization max_model_len revision enforce_eager runner served_model_name",
    "attention_config": "backend mla_prefill_backend",
    "kernel_config": "moe_backend linear_backend",
    "compilation_config": "mode level backend cudagraph_mode max_cudagraph_capture_size",
    "speculative_config": "method num_speculative_tokens model",
    "kv_transfer_config": "kv_connector kv_role",
    "observability_config": "jit_monitor_mode",
}
_LABELS = {
    "block_size": "block_size",
    "enable_prefix_caching": "prefix_caching",
    "cache_dtype": "kv_cache_dtype",
}
"""Labels of cache_config_info, and the facts that they give."""
_MOST = 1 << 53
_ASK_S = 10.0
"""Timeout in seconds for requests to a server without load."""
_ALIKE = ({"auto", "bfloat16"}, {"fp8", "fp8_e4m3"})
_ENVIRONMENT = re.compile(
    r"^VLLM_(?:ROCM_|USE_|MLA_|SERVER_DEV_MODE|ENGINE_READY|KV_OFFLOAD|CPU_|V1_|WORKER_)"
)


@dataclass(frozen=True, slots=True)
class Proof:
    """Facts found, differences from the plan, and facts that are unknown."""

    found: dict[str, Any]
    """backend, backends, runner, block_size, prefix_caching, kv_cache_dtype, kv_capacity_tokens, weights_gib_per_rank, vllm."""
    mismatches: tuple[str, ...] = ()
    """`block_size is 16, planned 1`."""
    unknown: tuple[str, ...] = ()
    """Names that the plan expects and the server does not report."""
    config: dict[str, Any] = field(default_factory=dict)
    """Keys of vllm_config and vllm_env on an allow-list: /server_info also holds tokens."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of vLLM, torch, Triton, AITER in the server's own Python."""
    image_digest: str | None = None
    doubts: Mapping[str, str] = field(default_factory=dict)
    """Name to the server's contradiction. If the name is also in `found`, that is the better figure."""

    @property
    def differences(self) -> str | None:
        """Column `plan_differences`: empty if all is as planned, None if a fact is unknown."""
        if self.mismatches:
            return ";".join(self.mismatches)
        return None if self.unknown else ""

    def as_json(self) -> dict[str, Any]:
        """The proof as data for `resolved.json`."""
        return asdict(self)


def prove(running: RunningServer, expected: Mapping[str, object]) -> Proof:
    """Asks the server for its settings and compares them with the plan.

    Args:
        expected: name to value, names as in `Proof.found` or of a key in `Proof.config`; a value of None
            expects nothing.
    """
    spec, url = running.spec, running.base_url
    info = control.read_object(spec, url, "/server_info?config_format=json", _ASK_S)
    metrics = control.read(spec, url, "/metrics", _ASK_S).body.decode(errors="replace")
    log = read_log(running.log_path, running.log_start)
    doubts: dict[str, str] = {}
    found = facts(info, _cache_labels(metrics), log, running.version, doubts)
    config = chosen_config(info)
    flat = {key: value for section in config.values() for key, value in section.items()}
    mismatches, unknown = compare({**flat, **found}, expected)
    return Proof(found, mismatches, unknown, config, packages_of(running), running.image_digest, doubts)


def facts(
    info: Any,
    cache: Sequence[Mapping[str, str]],
    log: Sequence[str],
    version: str | None,
    doubts: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Facts from /server_info (None without it), the labels of cache_config_info, and the log. Pure.

    The metrics come first: they show what the engine resolved. Names that no source gives are left out, as are
    those with contradictory values, which are added to `doubts`.
    """
    doubts = {} if doubts is None else doubts
    section = _section(info, "cache_config")
    label = _of_all_engines(cache, doubts)
    backends = backends_in(log)
    resolved = [_integer(m[1] or m[2]) for m in map(_BLOCK_SIZE.search, log) if m]
    found: dict[str, Any] = {
        "vllm": version,
        "backend": backends[0] if backends else _section(info, "attention_config").get("backend"),
        "backends": backends or None,
        "runner": runner_in(log, version),
        "block_size": _integer(
            label.get("block_size", resolved[-1] if resolved else section.get("block_size"))
        ),
        "prefix_caching": _truth(label.get("enable_prefix_caching", section.get("enable_prefix_caching"))),
        "kv_cache_dtype": _kv_dtype(label.get("cache_dtype", section.get("cache_dtype")), log, doubts),
        "kv_capacity_tokens": _kv_tokens(cache, info, log, doubts),
        "weights_gib_per_rank": max((float(m[1]) for m in map(_WEIGHTS.search, log) if m), default=None),
    }
    silent = doubts.keys() - {"kv_capacity_tokens"}
    return {name: value for name, value in found.items() if value is not None and name not in silent}


def _of_all_engines(cache: Sequence[Mapping[str, str]], doubts: dict[str, str]) -> dict[str, str]:
    """Labels of cache_config_info; those that differ between engines are left out."""
    label: dict[str, str] = {}
    for name, fact in _LABELS.items():
        values = sorted({engine[name] for engine in cache if engine.get(name, "None") != "None"})
        if len(values) > 1:
            doubts[fact] = f"the engines have different values: {' and '.join(values)}"
        elif values:
            label[name] = values[0]
    return label


def _kv_dtype(configured: Any, log: Sequence[str], doubts: dict[str, str]) -> Any:
    """The KV cache's type; None if the log names one that the configuration does not."""
    logged = {m[1].lower() for m in map(_KV_DTYPE.search, log) if m}
    if configured is None or not logged or any(_same("kv_cache_dtype", configured, name) for name in logged):
        return configured
    doubts["kv_cache_dtype"] = (
        f"the engine says {configured}, but its log says {' and '.join(sorted(logged))}"
    )
    return None


def backends_in(log: Sequence[str]) -> list[str]:
    """Attention back ends named in the log, in order, without repetition. Pure."""
    names = []
    for line in log:
        label, name = _BY_LABEL.search(line), _BY_NAME.search(line)
        backend = _NAMED_BACKENDS[label[1]] if label else name[1] if name else None
        if backend and backend not in names:
            names.append(backend)
    return names


def runner_in(log: Sequence[str], version: str | None) -> str | None:
    """The model runner by the log: v2 if a line names it, v1 if weights were loaded without; else None. Pure."""
    if any(_RUNNER_V2 in line for line in log):
        return "v2"
    try:
        told = version is not None and Version(version) >= Version("0.16")
    except InvalidVersion:
        return None
    return "v1" if told and any(map(_WEIGHTS.search, log)) else None


def compare(
    found: Mapping[str, Any], expected: Mapping[str, object]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(mismatches, unknown) between the facts found and the plan. Pure."""
    mismatches, unknown = [], []
    for name, planned in expected.items():
        if planned is None:
            continue
        actual = found.get(name)
        if actual is None:
            unknown.append(name)
        elif not _same(name, actual, planned) and planned not in (found.get(f"{name}s") or ()):
            mismatches.append(f"{name} is {actual}, planned {planned}")
    return tuple(mismatches), tuple(unknown)


def chosen_config(info: Any) -> dict[str, Any]:
    """The stored keys of /server_info. Pure."""
    chosen: dict[str, Any] = {}
    for name, keys in _CONFIG.items():
        section = _section(info, name)
        kept = {key: _plain(section[key]) for key in keys.split() if section.get(key) is not None}
        if kept:
            chosen[name] = kept
    environment = info.get("vllm_env") if isinstance(info, Mapping) else None
    if isinstance(environment, Mapping):
        chosen["vllm_env"] = {
            name: _plain(value)
            for name, value in sorted(environment.items())
            if _ENVIRONMENT.match(name) and shown(name)
        }
    return chosen


Reset = Literal["reset", "refused", "unproved", "unavailable"]


def reset_prefix_cache(running: RunningServer, *, attempts: int = 20, pause_s: float = 0.25) -> Reset:
    """Empties the prefix cache between cells.

    Returns:
        `reset`: the server confirms it (0.26 and later). `unproved`: it answers 200 without a result, as
        up to 0.25, even if blocks were held: the next cell's hits are the proof. `refused`: blocks stayed held.
        `unavailable`: no such endpoint (no development mode).
    """
    for attempt in range(attempts):
        try:
            answer = control.request(
                running.spec, running.base_url, "/reset_prefix_cache", 30.0, method="POST"
            )
        except OSError:
            return "unavailable"
        if answer.status != 200:
            return "unavailable"
        result = answer.json()
        if not isinstance(result, Mapping) or "success" not in result:
            return "unproved"
        if result["success"]:
            return "reset"
        if attempt + 1 < attempts:
            time.sleep(pause_s)
    return "refused"


def _cache_labels(metrics: str) -> list[dict[str, str]]:
    """Labels of cache_config_info; none if its lines cannot be read, as on a gateway."""
    try:
        return labels(metrics, "vllm:cache_config_info")
    except ValueError:
        return []


def _section(info: Any, name: str) -> Mapping[str, Any]:
    config = info.get("vllm_config") if isinstance(info, Mapping) else None
    section = config.get(name) if isinstance(config, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _kv_tokens(
    cache: Sequence[Mapping[str, str]], info: Any, log: Sequence[str], doubts: dict[str, str]
) -> int | None:
    """KV cache in tokens, over all engines: from the metrics (0.24 and later), the log, else blocks x size.

    None if two of them contradict each other.
    """
    section = _section(info, "cache_config")
    ranks = _integer(_section(info, "parallel_config").get("data_parallel_size")) or 1
    engines = max(len(cache), ranks)
    sizes = [_integer(engine.get("kv_cache_size_tokens")) for engine in cache]
    whole = sum(count for count in sizes if count) if sizes and all(sizes) else None
    logged, doubt = _kv_logged(log, engines)
    if whole is not None:
        if logged is not None and abs(whole - logged) > _BLOCKS * max(whole, logged):
            doubts["kv_capacity_tokens"] = f"the metrics say {whole:,} tokens, but the log says {logged:,}"
            return None
        return whole
    if doubt:
        doubts["kv_capacity_tokens"] = doubt
    if logged is not None or doubt:
        return logged
    blocks = [_integer(engine.get("num_gpu_blocks")) for engine in cache]
    blocks = blocks or [_integer(section.get("num_gpu_blocks"))] * ranks
    size = _integer((cache[0] if cache else section).get("block_size"))
    return sum(count for count in blocks if count) * size if size and all(blocks) else None


def _kv_logged(log: Sequence[str], engines: int) -> tuple[int | None, str]:
    """KV cache in tokens by the log, summed over its engines, and any contradiction in the log.

    Up to vLLM 0.19 the size of hybrid models is logged too small, because blocks are counted as if layer groups
    shared them evenly (vllm#40691). The concurrency on the line below is right, and later versions derive the size from it.
    """
    sizes: dict[str, list[int]] = {}
    requests: dict[str, tuple[int, float]] = {}
    for line in log:
        engine = _ENGINE.search(line)
        name = engine[0] if engine else ""
        if size := _KV_TOKENS.search(line):
            sizes.setdefault(name, []).append(int(size[1].replace(",", "")))
        if most := _CONCURRENCY.search(line):
            requests[name] = (int(most[1].replace(",", "")), float(most[2]))
    names = sorted(sizes.keys() | requests.keys())
    if not names:
        return None, ""
    # Engines may log under one name; one engine logs a line per worker, and all use the smallest.
    alike = len(names) == 1 and len(sizes.get(names[0], ())) == engines and len(set(sizes[names[0]])) == 1
    if len(names) < engines and not alike:
        return None, f"the log shows {len(names)} of {engines} engines"
    each = [_one_engine(min(sizes.get(name, ()), default=None), requests.get(name)) for name in names]
    doubt = next((why for _, why in each if why), "")
    tokens = [count for count, _ in each if count is not None]
    return (sum(tokens) * (engines if alike else 1) if len(tokens) == len(each) else None), doubt


def _one_engine(size: int | None, most: tuple[int, float] | None) -> tuple[int | None, str]:
    """One engine's KV cache by the two figures of its log, and their disagreement."""
    if most is None:
        return size, ""
    length, times = most
    derived = int(times * length)
    if size is not None and abs(size - derived) <= 0.005 * length + _BLOCKS * max(size, derived):
        return size, ""
    # The rounding of two decimals is too coarse for a cache of a few requests.
    sure = times > 0 and 0.005 / times <= _ROUNDING
    choice = f"bench uses {derived:,}" if sure else "bench uses neither number"
    doubt = (
        ""
        if size is None
        else f"the log says {size:,} tokens, but also that {times:g} requests of {length:,} tokens fit; {choice}"
    )
    return (derived if sure else None), doubt


def _same(name: str, actual: Any, expected: object) -> bool:
    if name == "vllm":
        try:
            release = Version(str(expected)).release
            return Version(str(actual)).release[: len(release)] == release
        except InvalidVersion:
            return str(actual) == str(expected)
    pair = {str(actual).lower(), str(expected).lower()}
    return len(pair) == 1 or any(pair <= alike for alike in _ALIKE)


def _integer(value: Any) -> int | None:
    """A number of blocks, tokens or ranks; None for any other value, or one out of range."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= _MOST else None


def _truth(value: Any) -> bool | None:
    return None if value is None else str(value) == "True"


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)
