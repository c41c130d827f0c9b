"""The demand of one token on one GPU: bytes read, floating-point operations, bytes sent. Pure.

Attention's demand depends on how many tokens a query attends to, c. It is a sum of terms a x min(c, k): k is
infinite for full attention, the window for sliding layers, the number of chosen tokens for sparse ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rocbench.model.architecture import Architecture, KvGroup
from rocbench.physics import kv, weights
from rocbench.physics.layout import Layout
from rocbench.settings.schema import Checkpoint, Gpu

ALL = math.inf


@dataclass(frozen=True, slots=True)
class Term:
    """A cost of `each` per attended token, for at most `limit` tokens."""

    each: float
    limit: float = ALL

    def mean(self, low: float, high: float) -> float:
        """Return the mean of each x min(c, limit) for c spread evenly over [low, high]."""
        k = self.limit
        if high <= k:
            return self.each * (low + high) / 2
        if low >= k:
            return self.each * k
        return self.each * ((k * k - low * low) / 2 + k * (high - k)) / (high - low)


@dataclass(frozen=True, slots=True)
class Rates:
    """FLOP/s of one GPU for each kind of work."""

    linear: float
    experts: float
    attention: float
    indexer: float
    vision: float


def rates(arch: Architecture, gpu: Gpu, checkpoint: Checkpoint, layout: Layout, *, bound: bool) -> Rates:
    """Return the dense peaks that apply, in FLOP/s.

    FP8 weights run at the FP8 peak, others at BF16; INT4 weights are widened to BF16 (W4A16). MXFP4 experts
    run at the FP4 peak if there is one, else widened to BF16. The bound gives MXFP4 the fastest peak of the
    GPU, and attention over an FP8 cache the FP8 peak, even if no kernel reaches it.
    """
    bf16 = gpu.flops.get("bf16") or gpu.flops["fp16"]
    fp8 = gpu.flops.get("fp8", bf16)
    linear = fp8 if 0.9 < weights.linear_bytes(arch, checkpoint, layout) < 1.5 else bf16
    experts = fp8 if 0.9 < weights.expert_bytes(checkpoint, layout) < 1.5 else bf16
    if checkpoint.quantization == "mxfp4":
        experts = max(gpu.flops.values()) if bound else gpu.flops.get("fp4", bf16)
        linear = linear if arch.moe else experts
    narrow = layout.kv_bytes_per_element < 2
    return Rates(
        linear=linear,
        experts=experts,
        attention=fp8 if bound and narrow else bf16,
        indexer=fp8,
        vision=bf16,
    )


def linear_flops(arch: Architecture, layout: Layout) -> float:
    """FLOPs of one token's matrices on one rank, without head and routed experts: 2 x weights held."""
    p, tp = arch.parts, layout.tp
    split = (p.attention + p.dense_mlp + p.shared_experts) / tp
    split += p.kv_projection / min(tp, max(1, arch.num_kv_heads))
    return 2 * (split + p.attention_replicated + p.indexer + p.router) / layout.pp


def expert_flops(arch: Architecture, layout: Layout) -> float:
    """FLOPs of one token's routed experts on one rank: 2 x weights x k / E / tp, evenly spread."""
    return 2 * arch.parts.routed_experts * active_share(arch) / layout.tp / layout.pp


def active_share(arch: Architecture) -> float:
    """k / E: the share of the routed experts that one token visits."""
    if not arch.num_experts or not arch.experts_per_token:
        return 0.0
    return arch.experts_per_token / arch.num_experts


def head_flops(arch: Architecture, layout: Layout) -> float:
    """FLOPs of the output projection for one sampled token on one rank."""
    return 2 * (arch.parts.head or arch.parts.embedding) / layout.tp


def vision_flops(arch: Architecture, layout: Layout) -> float:
    """FLOPs of one image token in the vision tower on one rank: 2 x parameters x patches per token / tp.

    Images are shared out over ranks, or the tower is; attention among patches is left out.
    """
    if layout.language_only:
        return 0.0
    return 2.0 * arch.vision_params * arch.vision_merge**2 / layout.tp


def read_terms(arch: Architecture, layout: Layout) -> tuple[Term, ...]:
    """Bytes of KV that one decoding sequence reads on one rank and step, by tokens attended to.

    Sparse attention reads the entries of the chosen tokens only, but the indexer's keys of all.
    """
    index = kv.indexer_bytes_per_token(arch) / layout.dcp / layout.pp
    terms = [
        Term(layers * kv.entry_per_rank(arch, group, layout) / layout.dcp / layout.pp, limit)
        for layers, limit, group in _attended(arch, arch.stored_ratios)
    ]
    return tuple(_merged([*terms, Term(index)]))


def attention_terms(arch: Architecture, layout: Layout, *, absorbed: bool) -> tuple[Term, ...]:
    """FLOPs of attention for one query token on one rank, by tokens attended to.

    Without `absorbed`, for a prompt token, which passes `prompt_layers`.

    GQA: 2 x heads x (key + value). MLA with expanded keys (prefill): 2 x heads x (qk head + v head); with absorbed
    projections (decode, and sparse attention always): 2 x heads x (2 x kv_lora_rank + rope).
    """
    latent = arch.mla and arch.family != "mla_compressed" and (absorbed or arch.family == "mla_sparse")
    entry = 2 * (arch.kv_lora_rank or 0) + (arch.qk_rope_head_dim or 0)
    passed = arch.prompt_layers or None
    terms = [
        Term(
            layers * 2 * group.heads / layout.tp / layout.pp * (entry if latent else group.key + group.value),
            limit,
        )
        for layers, limit, group in _attended(arch, arch.compress_ratios[: passed if not absorbed else None])
    ]
    return tuple(_merged(terms))


def prompt_share(arch: Architecture) -> float:
    """The share of the layers that a prompt token passes."""
    return arch.prompt_layers / arch.num_layers if arch.prompt_layers else 1.0


def indexer_flops(arch: Architecture, layout: Layout) -> float:
    """FLOPs of the indexer's scores for one query and one key: 2 x heads x dim a layer, whole on each rank.

    Indexers of DeepSeek V4.1 without a cache of their own score few of the keys, and are left out.
    """
    if not arch.indexer_layers:
        return 0.0
    each = 2 * (arch.indexer_heads or 0) * (arch.indexer_head_dim or 0)
    return each * kv.index_keys_per_token(arch) / layout.pp


def state_bytes(arch: Architecture, layout: Layout, *, bound: bool) -> float:
    """Bytes that one sequence's linear layers read and write in a step on one rank; a minimum for a bound."""
    width = kv.LEAST_STATE_BYTES if bound else kv.STATE_BYTES
    return 2.0 * arch.linear_layers * arch.linear_state * width / layout.tp / layout.pp


def collective_seconds(arch: Architecture, gpu: Gpu, layout: Layout, *, bound: bool) -> float:
    """Seconds per token of the all-reduces, one after each mixer and each MLP.

    Each rank sends 2 (tp - 1) / tp of hidden x bytes over min(links, tp - 1) links. A number has two bytes;
    the bound assumes 4 bits (quick reduce with INT4, VLLM_ROCM_QUICK_REDUCE_QUANTIZATION). Latency is left
    out.
    """
    if layout.tp == 1:
        return 0.0
    sent = 2 * (layout.tp - 1) / layout.tp * arch.hidden_size * (0.5 if bound else 2.0)
    links = min(gpu.links, layout.tp - 1)
    return arch.sublayers / layout.pp * sent / (links * gpu.link_bytes_per_s)


def _attended(arch: Architecture, ratios: tuple[int, ...]) -> list[tuple[float, float, KvGroup]]:
    """Layers with the tokens they attend to: (layers, limit, group); fractions for compressed layers.

    Args:
        arch: the model.
        ratios: compression ratios of the layers that count, of `compress_ratios`.
    """
    topk = arch.index_topk or ALL
    if arch.compress_ratios:
        group, indexed = arch.kv_groups[0], set(arch.indexed_ratios)
        full = sum(1 / ratio for ratio in ratios if ratio > 0 and ratio not in indexed)
        chosen = [(ratios.count(ratio) / ratio, topk * ratio, group) for ratio in sorted(indexed)]
        windows = float(arch.num_layers if ratios == arch.stored_ratios else len(ratios))
        return [(full, ALL, group), *chosen, (windows, float(arch.sliding_window or ALL), group)]
    left = 0
    if arch.index_topk:
        left = arch.num_layers if arch.mla else arch.indexer_layers
    attended = []
    for group in arch.kv_groups:
        sparse = min(left, group.layers) if group.attends is None else 0
        left -= sparse
        attended += [
            (float(group.layers - sparse), float(group.attends or ALL), group),
            (float(sparse), topk, group),
        ]
    return attended


def _merged(terms: list[Term]) -> list[Term]:
    """Add up terms with the same limit, and drop zero terms."""
    limits = sorted({term.limit for term in terms})
    summed = [Term(sum(t.each for t in terms if t.limit == limit), limit) for limit in limits]
    return [term for term in summed if term.each]
