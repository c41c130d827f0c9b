"""Read fields of a Hugging Face `config.json` under all their names, and record which were read. Pure.

A field that could affect parameters, KV bytes or compute, and that no code reads, is not understood:
`Fields.unread` names it, and every figure from that config is in doubt. This module lists the fields without such an effect.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from rocbench.errors import ConfigError
from rocbench.model.kinds import Switch, kind_of

TEXT_KEYS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Keys of the language model's part in multimodal configs."""

OTHER_KINDS = ("n_head", "n_layer", "n_embd", "num_heads", "num_layers", "d_model", "state_size", "ssm_cfg")
"""Fields with the dimensions of T5 and Mamba kinds."""

LARGEST = 2**32
"""Maximum count or size in a config: positions reach 10 million, and some configs write 2**31 for "no limit"."""

WITHOUT_EFFECT = re.compile(
    # metadata of the file, training and sampling
    r"_.*|architectures|model_type|auto_map|transformers_version|(torch_)?dtype|torchscript|.*_implementation"
    r"|use_cache|return_.*|output_(attentions|hidden_states|router_logits|scores)|id2label|label2id|problem_type"
    r"|finetuning_task|task_specific_params|pruned_heads|prefix|use_bfloat16|tf_legacy_loss|is_decoder|tokenizer.*"
    r"|(?!.*expert|num_|n_).*token(_id|_ids|_index|s)?|.*_token_id_.*|.*dropout(_.*)?|.*_?pdrop|layerdrop|.*_(coef|coeff|loss|alpha)|seq_aux"
    r"|init(ializer)?_(range|std|method|device|config|cutoff_factor)|initializer_.*|.*eps(ilon)?|pretraining_tp|ep_size|tp_plan"
    r"|(min|max)_length|max_new_tokens|do_sample|early_stopping|num_beams|num_beam_groups|diversity_penalty"
    r"|temperature|top_k|top_p|typical_p|repetition_penalty|length_penalty|no_repeat_ngram_size"
    r"|encoder_no_repeat_ngram_size|bad_words_ids|num_return_sequences|exponential_decay_length_penalty"
    r"|suppress_tokens|begin_suppress_tokens|remove_invalid_values|chunk_size_feed_forward|gradient_checkpointing"
    r"|summary_.*|attn_pdrop|bias_dropout_fusion|use_parallel_residual|parallel_attn_output|.*fused_.*|fused?_.*"
    r"|quantization_config|expert_dtype|compression_config|language_model_only|num_reward_heads|num_logits_to_keep|keep_.*"
    # positions: they change numbers, and have no parameters
    r"|(\w+_)?rope_(theta|scaling|parameters|type|pct|percent|ratio|interleave|interleaved|local_base_freq|base|is_neox_style|emb_base)"
    r"|rotary_(dim|pct|percent|emb_base|percentage|emb_fraction|embedding_base)|partial_rotary_factors?|original_max_position_embeddings|initial_context_length"
    r"|max_sequence_length|model_max_length|max_seq_len|seq_length|seq_len|n_ctx|no_rope_layers|no_rope_layer_interval"
    r"|alibi|use_mrope|mrope_.*|position_embedding_type|max_window_layers|use_dynamic_ntk|use_logn_attn|yarn_.*|attn_factor"
    # factors, clamps, activations and the choice of experts
    r"|.*softcap(ping)?|.*_multipliers?|.*scaling(_factor)?|.*_scale|scale_.*|.*_(alpha|beta)_factor|.*_logit_scale|logits?_.*"
    r"|query_pre_attn_scalar|attention_softmax_in_fp32|scale_attn_.*|reorder_and_upcast_attn|clip_qkv|attn_temperature_tuning|floor_scale"
    r"|(\w+_)?(hidden_act|act|activation|hidden_activation|activation_function)|swiglu_(limit|alpha)s?(_shared)?|activation_situ_.*|fp32_.*|.*_in_fp32|.*_fp32_.*"
    r"|scoring_func|score_function|n_group|topk_group|num_expert_group|norm_topk_prob|norm_expert_weight|moe_renormalize|route_scale|route_norm|router_(?!bias)\w+|moe_router_(?!bias)\w+|use_grouped_topk"
    r"|moe_(norm_min|capacity|use_aux_free|gate_act|z_loss\w*|multimodal.*|dropout_prob|use_hard_gate)|topk_method|need_fp32_gate|input_jitter_noise|num_hash_layers"
    r"|shared_expert_overlap|moe_shared_expert_overlap|rescale_prenorm_residual|residual_in_fp32|output_gate_type|index_(local|init)_blocks|indexer_rope_interleave|index_share_for_mtp_iteration"
    r"|hc_(eps|sinkhorn_iters|post_alpha)|mamba_(hidden_act|ssm_cache_dtype|ssm_dtype|chunk_size|norm_before_gate)|use_(mamba_kernels|mambapy|associative_scan|bidirectional_attention|triton\w*|cache_\w+|flash_attn\w*)"
    r"|time_step_(floor|limit|max|min|rank)|chunk_size|block_size|use_gemma_norm|mla_use_nope|mla_scale_\w+|pad_vocab_\w+|train_.*|enable_moe_fp32_combine|enable_lm_head_fp32"
    r"|layernorm_\w+before_\w*|apply_residual_connection_post_layernorm|slow_but_exact|do_layer_norm_before|_remove_final_layer_norm|layer_norm_elementwise_affine|norm_type|hidden_dropout_prob"
    # fields of a vision or audio tower, which is counted separately
    r"|vision_config|(image|video|vision|mm|visual|img|media|patch)_.*|projector_.*|multimodal_.*|.*_placeholder|process_image_mode|ignore_index|spatial_merge_size|use_unified_vision_chunk|vl_.*"
)
"""Fields without effect on parameters, KV bytes or compute of the language model."""
SWITCHES = re.compile(
    r"use_\w+|enable_\w+|\w*_?bias|\w*_?qk_norm\w*|qk_layernorm|is_encoder_decoder|is_encoder|add_\w+|tie_\w+"
    r"|mtp_\w+|attention_k_eq_v|sandwich_norm|parallel_attn|multi_query|\w+_enabled|latent_\w+|attn_output_gate"
    r"|cross_attention_hidden_size|\w+_gate|\w+_adapters?"
)
"""Names of switches, which add nothing when off."""
PARTS: Mapping[str, re.Pattern[str]] = {
    "attn_config": re.compile(r"kv_n_heads|rope\w*|alibi\w*|attn_impl|attn_uses_sequence_id|prefix_lm"),
    "ffn_config": re.compile(
        r"moe_(num_experts|top_k|jitter_eps|loss_weight|normalize_expert_weights)|ffn_(hidden_size|act_fn)"
        r"|uniform_expert_assignment"
    ),
    "linear_attn_config": re.compile(
        r"num_heads|head_dim|short_conv_kernel_size|(kda|full_attn)_layers|use_full_rank_gate|(gate_)?lower_bound|(use_)?safe_gate"
    ),
}
"""Nested settings that are read, with their known keys."""
PLAIN_PARTS = {"attn_type": ("multihead_attention", "grouped_query_attention"), "ffn_type": ("mptmlp",)}
"""Keys of nested settings with the values that change nothing."""
ACTIVATIONS = re.compile(
    r"silu|swish|swiglu|swigluoai|gelu\w*|geglu|relu2?|quick_gelu|xielu|situ|xIELU|squared_relu"
)


class Fields:
    """A config's language-model part (nested `text_config` or the config itself), then the outer fields."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        nested = next((config[key] for key in TEXT_KEYS if isinstance(config.get(key), Mapping)), None)
        if nested is not None and isinstance(nested.get("text_config"), Mapping):
            nested = nested["text_config"]
        self.text: Mapping[str, Any] = nested if nested is not None else config
        self.outer = config
        self.model_type = str(self.text.get("model_type") or config.get("model_type") or "")
        self.kind = kind_of(self.model_type)
        self.read: set[str] = set()
        self.doubts: dict[str, str] = {}
        self.last = ""
        """The last requested name."""

    def doubt(self, name: str, why: str) -> None:
        """Record that a field is not understood; the first reason is kept."""
        self.doubts.setdefault(name, why)

    def names(self, *names: str) -> list[str]:
        """`names`, each after the model type's own name for it."""
        own = self.kind.names
        return [alias for name in names for alias in ((own[name], name) if own.get(name) else (name,))]

    def raw(self, *names: str) -> Any:
        """Value of the first of `names` that is not null, in the text part, then outside; else None.

        An absent field, unlike a null one, has the value that transformers fills in for the model type.
        """
        aliases = self.names(*names)
        self.last = names[0]
        for source in (self.text, self.outer):
            for name in aliases:
                if source.get(name) is not None:
                    self._mark_read(aliases, source[name])
                    return source[name]
        for name in aliases:
            if name in self.kind.fills and name not in self.text:
                return self.kind.fills[name]
        return None

    def _mark_read(self, names: list[str], value: Any) -> None:
        """Mark those of `names` that have this value."""
        for source in (self.text, self.outer):
            self.read.update(name for name in names if name in source and source[name] == value)

    def need(self, *names: str) -> int:
        """A positive whole number that every model needs.

        Raises:
            ConfigError: none of `names` is present, or the value is not a positive whole number.
        """
        value = self.number(*names)
        if value is None:
            others = [name for name in OTHER_KINDS if self.raw(name) is not None]
            if others:
                raise ConfigError(
                    f"model type {self.raw('model_type')!r} is not supported: its config has {', '.join(others)} "
                    f"instead of `{names[0]}`",
                    where="config.json",
                    fix="use a decoder model with attention; its config must have num_attention_heads, num_hidden_layers and hidden_size",
                )
            also = f" (nor {', '.join(names[1:])})" if names[1:] else ""
            raise ConfigError(
                f"the model's config has no `{names[0]}`{also}",
                where="config.json",
                fix="give the checkpoint's complete config.json with its nested text_config, and add the values that "
                "transformers fills in by default",
            )
        if value <= 0:
            raise ConfigError(f"`{names[0]}` is {value}; it must be above 0", where="config.json")
        return value

    def number(self, *names: str) -> int | None:
        """A whole number; None if the config has none of `names`, or a list or mapping (a doubt).

        Raises:
            ConfigError: the value is not a whole number.
        """
        value = self.raw(*names)
        if value is None:
            return None
        if isinstance(value, list | tuple | Mapping):
            self.doubt(self._called(*names), "is not a single number")
            return None
        return whole(value, names[0])

    def _called(self, *names: str) -> str:
        return next((name for name in self.names(*names) if self.text.get(name) is not None), names[0])

    def flag(self, name: str, default: bool = False) -> bool:
        """A switch; `default` if the config does not have it."""
        value = self.raw(name)
        return default if value is None else bool(value)

    def switch(self, setting: Switch) -> bool:
        """A property of the model type: always, never, or by a flag."""
        return self.flag(setting) if isinstance(setting, str) else setting

    def listed(self, name: str) -> list[Any] | None:
        """A list; None if the config has none."""
        value = self.raw(name)
        return list(value) if isinstance(value, list | tuple) else None

    def part(self, name: str) -> Mapping[str, Any]:
        """A nested mapping; empty if absent."""
        value = self.raw(name)
        return value if isinstance(value, Mapping) else {}

    def part_number(self, part: str, name: str) -> int | None:
        """A count in a nested mapping; None if it is absent, or not a number (a doubt)."""
        value = self.part(part).get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST):
            return value
        self.doubt(part, f"its {name} is {value!r:.60}, not a positive whole number")
        return None

    def parts_unread(self) -> dict[str, list[str]]:
        """Unknown keys of nested settings that may have an effect."""
        unknown = {
            part: [
                str(key)
                for key, value in self.part(part).items()
                if not (_adds_nothing(str(key), value) or value is False or value == -1)
                and not known.fullmatch(str(key))
                and not without_effect(str(key))
                and value not in PLAIN_PARTS.get(str(key), ())
            ]
            for part, known in PARTS.items()
            if part in self.read
        }
        return {part: sorted(keys) for part, keys in unknown.items() if keys}

    def unread(self) -> list[str]:
        """Unread fields that may have an effect."""
        sources = [self.text] if self.text is self.outer else [self.text, self.outer]
        return list(
            dict.fromkeys(
                str(name)
                for source in sources
                for name, value in source.items()
                if name not in self.read
                and name not in TEXT_KEYS
                and not _adds_nothing(str(name), value)
                and not without_effect(str(name))
            )
        )


def whole(value: Any, name: str) -> int:
    """A field's value as a whole number.

    Raises:
        ConfigError: it is not one, or is larger than `LARGEST`.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value != int(value):
        raise ConfigError(f"`{name}` is {value!r:.60}; it must be a whole number", where="config.json")
    if abs(value) > LARGEST:
        raise ConfigError(f"`{name}` is {value:.3g}; the maximum is {LARGEST:,}", where="config.json")
    return int(value)


def without_effect(name: str) -> bool:
    """True if a field has no effect on parameters, KV bytes or compute of the language model."""
    return WITHOUT_EFFECT.fullmatch(name) is not None


def _adds_nothing(name: str, value: Any) -> bool:
    """True if a value adds nothing: null, empty, a zero count, or a switch that is off."""
    if value is None or value in ("", [], {}, ()):
        return True
    if value is False:
        return SWITCHES.fullmatch(name) is not None
    return value == 0 and not isinstance(value, bool)
