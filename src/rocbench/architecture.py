"""What a Hugging Face `config.json` says about a model: family, dimensions, parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["mla_dense", "mla_sparse", "mla_compressed", "gqa", "mha", "mqa", "hybrid"]


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
    head_dim: int
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
    sliding_window: int | None = None
    max_position_embeddings: int | None = None
    tied_embeddings: bool = False
    vision: bool = False
    vision_params: int = 0
    total_params: float = 0.0
    """Language model parameters, MTP layers left out."""
    active_params: float = 0.0
    mtp_layers: int = 0
    unknown: tuple[str, ...] = ()
    """What the config did not say or this code could not derive."""

    @property
    def moe(self) -> bool:
        """Whether the model has routed experts."""
        return self.num_experts is not None

    @property
    def mla(self) -> bool:
        """Whether the KV cache is a latent (dense, sparse or compressed MLA)."""
        return self.family.startswith("mla")


def from_config(config: Mapping[str, Any]) -> Architecture:
    """Derive the architecture from `config.json` (nested text_config too)."""
    raise NotImplementedError
