"""Count the parameters of one attention layer of each kind, and how many layers are of which kind. Pure.

Each count follows the projections that the model's vLLM implementation declares (v0.33.0): llama.py,
deepseek_v2.py, gpt_oss.py, minimax_m2.py, qwen3_next.py, models/deepseek_v4, models/kimi_k3, models/minimax_m3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rocbench.model.hfconfig import Fields

QKV_BIAS = {"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_vl_text", "qwen2_5_vl_text", "gpt_oss"}
"""Families whose q, k and v projections have a bias that the config does not mention."""
HEAD_NORM = {
    *("qwen3", "qwen3_moe", "qwen3_vl", "qwen3_vl_text", "qwen3_vl_moe", "qwen3_vl_moe_text"),
    *("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"),
}
"""Families that normalise q and k per head."""
OUTPUT_GATE = {"qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"}
"""Families whose q projection also gives a gate of the attention's output, unless the config says no."""
MAMBA = ("mamba_d_state", "mamba_n_heads", "mamba_num_heads", "ssm_state_size")
"""Fields of models with Mamba layers."""
INDEXED_RATIO = 4
"""DeepSeek V4 layers of this compression ratio have an indexer, and a compressor that overlaps its windows."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Parameters of one attention layer by how vLLM spreads them (see `parameters.Parts`)."""

    split: int = 0
    kv: int = 0
    copied: int = 0
    indexer: int = 0
    norms: int = 0


def gqa(config: Fields, head_dim: int, kv_heads: int) -> Layer:
    """Grouped-query (or multi-head, multi-query) attention."""
    hidden, heads = config.need("hidden_size"), config.need("num_attention_heads")
    kind = str(config.raw("model_type"))
    query, key = heads * head_dim, kv_heads * head_dim
    gate = 1 if kind in OUTPUT_GATE and config.flag("attn_output_gate", True) else 0
    biased = config.flag("attention_bias")
    split = (2 + gate) * hidden * query
    split += query if biased or config.flag("qkv_bias") or kind in QKV_BIAS else 0
    split += hidden if biased or kind == "gpt_oss" else 0
    split += heads if kind == "gpt_oss" else 0  # one attention sink per head
    kv = 2 * hidden * key
    kv += 2 * key if biased or config.flag("qkv_bias") or kind in QKV_BIAS else 0
    if kind in HEAD_NORM or config.raw("qk_norm_type") == "per_head":
        norms = 2 * head_dim
    elif config.flag("use_qk_norm"):
        norms = query + key if kind == "minimax_m2" else 2 * head_dim
    else:
        norms = 0
    return Layer(split=split, kv=kv, norms=norms)


def mla(config: Fields) -> Layer:
    """Multi-head latent attention with its indexer, if it has one: q_a, q_b, kv_a, kv_b, o (and K3's gate)."""
    hidden, heads = config.need("hidden_size"), config.need("num_attention_heads")
    latent, value = config.need("kv_lora_rank"), config.need("v_head_dim")
    nope, rope = config.need("qk_nope_head_dim"), config.number("qk_rope_head_dim") or 0
    rank = config.number("q_lora_rank")
    split = latent * heads * (nope + value) + heads * value * hidden
    split += (rank or hidden) * heads * (nope + rope)
    split += hidden * heads * value if config.flag("mla_use_output_gate") else 0
    copied = hidden * (latent + rope) + hidden * (rank or 0)
    return Layer(split=split, copied=copied, indexer=indexer(config), norms=latent + (rank or 0))


def compressed(config: Fields, ratio: int) -> Layer:
    """DeepSeek V4 attention: one shared KV head, grouped output projection, compressor, indexer at ratio 4."""
    hidden, heads = config.need("hidden_size"), config.need("num_attention_heads")
    rank, out_rank, dim = config.need("q_lora_rank"), config.need("o_lora_rank"), config.need("head_dim")
    groups = config.need("o_groups")
    split = rank * heads * dim + heads * dim * out_rank + groups * out_rank * hidden
    copied = hidden * (rank + dim)
    copied += _compressor(hidden, dim, ratio) if ratio > 1 else 0
    index = 0
    if ratio == INDEXED_RATIO:
        index_heads, index_dim = config.need("index_n_heads"), config.need("index_head_dim")
        index = rank * index_heads * index_dim + hidden * index_heads + _compressor(hidden, index_dim, ratio)
    return Layer(split=split, copied=copied, indexer=index, norms=rank + dim + heads)


def _compressor(hidden: int, dim: int, ratio: int) -> int:
    """Weights that pool `ratio` tokens into one entry: kv and gate projections, positions, norm."""
    width = dim * (2 if ratio == INDEXED_RATIO else 1)
    return 2 * hidden * width + ratio * width + dim


def block_sparse_indexer(config: Fields) -> int:
    """MiniMax M3's block indexer of one layer: index_q, index_k and their norms; 0 without one."""
    sparse = config.raw("sparse_attention_config")
    if not isinstance(sparse, Mapping):
        return 0
    heads, dim = int(sparse["sparse_num_index_heads"]), int(sparse["sparse_index_dim"])
    return config.need("hidden_size") * dim * (heads + 1) + 2 * dim


def linear(config: Fields) -> Layer:
    """A linear-attention layer: gated delta net (Qwen3-Next, Qwen3.5) or Kimi delta attention (K3)."""
    hidden = config.need("hidden_size")
    settings = config.raw("linear_attn_config")
    if isinstance(settings, Mapping):
        heads, dim = int(settings["num_heads"]), int(settings["head_dim"])
        width = heads * dim
        gate = hidden * width if settings.get("use_full_rank_gate") else hidden * dim + dim * width
        forget = hidden * dim + dim * width
        kernel = int(settings.get("short_conv_kernel_size", 4))
        vectors = hidden * heads + width + heads + 3 * width * kernel + dim
        return Layer(split=4 * hidden * width + gate + forget + vectors)
    heads, key_heads = config.need("linear_num_value_heads"), config.need("linear_num_key_heads")
    value = heads * config.need("linear_value_head_dim")
    mixed = 2 * key_heads * config.need("linear_key_head_dim") + value
    kernel = config.number("linear_conv_kernel_dim") or 4
    split = hidden * (mixed + value) + value * hidden + 2 * hidden * heads + mixed * kernel + 2 * heads
    return Layer(split=split, norms=config.need("linear_value_head_dim"))


def linear_state(config: Fields) -> int:
    """Numbers that one sequence keeps per linear-attention layer: recurrent state and convolution window."""
    settings = config.raw("linear_attn_config")
    if isinstance(settings, Mapping):
        heads, dim = int(settings["num_heads"]), int(settings["head_dim"])
        kernel = int(settings.get("short_conv_kernel_size", 4))
        return heads * dim * dim + 3 * heads * dim * (kernel - 1)
    value_heads = config.number("linear_num_value_heads")
    if not value_heads:
        return 0
    key, value = config.need("linear_key_head_dim"), config.need("linear_value_head_dim")
    mixed = 2 * config.need("linear_num_key_heads") * key + value_heads * value
    return value_heads * key * value + mixed * ((config.number("linear_conv_kernel_dim") or 4) - 1)


def indexer(config: Fields) -> int:
    """One layer's sparse-attention indexer: wq_b, wk, k_norm (weight and bias), weights_proj; 0 without one."""
    if not config.number("index_topk"):
        return 0
    heads, dim = config.need("index_n_heads"), config.need("index_head_dim")
    hidden = config.need("hidden_size")
    return (config.number("q_lora_rank") or hidden) * heads * dim + hidden * dim + 2 * dim + hidden * heads


def indexer_layers(config: Fields, layers: int) -> int:
    """Layers with an indexer of their own; the others reuse an earlier layer's choice.

    Layer i reuses where `index_topk_pattern[i]` is "S", or else where `max(i - offset + 1, 0) % freq` is not 0
    (vLLM v0.33.0 models/deepseek_v2.py:1145-1156). GLM-5.2 has 21 of 78 by `indexer_types`.
    """
    sparse = config.raw("sparse_attention_config")
    if isinstance(sparse, Mapping):
        return sum(1 for on in sparse.get("sparse_attention_freq", ()) if on)
    if not config.number("index_topk"):
        return 0
    ratios = compress_ratios(config, layers)
    if ratios:
        return sum(1 for ratio in ratios if ratio == INDEXED_RATIO)
    types = config.listed("indexer_types")
    if types is not None:
        return sum(1 for kind in types[:layers] if kind == "full")
    pattern = config.raw("index_topk_pattern")
    if pattern is not None:
        return sum(1 for layer in range(layers) if layer >= len(pattern) or pattern[layer] != "S")
    every, offset = config.number("index_topk_freq") or 1, config.number("index_skip_topk_offset")
    offset = 2 if offset is None else offset
    return sum(1 for layer in range(layers) if max(layer - offset + 1, 0) % every == 0)


def compress_ratios(config: Fields, layers: int) -> tuple[int, ...]:
    """DeepSeek V4: how many tokens become one cache entry, per layer; 0 keeps the sliding window only."""
    ratios = config.listed("compress_ratios")
    return tuple(int(ratio) for ratio in ratios[:layers]) if ratios else ()


def recurrent(config: Fields) -> bool:
    """Whether some layers keep a state: those of `linear_layers`, or a Mamba beside each attention (Falcon-H1)."""
    return linear_layers(config) > 0 or any(config.number(name) for name in MAMBA)


def linear_layers(config: Fields) -> int:
    """Layers without a KV cache: linear attention, Mamba, and what a hybrid pattern has besides.

    By `layer_types`, `hybrid_override_pattern` (Nemotron-H: `*` attends), `linear_attn_config`, or an interval:
    Jamba attends once in `attn_layer_period`.
    """
    kinds = config.listed("layer_types") or config.listed("layers_block_type")
    if kinds is not None:
        return sum(1 for kind in kinds if "linear" in str(kind) or "mamba" in str(kind))
    settings = config.raw("linear_attn_config")
    if isinstance(settings, Mapping):
        return len(settings.get("kda_layers") or ())
    pattern = config.raw("hybrid_override_pattern")
    if isinstance(pattern, str):
        return sum(1 for kind in pattern if kind != "*")
    period, layers = config.number("attn_layer_period"), config.need("num_hidden_layers")
    if period:
        first = config.number("attn_layer_offset") or 0
        return sum(1 for layer in range(layers) if layer % period != first)
    if config.number("linear_num_value_heads"):
        return layers - layers // (config.number("full_attention_interval") or 4)
    return 0
