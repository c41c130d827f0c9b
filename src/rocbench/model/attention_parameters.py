"""Count the parameters of one attention layer of each kind. Pure.

Each count follows the projections that the model's vLLM implementation declares (v0.33.0): llama.py,
deepseek_v2.py, gpt_oss.py, minimax_m2.py, qwen3_next.py, models/deepseek_v4, models/kimi_k3, models/minimax_m3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rocbench.model.hfconfig import Fields
from rocbench.model.layers import Block

SHARING = ("deepseek_v41", "deepseek_v41_text")
"""Model types whose layers share caches and indexers."""
COMPRESSED_RATIOS, SHARED_RATIOS = (0, 4, 128), (0, 1, 2)
"""Compression ratios of DeepSeek V4 and V4.1 (vLLM v0.33.0 models/deepseek_v4/compressor.py, deepseek_v41/attention.py:326)."""
INDEXED_RATIO = 4
"""DeepSeek V4 layers of this compression ratio have an indexer, and a compressor that overlaps its windows."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Parameters of one attention layer, by their distribution in vLLM (see `parameters.Parts`)."""

    split: int = 0
    kv: int = 0
    copied: int = 0
    indexer: int = 0
    norms: int = 0


def grouped(config: Fields, block: Block) -> Layer:
    """Grouped-query (or multi-head, multi-query) attention."""
    hidden, kind = config.need("hidden_size"), config.kind
    query, key, value = block.heads * block.key, block.kv_heads * block.key, block.kv_heads * block.value
    split = hidden * query + block.heads * block.value * hidden
    split += hidden * _gate(config, block)
    kv = hidden * (key + (value if block.values else 0))
    if config.switch(kind.qkv_bias) or config.flag("qkv_bias"):
        split, kv = split + query, kv + key + (value if block.values else 0)
    split += hidden if config.switch(kind.out_bias) else 0
    sinks = "add_swa_attention_sink_bias" if block.mixer == "sliding" else "add_full_attention_sink_bias"
    if kind.sinks or config.flag(sinks):
        split += block.heads
    return Layer(split=split, kv=kv, norms=_head_norms(config, block))


def _gate(config: Fields, block: Block) -> int:
    """Number of columns of the projection that gates the attention's output."""
    numbers, heads = block.heads * block.value, block.heads
    if not config.kind.gate:
        return heads if config.flag("use_head_wise_attn_gate") else 0
    if not config.flag("attn_output_gate", True):
        return 0
    return numbers if config.kind.gate == "numbers" else heads


def _head_norms(config: Fields, block: Block) -> int:
    """Parameters of the norms of q and k."""
    kind, query, key = config.kind, block.heads * block.key, block.kv_heads * block.key
    if kind.qk_norm_flag and not config.flag(kind.qk_norm_flag):
        return 0
    config.raw("qk_norm_type", "use_qk_norm")
    per_head = config.raw("qk_norm_type") == "per_head"
    match "head" if per_head else kind.qk_norm:
        case "head":
            return 2 * block.key
        case "whole" | "heads":
            return query + key
    return 0


def mla(config: Fields) -> Layer:
    """Multi-head latent attention, with any indexer: q_a, q_b, kv_a, kv_b, o (and K3's gate)."""
    hidden, heads = config.need("hidden_size"), config.need("num_attention_heads")
    latent, value = config.need("kv_lora_rank"), config.need("v_head_dim")
    nope, rope = config.need("qk_nope_head_dim"), config.number("qk_rope_head_dim") or 0
    rank = config.number("q_lora_rank")
    split = latent * heads * (nope + value) + heads * value * hidden
    split += (rank or hidden) * heads * (nope + rope)
    split += hidden * heads * value if config.flag("mla_use_output_gate") else 0
    copied = hidden * (latent + rope) + hidden * (rank or 0)
    return Layer(split=split, copied=copied, indexer=indexer(config), norms=latent + (rank or 0))


def compressed_layers(config: Fields, layers: int) -> list[Layer]:
    """The layers of DeepSeek V4 or V4.1, by ascending compression ratio."""
    ratios = compress_ratios(config, layers)
    by_ratio = sorted(range(len(ratios)), key=lambda layer: ratios[layer])
    caches, indexers = _sources(config, "kv"), _sources(config, "index")
    if caches is None or indexers is None:
        return [_compressed(config, ratios[layer]) for layer in by_ratio]
    return [
        _shared(config, ratios[layer], caches=layer in caches, indexes=layer in indexers)
        for layer in by_ratio
    ]


def _sources(config: Fields, kind: str) -> list[int] | None:
    """Layers of DeepSeek V4.1 that have a compressed cache ("kv") or an indexer ("index"); the layers above them share it.

    Source: vLLM v0.33.0 models/deepseek_v41/attention.py:313-361, 441-470, 588-606.
    """
    listed = config.listed(f"{kind}_source_layer_ids")
    if config.model_type not in SHARING:
        return None
    for name in ("candidate_source_layer_id", "candidate_topk_blocks", "candidate_block_size"):
        config.raw(name)  # a first choice of entries, without parameters or a cache
    ratios = config.listed("compress_ratios") or []
    first = next((layer for layer, ratio in enumerate(ratios) if ratio), None)
    if listed is None and first is not None:
        config.doubt(f"{kind}_source_layer_ids", "is not given")
    elif any(layer not in range(len(ratios)) or not ratios[layer] for layer in listed or ()):
        config.doubt(f"{kind}_source_layer_ids", "names a layer without a compression ratio")
    elif first is not None and first not in (listed or ()):
        config.doubt(f"{kind}_source_layer_ids", "leaves out the first layer with a compression ratio")
    return listed or []


def _projections(config: Fields) -> Layer:
    """Projections of a DeepSeek V4 or V4.1 layer: one shared KV head, grouped output projection, a sink for each head."""
    hidden, heads = config.need("hidden_size"), config.need("num_attention_heads")
    rank, out_rank, dim = config.need("q_lora_rank"), config.need("o_lora_rank"), config.need("head_dim")
    split = rank * heads * dim + heads * dim * out_rank + config.need("o_groups") * out_rank * hidden
    return Layer(split=split, copied=hidden * (rank + dim), norms=rank + dim + heads)


def _shared(config: Fields, ratio: int, *, caches: bool, indexes: bool) -> Layer:
    """DeepSeek V4.1: a compressor only in layers with a cache, an indexer only in layers that choose entries."""
    hidden, dim, index, pooled = config.need("hidden_size"), config.need("head_dim"), 0, 0
    if caches:
        pooled = hidden * dim * (2 if ratio > 1 else 1) + dim
    if indexes:
        heads, index_dim = config.need("index_n_heads"), config.need("index_head_dim")
        index = config.need("q_lora_rank") * heads * index_dim + hidden * heads
        index += (dim + 1) * index_dim if caches else 0
    plain = _projections(config)
    return replace(plain, copied=plain.copied + pooled, indexer=index)


def _compressed(config: Fields, ratio: int) -> Layer:
    """DeepSeek V4: a compressor in each layer with a ratio, an indexer at ratio 4."""
    hidden, rank, dim = config.need("hidden_size"), config.need("q_lora_rank"), config.need("head_dim")
    plain, index = _projections(config), 0
    pooled = _compressor(hidden, dim, ratio) if ratio > 1 else 0
    if ratio == INDEXED_RATIO:
        index_heads, index_dim = config.need("index_n_heads"), config.need("index_head_dim")
        index = rank * index_heads * index_dim + hidden * index_heads + _compressor(hidden, index_dim, ratio)
    return replace(plain, copied=plain.copied + pooled, indexer=index)


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


def indexer(config: Fields) -> int:
    """One layer's sparse-attention indexer: wq_b, wk, k_norm (weight and bias), weights_proj; 0 without one."""
    if not config.number("index_topk"):
        return 0
    heads, dim = config.need("index_n_heads"), config.need("index_head_dim")
    hidden = config.need("hidden_size")
    return (config.number("q_lora_rank") or hidden) * heads * dim + hidden * dim + 2 * dim + hidden * heads


def indexer_layers(config: Fields, layers: int) -> int:
    """Number of layers with their own indexer; the others reuse an earlier layer's choice.

    Layer i reuses it if `index_topk_pattern[i]` is "S", or else if `max(i - offset + 1, 0) % freq` is not 0
    (vLLM v0.33.0 models/deepseek_v2.py:1145-1156). GLM-5.2 has 21 of 78 by `indexer_types`.
    """
    sparse = config.raw("sparse_attention_config")
    if isinstance(sparse, Mapping):
        return sum(1 for on in sparse.get("sparse_attention_freq", ()) if on)
    if not config.number("index_topk"):
        return 0
    if compress_ratios(config, layers):
        return len(indexed_ratios(config, layers))
    types = config.listed("indexer_types")
    if types is not None:
        full = sum(1 for kind in types[:layers] if kind == "full")
        if config.raw("index_topk_freq", "index_skip_topk_offset") and _spaced(config, layers) != full:
            config.doubt("index_topk_freq", "contradicts indexer_types")
        if any(kind not in ("full", "shared") for kind in types):
            config.doubt("indexer_types", "has unknown words")
        return full
    pattern = config.raw("index_topk_pattern")
    if pattern is not None:
        return sum(1 for layer in range(layers) if layer >= len(pattern) or pattern[layer] != "S")
    return _spaced(config, layers)


def _spaced(config: Fields, layers: int) -> int:
    every, offset = config.number("index_topk_freq") or 1, config.number("index_skip_topk_offset")
    offset = 2 if offset is None else offset
    return sum(1 for layer in range(layers) if max(layer - offset + 1, 0) % every == 0)


def compress_ratios(config: Fields, layers: int) -> tuple[int, ...]:
    """DeepSeek V4: tokens per cache entry of each layer; 0 keeps the sliding window only."""
    ratios = config.listed("compress_ratios")
    if not ratios:
        return ()
    if len(ratios) < layers:
        config.doubt("compress_ratios", f"has {len(ratios)} entries for {layers} layers")
    known = SHARED_RATIOS if config.model_type in SHARING else COMPRESSED_RATIOS
    unknown = sorted({ratio for ratio in ratios[:layers] if ratio not in known}, key=str)
    if unknown:
        config.doubt("compress_ratios", f"has unknown ratios: {', '.join(map(str, unknown))}")
    return tuple(int(ratio) for ratio in ratios[:layers])


def stored_ratios(config: Fields, layers: int) -> tuple[int, ...]:
    """Tokens per cache entry of each layer that stores compressed entries of its own."""
    ratios, caches = compress_ratios(config, layers), _sources(config, "kv")
    return tuple(
        ratio for layer, ratio in enumerate(ratios) if ratio > 0 and (caches is None or layer in caches)
    )


def indexed_ratios(config: Fields, layers: int) -> tuple[int, ...]:
    """Tokens per key of each indexer with a cache of its own."""
    ratios, caches = compress_ratios(config, layers), _sources(config, "kv")
    if caches is None:
        return tuple(ratio for ratio in ratios if ratio == INDEXED_RATIO)
    owned = [layer for layer in _sources(config, "index") or () if layer in caches]
    return tuple(ratios[layer] for layer in owned if layer < len(ratios) and ratios[layer])


def prompt_layers(config: Fields, layers: int) -> int:
    """Layers that every prompt token passes; 0 if all do.

    From the last cache of DeepSeek V4.1 on, only the last tokens of a prompt pass the layers (vLLM v0.33.0
    models/deepseek_v41/decoder_replay_layers.py, amd/model.py:578-605).
    """
    caches = [layer for layer in _sources(config, "kv") or () if 0 < layer < layers]
    return max(caches) if caches else 0
