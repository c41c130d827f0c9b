"""Count a model's parameters from its config, sorted by how vLLM spreads them over GPUs. Pure.

Counts are exact for the published architecture where this code knows it: each matrix, bias and norm as the
model's vLLM implementation declares them (vllm/model_executor/models/*.py, v0.33.0). The unit is parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from rocbench.hfconfig import Fields, moe_layers

QKV_BIAS = {"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_vl_text", "qwen2_5_vl_text", "gpt_oss"}
"""Families whose q, k and v projections have a bias that the config does not mention."""
HEAD_NORM = {"qwen3", "qwen3_moe", "qwen3_vl_text", "qwen3_vl_moe_text", "qwen3_vl", "qwen3_vl_moe"}
"""Families that normalise q and k per head."""
NO_SHARED_EXPERTS = {"minimax_m2"}


@dataclass(frozen=True, slots=True)
class Parts:
    """Parameters of a whole model. Each field is one way of being spread over ranks."""

    embedding: float = 0.0
    """Token embedding. vLLM splits the vocabulary over tensor-parallel ranks."""
    head: float = 0.0
    """Output projection, split likewise; 0 where it is the embedding."""
    attention: float = 0.0
    """Projections with a dimension of query heads: split over ranks."""
    kv_projection: float = 0.0
    """Key and value projections: split over KV heads, copied where there are fewer heads than ranks."""
    attention_replicated: float = 0.0
    """MLA down-projections (q_a, kv_a): a whole copy on each rank."""
    indexer: float = 0.0
    """Sparse-attention indexer: a whole copy on each rank."""
    linear_attention: float = 0.0
    """Linear-attention layers of hybrids: split over heads."""
    dense_mlp: float = 0.0
    routed_experts: float = 0.0
    shared_experts: float = 0.0
    router: float = 0.0
    """Gate and its correction bias: a whole copy on each rank."""
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
    """Count a transformer with GQA or MLA attention and dense or MoE layers.

    Args:
        config: fields of the config.
        head_dim: of q, k and v; not used with MLA.
        kv_heads: of the published architecture, before any replication.

    Raises:
        ConfigError: an indispensable field is missing.
    """
    hidden, layers, vocab = (
        config.need("hidden_size"),
        config.need("num_hidden_layers"),
        config.need("vocab_size"),
    )
    sparse = moe_layers(config, layers) if experts(config) else 0
    dense = layers - sparse
    attention = _mla(config, hidden) if config.number("kv_lora_rank") else _gqa(config, head_dim, kv_heads)
    heads, kv, copied, small = attention
    index = indexer_layers(config, layers) * indexer(config, hidden)
    mlp = 3 * hidden * config.need("intermediate_size", "ffn_hidden_size") if dense else 0
    dense_size = config.number("dense_intermediate_size")
    if dense_size:
        mlp = 3 * hidden * dense_size
    mlp_bias = (2 * mlp // (3 * hidden) + hidden) if dense and config.flag("mlp_bias") else 0
    routed, shared, router = _moe(config, hidden) if sparse else (0, 0, 0)
    norms = 2 * hidden + small
    nextn = mtp_layers(config)
    mtp_router, mtp_routed = (router, routed) if sparse else (0, 0)
    mtp_mlp = shared if sparse else mlp
    mtp_index = indexer(config, hidden)
    mtp_rest = heads + kv + copied + mtp_index + mtp_mlp + mtp_router + norms + 2 * hidden * hidden + 3 * hidden
    return Parts(
        embedding=vocab * hidden,
        head=0 if config.flag("tie_word_embeddings") else vocab * hidden,
        attention=layers * heads,
        kv_projection=layers * kv,
        attention_replicated=layers * copied,
        indexer=index,
        dense_mlp=dense * (mlp + mlp_bias),
        routed_experts=sparse * routed,
        shared_experts=sparse * shared,
        router=sparse * router,
        norms=layers * norms + hidden,
        mtp=nextn * (mtp_rest + mtp_routed),
        mtp_experts=nextn * mtp_routed,
    )


def experts(config: Fields) -> int | None:
    """Routed experts of a layer, under the names vLLM knows (transformers_utils/config.py, v0.33.0), or None."""
    number = config.number("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
    return number or None


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
    """Multi-token-prediction layers in the checkpoint."""
    names = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers")
    return config.number(*names) or 0


def indexer_layers(config: Fields, layers: int) -> int:
    """Layers with an indexer of their own; the others reuse an earlier layer's choice.

    Layer i reuses where `index_topk_pattern[i]` is "S", or else where `max(i - offset + 1, 0) % freq` is not 0
    (vLLM v0.33.0 models/deepseek_v2.py:1145-1156). `indexer_types` names layers "full" or "shared".
    """
    if not config.number("index_topk"):
        return 0
    types = config.listed("indexer_types")
    if types is not None:
        return sum(1 for kind in types[:layers] if kind == "full")
    pattern = config.raw("index_topk_pattern")
    if pattern is not None:
        return sum(1 for layer in range(layers) if layer >= len(pattern) or pattern[layer] != "S")
    every = config.number("index_topk_freq") or 1
    offset = config.number("index_skip_topk_offset")
    offset = 2 if offset is None else offset
    return sum(1 for layer in range(layers) if max(layer - offset + 1, 0) % every == 0)


def indexer(config: Fields, hidden: int) -> int:
    """Parameters of one layer's indexer: wq_b, wk, k_norm (weight and bias), weights_proj."""
    if not config.number("index_topk"):
        return 0
    heads, dim = config.number("index_n_heads") or 0, config.number("index_head_dim") or 0
    query = config.number("q_lora_rank") or hidden
    return query * heads * dim + hidden * dim + 2 * dim + hidden * heads


def _gqa(config: Fields, head_dim: int, kv_heads: int) -> tuple[int, int, int, int]:
    """(q and o, k and v, replicated, norms) of one layer."""
    hidden, heads = config.need("hidden_size"), config.need("num_attention_heads")
    kind = config.raw("model_type")
    query, key = heads * head_dim, kv_heads * head_dim
    out_bias = config.flag("attention_bias") or kind == "gpt_oss"
    in_bias = config.flag("attention_bias") or config.flag("qkv_bias") or kind in QKV_BIAS
    split = 2 * hidden * query + (query if in_bias else 0) + (hidden if out_bias else 0)
    split += heads if kind == "gpt_oss" else 0  # one attention sink per head
    kv = 2 * hidden * key + (2 * key if in_bias else 0)
    norms = 2 * head_dim if kind in HEAD_NORM or config.raw("qk_norm_type") == "per_head" else 0
    if config.flag("use_qk_norm") and not norms:
        norms = query + key if kind == "minimax_m2" else 2 * head_dim
    return split, kv, 0, norms


def _mla(config: Fields, hidden: int) -> tuple[int, int, int, int]:
    """(q_b, kv_b and o, 0, q_a and kv_a, norms) of one layer."""
    heads, latent = config.need("num_attention_heads"), config.need("kv_lora_rank")
    nope, value = config.need("qk_nope_head_dim"), config.need("v_head_dim")
    rope = config.number("qk_rope_head_dim") or 0
    query_rank = config.number("q_lora_rank")
    split = latent * heads * (nope + value) + heads * value * hidden
    copied, norms = hidden * (latent + rope), latent
    if query_rank:
        split += query_rank * heads * (nope + rope)
        copied, norms = copied + hidden * query_rank, norms + query_rank
    else:
        split += hidden * heads * (nope + rope)
    return split, 0, copied, norms


def _moe(config: Fields, hidden: int) -> tuple[int, int, int]:
    """(routed experts, shared experts, router) of one layer."""
    number, width = experts(config) or 0, expert_width(config)
    each, router = 3 * hidden * width, hidden * number
    if config.raw("model_type") == "gpt_oss":
        each, router = each + 2 * width + hidden, router + number  # biases
    corrected = config.raw("topk_method") == "noaux_tc" or config.flag("use_routing_bias")
    router += number if corrected else 0
    shared = 3 * hidden * shared_width(config)
    if shared and config.number("shared_expert_intermediate_size"):
        shared += hidden  # sigmoid gate of the shared expert
    return number * each, shared, router
