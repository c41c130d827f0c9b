"""What a Hugging Face `config.json` says about a model: family, dimensions, parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rocbench.model import attention_parameters as attention
from rocbench.model import parameters
from rocbench.model.hfconfig import Fields, moe_layers
from rocbench.model.parameters import Parts

Family = Literal["mla_dense", "mla_sparse", "mla_compressed", "gqa", "mha", "mqa", "hybrid"]

KV_HEADS = (
    "num_key_value_heads",
    "num_kv_heads",
    "n_head_kv",
    "multi_query_group_num",
    "num_attention_groups",
)
MLA_TYPES = {
    *("deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "deepseek_v41", "kimi_k2", "kimi_linear"),
    *("glm_moe_dsa", "glm4_moe_lite", "glm5_next", "glm5_next_text", "longcat_flash", "pangu_ultra_moe"),
    *("axk1", "dots3_note", "bailing_hybrid", "hy_v4"),
}
"""Model types that vLLM v0.33.0 runs with MLA (transformers_utils/model_arch_config_convertor.py:294-342)."""
CHECKED = {
    *("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_vl", "qwen3_vl_text"),
    *("qwen3_vl_moe_text", "qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"),
    *("deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "kimi_k2", "kimi_linear", "glm_moe_dsa"),
    *("gpt_oss", "minimax_m2", "minimax_m3", "minimax_m3_text"),
}
"""Text model types whose parameters this code counts as published."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers that decide memory, speed and which rules hold. None where the config has no such thing."""

    model_type: str
    architectures: tuple[str, ...]
    family: Family
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    """KV heads as published; 1 for a latent (MLA) cache."""
    head_dim: int
    """Of a key; with MLA the query's whole head (qk_nope + qk_rope)."""
    vocab_size: int
    intermediate_size: int
    q_lora_rank: int | None = None
    kv_lora_rank: int | None = None
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    num_experts: int | None = None
    experts_per_token: int | None = None
    num_shared_experts: int = 0
    moe_intermediate_size: int | None = None
    dense_layers: int = 0
    """Layers with a dense MLP before the MoE ones (first_k_dense_replace); all layers in a dense model."""
    indexer_heads: int | None = None
    indexer_head_dim: int | None = None
    index_topk: int | None = None
    indexer_layers: int = 0
    """Layers with an indexer of their own (and its cache)."""
    sliding_window: int | None = None
    sliding_layers: int = 0
    """Layers that keep only `sliding_window` tokens."""
    linear_layers: int = 0
    """Layers with a state of fixed size instead of a KV cache (Mamba, GDN, KDA)."""
    linear_state: int = 0
    """Numbers in the state that one sequence keeps in one linear layer."""
    compress_ratios: tuple[int, ...] = ()
    """Tokens per cache entry of each layer (DeepSeek V4); 0 keeps the sliding window only."""
    max_position_embeddings: int | None = None
    tied_embeddings: bool = False
    vision: bool = False
    vision_params: int = 0
    vision_merge: int = 1
    """Side of the square of patches that becomes one token of the language model."""
    vision_patch: int | None = None
    """Side of a patch in pixels."""
    total_params: float = 0.0
    """Language model parameters, MTP layers left out."""
    active_params: float = 0.0
    mtp_layers: int = 0
    parts: Parts = field(default_factory=Parts)
    unknown: tuple[str, ...] = ()
    """What the config did not say or this code could not derive."""

    @property
    def moe(self) -> bool:
        """Whether the model has routed experts."""
        return self.num_experts is not None

    @property
    def mla(self) -> bool:
        """Whether the KV cache is a latent (dense, sparse or compressed MLA, or the MLA layers of a hybrid)."""
        return self.family.startswith("mla") or (self.family == "hybrid" and self.kv_lora_rank is not None)

    @property
    def mtp_params(self) -> float:
        """Parameters of the multi-token-prediction layers, embedding and head not counted again."""
        return self.parts.mtp


def from_config(config: Mapping[str, Any], *, mla_disabled: bool = False) -> Architecture:
    """Derive the architecture from `config.json` (nested text_config too).

    Args:
        config: the parsed `config.json`, or the fields of it that a model profile keeps.
        mla_disabled: VLLM_MLA_DISABLE is set, so MLA models run as multi-head attention.

    Raises:
        ConfigError: an indispensable field is missing or no number; the message names it.
    """
    fields = Fields(config)
    heads, layers = fields.need("num_attention_heads"), fields.need("num_hidden_layers")
    hidden = fields.need("hidden_size")
    family = infer_family(fields, mla_disabled=mla_disabled)
    nope, rope = fields.number("qk_nope_head_dim"), fields.number("qk_rope_head_dim")
    head_dim = nope + (rope or 0) if nope else fields.number("head_dim") or hidden // heads
    kv_heads = fields.number(*KV_HEADS) or heads
    parts = parameters.count(fields, head_dim, kv_heads)
    experts = parameters.experts(fields)
    per_token = parameters.experts_per_token(fields) if experts else None
    idle = parts.routed_experts * (1 - per_token / experts) if experts and per_token else 0.0
    window = fields.number("sliding_window")
    index_heads, index_dim, topk = _indexer(fields)
    tower = fields.outer.get("vision_config")
    tower = tower if isinstance(tower, Mapping) else None
    return Architecture(
        model_type=str(fields.raw("model_type") or "unknown"),
        architectures=_classes(fields.outer.get("architectures") or fields.text.get("architectures")),
        family=family,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=1 if family.startswith("mla") else kv_heads,
        head_dim=head_dim,
        vocab_size=fields.need("vocab_size"),
        intermediate_size=fields.number("intermediate_size", "moe_intermediate_size") or 0,
        q_lora_rank=fields.number("q_lora_rank"),
        kv_lora_rank=fields.number("kv_lora_rank"),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=rope,
        v_head_dim=fields.number("v_head_dim"),
        num_experts=experts,
        experts_per_token=per_token,
        num_shared_experts=fields.number("n_shared_experts", "num_shared_experts") or 0,
        moe_intermediate_size=parameters.expert_width(fields) if experts else None,
        dense_layers=layers - (moe_layers(fields, layers) if experts else 0),
        indexer_heads=index_heads,
        indexer_head_dim=index_dim,
        index_topk=topk,
        indexer_layers=attention.indexer_layers(fields, layers),
        sliding_window=window,
        sliding_layers=_sliding_layers(fields, layers) if window else 0,
        linear_layers=min(attention.linear_layers(fields), layers),
        linear_state=attention.linear_state(fields),
        compress_ratios=attention.compress_ratios(fields, layers),
        max_position_embeddings=fields.number("max_position_embeddings"),
        tied_embeddings=parameters.tied(fields),
        vision=tower is not None,
        vision_params=int(parts.vision),
        vision_merge=parameters.merge(tower) if tower else 1,
        vision_patch=int(tower.get("patch_size") or 14) if tower else None,
        total_params=parts.total,
        active_params=parts.total - idle,
        mtp_layers=parameters.mtp_layers(fields),
        parts=parts,
        unknown=_unknown(fields, family, bool(window)),
    )


def _classes(named: Any) -> tuple[str, ...]:
    """Architecture classes; one alone may stand as text."""
    return (named,) if isinstance(named, str) else tuple(named or ())


def infer_family(fields: Fields, *, mla_disabled: bool = False) -> Family:
    """The attention family, as vLLM decides it.

    Source: vLLM v0.33.0 transformers_utils/model_arch_config_convertor.py:294-342 (MLA by model type and
    `kv_lora_rank`, V4 kind by `compress_ratios`) and config/model.py:2068 (`VLLM_MLA_DISABLE`).
    """
    heads, kv_heads = fields.need("num_attention_heads"), fields.number(*KV_HEADS)
    latent = fields.number("kv_lora_rank") is not None
    if fields.raw("compress_ratios") is not None and not mla_disabled:
        return "mla_compressed"
    if attention.recurrent(fields):
        return "hybrid"
    if latent and not mla_disabled:
        return "mla_sparse" if fields.number("index_topk") else "mla_dense"
    if latent or kv_heads is None or kv_heads == heads:
        return "mha"
    return "mqa" if kv_heads == 1 else "gqa"


def _indexer(fields: Fields) -> tuple[int | None, int | None, int | None]:
    """(heads, head dim, tokens chosen) of a sparse-attention indexer; MiniMax M3 chooses blocks of tokens."""
    sparse = fields.raw("sparse_attention_config")
    if isinstance(sparse, Mapping):
        chosen = int(sparse["sparse_topk_blocks"]) * int(sparse["sparse_block_size"])
        return int(sparse["sparse_num_index_heads"]), int(sparse["sparse_index_dim"]), chosen
    names = ("index_n_heads", "index_head_dim", "index_topk")
    heads, dim, chosen_tokens = (fields.number(name) for name in names)
    return heads, dim, chosen_tokens


def _sliding_layers(fields: Fields, layers: int) -> int:
    kinds = fields.listed("layer_types")
    if kinds is not None:
        return sum(1 for kind in kinds[:layers] if kind == "sliding_attention")
    if fields.raw("use_sliding_window") is False:
        return 0
    if fields.raw("model_type") == "gpt_oss":
        return layers // 2
    return layers if fields.raw("model_type") in ("mistral", "mixtral", "phi3") else 0


def _unknown(fields: Fields, family: Family, window: bool) -> tuple[str, ...]:
    """What a reader should not take from this code as certain, one sentence each."""
    doubts = []
    kind = fields.raw("model_type")
    if kind not in CHECKED:
        doubts.append(f"parameters: counted as a plain transformer; model type {kind!r} was not checked")
    if family == "hybrid":
        doubts.append(
            "kv_bytes_per_token: the state of linear layers and the pages shared with them are inferred"
        )
    if family == "mla_compressed":
        doubts.append(
            "kv_bytes_per_token: cache entries per compression ratio are inferred from vLLM's source"
        )
    if family.startswith("mla") and kind not in MLA_TYPES:
        doubts.append(f"family: vLLM v0.33.0 lists no MLA for model type {kind!r}")
    if window and family in ("gqa", "mha", "mqa"):
        doubts.append("kv_bytes_per_token: an upper bound, sliding layers keep their window only")
    if fields.outer.get("vision_config") is not None and parameters.vision(fields) is None:
        doubts.append("vision_params: the vision tower's dimensions are not all given")
    return tuple(doubts)
