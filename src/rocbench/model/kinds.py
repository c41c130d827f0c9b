"""Differences of each checked model type from Llama that its config.json does not give. Pure.

Entries were checked against the parameters that transformers 5.19 declares for the type, or published ones if it
does not have the type (tests/fixtures/published_parameters.yaml), and against vLLM's implementation of it (v0.32 and
v0.33). A type that is not listed here is counted as a plain transformer, in doubt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Switch = bool | str
"""Always, never, or by the config's flag of this name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Properties of a model type that its config leaves out."""

    qkv_bias: Switch = "attention_bias"
    out_bias: Switch = "attention_bias"
    mlp_bias: Switch = "mlp_bias"
    qk_norm: Literal["", "head", "whole", "heads"] = ""
    """Norms of q and k: one vector of a head's size, one over all heads, or one for each head."""
    qk_norm_flag: str = ""
    """Flag that enables those norms."""
    norms: int = 2
    """Norms of a layer with two sublayers, vectors of the hidden size; half of them in a layer with one."""
    norm_bias: bool = False
    once: int = 1
    """Vectors of the hidden size outside the layers: the last norm, a norm of the embedding."""
    gated: bool = True
    """True if the MLP has gate, up and down projections; relu2 and GELU MLPs have no gate."""
    wide: int = 0
    """Width of the MLP in hidden sizes if no field gives it."""
    gate: Literal["", "numbers", "head"] = ""
    """Gate of the attention output: for each number of a head, or for each head."""
    sinks: bool = False
    """True if each head has an attention sink."""
    router_bias: bool = False
    """True if the router has a correction (or a bias) for each expert."""
    expert_bias: bool = False
    dense_too: bool = False
    """True if a layer with experts also has a dense MLP, with separate norms (Gemma 4)."""
    shared_gate: bool = False
    """True if the shared expert has a sigmoid gate."""
    tied: bool = False
    """True if the output projection is the embedding by default."""
    head_bias: Switch = False
    slides: Literal["", "all", "half", "pattern", "upper"] = ""
    """Layers that slide over `sliding_window` if no list gives them: all, every other, all but every n-th
    (`sliding_window_pattern`), those from `max_window_layers` on. Otherwise unknown."""
    pattern: int = 0
    """n of `pattern` if the config does not give it."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Fields to the type's own names for them."""
    fills: Mapping[str, Any] = field(default_factory=dict)
    """Values that transformers fills in for absent fields (not for null ones)."""


_GPT2 = {
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "intermediate_size": "n_inner",
    "learned_positions": "n_positions",
    "max_position_embeddings": "n_positions",
}
_MPT = {
    "hidden_size": "d_model",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "max_position_embeddings": "max_seq_len",
}
_ALL_BIASED: dict[str, Any] = {
    "qkv_bias": True,
    "out_bias": True,
    "mlp_bias": True,
    "norm_bias": True,
    "once": 1,
}
_MAMBA_FILLS = {"mamba_conv_bias": True, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_n_groups": 1}

KINDS: Mapping[str, Kind] = {
    # dense, and experts in every layer
    "llama": Kind(),
    "mistral": Kind(qkv_bias=False, out_bias=False, mlp_bias=False, slides="all", fills={"num_key_value_heads": 8, "sliding_window": 4096}),
    "ministral3": Kind(qkv_bias=False, out_bias=False, mlp_bias=False, slides="all", fills={"num_key_value_heads": 8, "head_dim": 128}),
    "mixtral": Kind(
        qkv_bias=False, out_bias=False, mlp_bias=False, slides="all",
        fills={"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
    ),
    **dict.fromkeys(("internlm", "internlm2"), Kind(qkv_bias="bias", out_bias="bias", mlp_bias=False, fills={"bias": True})),
    "baichuan": Kind(qkv_bias=False, out_bias=False, mlp_bias=False),
    "mimo": Kind(out_bias=False, mlp_bias=False, slides="upper", fills={"attention_bias": True}),
    "seed_oss": Kind(out_bias="attention_out_bias", fills={"attention_bias": True, "head_dim": 128, "num_key_value_heads": 8}),
    "smollm3": Kind(tied=True, slides="upper", fills={"num_key_value_heads": 4}),
    "arcee": Kind(gated=False),
    "granite": Kind(),
    **dict.fromkeys(("granitemoe", "granitemoeshared"), Kind(mlp_bias=False, fills={"num_local_experts": 8, "num_experts_per_tok": 2})),
    **dict.fromkeys(
        ("qwen2", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"),
        Kind(qkv_bias=True, out_bias=False, slides="upper"),
    ),
    "qwen2_moe": Kind(
        qkv_bias="qkv_bias", out_bias=False, mlp_bias=False, shared_gate=True, slides="upper",
        fills={"qkv_bias": True, "num_key_value_heads": 16, "moe_intermediate_size": 1408, "num_experts": 60,
               "num_experts_per_tok": 4, "shared_expert_intermediate_size": 5632},
    ),
    **dict.fromkeys(("qwen3", "qwen3_vl", "qwen3_vl_text"), Kind(qk_norm="head", slides="upper", fills={"head_dim": 128})),
    "qwen3_moe": Kind(qk_norm="head", slides="upper", fills={"num_key_value_heads": 4, "moe_intermediate_size": 768, "num_experts_per_tok": 8}),
    **dict.fromkeys(("qwen3_vl_moe", "qwen3_vl_moe_text"), Kind(qk_norm="head", slides="upper", fills={"num_key_value_heads": 16})),
    "hy_v3": Kind(qk_norm="head", router_bias=True, fills={"head_dim": 128, "num_key_value_heads": 8, "num_shared_experts": 1, "first_k_dense_replace": 1}),
    "glm": Kind(out_bias=False, mlp_bias=False, fills={"attention_bias": True, "head_dim": 128, "num_key_value_heads": 2}),
    "glm4": Kind(out_bias=False, mlp_bias=False, norms=4, fills={"attention_bias": True, "head_dim": 128, "num_key_value_heads": 2}),
    "glm4_moe": Kind(
        out_bias=False, mlp_bias=False, qk_norm="head", qk_norm_flag="use_qk_norm", router_bias=True,
        fills={"first_k_dense_replace": 1, "n_shared_experts": 1},
    ),
    "solar_open": Kind(
        out_bias=False, mlp_bias=False, qk_norm="head", qk_norm_flag="use_qk_norm", router_bias=True,
        fills={"head_dim": 128, "num_key_value_heads": 8, "n_shared_experts": 1},
    ),
    "ernie4_5": Kind(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", tied=True, fills={"head_dim": 128, "num_key_value_heads": 2}),
    "ernie4_5_moe": Kind(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", tied=True, router_bias=True,
        fills={"num_key_value_heads": 4, "moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_k": 6},
    ),
    **dict.fromkeys(
        ("llama4", "llama4_text"),
        Kind(
            fills={"head_dim": 128, "attention_chunk_size": 8192, "no_rope_layer_interval": 4, "intermediate_size_mlp": 16384,
                   "interleave_moe_layer_step": 1, "num_key_value_heads": 8}
        ),
    ),
    "gemma": Kind(tied=True, fills={"head_dim": 256, "num_key_value_heads": 16}),
    "gemma2": Kind(norms=4, tied=True, slides="half", fills={"head_dim": 256, "num_key_value_heads": 4, "sliding_window": 4096}),
    **dict.fromkeys(
        ("gemma3", "gemma3_text"),
        Kind(
            qk_norm="head", norms=4, tied=True, slides="pattern", pattern=6,
            fills={"head_dim": 256, "num_key_value_heads": 4, "sliding_window": 4096},
        ),
    ),
    **dict.fromkeys(
        ("gemma4", "gemma4_text"),
        Kind(qk_norm="head", norms=4, tied=True, dense_too=True, fills={"head_dim": 256, "global_head_dim": 512}),
    ),
    "cohere": Kind(qk_norm="heads", qk_norm_flag="use_qk_norm", norms=1, tied=True, mlp_bias=False),
    "cohere2": Kind(norms=1, tied=True, mlp_bias=False, slides="pattern", pattern=4, fills={"sliding_window": 4096}),
    "olmo": Kind(norms=0, once=0, mlp_bias=False),
    "olmo2": Kind(qk_norm="whole", mlp_bias=False),
    "olmo3": Kind(qk_norm="whole", mlp_bias=False, slides="pattern", pattern=4, fills={"sliding_window": 4096}),
    "olmoe": Kind(qk_norm="whole", fills={"num_key_value_heads": 16, "num_experts": 64, "num_experts_per_tok": 8}),
    "phi": Kind(**{**_ALL_BIASED, "norms": 1}, gated=False, head_bias=True, qk_norm="heads", qk_norm_flag="qk_layernorm"),
    "phi3": Kind(qkv_bias=False, out_bias=False, mlp_bias=False, slides="all"),
    "phimoe": Kind(norm_bias=True, mlp_bias=False, head_bias="lm_head_bias", slides="all", fills={"num_key_value_heads": 8, "num_local_experts": 16, "num_experts_per_tok": 2}),
    "exaone4": Kind(qkv_bias=False, out_bias=False, mlp_bias=False, qk_norm="head", slides="pattern", pattern=4, fills={"sliding_window": 4096}),
    "stablelm": Kind(qkv_bias="use_qkv_bias", out_bias=False, mlp_bias=False, norm_bias=True, qk_norm="heads", qk_norm_flag="qk_layernorm"),
    "starcoder2": Kind(
        qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", norm_bias=True, gated=False, tied=True,
        slides="all", fills={"use_bias": True, "num_key_value_heads": 2},
    ),
    "bloom": Kind(
        **{**_ALL_BIASED, "once": 2}, gated=False, tied=True, wide=4,
        names={**_GPT2, "hidden_size": "n_embed", "learned_positions": "", "max_position_embeddings": "seq_length"},
    ),
    "gpt2": Kind(**_ALL_BIASED, gated=False, tied=True, wide=4, names=_GPT2, fills={"n_positions": 1024}),
    "gpt_bigcode": Kind(**_ALL_BIASED, gated=False, tied=True, wide=4, names=_GPT2, fills={"n_positions": 1024, "multi_query": True}),
    "gpt_neox": Kind(**{**_ALL_BIASED, "qkv_bias": "attention_bias", "out_bias": "attention_bias"}, gated=False, fills={"attention_bias": True}),
    "mpt": Kind(qkv_bias=False, out_bias=False, mlp_bias=False, gated=False, tied=True, wide=4, names=_MPT),
    "falcon": Kind(qkv_bias="bias", out_bias="bias", mlp_bias="bias", norms=1, norm_bias=True, gated=False, tied=True, wide=4, names=_GPT2 | {"learned_positions": ""}),
    "opt": Kind(
        **{**_ALL_BIASED, "qkv_bias": "enable_bias", "out_bias": "enable_bias", "mlp_bias": "enable_bias"}, gated=False, tied=True,
        names={"intermediate_size": "ffn_dim", "learned_positions": "max_position_embeddings"}, fills={"enable_bias": True},
    ),
    "chatglm": Kind(
        qkv_bias="add_qkv_bias", out_bias="add_bias_linear", mlp_bias="add_bias_linear",
        names={"num_hidden_layers": "num_layers", "intermediate_size": "ffn_hidden_size", "head_dim": "kv_channels",
               "vocab_size": "padded_vocab_size", "max_position_embeddings": "seq_length"},
    ),
    "dbrx": Kind(qkv_bias=False, out_bias=False, mlp_bias=False, names=_MPT),
    # sliding and full attention of different heads
    "gpt_oss": Kind(
        mlp_bias=False, sinks=True, router_bias=True, expert_bias=True, slides="half",
        fills={"sliding_window": 128, "attention_bias": True},
    ),
    "mimo_v2_flash": Kind(
        qkv_bias="attention_bias", out_bias=False, mlp_bias=False, router_bias=True,
        fills={"swa_num_key_value_heads": 8, "add_swa_attention_sink_bias": True, "v_head_dim": 128, "head_dim": 192},
    ),
    # latent attention
    "deepseek_v2": Kind(qkv_bias=False, out_bias=False, mlp_bias=False, fills={"n_shared_experts": 2}),
    **dict.fromkeys(
        ("deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa"),
        Kind(
            qkv_bias=False, out_bias=False, mlp_bias=False, router_bias=True,
            fills={"first_k_dense_replace": 3, "n_shared_experts": 1},
        ),
    ),
    **dict.fromkeys(
        ("deepseek_v4", "deepseek_v41", "deepseek_v41_text", "kimi_linear"),
        Kind(qkv_bias=False, out_bias=False, mlp_bias=False, router_bias=True, fills={"n_shared_experts": 1}),
    ),
    "glm4_moe_lite": Kind(qkv_bias=False, out_bias=False, mlp_bias=False, router_bias=True, fills={"first_k_dense_replace": 1, "n_shared_experts": 1}),
    # experts of MiniMax
    "minimax_m2": Kind(
        qkv_bias=False, out_bias=False, mlp_bias=False, qk_norm="whole", qk_norm_flag="use_qk_norm",
        fills={"use_qk_norm": True, "use_routing_bias": True, "head_dim": 128},
    ),
    **dict.fromkeys(
        ("minimax_m3", "minimax_m3_vl", "minimax_m3_text"),
        Kind(qkv_bias=False, out_bias=False, mlp_bias=False, qk_norm="head", qk_norm_flag="use_qk_norm"),
    ),
    # hybrids
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"),
        Kind(qk_norm="head", gate="numbers", shared_gate=True, fills={"head_dim": 256}),
    ),
    **dict.fromkeys(("minimax", "minimax_text_01", "minimax_m1"), Kind(qkv_bias=False, out_bias=False, mlp_bias=False)),
    "nemotron_h": Kind(
        gated=False, router_bias=True,
        fills={"head_dim": 128, "conv_kernel": 4, "n_groups": 8, "use_conv_bias": True, "mamba_head_dim": 64, "n_shared_experts": 1},
    ),
    "jamba": Kind(
        qkv_bias=False, out_bias=False, mlp_bias=False,
        fills=_MAMBA_FILLS | {"num_key_value_heads": 8, "num_experts": 16, "num_experts_per_tok": 2, "mamba_d_state": 16,
                              "attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_period": 2, "expert_layer_offset": 1},
    ),
    "bamba": Kind(fills=_MAMBA_FILLS | {"num_key_value_heads": 8}),
    "granitemoehybrid": Kind(mlp_bias=False, fills=_MAMBA_FILLS | {"shared_intermediate_size": 1024}),
    "falcon_h1": Kind(fills=_MAMBA_FILLS | {"num_key_value_heads": 8}),
    "lfm2": Kind(qkv_bias=False, out_bias=False, mlp_bias=False, qk_norm="head", tied=True),
    "lfm2_moe": Kind(qkv_bias=False, out_bias=False, mlp_bias=False, qk_norm="head", tied=True, router_bias=True, fills={"num_dense_layers": 2}),
    "nemotron-nas": Kind(),
}  # fmt: skip

_V4 = "deepseek_v4 deepseek_v41 deepseek_v41_text"
_LATENT = f"deepseek_v2 deepseek_v3 deepseek_v32 {_V4} kimi_k2 glm_moe_dsa glm4_moe_lite kimi_linear"
_DELTA = "qwen3_next qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text"
_MAMBA = "nemotron_h jamba bamba granitemoehybrid falcon_h1"
_GEMMA = "gemma4 gemma4_text"
_M3 = "minimax_m3 minimax_m3_text minimax_m3_vl"
_ROUTED = (
    f"{_LATENT} {_M3} {_GEMMA} mixtral granitemoe granitemoeshared granitemoehybrid qwen2_moe qwen3_moe qwen3_vl_moe "
    "qwen3_vl_moe_text qwen3_next qwen3_5_moe qwen3_5_moe_text hy_v3 glm4_moe solar_open ernie4_5_moe llama4 llama4_text "
    "olmoe phimoe dbrx gpt_oss mimo_v2_flash minimax_m2 minimax minimax_text_01 minimax_m1 nemotron_h jamba lfm2_moe"
)
_SHARED = (
    f"{_LATENT} {_M3} {_GEMMA} granitemoeshared granitemoehybrid qwen2_moe qwen3_next qwen3_5_moe qwen3_5_moe_text hy_v3 "
    "glm4_moe solar_open ernie4_5_moe llama4 llama4_text nemotron_h"
)
OWNERS: tuple[tuple[str, str], ...] = (
    (r"kv_lora_rank|q_lora_rank|qk_nope_head_dim|qk_rope_head_dim", _LATENT),
    (r"v_head_dim|swa_\w+|hybrid_layer_pattern", f"{_LATENT} mimo_v2_flash"),
    (r"index_topk|index_n_heads|index_topk_pattern|indexer_types", f"deepseek_v32 {_V4} glm_moe_dsa"),
    (r"compress_ratios|o_lora_rank|o_groups|hc_mult", _V4),
    (r"(kv|index)_source_layer_ids|candidate_source_layer_id|engram_layer_ids|engram_num_embeddings", "deepseek_v41 deepseek_v41_text"),
    (r"linear_(num_value_heads|num_key_heads|\w+_head_dim)|full_attention_interval", _DELTA),
    (r"linear_attn_config|linear_num_heads|attn_res_block_size|mla_use_output_gate", "kimi_linear"),
    (r"mamba_(d_state|n_heads|num_heads|d_ssm|d_head|dt_rank)|ssm_state_size", _MAMBA),
    (r"attn_layer_period|attn_layer_offset|expert_layer_period|expert_layer_offset", "jamba"),
    (r"attn_layer_indices", "bamba granitemoehybrid"),
    (r"layers_block_type|hybrid_override_pattern|block_types", "nemotron_h bamba granitemoehybrid jamba"),
    (r"conv_L_cache|full_attn_idxs|block_auto_adjust_ff_dim", "lfm2 lfm2_moe"),
    (r"attn_type_list", f"minimax minimax_text_01 minimax_m1 minimax_m2 {_M3}"),
    (r"sparse_attention_config|dense_intermediate_size", _M3),
    (r"attention_chunk_size|intermediate_size_mlp|interleave_moe_layer_step|moe_layers", "llama4 llama4_text mimo_v2_flash"),
    (r"global_head_dim|num_global_key_value_heads|attention_k_eq_v|hidden_size_per_layer_input|enable_moe_block", _GEMMA),
    (r"block_configs", "nemotron-nas"),
    (r"moe_latent_size|routed_expert_hidden_size|latent_moe_use_norm", "nemotron_h kimi_linear"),
    (r"(n_routed_|num_|num_local_|moe_num_)experts|num_moe_experts", _ROUTED),
    (r"(n_|num_|moe_num_)shared_experts|(moe_)?shared_expert_intermediate_size|shared_intermediate_size|share_expert_dim", _SHARED),
    (r"first_k_dense_replace|moe_first_k_dense_replace|moe_layer_freq", f"{_LATENT} {_M3} glm4_moe hy_v3 solar_open mimo_v2_flash"),
    (r"num_dense_layers", "lfm2_moe"),
    (r"moe_layer_(start_index|end_index|interval)", "ernie4_5_moe"),
    (r"decoder_sparse_step|mlp_only_layers", "qwen2_moe qwen3_moe qwen3_vl_moe qwen3_vl_moe_text qwen3_next qwen3_5_moe qwen3_5_moe_text"),
    (r"use_expert_bias", "lfm2_moe"),
    (r"use_routing_bias", f"minimax_m2 {_M3}"),
    (r"use_head_wise_attn_gate|use_moe_router_bias|num_sliding_attention_heads|moe_layers_enum|num_attention_groups", ""),
    (r"add_(swa|full)_attention_sink_bias", "mimo_v2_flash"),
    (r"attn_config|ffn_config", "mpt dbrx"),
    (r"num_kv_heads|new_decoder_architecture|parallel_attn|num_ln_in_parallel_attn", "falcon"),
    (r"multi_query", "falcon gpt_bigcode"),
    (r"multi_query_group_num", "chatglm"),
    (r"qkv_bias", "qwen2_moe"),
)  # fmt: skip
"""Fields that only some model types have, with these types; elsewhere their meaning is unknown."""


def foreign(model_type: str, name: str) -> bool:
    """True if a field belongs only to other checked model types."""
    return any(
        re.fullmatch(pattern, name) is not None and model_type not in owners.split()
        for pattern, owners in OWNERS
    )


def kind_of(model_type: object) -> Kind:
    """The kind of a model type; Llama's for one that was not checked."""
    return KINDS.get(str(model_type), KINDS["llama"])
