"""A model's architecture from its Hugging Face `config.json`: family, dimensions, parameters. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rocbench.errors import ConfigError
from rocbench.model import attention_parameters as attention
from rocbench.model import parameters, state_parameters
from rocbench.model.hfconfig import Fields
from rocbench.model.kinds import KINDS, foreign
from rocbench.model.layers import MAMBA, Block, blocks
from rocbench.model.mlps import experts
from rocbench.model.parameters import Parts
from rocbench.model.vision import merge, tower_doubt

AttentionFamily = Literal["mla_dense", "mla_sparse", "mla_compressed", "gqa", "mha", "mqa", "hybrid"]

MLA_TYPES = {
    *(
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "deepseek_v4",
        "deepseek_v41",
        "deepseek_v41_text",
        "kimi_k2",
        "kimi_linear",
    ),
    *("glm_moe_dsa", "glm4_moe_lite", "glm5_next", "glm5_next_text", "longcat_flash", "pangu_ultra_moe"),
    *("axk1", "dots3_note", "bailing_hybrid", "hy_v4"),
}
"""Model types that vLLM v0.33.0 runs with MLA (transformers_utils/model_arch_config_convertor.py:294-342)."""


@dataclass(frozen=True, slots=True)
class KvGroup:
    """Layers with the same KV entries."""

    layers: int
    heads: int
    """Query heads."""
    kv_heads: int
    key: int
    """Size of one head's key."""
    value: int
    attends: int | None = None
    """Maximum tokens that a query attends to (a window, a chunk); None attends to all."""
    keeps: int | None = None
    """Maximum tokens kept; None keeps all. Chunked layers attend to a chunk and keep all, vLLM's default."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers that decide memory, speed and matching rules. None if the config has no such feature."""

    model_type: str
    architectures: tuple[str, ...]
    family: AttentionFamily
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    """KV heads as published; 1 for a latent (MLA) cache."""
    head_dim: int
    """Size of a key; with MLA the query's whole head (qk_nope + qk_rope)."""
    vocab_size: int
    intermediate_size: int
    kv_lora_rank: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    num_experts: int | None = None
    experts_per_token: int | None = None
    moe_intermediate_size: int | None = None
    indexer_heads: int | None = None
    indexer_head_dim: int | None = None
    index_topk: int | None = None
    indexer_layers: int = 0
    """Layers with their own indexer (and its cache)."""
    kv_groups: tuple[KvGroup, ...] = ()
    """Layers with a KV cache, grouped by shape; for MLA layers only their number counts."""
    sublayers: int = 0
    """Mixers and MLPs; each ends in an all-reduce."""
    sliding_window: int | None = None
    linear_layers: int = 0
    """Layers with a state of fixed size (Mamba, GDN, KDA, convolutions), with or without a KV cache."""
    linear_state: int = 0
    """Size of the state of one sequence in one linear layer, in numbers."""
    compress_ratios: tuple[int, ...] = ()
    """Tokens per cache entry that each layer attends to (DeepSeek V4); 0 has the sliding window only."""
    stored_ratios: tuple[int, ...] = ()
    """The same for the layers that store such entries; in DeepSeek V4.1 several layers share them."""
    indexed_ratios: tuple[int, ...] = ()
    """Tokens per key of each indexer's cache, in models with `compress_ratios`."""
    prompt_layers: int = 0
    """Layers that every prompt token passes; only the last tokens of a prompt pass the others (DeepSeek V4.1). 0: all layers."""
    max_position_embeddings: int | None = None
    tied_embeddings: bool = False
    vision: bool = False
    vision_params: int = 0
    vision_merge: int = 1
    """Side of the square of patches that forms one token of the language model."""
    total_params: float = 0.0
    """Language model parameters, without MTP layers."""
    active_params: float = 0.0
    mtp_layers: int = 0
    parts: Parts = field(default_factory=Parts)
    unknown: tuple[str, ...] = ()
    """Parts of the config that are not understood, by field name. While there are any, figures from this shape
    cannot refuse or void results."""
    notes: tuple[str, ...] = ()
    """Notes on the meaning of the figures."""

    @property
    def sliding_layers(self) -> int:
        """Layers that keep only `sliding_window` tokens."""
        return sum(group.layers for group in self.kv_groups if group.keeps is not None)

    @property
    def attending_layers(self) -> int:
        """Layers with a KV cache."""
        return sum(group.layers for group in self.kv_groups)

    @property
    def moe(self) -> bool:
        """True if the model has routed experts."""
        return self.num_experts is not None

    @property
    def mla(self) -> bool:
        """True if the KV cache is a latent (dense, sparse or compressed MLA, or the MLA layers of a hybrid)."""
        return self.family.startswith("mla") or (self.family == "hybrid" and self.kv_lora_rank is not None)


_derived: dict[tuple[str, bool], Architecture] = {}
"""Cache of recent results: a plan asks for the same model in each cell, and deriving it takes some ms."""


def from_config(config: Mapping[str, Any], *, mla_disabled: bool = False) -> Architecture:
    """Derive the architecture from `config.json` (nested text_config too).

    Args:
        config: the parsed `config.json`, or the fields of it that a model profile keeps.
        mla_disabled: VLLM_MLA_DISABLE is set, so MLA models run as multi-head attention.

    Raises:
        ConfigError: a required field is missing or not a number, or a field has an unusable value; the
            message names it.
    """
    key = (repr(config), mla_disabled)
    if key not in _derived:
        if len(_derived) >= 64:
            _derived.clear()
        fields = Fields(config)
        try:
            _derived[key] = _derive(fields, mla_disabled=mla_disabled)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as fault:
            raise ConfigError(
                f"`{fields.last}` or a related field has an impossible value: {fault!s:.100}",
                where="config.json",
                fix="give the checkpoint's own config.json",
            ) from None
    return _derived[key]


def _derive(fields: Fields, *, mla_disabled: bool) -> Architecture:
    per_layer = isinstance(fields.raw("num_attention_heads"), list | tuple)
    heads = None if per_layer else fields.need("num_attention_heads")
    layered = blocks(fields)
    family = infer_family(fields, layered, mla_disabled=mla_disabled)
    lead = _lead(layered)
    parts = parameters.count(fields, layered)
    sparse = sum(block.mlp == "experts" for block in layered)
    routed = experts(fields) if sparse else None
    per_token = parameters.experts_per_token(fields) if routed else None
    idle = parts.routed_experts * (1 - per_token / routed) if routed and per_token else 0.0
    index_heads, index_dim, topk = _indexer(fields)
    tower = fields.outer.get("vision_config")
    tower = tower if isinstance(tower, Mapping) else None
    linear = sum(block.mixer in ("linear", "parallel") for block in layered)
    state = state_parameters.state(fields) if linear else None
    architecture = Architecture(
        model_type=fields.model_type or "unknown",
        architectures=_classes(fields.outer.get("architectures") or fields.text.get("architectures")),
        family=family,
        hidden_size=fields.need("hidden_size"),
        num_layers=len(layered),
        num_heads=heads or lead.heads,
        num_kv_heads=1 if family.startswith("mla") else lead.kv_heads,
        head_dim=lead.key,
        vocab_size=fields.need("vocab_size"),
        intermediate_size=_widest(fields, layered),
        kv_lora_rank=fields.number("kv_lora_rank"),
        qk_rope_head_dim=fields.number("qk_rope_head_dim"),
        v_head_dim=fields.number("v_head_dim"),
        num_experts=routed,
        experts_per_token=per_token,
        moe_intermediate_size=parameters.expert_width(fields) if routed else None,
        indexer_heads=index_heads,
        indexer_head_dim=index_dim,
        index_topk=topk,
        indexer_layers=attention.indexer_layers(fields, len(layered)),
        kv_groups=_kv_groups(fields, layered, padded=mla_disabled),
        sublayers=sum((b.mixer != "none") + (b.mlp != "none") for b in layered),
        sliding_window=fields.number("sliding_window", "sliding_window_size"),
        linear_layers=linear,
        linear_state=state.numbers if state else 0,
        compress_ratios=attention.compress_ratios(fields, len(layered)),
        stored_ratios=attention.stored_ratios(fields, len(layered)),
        indexed_ratios=attention.indexed_ratios(fields, len(layered)),
        prompt_layers=attention.prompt_layers(fields, len(layered)),
        max_position_embeddings=fields.number("max_position_embeddings"),
        tied_embeddings=parameters.tied(fields),
        vision=tower is not None,
        vision_params=int(parts.vision),
        vision_merge=merge(tower) if tower else 1,
        total_params=parts.total,
        active_params=parts.total - idle,
        mtp_layers=parameters.mtp_layers(fields),
        parts=parts,
        notes=_notes(family, layered, parts),
    )
    return replace(architecture, unknown=_unknown(fields, family))


def _lead(layered: Sequence[Block]) -> Block:
    """The layer whose heads represent the model: the one with the widest cache that keeps all tokens."""
    attending = [b for b in layered if b.attends] or [Block(heads=1, kv_heads=1, key=1, value=1)]
    keep_all = [b for b in attending if b.mixer != "sliding"] or attending
    return max(keep_all, key=lambda b: b.kv_heads * (b.key + b.value))


def _widest(fields: Fields, layered: Sequence[Block]) -> int:
    widths = [block.width for block in layered if block.width]
    if widths:
        return max(widths)
    return fields.number("intermediate_size", "moe_intermediate_size") or 4 * fields.need("hidden_size")


def _kv_groups(fields: Fields, layered: Sequence[Block], *, padded: bool) -> tuple[KvGroup, ...]:
    """Layers with a cache, grouped by its contents; without MLA its values are padded to the size of keys."""
    padded = padded and fields.number("kv_lora_rank") is not None
    window = fields.number("sliding_window", "sliding_window_size")
    chunk = fields.number("attention_chunk_size")
    limits = {"sliding": (window, window), "chunked": (chunk, None)}
    groups = Counter(
        KvGroup(
            0, b.heads, b.kv_heads, b.key, b.key if padded else b.value, *limits.get(b.mixer, (None, None))
        )
        for b in layered
        if b.attends
    )
    return tuple(replace(group, layers=n) for group, n in groups.items())


def _classes(value: Any) -> tuple[str, ...]:
    """Architecture classes; a single one may be given as text."""
    names = value if isinstance(value, list | tuple) else [value]
    return tuple(name for name in names if isinstance(name, str))


def infer_family(fields: Fields, layered: Sequence[Block], *, mla_disabled: bool = False) -> AttentionFamily:
    """The attention family, by vLLM's own rules.

    Source: vLLM v0.33.0 transformers_utils/model_arch_config_convertor.py:294-342 (MLA by model type and
    `kv_lora_rank`, V4 kind by `compress_ratios`) and config/model.py:2068 (`VLLM_MLA_DISABLE`).
    """
    lead = _lead(layered)
    latent = fields.number("kv_lora_rank") is not None
    if fields.raw("compress_ratios") is not None and not mla_disabled:
        return "mla_compressed"
    if any(b.mixer in ("linear", "parallel") for b in layered) or any(fields.number(name) for name in MAMBA):
        return "hybrid"
    if latent and not mla_disabled:
        return "mla_sparse" if fields.number("index_topk") else "mla_dense"
    if latent or lead.kv_heads == lead.heads:
        return "mha"
    return "mqa" if lead.kv_heads == 1 else "gqa"


def _indexer(fields: Fields) -> tuple[int | None, int | None, int | None]:
    """(heads, head dim, tokens chosen) of a sparse-attention indexer; MiniMax M3 chooses blocks of tokens."""
    sparse = fields.raw("sparse_attention_config")
    if isinstance(sparse, Mapping):
        topk = int(sparse["sparse_topk_blocks"]) * int(sparse["sparse_block_size"])
        return int(sparse["sparse_num_index_heads"]), int(sparse["sparse_index_dim"]), topk
    return fields.number("index_n_heads"), fields.number("index_head_dim"), fields.number("index_topk")


def _notes(family: AttentionFamily, layered: Sequence[Block], parts: Parts) -> tuple[str, ...]:
    """Notes on the meaning of the figures, one sentence each."""
    notes = []
    if parts.tables:
        notes.append(
            f"the n-gram tables ({parts.tables / 1e9:.1f} billion parameters) are not included in the parameters; vLLM keeps "
            "them in the host's memory by default"
        )
    if family == "hybrid":
        notes.append(
            "kv_bytes_per_token does not include the state of linear layers; this state is FP32 unless the server "
            "reports another type"
        )
    if any(b.mixer == "sliding" for b in layered) and family in ("gqa", "mha", "mqa"):
        notes.append(
            "kv_bytes_per_token is valid for sequences shorter than the window; in longer sequences, "
            "sliding-window layers keep only the last window of tokens"
        )
    return tuple(notes)


def _unknown(fields: Fields, family: AttentionFamily) -> tuple[str, ...]:
    """Parts of the config that are not understood, one sentence each, starting with the field name."""
    doubts = []
    kind = fields.model_type or None
    if kind not in KINDS:
        doubts.append(
            f"model_type: {kind!r} was not checked; its parameters are counted as for a plain transformer"
        )
    doubts += [f"{name}: {why}" for name, why in fields.doubts.items()]
    if family.startswith("mla") and kind not in MLA_TYPES:
        doubts.append(
            f"family: the config has MLA fields, but vLLM v0.33.0 lists no MLA for model type {kind!r}"
        )
    if fields.outer.get("vision_config") is not None:
        doubts += [f"vision_config: {why}" for why in tower_doubt(fields)]
    doubts += [f"{name}: this field is not understood" for name in fields.unread()]
    doubts += [
        f"{part}: has keys that are not understood: {', '.join(keys)}"
        for part, keys in fields.parts_unread().items()
    ]
    if kind in KINDS and not foreign(str(kind), "kv_lora_rank") and fields.raw("compress_ratios") is None:
        latent = ("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        may_be_null = ("q_lora_rank",)
        doubts += [
            f"{name}: is not given"
            for name in latent
            if name not in fields.text or (fields.text[name] is None and name not in may_be_null)
        ]
    if kind in KINDS:
        values = {**fields.outer, **fields.text}
        foreign_names = [name for name, value in values.items() if value and foreign(str(kind), str(name))]
        doubts += [
            f"{name}: this field is not known for model type {kind!r}"
            for name in foreign_names
            if name in fields.read
        ]
    return tuple(dict.fromkeys(doubts))
