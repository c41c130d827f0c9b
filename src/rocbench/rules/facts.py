"""The facts that rules use: those of the model, the node and the current settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import gcd
from types import MappingProxyType
from typing import Any, Literal, get_args, get_type_hints

from rocbench.errors import InputError
from rocbench.model.architecture import Architecture, AttentionFamily
from rocbench.rules import aiter, backends, engine, known
from rocbench.rules import offload as offloading
from rocbench.rules.engine import integer as _int
from rocbench.rules.flags import Name, Names, assumption, lives, takes
from rocbench.rules.truth import truthy
from rocbench.rules.versions import Range
from rocbench.settings.schema import Checkpoint, Hardware, ModelProfile
from rocbench.units import GIB


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts that a condition can test. None means unknown, never "no"."""

    # the node
    platform: str
    gpus: int
    nodes: int
    gpu: str | None
    gfx: str | None
    rocm: str | None
    gpu_memory_gib: float | None
    gpus_needed: int
    gpus_short: bool
    vllm: str | None
    # the model
    model: str
    """Last part of the Hugging Face id."""
    model_type: str
    architecture: str
    architecture_missing: bool | None
    """True if this vLLM is older than the model's architecture class; None if it is newer than the last release with
    the class, or no release that was read has it."""
    first_vllm: str | None
    """First checked release with the architecture class."""
    recipe_vllm: str | None
    """First release that the model's recipe supports (`vllm_min` of the profile)."""
    below_recipe: bool | None
    """True if this vLLM is older than that."""
    family: str
    mla: bool
    moe: bool
    vision: bool
    encoder_decoder: bool
    sliding_window: bool
    """True if some layers keep only a window of tokens."""
    heads: int
    """Query heads of one rank."""
    decode_heads: int
    """Query heads that one rank computes in decode: heads x DCP."""
    total_heads: int
    heads_divisible: bool
    kv_heads_divisible: bool
    """True if TP divides the KV heads, or the KV heads divide TP; always for MLA."""
    kv_heads: int
    queries_per_kv_head: int
    """Query heads per KV head on one rank; a rank has at least one KV head."""
    query_group: int
    """Query heads per KV head of the model."""
    head_dim: int
    quantization: str
    online_quantization: bool
    """True for `--quantization fp8` on a 16-bit checkpoint."""
    weight_block: int | None
    moe_shard: float | None
    """Rows of one expert on one rank: moe_intermediate_size / (TP x DP); all rows with expert parallel.

    Source: FusedMoEParallelConfig.make of vLLM, which flattens TP across DP."""
    moe_shard_remainder: float | None
    """moe_shard modulo the weight block; 0 if weights are not block-quantised."""
    moe_scale_block: int | None
    """The block to which vLLM refines the scales of an expert that TP cuts: the largest common divisor of weight
    block, rows on one rank and hidden size."""
    weights_gb: float | None
    # the layout
    tp: int
    pp: int
    dp: int
    pcp: int
    dcp: int
    dcp_fault: str | None
    """The first of vLLM's checks of DCP that fails (tp, pcp, kv_heads, most, queries), or none."""
    dcp_most: int
    """Largest DCP of a model without MLA: TP / KV heads."""
    ep: bool
    # the settings
    max_num_seqs: int | None
    """The given value, or the default of this version; None before the defaults are known."""
    max_num_batched_tokens: int | None
    """The given value, or the default of this version; None before the defaults are known."""
    seqs_exceed_tokens: bool | None
    """True if max_num_seqs is above max_num_batched_tokens."""
    length_exceeds_tokens: bool | None
    """True if max_model_len is above max_num_batched_tokens."""
    length_exceeds_model: bool | None
    """True if max_model_len is above the model's own; None if RoPE scaling can raise that."""
    model_length: int | None
    """max_position_embeddings of config.json."""
    runner: str | None
    """The model runner: v1 or v2."""
    runner_reason: str
    runner_source: str
    graph_mode: str | None
    """The CUDA graph mode that the server runs."""
    graph_support: str | None
    """Graphs that the attention backend supports, as vLLM names them."""
    graph_batch: int | None
    """The largest number of decoding requests that a captured graph covers; 0 without graphs."""
    graph_batch_exceeded: bool | None
    """True if max_num_seqs is above graph_batch, and there are graphs."""
    backend_asked: str
    """--attention-backend, or VLLM_ATTENTION_BACKEND in versions that read it; empty: vLLM chooses."""
    backend_known: bool | None
    """True if this vLLM has a backend with the requested name."""
    kv_connector: bool
    """True if the KV cache goes to a connector: offload, or another engine."""
    kv_cache_dtype_known: bool | None
    """True if this vLLM has the KV cache dtype."""
    choices_valid: bool | None
    """True if each flag with a fixed set of values has one of this vLLM's set."""
    choices_said: str
    """What argparse says of the first flag with another value: `--block-size: invalid choice: 48 (choose from ...)`."""
    backend: str | None
    backend_class: str | None
    """The implementation that vLLM names in its messages."""
    backend_reason: str
    backend_source: str
    backend_if_offloaded: str | None
    own_backend: bool
    """True if the model has its own attention backend."""
    block_size: int | None
    max_model_len: int | None
    kv_layer_gib: float | None
    """Largest KV cache of one layer on one rank: the memory share, less the weights, over the layers.

    Activations and graphs take a part of it; the server knows the size after it has started."""
    kv_cache_dtype: str
    prefix_caching: bool
    spec_decode: bool
    visible_devices_differ: bool
    """True if HIP_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES are both given, not empty, and differ."""
    aiter: bool
    aiter_moe: bool | None
    aiter_mla: bool | None
    aiter_fp8bmm: bool | None
    aiter_fp4bmm: bool | None
    aiter_moe_a4w4_dsv4: bool | None
    aiter_moe_situv2: bool | None
    offload: bool
    """True if the KV cache is offloaded to host memory."""
    offload_by: str
    """size_flag (--kv-offloading-size), transfer_config, or none."""
    offload_connector: str
    """The connector's class, also that of a connector to another engine; empty without one."""
    offload_gib: float | None
    """Host memory of one engine for offloaded KV."""
    kv_copies: float | None
    """Ranks that hold the same KV entries: TP / DCP with MLA, TP / KV heads / DCP with fewer KV heads than ranks."""
    offload_copies: float | None
    """Copies of a KV entry in host memory."""
    offload_usable_gib: float | None
    """GiB of the offload for different KV entries."""
    kv_page_bytes: int | None
    """Bytes of the largest page of the KV cache on one rank; a page is a block of one layer, or of all layers."""
    expandable_segments: bool
    """True if PYTORCH_CUDA_ALLOC_CONF has expandable_segments:True."""
    # the context
    offload_compared: bool
    multi_turn: bool


_VISIBLE = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


def _kind(hint: Any) -> Literal["str", "int", "float", "bool"]:
    for kind in (bool, int, float, str):
        if hint is kind or kind in get_args(hint):
            return kind.__name__  # type: ignore[return-value]
    raise TypeError(hint)


KINDS: dict[str, Literal["str", "int", "float", "bool", "version"]] = {
    name: _kind(hint) for name, hint in get_type_hints(Facts).items()
} | {"rocm": "version", "vllm": "version"}
"""Each fact and its type."""

CLOSED: dict[str, tuple[str, ...]] = {
    "platform": get_args(Hardware.model_fields["platform"].annotation),
    "family": get_args(AttentionFamily),
    "quantization": get_args(Checkpoint.model_fields["quantization"].annotation),
    "offload_by": ("size_flag", "transfer_config", "none"),
    "dcp_fault": ("none", "tp", "pcp", "kv_heads", "most", "queries"),
    "runner": ("v1", "v2"),
    "graph_mode": ("NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE"),
    "graph_support": ("NEVER", "UNIFORM_SINGLE_TOKEN_DECODE", "UNIFORM_BATCH", "ALWAYS"),
}
"""Facts with a fixed set of values."""
VALUE_OF = {
    "backend": "attention-backend",
    "backend_asked": "attention-backend",
    "backend_if_offloaded": "attention-backend",
    "kv_cache_dtype": "kv-cache-dtype",
}
"""Facts whose values are those of a flag."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The constants of a resolution: they do not change while rules fill in settings."""

    profile: ModelProfile
    architecture: Architecture
    """With MLA if the model has it, unless VLLM_MLA_DISABLE is set."""
    hardware: Hardware
    vllm: str | None
    nodes: int
    offload_compared: bool
    multi_turn: bool
    names: Names
    parts: Mapping[str, aiter.AiterPart]
    architectures: Mapping[str, Name]
    """The checked releases that have an architecture class."""


def gather(
    subject: Subject,
    flags: Mapping[str, Any],
    env: Mapping[str, str],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Facts:
    """All facts for these flags (leaves) and variables; pinned `defaults` count for the facts about steps only.

    Raises:
        InputError: a number of ranks below 1.
    """
    arch, hardware = subject.architecture, subject.hardware
    tp, pp = _ranks(flags, "tensor-parallel-size"), _ranks(flags, "pipeline-parallel-size")
    dp, dcp = _ranks(flags, "data-parallel-size"), _ranks(flags, "decode-context-parallel-size")
    pcp = _ranks(flags, "prefill-context-parallel-size")
    sizes: dict[str, Any] = {"tp": tp, "pp": pp, "dp": dp, "pcp": pcp, "dcp": dcp}
    ep = flags.get("enable-expert-parallel") is True
    offload = offloading.facts(flags, env, subject.vllm, subject.names, ranks=tp * pp)
    question = _question(subject, flags, env, connector=offload["offload_connector"] != "")
    choice = backends.choose(question)
    block = question.block_size
    block = backends.default_block_size(choice, question) if block is None else block
    block = None if arch.family == "hybrid" else block  # vLLM aligns it with the pages of the states
    return Facts(
        **_of_node(subject, needed=tp * pp * dp * pcp),
        **_of_model(subject),
        **engine.of_layout(arch, subject.vllm, tp=tp, pcp=pcp, dcp=dcp),
        **_of_checkpoint(subject, flags, _moe_shard(arch, tp * dp * pcp, ep=ep)),
        **sizes,
        ep=ep,
        **known.choices(flags, subject.vllm, subject.names, VALUE_OF.values()),
        **_of_backend(subject, question, choice),
        **engine.of_runner(subject, flags, env, tp=tp, pp=pp, pcp=pcp),
        **engine.of_steps(question, choice.name, subject, {**defaults, **flags}, dcp=dcp, pcp=pcp),
        block_size=block,
        kv_layer_gib=engine.kv_layer_gib(subject, flags, ranks=tp * pp * dp, pp=pp),
        kv_cache_dtype=question.kv_cache_dtype,
        prefix_caching=flags.get("enable-prefix-caching") is not False,
        spec_decode=any(name.partition(".")[0] == "speculative-config" for name in flags),
        visible_devices_differ=len({env[name] for name in _VISIBLE if env.get(name)}) > 1,
        aiter=hardware.platform == "rocm" and truthy(env.get(aiter.MASTER)),
        **_of_aiter(question.parts),
        **offload,
        **_of_copies(subject, flags, offload, tp=tp, pp=pp, dcp=dcp),
        kv_page_bytes=offloading.page_bytes(
            arch, choice.name, subject.vllm, question.kv_cache_dtype, block, tp
        ),
        multi_turn=subject.multi_turn,
    )


def _of_backend(
    subject: Subject, question: backends.Question, choice: backends.BackendChoice
) -> dict[str, Any]:
    """The facts of the attention backend and of the KV cache dtype."""
    vllm, names, requested = subject.vllm, subject.names, question.requested
    assumed = assumption(vllm, names) if choice.name and not requested else ""
    return {
        "backend_asked": requested,
        "backend_known": takes("attention-backend", requested, vllm, names) if requested else True,
        "kv_connector": question.kv_connector,
        "kv_cache_dtype_known": takes("kv-cache-dtype", question.kv_cache_dtype, vllm, names),
        "backend": choice.name,
        "backend_class": backends.IMPLEMENTATIONS.get(choice.name or ""),
        "backend_reason": choice.reason + assumed,
        "backend_source": choice.source,
        "backend_if_offloaded": backends.choose(replace(question, kv_connector=True)).name,
        "own_backend": question.model_type in backends.OWN_BACKENDS,
    }


def _of_node(subject: Subject, needed: int) -> dict[str, Any]:
    """The facts of the GPUs; the ranks need `needed` of them."""
    hardware = subject.hardware
    gpus = hardware.gpus * subject.nodes
    return {
        "platform": hardware.platform,
        "gpus": gpus,
        "nodes": subject.nodes,
        "gpu": hardware.gpu.name if hardware.gpu else None,
        "gfx": hardware.gpu.gfx if hardware.gpu and hardware.gpu.gfx in aiter.RULED_GFX else None,
        "rocm": hardware.rocm,
        "gpu_memory_gib": hardware.gpu.hbm_bytes / GIB if hardware.gpu else None,
        "gpus_needed": needed,
        "gpus_short": hardware.platform == "rocm" and needed > gpus,
    }


def _of_model(subject: Subject) -> dict[str, Any]:
    """The facts of the model, and of its support in this vLLM."""
    arch, profile = subject.architecture, subject.profile
    classes = [subject.architectures[name] for name in arch.architectures if name in subject.architectures]
    first = classes[0].spans[0][0] if classes else None
    return {
        "vllm": subject.vllm,
        "model": profile.hf_id.rsplit("/", 1)[-1],
        "model_type": _model_type(profile),
        "architecture": arch.architectures[0] if arch.architectures else "",
        "architecture_missing": known.missing(classes, arch.architectures, subject.vllm, subject.names),
        "first_vllm": first,
        "recipe_vllm": profile.vllm_min,
        "below_recipe": known.older(subject.vllm, profile.vllm_min),
        "family": arch.family,
        "mla": arch.mla,
        "moe": arch.moe,
        "vision": arch.vision,
        "sliding_window": arch.sliding_layers > 0,
        "encoder_decoder": bool(profile.config.get("is_encoder_decoder")),
    }


def _of_checkpoint(subject: Subject, flags: Mapping[str, Any], shard: float | None) -> dict[str, Any]:
    """The facts of the weights; `shard` is the width of an expert on one rank."""
    checkpoint = subject.profile.checkpoint
    block = checkpoint.block[0] if checkpoint.block else None
    return {
        "quantization": checkpoint.quantization,
        "online_quantization": checkpoint.quantization == "none" and flags.get("quantization") is not None,
        "weight_block": block,
        "moe_shard": shard,
        "moe_shard_remainder": None if shard is None else (shard % block if block else 0),
        "moe_scale_block": gcd(block, int(shard), subject.architecture.hidden_size)
        if block and shard and shard == int(shard)
        else None,
        "weights_gb": engine.weights_gb(subject.profile, subject.architecture),
    }


def _of_aiter(parts: Mapping[str, bool | None]) -> dict[str, Any]:
    """Each part of AITER: on, off, or None if unknown."""
    return {f"aiter_{name}": parts.get(name) for name in _PARTS}


_PARTS = tuple(
    field.name.removeprefix("aiter_") for field in fields(Facts) if field.name.startswith("aiter_")
)


def _ranks(flags: Mapping[str, Any], name: str) -> int:
    number = _int(flags, name, 1)
    if number < 1:
        raise InputError(f"--{name} must be at least 1, not {number}")
    return number


def _model_type(profile: ModelProfile) -> str:
    text = profile.config.get("text_config")
    named = text.get("model_type") if isinstance(text, Mapping) else None
    return str(profile.config.get("model_type") or named or "")


def _moe_shard(arch: Architecture, ranks: int, *, ep: bool) -> float | None:
    if arch.moe_intermediate_size is None:
        return None
    return float(arch.moe_intermediate_size) if ep else arch.moe_intermediate_size / ranks


def _question(
    subject: Subject, flags: Mapping[str, Any], env: Mapping[str, str], *, connector: bool
) -> backends.Question:
    vllm, arch = subject.vllm, subject.architecture
    on_gpu = subject.hardware.platform == "rocm"
    requested = flags.get("attention-backend")
    old_name = "VLLM_ATTENTION_BACKEND"
    requested = str(requested).upper() if requested else ""
    if requested == "AUTO" and vllm is not None and Range.parse(">=0.18").holds(vllm):
        requested = ""  # as if the flag was not given
    elif not requested and lives(old_name, vllm, subject.names):
        requested = env.get(old_name, "")  # case matters
    block = flags.get("block-size")
    return backends.Question(
        platform=subject.hardware.platform,
        vllm=vllm,
        model_type=_model_type(subject.profile),
        family=arch.family,
        head_dim=arch.head_dim,
        sinks="gpt_oss" in _model_type(subject.profile),
        encoder_decoder=bool(subject.profile.config.get("is_encoder_decoder")),
        requested=requested,
        kv_cache_dtype=str(flags.get("kv-cache-dtype") or "auto"),
        block_size=block if isinstance(block, int) else None,
        parts=aiter.effective(env, vllm, subject.parts, subject.names)
        if on_gpu
        else dict.fromkeys(subject.parts, False),
        prefill_decode=_prefill_decode(flags, env, vllm, subject.names),
        kv_connector=connector,
    )


def _prefill_decode(flags: Mapping[str, Any], env: Mapping[str, str], vllm: str | None, names: Names) -> bool:
    variable = "VLLM_V1_USE_PREFILL_DECODE_ATTENTION"
    if truthy(env.get(variable)) and lives(variable, vllm, names):
        return True
    leaf = "attention-config.use_prefill_decode_attention"
    return flags.get(leaf) is True and vllm is not None and Range.parse(">=0.16,<0.19").holds(vllm)


def _of_copies(
    subject: Subject, flags: Mapping[str, Any], offload: Mapping[str, Any], *, tp: int, pp: int, dcp: int
) -> dict[str, Any]:
    """The facts of the copies that ranks keep, on the GPUs and in host memory."""
    held = offloading.copies(subject.architecture, tp, dcp)
    layout = {"pp": pp, "dcp": dcp, "nodes": subject.nodes}
    stored = offloading.stored(
        held, offload["offload_connector"], subject.architecture, layout, flags, subject.vllm
    )
    gib = offload["offload_gib"]
    usable = gib / stored if gib is not None and stored else None
    return {
        "kv_copies": held,
        "offload_copies": stored,
        "offload_usable_gib": usable and round(usable, 3),
        "offload_compared": subject.offload_compared,
    }
