"""KV offload to host memory: vLLM's connector, the copies that ranks keep, and the bytes of a page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rocbench.model.architecture import Architecture
from rocbench.rules.flags import Names, lives
from rocbench.rules.truth import truthy
from rocbench.rules.versions import Range
from rocbench.units import GIB

NATIVE, SIMPLE = "OffloadingConnector", "SimpleCPUOffloadConnector"
EXTRA = "kv-transfer-config.kv_connector_extra_config"
_SIXTEEN_BITS = ("auto", "bfloat16", "float16")
_EIGHT_BITS = ("fp8", "fp8_e4m3", "fp8_e5m2")
_ALL_LAYERS_IN_A_PAGE = {"TRITON_ATTN": ">=0.14,<0.29", "TRITON_MLA": ">=0.24,<0.29"}
"""Backends whose page holds all layers (get_kv_cache_stride_order with include_num_layers_dimension)."""


def facts(
    flags: Mapping[str, Any], env: Mapping[str, str], vllm: str | None, names: Names, ranks: int
) -> dict[str, Any]:
    """The facts of the offload itself; `ranks` share the host memory of one engine.

    Source: `_post_init_kv_transfer_config` of vLLM's config/vllm.py. A size of 0 is a size: only without the flag
    is there no offload. Before 0.14, the size alone has no effect.
    """
    connector = str(flags.get("kv-transfer-config.kv_connector") or "")
    size, backend = flags.get("kv-offloading-size"), flags.get("kv-offloading-backend")
    ignored = backend is None and vllm is not None and Range.parse("<0.14").holds(vllm)
    by, gib = "none", None
    if isinstance(size, int | float) and not ignored:
        by, connector = "size_flag", _of_size(backend, env, vllm, names)
        gib = None if connector == "LMCacheMPConnector" else float(size)
    elif "Offload" in connector or "LMCache" in connector:
        by = "transfer_config"
        total, each = (
            flags.get(f"{EXTRA}.{name}") for name in ("cpu_bytes_to_use", "cpu_bytes_to_use_per_rank")
        )
        if connector == SIMPLE and isinstance(each, int | float):
            total = each * ranks
        gib = total / GIB if isinstance(total, int | float) else None
    return {
        "offload": by != "none",
        "offload_by": by,
        "offload_connector": connector,
        "offload_gib": gib,
        "expandable_segments": "expandable_segments:True" in env.get("PYTORCH_CUDA_ALLOC_CONF", ""),
    }


def _of_size(backend: Any, env: Mapping[str, str], vllm: str | None, names: Names) -> str:
    """The connector that vLLM makes for --kv-offloading-size."""
    if backend == "lmcache":
        old = vllm is not None and Range.parse("<0.23").holds(vllm)
        return "LMCacheConnectorV1" if old else "LMCacheMPConnector"
    simple = "VLLM_USE_SIMPLE_KV_OFFLOAD"
    return SIMPLE if truthy(env.get(simple)) and lives(simple, vllm, names) else NATIVE


def copies(arch: Architecture, tp: int, dcp: int) -> float | None:
    """Ranks that hold the same KV entries; None if this differs by layer.

    MLA: all ranks of a tensor-parallel group. GQA: TP / KV heads, at least 1. DCP divides the copies.
    """
    if arch.family.startswith("mla"):
        return tp / dcp
    each = {max(1.0, tp if arch.mla else tp / group.kv_heads) for group in arch.kv_groups}
    if arch.linear_layers and each:
        each.add(float(dcp))  # a state has one copy
    return each.pop() / dcp if len(each) == 1 else None


def stored(
    held: float | None,
    connector: str,
    arch: Architecture,
    layout: Mapping[str, int],
    flags: Mapping[str, Any],
    vllm: str | None,
) -> float | None:
    """Copies of a KV entry in host memory if ranks hold `held` copies; None if unknown.

    Each rank stores its own part. Only the shared region stores one copy, and only of dense MLA on one node without
    PP, DCP and Ray: 0.27 to 0.30 (v0.27.1 kv_connector/v1/offloading/config.py:118-136, kv_offload/cpu/spec.py:90),
    and later with TieringOffloadingSpec (on ROCm the other specification no longer uses the region, v0.31.0
    cpu/spec.py:165).
    """
    if held is None or held == 1:
        return held
    if connector.startswith("LMCache"):
        return None
    tiering = flags.get(f"{EXTRA}.spec_name") == "TieringOffloadingSpec"
    alone = layout["pp"] == layout["dcp"] == layout["nodes"] == 1
    if connector != NATIVE or not arch.mla or not alone or flags.get("distributed-executor-backend") == "ray":
        return held
    if vllm is None:
        return None
    if not Range.parse(">=0.27").holds(vllm) or (Range.parse(">=0.31").holds(vllm) and not tiering):
        return held
    if arch.family == "mla_dense":
        return 1.0
    return None if Range.parse(">=0.31").holds(vllm) else held


def page_bytes(
    arch: Architecture, backend: str | None, vllm: str | None, kv_dtype: str, block: int | None, tp: int
) -> int | None:
    """Bytes of the largest page that offload copies: a block of one layer, or of all layers, on one rank.

    None if unknown: a hybrid or compressed cache, a part of the model that is not understood, another precision.
    Source: page_size_bytes of v0.23.0 v1/kv_cache_interface.py; register_kv_caches and
    register_cross_layers_kv_cache of kv_connector/v1/offloading/worker.py.
    """
    width = 2 if kv_dtype in _SIXTEEN_BITS else 1 if kv_dtype in _EIGHT_BITS else None
    plain = arch.family not in ("hybrid", "mla_compressed") and not arch.unknown and arch.kv_groups
    if width is None or block is None or backend is None or vllm is None or not plain:
        return None
    if arch.mla:
        entry = (arch.kv_lora_rank or 0) + (arch.qk_rope_head_dim or 0)
    else:
        entry = max(max(1, group.kv_heads // tp) * (group.key + group.value) for group in arch.kv_groups)
    together = Range.parse(_ALL_LAYERS_IN_A_PAGE.get(backend, "<0")).holds(vllm) and len(arch.kv_groups) == 1
    return block * entry * width * (arch.attending_layers if together else 1)
