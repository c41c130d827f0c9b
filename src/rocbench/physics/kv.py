"""KV cache: bytes per token, capacity, and users that fit. Pure; bytes and tokens throughout."""

from __future__ import annotations

import math
from dataclasses import dataclass

from packaging.version import Version

from rocbench.model.architecture import Architecture, KvGroup
from rocbench.physics import weights
from rocbench.physics.layout import Layout
from rocbench.settings.schema import Checkpoint, Hardware
from rocbench.units import GIB

INDEX_SCALE_BLOCK = 128
INDEX_SCALE_BYTES = 4
DS_MLA_ENTRY = 656
"""512 FP8 latents, 4 FP32 scales, 64 BF16 rope values (vLLM, `fp8_ds_mla`)."""
V4_ENTRY = 584
"""448 FP8 values, 64 BF16 rope values, 8 scales: what ROCm stores for every `--kv-cache-dtype` that it accepts (vLLM
v0.33.0 models/deepseek_v4/attention.py:880, deepseek_v41/attention.py:137-180)."""
GRAPHS_SUBTRACTED = Version("0.20")
INDEXER_RESERVED = (Version("0.23"), Version("0.30"))
STATE_BYTES = 4
"""Bytes of a number in a linear layer's state (FP32; inferred)."""
LEAST_STATE_BYTES = 2
"""The same if `--mamba-ssm-cache-dtype`, or its `auto` for some models, selects a 16-bit type."""


def latent_entry_bytes(arch: Architecture, layout: Layout) -> float:
    """Bytes of one MLA cache entry: (kv_lora_rank + qk_rope_head_dim) x bytes, or 656 as `fp8_ds_mla`."""
    if layout.kv_dtype == "fp8_ds_mla":
        return DS_MLA_ENTRY
    return ((arch.kv_lora_rank or 0) + (arch.qk_rope_head_dim or 0)) * layout.kv_bytes_per_element


def kv_bytes_per_token(arch: Architecture, kv_bytes: float = 2.0) -> float:
    """KV bytes of one token over the whole model, without replication and without the indexer.

    GQA: sum over layers of KV heads x (key + value) x bytes. MLA: layers x (kv_lora_rank + rope) x bytes.
    DeepSeek V4: sum over layers of head dim x bytes / compression ratio; layers without compression keep only
    a window, and in V4.1 several layers share the entries of one. Linear layers keep a state, not tokens. Sliding layers are counted in full, as in a short
    sequence.
    """
    if arch.compress_ratios:
        return sum(1 / ratio for ratio in arch.stored_ratios) * arch.head_dim * kv_bytes
    if arch.mla:
        entry = (arch.kv_lora_rank or 0) + (arch.qk_rope_head_dim or 0)
        return arch.attending_layers * entry * kv_bytes
    return sum(g.layers * g.kv_heads * (g.key + g.value) for g in arch.kv_groups) * kv_bytes


def indexer_bytes_per_token(arch: Architecture) -> float:
    """Bytes of the sparse-attention indexer's keys for one token over the whole model; 0 without one.

    DeepSeek-type: layers with an indexer x (dim FP8 values + 4 bytes of scale per 128), 132 bytes a layer at
    dim 128 (vLLM v0.33.0 models/deepseek_v4/attention.py, k_cache_head_dim). V4 stores one per 4 tokens, V4.1 one
    per 1 or 2 in the layers with a cache. As MXFP4, V4's default from 0.33 on gfx950 with AITER, it is 68 bytes a layer;
    the figures count 132.
    MiniMax M3: one BF16 vector per layer (models/minimax_m3/common/indexer.py:145-153).
    """
    if not arch.indexer_layers or not arch.indexer_head_dim:
        return 0.0
    return index_keys_per_token(arch) * _index_entry(arch)


def index_keys_per_token(arch: Architecture) -> float:
    """Keys that the indexers store for one token: one a layer, of DeepSeek V4 one for each `indexed_ratios` tokens."""
    if arch.compress_ratios:
        return sum(1 / ratio for ratio in arch.indexed_ratios)
    return float(arch.indexer_layers)


def _index_entry(arch: Architecture) -> float:
    dim = arch.indexer_head_dim or 0
    if not arch.mla:
        return 2.0 * dim
    return float(dim + math.ceil(dim / INDEX_SCALE_BLOCK) * INDEX_SCALE_BYTES)


def kv_bytes_per_token_per_rank(arch: Architecture, layout: Layout) -> float:
    """KV bytes of one more token on one rank, indexer and loaded MTP layers included.

    MLA: the whole latent on every rank, distributed only by dcp. GQA: max(1, KV heads / tp) heads, so that
    fewer heads than ranks are copied (dcp distributes the copies). Layers are divided by pp.
    """
    return sequence_bytes_per_rank(arch, layout, 1.0, with_state=False)


def sequence_bytes_per_rank(
    arch: Architecture, layout: Layout, tokens: float, *, with_state: bool = True
) -> float:
    """Bytes that a sequence of `tokens` holds on one rank.

    Sliding layers hold min(tokens, window); DeepSeek V4's layers each hold such a window in addition to their
    compressed entries; linear layers hold a state of fixed size, split over tp (`with_state`).
    """
    draft = arch.mtp_layers if layout.mtp else 0
    index = indexer_bytes_per_token(arch) + draft * (_index_entry(arch) if arch.indexer_layers else 0.0)
    lead = max((entry_per_rank(arch, group, layout) for group in arch.kv_groups), default=0.0)
    held, fixed = draft * tokens * lead, 0.0
    if arch.compress_ratios:
        held += sum(tokens / ratio for ratio in arch.stored_ratios) * lead
        if with_state:
            fixed += arch.num_layers * min(tokens, arch.sliding_window or tokens) * lead
    else:
        for group in arch.kv_groups:
            kept = min(tokens, group.keeps or tokens)
            held += group.layers * kept * entry_per_rank(arch, group, layout)
    if with_state:
        fixed += arch.linear_layers * arch.linear_state * STATE_BYTES / layout.tp
    return ((held + index * tokens) / layout.dcp + fixed) / layout.pp


def entry_per_rank(arch: Architecture, group: KvGroup, layout: Layout) -> float:
    """Bytes of one layer's entry for one token on one rank, before dcp distributes it."""
    if arch.family == "mla_compressed":
        return V4_ENTRY
    if arch.mla:
        return latent_entry_bytes(arch, layout)
    heads = max(1.0, group.kv_heads / layout.tp)
    return heads * (group.key + group.value) * layout.kv_bytes_per_element


@dataclass(frozen=True, slots=True)
class KvCapacity:
    """KV tokens that one engine (one data-parallel rank) holds, and the use of the rest of the HBM.

    Bytes are of one GPU. Activations, graphs and overhead are inferred (docs/physics.md).
    """

    tokens: int
    kv_bytes: float
    hbm_bytes: float
    outside: float
    """HBM beyond gpu_memory_utilization, left to other processes."""
    weights: float
    activations: float
    indexer_workspace: float
    graphs: float
    overhead: float

    @property
    def fits(self) -> bool:
        """True if the weights leave room for KV."""
        return self.tokens > 0


def kv_capacity_tokens(
    arch: Architecture,
    checkpoint: Checkpoint,
    hardware: Hardware,
    layout: Layout,
    gpu_memory_utilization: float = 0.9,
    *,
    vllm: str | None = None,
    max_model_len: int | None = None,
    max_num_batched_tokens: int = 8192,
    max_num_seqs: int = 1024,
    block_size: int = 16,
    kv_cache_memory_bytes: float | None = None,
) -> KvCapacity | None:
    """Return the KV capacity of one engine; None if the hardware profile has no GPU, or no layer has a cache.

    kv_bytes = HBM x utilization - weights - activations - indexer workspace - graphs - overhead;
    tokens = kv_bytes / bytes per token, rounded down to whole blocks. If layers hold different numbers of
    tokens (sliding, linear, compressed), tokens = int(kv_bytes / bytes of a sequence of max_model_len x
    max_model_len), as vLLM reports it from 0.20 on (v0.33.0 v1/core/kv_cache_utils.py).
    `--kv-cache-memory-bytes` sets the bytes of each GPU itself, regardless of the utilization.

    By version: before 0.20 graphs are not subtracted; from 0.23 to 0.29 the sparse indexer reserves its logits.
    An unknown version subtracts graphs and no logits.
    """
    if hardware.gpu is None:
        return None
    hbm = float(hardware.gpu.hbm_bytes)
    length = max_model_len or arch.max_position_embeddings or 32768
    weight_bytes = weights.weight_bytes_per_rank(arch, checkpoint, layout)
    activations = activation_bytes(arch, layout, max_num_batched_tokens, max_num_seqs)
    overhead = overhead_bytes(layout)
    graphs, workspace = graph_bytes(arch), 0.0
    if vllm is not None:
        version = Version(vllm)
        graphs = graphs if version >= GRAPHS_SUBTRACTED else 0.0
        if arch.family == "mla_sparse" and INDEXER_RESERVED[0] <= version < INDEXER_RESERVED[1]:
            workspace = rocm_indexer_workspace(max_num_batched_tokens, length)
    room = kv_cache_memory_bytes
    if room is None:
        room = hbm * gpu_memory_utilization - weight_bytes - activations - workspace - graphs - overhead
    per_token = kv_bytes_per_token_per_rank(arch, layout)
    per_sequence = sequence_bytes_per_rank(arch, layout, length)
    uneven = arch.sliding_layers or arch.linear_layers or arch.compress_ratios
    if not (per_sequence if uneven else per_token):
        return None  # a shape without a cache has no capacity
    tokens = room / per_sequence * length if uneven else room / per_token
    return KvCapacity(
        tokens=max(0, int(tokens // block_size) * block_size),
        kv_bytes=max(0.0, room),
        hbm_bytes=hbm,
        outside=hbm * (1 - gpu_memory_utilization),
        weights=weight_bytes,
        activations=activations,
        indexer_workspace=workspace,
        graphs=graphs,
        overhead=overhead,
    )


def users_that_fit(capacity: KvCapacity, arch: Architecture, layout: Layout, tokens: int) -> int:
    """Return sequences of `tokens` (ISL + OSL, image tokens too) that one engine holds before it preempts."""
    return int(capacity.kv_bytes // sequence_bytes_per_rank(arch, layout, float(tokens)))


def activation_bytes(arch: Architecture, layout: Layout, batched_tokens: int, seqs: int) -> float:
    """Peak of the profiling step's temporaries on one rank. Inferred from tensor shapes, not measured.

    Per batched token, BF16: four hidden vectors (residual, its sum, normed, output), the wider of the
    attention's (q and its output) and the MLP's; with experts a hidden vector in and out and gate, up and
    product for each of the k experts' shards. In addition, three FP32 copies of the logits of `seqs`
    sequences.
    """
    hidden, tp = arch.hidden_size, layout.tp
    value = arch.v_head_dim or arch.head_dim
    attention = arch.num_heads * (2 * arch.head_dim + 2 * value) / tp
    dense = 3 * arch.intermediate_size / tp
    per_expert = 2 * hidden + 3 * (arch.moe_intermediate_size or 0) / (1 if layout.ep else tp)
    routed = (arch.experts_per_token or 0) * per_expert / (tp if layout.ep else 1)
    per_token = 4 * hidden + max(attention, dense, routed)
    return 2.0 * per_token * batched_tokens + 3 * 4.0 * seqs * arch.vocab_size


def graph_bytes(arch: Architecture) -> float:
    """Captured graphs: 20 MiB per layer, at least 0.5 GiB. Inferred: vLLM's log has 1 to 3 GiB for such
    models.

    From 0.20 on vLLM subtracts its own estimate before it sizes the cache
    (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS is on); before 0.20, graphs used the rest of the HBM.
    """
    return max(0.5 * GIB, 20 * 1024**2 * arch.num_layers)


def overhead_bytes(layout: Layout) -> float:
    """Runtime and collective buffers: 1 GiB, and 2 GiB more with more than one GPU. Inferred."""
    return (3.0 if layout.gpus > 1 else 1.0) * GIB


def rocm_indexer_workspace(batched_tokens: int, max_model_len: int) -> float:
    """Bytes of the sparse indexer's logits that vLLM 0.23 to 0.29 reserve on gfx942 and gfx950.

    batched_tokens x max_model_len x 4 bytes, and 512 MiB of prefill logits (v0.29.0
    v1/attention/ops/rocm_aiter_mla_sparse.py:860-886, VLLM_SPARSE_INDEXER_MAX_LOGITS_MB). Absent from 0.30 on.
    """
    return 4.0 * batched_tokens * max_model_len + 512 * 1024**2
