"""Count a model's parameters from its config, grouped by their distribution over GPUs in vLLM. Pure.

Counts are exact for published architectures that this code knows: each matrix, bias and norm as the
model's vLLM implementation declares them (v0.33.0, vllm/model_executor/models and vllm/models). The unit is
parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

from rocbench.model import attention_parameters as attention
from rocbench.model import state_parameters
from rocbench.model.attention_parameters import Layer
from rocbench.model.hfconfig import ACTIVATIONS, Fields
from rocbench.model.layers import Block
from rocbench.model.mlps import experts
from rocbench.model.vision import tower_parameters

NO_SHARED_EXPERTS = {"minimax_m2"}
WITHOUT_MTP = {
    *("minimax_m2", "minimax_m3", "minimax_m3_text", "minimax_m3_vl"),
}
"""Model types whose MTP modules were not published."""
DRAFTED = ("deepseek_v4", *attention.SHARING)
DSPARK = (
    "dspark_block_size",
    "dspark_target_layer_ids",
    "dspark_markov_rank",
    "dspark_n_routed_experts",
    "dspark_num_experts_per_tok",
)
"""Fields of a DSpark drafter, which is not counted."""
ENGRAM = ("engram_max_ngram_size", "engram_n_heads", "engram_head_dim")
EXPERTS_OF_THE_WIDTH = {
    *(
        "mixtral",
        "granitemoe",
        "granitemoeshared",
        "granitemoehybrid",
        "llama4",
        "llama4_text",
        "olmoe",
        "dbrx",
    ),
    *("phimoe", "gpt_oss", "jamba", "minimax", "minimax_text_01", "minimax_m1", "minimax_m2", "minimax_m3"),
    *("minimax_m3_text", "minimax_m3_vl"),
}
"""Model types with the width of an expert in `intermediate_size`."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parameters of a whole model. Each field has one way of distribution over ranks."""

    embedding: float = 0.0
    """Token embedding. vLLM splits the vocabulary over tensor-parallel ranks."""
    head: float = 0.0
    """Output projection, split in the same way; 0 if it is the embedding."""
    attention: float = 0.0
    """Projections with a dimension of query heads, and linear-attention layers: split over ranks."""
    kv_projection: float = 0.0
    """Key and value projections: split over KV heads, copied if there are fewer heads than ranks."""
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
    """Norms and other vectors, learned positions: a whole copy on each rank."""
    mtp: float = 0.0
    """Multi-token-prediction layers, loaded only for speculative decoding."""
    mtp_experts: float = 0.0
    """The routed experts among `mtp`."""
    vision: float = 0.0
    tables: float = 0.0
    """Tables of n-gram embeddings (DeepSeek V4.1's Engram), in the host's memory or split over ranks."""

    @property
    def total(self) -> float:
        """Language-model parameters: all but `mtp`, `vision` and `tables`."""
        left_out = ("mtp", "mtp_experts", "vision", "tables")
        return float(sum(getattr(self, f.name) for f in fields(self) if f.name not in left_out))


def count(config: Fields, blocks: Sequence[Block]) -> Parts:
    """Count the language model and its vision tower.

    Args:
        config: fields of the config.
        blocks: its layers.

    Raises:
        ConfigError: a required field is missing.
    """
    hidden, layers = config.need("hidden_size"), len(blocks)
    embedding = config.need("vocab_size") * hidden
    sparse = sum(block.mlp == "experts" for block in blocks)
    attended = _attention(config, blocks)
    full = attended[-1][1]
    index = attention.indexer_layers(config, layers) * (
        full.indexer or attention.block_sparse_indexer(config)
    )
    if attention.compress_ratios(config, layers):
        index = sum(n * layer.indexer for n, layer in attended)
    widths = Counter(block.width for block in blocks if block.mlp == "dense")
    routed, shared, router = _moe(config, hidden) if sparse else (0, 0, 0)
    if not sparse:  # Granite 4 without experts has its MLP under this name
        shared = 3 * hidden * (config.number("shared_intermediate_size") or 0)
    extra_layer, extra_once = _residual_mixing(config, hidden)
    projected, mixed, tables = _engram(config, hidden)
    inputs = _per_layer_inputs(config, hidden, layers)
    if config.number("word_embed_proj_dim") not in (None, hidden):
        config.doubt("word_embed_proj_dim", "differs from hidden_size")
    if config.raw("no_bias") is False:
        config.doubt("no_bias", "is false: the model has biases that are not counted")
    nextn = mtp_layers(config)
    mtp = 0
    if nextn:  # with eh_proj, and the norms of both its inputs, the layer and the end
        mtp = full.split + full.kv + full.copied + full.indexer + full.norms
        mtp += shared + router if sparse else _dense(config, hidden, None)
        mtp += 2 * hidden * hidden + 5 * hidden
    replaced = sum(block.linears for block in blocks) * hidden * hidden
    return Parts(
        embedding=embedding,
        head=0 if tied(config) else embedding,
        attention=sum(n * layer.split for n, layer in attended) + replaced,
        kv_projection=sum(n * layer.kv for n, layer in attended),
        attention_replicated=sum(n * layer.copied for n, layer in attended),
        indexer=index,
        dense_mlp=sum(n * _dense(config, hidden, width) for width, n in widths.items()) + projected,
        routed_experts=sparse * routed,
        shared_experts=(sparse or layers) * shared,
        router=sparse * router,
        norms=sum(n * layer.norms for n, layer in attended)
        + _norms(config, blocks, hidden)
        + layers * extra_layer
        + extra_once
        + mixed
        + inputs,
        mtp=nextn * (mtp + routed),
        mtp_experts=nextn * routed,
        vision=tower_parameters(config) or 0,
        tables=tables,
    )


def _attention(config: Fields, blocks: Sequence[Block]) -> list[tuple[int, Layer]]:
    """(number of layers, one layer) of each kind; the full-attention kind last."""
    layers = len(blocks)
    ratios = attention.compress_ratios(config, layers)
    if ratios:
        return [(n, layer) for layer, n in Counter(attention.compressed_layers(config, layers)).items()]
    latent = config.number("kv_lora_rank")
    attending = Counter(_shape(block) for block in blocks if block.attends)
    if not attending:  # nothing attends, or every layer is replaced
        attending = Counter({Block(): 0})
    kinds = [
        (n, attention.mla(config) if latent else attention.grouped(config, block) if n else Layer())
        for block, n in sorted(attending.items(), key=lambda item: item[0].mixer != "sliding")
    ]
    linear = sum(block.mixer in ("linear", "parallel") for block in blocks)
    if linear:
        state = state_parameters.state(config)
        layer = Layer(split=state.split, norms=state.norms) if state else kinds[-1][1]
        kinds.insert(0, (linear, layer))
    return kinds


def _shape(block: Block) -> Block:
    """The properties that decide a layer's attention parameters."""
    return Block(block.mixer, "none", block.heads, block.kv_heads, block.key, block.value, block.values)


def _norms(config: Fields, blocks: Sequence[Block], hidden: int) -> int:
    """Vectors of the hidden size: norms of layers and the last one, learned positions, biases of the head."""
    kind = config.kind
    each = kind.norms
    if config.model_type == "falcon":
        parallel = config.flag("parallel_attn", default=True)
        two = config.flag("new_decoder_architecture") and (config.number("num_ln_in_parallel_attn") or 2) == 2
        each = 1 if parallel and not two else 2
    vectors = kind.once
    for block in blocks:
        sublayers = (block.mixer != "none") + (block.mlp != "none")
        vectors += each if sublayers == 2 else each * sublayers / 2  # type: ignore[assignment]
    total = int(vectors * hidden * (2 if kind.norm_bias else 1))
    if kind.names.get("learned_positions"):
        offset = 2 if config.model_type == "opt" else 0
        total += (config.need(kind.names["learned_positions"]) + offset) * hidden
    return total + (config.need("vocab_size") if config.switch(kind.head_bias) else 0)


def tied(config: Fields) -> bool:
    """True if the output projection is the embedding."""
    name = "tie_word_embeddings"
    if config.text.get(name) is not None and config.outer.get(name) not in (None, config.text[name]):
        config.doubt(name, "differs between the outer config and text_config")
        config.read.add(name)
    return config.flag(name, default=config.kind.tied)


def experts_per_token(config: Fields) -> int:
    """Number of routed experts per token."""
    nested = config.part_number("ffn_config", "moe_top_k")
    if nested:
        return nested
    names = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token")
    return config.need(*names, "moe_topk", "moe_top_k", "top_k_experts", "moe_k")


def expert_width(config: Fields) -> int:
    """Intermediate size of one routed expert."""
    nested = config.part_number("ffn_config", "ffn_hidden_size")
    if nested:
        return nested
    own = config.number("moe_intermediate_size", "expert_intermediate_size")
    if own is None and config.model_type not in EXPERTS_OF_THE_WIDTH:
        config.doubt("moe_intermediate_size", "is not given; intermediate_size is used instead")
    return own or config.need("moe_intermediate_size", "intermediate_size")


def shared_width(config: Fields) -> int:
    """Total intermediate size of the shared experts of a layer; 0 if there are none."""
    if config.model_type in NO_SHARED_EXPERTS:
        config.raw("shared_intermediate_size")
        return 0
    if config.model_type in ("llama4", "llama4_text") or config.kind.dense_too:
        config.raw("intermediate_size_mlp")
        return config.need("intermediate_size")
    direct = config.number(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim"
    )  # fmt: skip
    number = config.number("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
    if direct:
        if (number or 1) > 1:
            config.doubt(
                "n_shared_experts",
                "is above 1; it is unclear whether the given width is for one shared expert or for all together",
            )
        return direct * (number or 1)
    return (number or 0) * expert_width(config)


def mtp_layers(config: Fields) -> int:
    """Number of multi-token-prediction layers in the checkpoint."""
    names = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers")
    number = config.number(*names) or 0
    for name in ("mtp_layers_block_type", "mtp_hybrid_override_pattern"):
        pattern = config.raw(name)
        if pattern is not None and list(pattern) not in (
            ["attention", "moe"],
            ["full_attention", "moe"],
            ["*", "E"],
        ):
            config.doubt(name, f"is {pattern!r}")
    drafter = [config.raw(name) for name in DSPARK] if config.model_type in DRAFTED else []
    if any(drafter):  # draft layers of its own kind, in place of MTP layers
        return 0
    if config.model_type in WITHOUT_MTP:
        for name in ("use_mtp", "mtp_transformer_layers", *names):
            config.raw(name)
        return 0
    return number


def _dense(config: Fields, hidden: int, width: int | None) -> int:
    if width is None:
        width = config.number(
            "dense_intermediate_size", "intermediate_size_mlp", "intermediate_size", "ffn_hidden_size"
        )
        if width is not None and config.flag("block_auto_adjust_ff_dim"):
            width = _adjusted(config, width)
        if width is None and config.kind.wide:
            width = (config.number("expansion_ratio") or config.kind.wide) * hidden
        if width is None:
            width = config.need("intermediate_size", "moe_intermediate_size")
    matrices = _matrices(config)
    bias = (matrices - 1) * width + hidden if config.switch(config.kind.mlp_bias) else 0
    return matrices * hidden * width + bias


def _adjusted(config: Fields, width: int) -> int:
    """Width of LFM2: two thirds of the width, times a factor, rounded up to a multiple."""
    width = int(2 * width / 3)
    factor = config.raw("block_ffn_dim_multiplier")
    if isinstance(factor, int | float):
        width = int(factor * width)
    multiple = config.number("block_multiple_of") or 256
    return -(-width // multiple) * multiple


def _matrices(config: Fields) -> int:
    """Number of matrices of an MLP or an expert: gate, up and down, or only up and down."""
    for name in ("hidden_act", "mlp_hidden_act", "hidden_activation", "activation_function"):
        act = config.raw(name)
        if isinstance(act, str) and ACTIVATIONS.fullmatch(act) is None:
            config.doubt(name, f"is {act!r}")
    return 3 if config.kind.gated else 2


def _moe(config: Fields, hidden: int) -> tuple[int, int, int]:
    """Parameters of (routed experts, shared experts, router) in one layer."""
    number, width, matrices = experts(config) or 0, expert_width(config), _matrices(config)
    latent = config.number("routed_expert_hidden_size", "moe_latent_size")
    each, router = matrices * (latent or hidden) * width, hidden * number
    if latent:
        router += 2 * hidden * latent + (latent if config.flag("latent_moe_use_norm") else 0)
    if config.kind.expert_bias:
        each += 2 * width + hidden
    corrected = config.raw("topk_method") == "noaux_tc" or any(
        [config.flag("use_routing_bias"), config.flag("use_expert_bias"), config.flag("use_moe_router_bias")]
    )
    router += number if corrected or config.kind.router_bias else 0
    if config.model_type in attention.SHARING and config.outer.get("vision_config"):
        router += number  # a second bias, for image tokens
    shared = matrices * hidden * shared_width(config)
    if shared and config.kind.shared_gate:
        shared += hidden
    if config.kind.dense_too:
        router += number + 4 * hidden  # a scale for each expert; three norms and the router's scale
    return number * each, shared, router


def _per_layer_inputs(config: Fields, hidden: int, layers: int) -> int:
    """Parameters of the per-layer embeddings of Gemma 4's small models, mixed in after a gate."""
    size = config.number("hidden_size_per_layer_input")
    if not size:
        config.raw("vocab_size_per_layer_input")
        return 0
    vocabulary = config.need("vocab_size_per_layer_input", "vocab_size")
    return layers * (vocabulary * size + 3 * hidden * size + hidden) + size


def _engram(config: Fields, hidden: int) -> tuple[int, int, int]:
    """Parameters of DeepSeek V4.1's n-gram memory: (projections, vectors, tables).

    Source: vLLM v0.33.0 models/deepseek_v41/common/engram.py:209-226, 1601-1660.
    """
    layers, rows = config.listed("engram_layer_ids") or [], config.listed("engram_num_embeddings") or []
    if not layers and not rows:
        return 0, 0, 0
    orders, heads, size = (config.number(name) for name in ENGRAM)
    for name in ("engram_vocab_size", "engram_compressed_vocab_size"):  # they only choose the rows
        config.raw(name)
    streams = config.number("hc_mult") or 1
    whole = len(layers) == len(rows) and all(isinstance(n, int) for n in rows)
    if not (orders and heads and size and whole):
        config.doubt("engram_num_embeddings", "the n-gram tables are not fully described")
        return 0, 0, 0
    projected = len(layers) * (orders - 1) * heads * size * hidden * (streams + 1)
    return projected, len(layers) * 2 * streams * hidden, sum(rows) * size


def _residual_mixing(config: Fields, hidden: int) -> tuple[int, int]:
    """(per layer, once) vectors of wider residual streams: V4's hyper-connections, K3's attention residuals."""
    streams = config.number("hc_mult")
    if streams:
        mix = (2 + streams) * streams
        head = 0 if config.model_type in attention.SHARING else streams * streams * hidden + streams + 1
        return 2 * (mix * streams * hidden + mix + 3), head
    if config.number("attn_res_block_size"):
        return 4 * hidden, 2 * hidden
    return 0, 0
