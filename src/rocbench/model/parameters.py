"""Count a model's parameters from its config, sorted by how vLLM spreads them over GPUs. Pure.

Counts are exact for the published architecture where this code knows it: each matrix, bias and norm as the
model's vLLM implementation declares them (v0.33.0, vllm/model_executor/models and vllm/models). The unit is
parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rocbench.model import attention_parameters as attention
from rocbench.model.hfconfig import Fields, moe_layers

NO_SHARED_EXPERTS = {"minimax_m2"}
ALWAYS_TIED = ("gemma", "cohere")
"""Kinds whose configs leave `tie_word_embeddings` out where it is true (vLLM v0.33.0 gemma3.py, commandr.py assert it)."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parameters of a whole model. Each field is one way of being spread over ranks."""

    embedding: float = 0.0
    """Token embedding. vLLM splits the vocabulary over tensor-parallel ranks."""
    head: float = 0.0
    """Output projection, split likewise; 0 where it is the embedding."""
    attention: float = 0.0
    """Projections with a dimension of query heads, and linear-attention layers: split over ranks."""
    kv_projection: float = 0.0
    """Key and value projections: split over KV heads, copied where there are fewer heads than ranks."""
    attention_replicated: float = 0.0
    """MLA down-projections (q_a, kv_a), compressors: a whole copy on each rank."""
    indexer: float = 0.0
    """Sparse-attention indexer: a whole copy on each rank."""
    dense_mlp: float = 0.0
    routed_experts: float = 0.0
    shared_experts: float = 0.0
    router: float = 0.0
    """Gate with its bias, projections into and out of a latent expert space: a whole copy on each rank."""
    norms: float = 0.0
    """Norms and other vectors: a whole copy on each rank."""
    mtp: float = 0.0
    """Multi-token-prediction layers, not loaded unless speculation asks for them."""
    mtp_experts: float = 0.0
    """The routed experts among `mtp`."""
    vision: float = 0.0

    @property
    def total(self) -> float:
        """Language-model parameters: all but `mtp` and `vision`."""
        left_out = ("mtp", "mtp_experts", "vision")
        return float(sum(getattr(self, f.name) for f in fields(self) if f.name not in left_out))


def count(config: Fields, head_dim: int, kv_heads: int) -> Parts:
    """Count the language model and its vision tower.

    Args:
        config: fields of the config.
        head_dim: of q, k and v; not used with MLA.
        kv_heads: of the published architecture, before any replication.

    Raises:
        ConfigError: an indispensable field is missing.
    """
    hidden, layers = config.need("hidden_size"), config.need("num_hidden_layers")
    embedding = config.need("vocab_size") * hidden
    sparse = moe_layers(config, layers) if experts(config) else 0
    attended = _attention(config, layers, head_dim, kv_heads)
    one = attended[-1][1]
    index = attention.indexer_layers(config, layers) * (one.indexer or attention.block_sparse_indexer(config))
    if attention.compress_ratios(config, layers):
        index = sum(n * layer.indexer for n, layer in attended)
    mlp = _dense(config, hidden) if sparse < layers else 0
    routed, shared, router = _moe(config, hidden) if sparse else (0, 0, 0)
    extra_layer, extra_once = _residual_mixing(config, hidden)
    nextn = mtp_layers(config)
    mtp = one.split + one.kv + one.copied + one.indexer + one.norms + (shared + router if sparse else mlp)
    mtp += (
        2 * hidden * hidden + 5 * hidden
    )  # eh_proj, and the norms of both its inputs, the layer and the end
    return Parts(
        embedding=embedding,
        head=0 if tied(config) else embedding,
        attention=sum(n * layer.split for n, layer in attended),
        kv_projection=sum(n * layer.kv for n, layer in attended),
        attention_replicated=sum(n * layer.copied for n, layer in attended),
        indexer=index,
        dense_mlp=(layers - sparse) * mlp,
        routed_experts=sparse * routed,
        shared_experts=sparse * shared,
        router=sparse * router,
        norms=sum(n * layer.norms for n, layer in attended)
        + layers * (2 * hidden + extra_layer)
        + hidden
        + extra_once,
        mtp=nextn * (mtp + routed),
        mtp_experts=nextn * routed,
        vision=vision(config) or 0,
    )


def _attention(
    config: Fields, layers: int, head_dim: int, kv_heads: int
) -> list[tuple[int, attention.Layer]]:
    """(how many, one layer) of each kind; the full-attention kind last."""
    ratios = attention.compress_ratios(config, layers)
    if ratios:
        return [(ratios.count(ratio), attention.compressed(config, ratio)) for ratio in sorted(set(ratios))]
    linear = min(attention.linear_layers(config), layers)
    latent = config.number("kv_lora_rank")
    full = attention.mla(config) if latent else attention.gqa(config, head_dim, kv_heads)
    known = config.number("linear_num_value_heads") or config.raw("linear_attn_config")
    kinds = [(linear, attention.linear(config) if known else full)] if linear else []
    return [*kinds, (layers - linear, full)]


def tied(config: Fields) -> bool:
    """Whether the output projection is the embedding."""
    kind = str(config.raw("model_type") or "")
    return config.flag("tie_word_embeddings", default=kind.startswith(ALWAYS_TIED))


def experts(config: Fields) -> int | None:
    """Routed experts of a layer, under the names vLLM knows (transformers_utils/config.py, v0.33.0), or None."""
    number = config.number("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
    return number or None


def experts_per_token(config: Fields) -> int:
    """Routed experts that each token visits."""
    return config.need(
        "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "top_k_experts"
    )


def expert_width(config: Fields) -> int:
    """Intermediate size of one routed expert."""
    return config.need("moe_intermediate_size", "intermediate_size")


def shared_width(config: Fields) -> int:
    """Intermediate size of all shared experts of a layer together; 0 where there are none."""
    if config.raw("model_type") in NO_SHARED_EXPERTS:
        return 0
    direct = config.number("shared_expert_intermediate_size", "shared_intermediate_size")
    number = config.number("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
    if direct:
        return direct * (number or 1)
    return (number or 0) * expert_width(config)


def mtp_layers(config: Fields) -> int:
    """Multi-token-prediction layers that the checkpoint has."""
    if (
        config.raw("model_type") in NO_SHARED_EXPERTS
    ):  # MiniMax M2 names modules that it was published without
        return 0
    names = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers")
    return config.number(*names) or 0


def _dense(config: Fields, hidden: int) -> int:
    width = config.need(
        "dense_intermediate_size", "intermediate_size", "ffn_hidden_size", "moe_intermediate_size"
    )
    return 3 * hidden * width + (2 * width + hidden if config.flag("mlp_bias") else 0)


def _moe(config: Fields, hidden: int) -> tuple[int, int, int]:
    """(routed experts, shared experts, router) of one layer."""
    number, width = experts(config) or 0, expert_width(config)
    latent = config.number("routed_expert_hidden_size")
    each, router = 3 * (latent or hidden) * width, hidden * number
    if latent:
        router += 2 * hidden * latent + (latent if config.flag("latent_moe_use_norm") else 0)
    if config.raw("model_type") == "gpt_oss":
        each, router = each + 2 * width + hidden, router + number  # biases
    corrected = config.raw("topk_method") == "noaux_tc" or config.flag("use_routing_bias")
    router += number if corrected else 0
    shared = 3 * hidden * shared_width(config)
    if shared and config.number("shared_expert_intermediate_size"):
        shared += hidden  # sigmoid gate of the shared expert
    return number * each, shared, router


def _residual_mixing(config: Fields, hidden: int) -> tuple[int, int]:
    """(per layer, once) vectors of wider residual streams: V4's hyper-connections, K3's attention residuals."""
    streams = config.number("hc_mult")
    if streams:
        mix = (2 + streams) * streams
        return 2 * (mix * streams * hidden + mix + 3), streams * streams * hidden + streams + 1
    if config.number("attn_res_block_size"):
        return 4 * hidden, 2 * hidden
    return 0, 0


def vision(config: Fields) -> int | None:
    """Parameters of the vision tower with its projector; None where the config does not say enough.

    A tower of plain ViT blocks with biases: patch embedding, positions, per block qkv, projection, a two-matrix
    MLP and two norms; a merger of `merge` x `merge` patches, and Qwen3-VL's deepstack mergers
    (vLLM v0.33.0 qwen2_vl.py, qwen3_vl.py, kimi_k25_vit.py).
    """
    tower = config.outer.get("vision_config")
    if not isinstance(tower, Mapping):
        return 0
    depth = _first(tower, "depth", "vt_num_hidden_layers", "num_hidden_layers")
    width = _first(tower, "embed_dim", "vt_hidden_size", "hidden_size")
    inner = _first(tower, "vt_intermediate_size", "intermediate_size")
    if inner is None and width is not None and _first(tower, "mlp_ratio"):
        inner = int(width * _first(tower, "mlp_ratio"))
    if depth is None or width is None or inner is None:
        return None
    patch, frames = _first(tower, "patch_size") or 14, _first(tower, "temporal_patch_size") or 1
    out = _first(tower, "out_hidden_size", "text_hidden_size") or config.need("hidden_size")
    qkv = _first(tower, "qkv_hidden_size") or width
    block = 4 * width * qkv + 3 * qkv + width + 2 * width * inner + inner + width + 4 * width
    merged = width * merge(tower) ** 2
    merger = merged * merged + merged + merged * out + out + 2 * width
    mergers = 1 + len(tower.get("deepstack_visual_indexes") or ())
    grid = (_first(tower, "init_pos_emb_height") or 0) * (_first(tower, "init_pos_emb_width") or 0)
    positions = _first(tower, "num_position_embeddings") or grid
    return int(depth * block + 3 * frames * patch * patch * width + positions * width + mergers * merger)


def merge(tower: Mapping[str, Any]) -> int:
    """Side of the square of patches that becomes one token."""
    kernel = tower.get("merge_kernel_size")
    return int(kernel[0]) if kernel else int(tower.get("spatial_merge_size") or 1)


def _first(tower: Mapping[str, Any], *names: str) -> Any:
    return next((tower[name] for name in names if tower.get(name) is not None), None)
