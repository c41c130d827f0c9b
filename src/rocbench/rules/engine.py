"""Facts about the engine: its layout, model runner, steps and CUDA graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rocbench.model.architecture import Architecture
from rocbench.rules import backends, graphs, runner
from rocbench.rules.flags import assumption
from rocbench.rules.versions import Range
from rocbench.units import GIB

if TYPE_CHECKING:
    from rocbench.rules.facts import Subject
    from rocbench.settings.schema import ModelProfile


def integer(flags: Mapping[str, Any], name: str, default: int) -> int:
    """The value of a flag with a whole number; the default if it is absent or no whole number."""
    value = flags.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def of_layout(arch: Architecture, vllm: str | None, *, tp: int, pcp: int, dcp: int) -> dict[str, Any]:
    """The facts of heads over ranks."""
    return {
        "heads": arch.num_heads // tp,
        "decode_heads": arch.num_heads // tp * dcp,
        "total_heads": arch.num_heads,
        "heads_divisible": arch.num_heads % tp == 0,
        "kv_heads_divisible": _kv_heads_divisible(arch, tp),
        "kv_heads": arch.num_kv_heads,
        "queries_per_kv_head": (arch.num_heads // tp) // max(1, arch.num_kv_heads // tp),
        "query_group": arch.num_heads // max(arch.num_kv_heads, 1),
        "head_dim": arch.head_dim,
        "dcp_fault": _dcp_fault(arch, vllm, tp=tp, pcp=pcp, dcp=dcp),
        "dcp_most": tp // max(arch.num_kv_heads, 1),
    }


def length(subject: Subject, flags: Mapping[str, Any]) -> int | None:
    """The given maximum length, else the profile's, else the model's."""
    given = integer(flags, "max-model-len", 0) or subject.profile.max_model_len
    return given or subject.architecture.max_position_embeddings


def _too_long(subject: Subject, flags: Mapping[str, Any], longest: int | None) -> bool | None:
    """True if a length is above the model's; None if the config has a second length or RoPE scaling, or is overridden."""
    if any(name.partition(".")[0] in {"hf-overrides", "hf-config-path"} for name in flags):
        return None
    config, own = subject.profile.config, subject.architecture.max_position_embeddings
    if own is None or longest is None:
        return None
    if longest <= own:
        return False
    text = config.get("text_config")
    held = (config, text) if isinstance(text, Mapping) else (config,)
    scaled = any(
        part.get(key) for part in held for key in ("rope_scaling", "rope_parameters", "model_max_length")
    )
    return None if scaled else True


def _kv_heads_divisible(arch: Architecture, tp: int) -> bool:
    heads = arch.num_kv_heads
    return arch.mla or heads < 1 or heads % tp == 0 or tp % heads == 0


def _dcp_fault(arch: Architecture, vllm: str | None, *, tp: int, pcp: int, dcp: int) -> str | None:
    """The first check of decode context parallelism that fails, in vLLM's order; `none` if all pass.

    Source: ParallelConfig and ModelConfig.verify_with_parallel_config of vLLM.
    """
    if pcp > 1 and vllm is None:
        return None
    if pcp > 1 and Range.parse(">=0.26").holds(vllm or ""):
        if dcp not in {1, pcp, tp * pcp}:
            return "pcp"
    elif tp % dcp:
        return "tp"
    if dcp == 1 or arch.mla or arch.num_kv_heads < 1 or arch.num_heads % tp:
        return "none"
    if tp <= arch.num_kv_heads:
        return "kv_heads"
    if dcp > tp // arch.num_kv_heads:
        return "most"
    return "queries" if arch.num_heads // arch.num_kv_heads % dcp else "none"


def of_runner(
    subject: Subject, flags: Mapping[str, Any], env: Mapping[str, str], *, tp: int, pp: int, pcp: int
) -> dict[str, Any]:
    """The facts of the model runner."""
    arch = subject.architecture
    choice = runner.choose(
        runner.RunnerQuestion(
            platform=subject.hardware.platform,
            vllm=subject.vllm,
            architectures=tuple(arch.architectures),
            moe=arch.moe,
            hybrid=arch.family == "hybrid",
            mla=arch.mla,
            quantized=subject.profile.checkpoint.quantization != "none",
            tp=tp,
            pp=pp,
            pcp=pcp,
            flags=flags,
            asked=env.get(runner.VARIABLE),
        )
    )
    assumed = assumption(subject.vllm, subject.names) if choice.name else ""
    return {"runner": choice.name, "runner_reason": choice.reason + assumed, "runner_source": choice.source}


def of_steps(
    question: backends.Question,
    backend: str | None,
    subject: Subject,
    flags: Mapping[str, Any],
    *,
    dcp: int,
    pcp: int,
) -> dict[str, Any]:
    """The facts of scheduling and graphs; `flags` include defaults."""
    seqs, tokens = (integer(flags, name, 0) or None for name in ("max-num-seqs", "max-num-batched-tokens"))
    longest = length(subject, flags)
    drafts = flags.get("speculative-config.num_speculative_tokens")
    drafted = any(name.partition(".")[0] == "speculative-config" for name in flags)
    asked = graphs.GraphQuestion(
        platform=question.platform,
        vllm=question.vllm,
        backend=backend,
        ordinary=question.model_type not in backends.OWN_BACKENDS
        and question.family != "hybrid"
        and not question.encoder_decoder
        and "llama4" not in question.model_type,
        gpt_oss=question.sinks,
        dcp=dcp,
        pcp=pcp,
        layerwise=question.kv_connector and not _plain_offload(flags),
        spec_tokens=drafts if isinstance(drafts, int) else None if drafted else 0,
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        flags=flags,
    )
    batch = graphs.largest(asked)
    return {
        "max_model_len": longest,
        "max_num_seqs": seqs,
        "max_num_batched_tokens": tokens,
        "seqs_exceed_tokens": None if seqs is None or tokens is None else seqs > tokens,
        "length_exceeds_tokens": None if longest is None or tokens is None else longest > tokens,
        "length_exceeds_model": _too_long(subject, flags, longest),
        "model_length": subject.architecture.max_position_embeddings,
        "graph_mode": graphs.mode(asked),
        "graph_support": graphs.support(asked),
        "graph_batch": batch,
        "graph_batch_exceeded": None if batch is None or seqs is None else 0 < batch < seqs,
    }


def _plain_offload(flags: Mapping[str, Any]) -> bool:
    """True if the KV connector is vLLM's own offload, which needs no PIECEWISE graphs."""
    named = str(flags.get("kv-transfer-config.kv_connector") or "OffloadingConnector")
    return flags.get("kv-offloading-backend") != "lmcache" and named.endswith("OffloadingConnector")


_MEMORY_SHARE = 0.92
"""The default of --gpu-memory-utilization from vLLM 0.20 (0.9 before)."""


def kv_layer_gib(subject: Subject, flags: Mapping[str, Any], *, ranks: int, pp: int) -> float | None:
    """Upper bound of a layer's KV cache on one rank, in GiB; None if the GPU or the weights are unknown."""
    layers = subject.architecture.attending_layers / pp
    given = flags.get("kv-cache-memory-bytes")
    if isinstance(given, int) and layers:
        return given / layers / GIB
    weights = weights_gb(subject.profile, subject.architecture)
    if subject.hardware.gpu is None or weights is None or not layers:
        return None
    share = flags.get("gpu-memory-utilization")
    share = share if isinstance(share, int | float) else _MEMORY_SHARE
    return max(0.0, subject.hardware.gpu.hbm_bytes * share - weights * 1e9 / ranks) / layers / GIB


def weights_gb(profile: ModelProfile, arch: Architecture) -> float | None:
    """The size of the checkpoint in GB: published, or by its parameters; None if unknown."""
    if profile.checkpoint.bytes:
        return profile.checkpoint.bytes / 1e9
    total = profile.total_params or arch.total_params
    return total * profile.checkpoint.bits / 8 / 1e9 if total else None
