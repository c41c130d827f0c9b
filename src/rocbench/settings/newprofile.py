"""Write a model profile from a Hugging Face `config.json`. Pure: a mapping in, YAML text out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from rocbench.model import hfconfig
from rocbench.model.architecture import Architecture, from_config
from rocbench.physics import kv, weights
from rocbench.physics.layout import Layout
from rocbench.settings.schema import Checkpoint, Derived, ModelProfile
from rocbench.units import GIB, number, parameters, size

KEPT = re.compile(
    r"architectures|model_type|(text|llm|language|vision)_config|vocab_size|.*hidden_size|.*intermediate_size"
    r"|.*num_(hidden_)?layers|.*heads|.*head_dim|.*lora_rank|.*experts.*|moe_.*|first_k_dense_replace"
    r"|decoder_sparse_step|mlp_only_layers|.*layer_types|layers_block_type|topk_method|use_routing_bias"
    r"|scoring_func|index_.*|indexer_types|sparse_.*|compress_ratios|o_groups|hc_mult|sliding_window"
    r"|use_sliding_window|full_attention_interval|hybrid_override_pattern|mamba_.*|ssm_.*|linear_.*|attn_.*|mla_.*|latent_.*|kda_.*|short_conv.*"
    r"|.*qk_norm.*|.*_bias|max_position_embeddings|tie_word_embeddings|torch_dtype|dtype|expert_dtype"
    r"|num_nextn_predict_layers|num_mtp_modules|mtp_.*|depth|embed_dim|mlp_ratio|.*patch_size"
    r"|.*merge_(size|kernel_size)|deepstack.*|num_position_embeddings|init_pos_emb.*|in_channels|topk_group"
    r"|n_group|num_(key_value|kv)_groups?|rope_scaling|rope_parameters|rope_theta"
)
"""Fields that decide dimensions, parameters, attention or limits. Token ids and training settings are left."""
FIRST_VLLM = {
    "deepseek_v32": "0.11.2",
    "deepseek_v4": "0.20.2",
    "deepseek_v41": "0.30.0",
    "glm_moe_dsa": "0.16.0",
    "kimi_k25": "0.16.0",
    "kimi_k3": "0.27.1",
    "minimax_m3_vl": "0.24.0",
    "qwen3_5_moe": "0.17.1",
}
"""First release whose model registry has the architecture, of those that were read (0.11.2 to 0.33.0)."""
TARGET_HBM = 256 * GIB
WEIGHT_SHARE = 0.6
LABELS = {"none": "bf16", "fp8_block": "fp8", "fp8_channel": "fp8", "int4_group": "int4", "mxfp4": "mxfp4"}


def profile_text(config: Mapping[str, Any], name: str | None = None) -> str:
    """A whole profile as YAML, with what could not be told as comments and under `unconfirmed`.

    Args:
        config: the parsed `config.json`.
        name: the profile's name; None makes one from the config.

    Raises:
        ConfigError: the config lacks a field that no model can be described without.
    """
    arch = from_config(config)
    checkpoint, doubts = detect_checkpoint(config)
    hf_id = str(config.get("_name_or_path") or "")
    named = bool(re.fullmatch(r"[\w.-]+/[\w.-]+", hf_id))
    tp, nodes = _spread(arch, checkpoint)
    profile = ModelProfile(
        name=name or _slug(hf_id.rsplit("/", 1)[-1] or str(config.get("model_type") or arch.model_type)),
        hf_id=hf_id if named else "ORGANISATION/MODEL",
        trust_remote_code=bool(config.get("auto_map")),
        config=_kept(config),
        checkpoint=checkpoint,
        precision=LABELS[checkpoint.quantization] if not doubts else f"{checkpoint.bits:g} bit",
        tp=tp,
        nodes=nodes,
        max_model_len=arch.max_position_embeddings,
        vocab_size=arch.vocab_size,
        vllm_min=FIRST_VLLM.get(str(config.get("model_type"))),
        unconfirmed=(*arch.unknown, *doubts, *([] if named else ["hf_id: not in the config"])),
        derived=Derived(
            family=arch.family,
            total_params=arch.total_params,
            active_params=arch.active_params,
            kv_bytes_per_token=kv.kv_bytes_per_token(arch),
            indexer_bytes_per_token=kv.indexer_bytes_per_token(arch),
        ),
    )
    return _comments(arch, checkpoint, profile) + _yaml(profile)


def detect_checkpoint(config: Mapping[str, Any]) -> tuple[Checkpoint, list[str]]:
    """The checkpoint's quantisation by `quantization_config`, and what of it could not be told.

    Knows fp8 (block or channel), compressed-tensors (INT4 groups, FP8, MXFP4), mxfp4, awq, gptq and quark, and
    `expert_dtype: fp4` beside FP8 (DeepSeek V4).
    """
    fields = hfconfig.Fields(config)
    found = fields.raw("quantization_config")
    if isinstance(found, str):
        return Checkpoint(), [
            f"checkpoint: `quantization_config` is only the word {found!r}; 16 bits assumed"
        ]
    if not isinstance(found, Mapping):
        return Checkpoint(), []
    method = str(found.get("quant_method") or found.get("quant_algo") or "").lower()
    if method in ("fp8", "deepseek_v4_fp8"):
        if fields.raw("expert_dtype") == "fp4":
            return Checkpoint(quantization="mxfp4", bits=4, linear_bits=8), []
        return _fp8(found.get("weight_block_size")), []
    if method == "mxfp4":
        return Checkpoint(quantization="mxfp4", bits=4), []
    if method == "compressed-tensors":
        return _compressed(found)
    if method in ("awq", "gptq"):
        bits, group = int(found.get("bits") or 4), int(found.get("group_size") or 128)
        return _grouped(bits, group), []
    if method == "quark":
        text = str(found)
        if "fp4" in text:
            return Checkpoint(quantization="mxfp4", bits=4), ["checkpoint: which layers Quark left out"]
        if "fp8" in text:
            return Checkpoint(quantization="fp8_channel", bits=8), ["checkpoint: which layers Quark left out"]
    four = found.get("load_in_4bit") or "fp4" in str(found.get("quant_algo")).lower()
    assumed = float(found.get("bits") or found.get("num_bits") or (4 if four else 8))
    doubt = f"checkpoint: quantisation {method!r} is not known; {assumed:g} bits assumed"
    return Checkpoint(bits=assumed), [doubt]


def _fp8(block: object) -> Checkpoint:
    if isinstance(block, list | tuple) and len(block) == 2:
        return Checkpoint(quantization="fp8_block", bits=8, block=(int(block[0]), int(block[1])))
    return Checkpoint(quantization="fp8_channel", bits=8)


def _grouped(bits: int, group: int, *, linear_too: bool = True) -> Checkpoint:
    """Integers with a 16-bit scale for each group of weights; -1 is one scale a channel, too few to count."""
    linear = bits + (16 / group if group > 0 else 0) if linear_too else None
    held = group if group > 0 else None
    return Checkpoint(quantization="int4_group", bits=bits, group=held, linear_bits=linear)


def _compressed(found: Mapping[str, Any]) -> tuple[Checkpoint, list[str]]:
    groups = found.get("config_groups") or {}
    first: Mapping[str, Any] = next(iter(groups.values()), {}) if isinstance(groups, Mapping) else {}
    stored: Mapping[str, Any] = first.get("weights") or {}
    bits, kind = int(stored.get("num_bits") or 0), str(stored.get("type") or "int")
    layout = str(first.get("format") or found.get("format") or "")
    if "mxfp4" in layout:
        return Checkpoint(quantization="mxfp4", bits=4), []
    if bits == 8 and kind == "float":
        return _fp8(stored.get("block_structure")), []
    if bits == 4 and kind == "int":
        group = int(stored.get("group_size") or 32)
        kept = any("attn" in str(entry) for entry in found.get("ignore") or ())
        return _grouped(bits, group, linear_too=not kept), []
    doubt = f"checkpoint: compressed-tensors {kind}{bits or '?'} is not known; {bits or 16} bits assumed"
    return Checkpoint(bits=bits or 16), [doubt]


def _spread(arch: Architecture, checkpoint: Checkpoint) -> tuple[int, int]:
    """(tp, nodes): the fewest GPUs of 256 GiB whose weights leave 40 % of them to KV and activations."""
    for tp in (1, 2, 4, 8):
        held = weights.weight_bytes_per_rank(arch, checkpoint, Layout(tp=tp))
        if arch.num_heads % tp == 0 and held <= WEIGHT_SHARE * TARGET_HBM:
            return tp, 1
    held = weights.weight_bytes_per_rank(arch, checkpoint, Layout(tp=8))
    return 8, 1 if held < 0.9 * TARGET_HBM else 2


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if value is None or not KEPT.fullmatch(key):
            continue
        nested = key.endswith("_config") and isinstance(value, Mapping)
        kept[key] = _kept(value) if nested and not key.startswith("linear") else value
    return kept


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _comments(arch: Architecture, checkpoint: Checkpoint, profile: ModelProfile) -> str:
    held = weights.weight_bytes_per_rank(arch, checkpoint, Layout(tp=profile.tp))
    params = f"{parameters(arch.total_params)}, {parameters(arch.active_params)} active"
    index = kv.indexer_bytes_per_token(arch)
    lines = [
        f"{profile.name}: written from its config.json by `bench profiles new`.",
        f"Parameters {params}; MTP layers ({parameters(arch.mtp_params)}) left out.",
        f"KV {number(kv.kv_bytes_per_token(arch), 0)} B/token at 2 bytes a number, indexer {number(index, 0)}.",
        f"Weights {size(held)} per GPU at tp {profile.tp}, the least that leaves 40 % of 256 GiB free.",
    ]
    if profile.unconfirmed:
        lines += ["Could not be told:", *(f"  - {doubt}" for doubt in profile.unconfirmed)]
    lines.append("To do: `serve` arguments per vLLM version with their source, `gated`, `sources`.")
    return "".join(f"# {line}\n" for line in lines)


class _Dumper(yaml.SafeDumper):
    """Lists of numbers and short words on one line, everything else over several."""


def _sequence(dumper: _Dumper, data: list[Any] | tuple[Any, ...]) -> yaml.SequenceNode:
    short = all(isinstance(entry, int | float) or len(str(entry)) < 30 for entry in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", list(data), flow_style=short)


_Dumper.add_representer(list, _sequence)
_Dumper.add_representer(tuple, _sequence)


def _yaml(profile: ModelProfile) -> str:
    data = profile.model_dump(exclude_defaults=True, exclude_none=True)
    if profile.derived is not None:
        data["derived"] = {k: _whole(v) for k, v in profile.derived.model_dump(exclude_none=True).items()}
    data["tp"] = profile.tp  # shown even where it is the default
    ordered = {key: data[key] for key in ModelProfile.model_fields if key in data}
    return yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, width=110, default_flow_style=False)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
