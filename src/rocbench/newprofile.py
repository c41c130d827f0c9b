"""Write a model profile from a Hugging Face `config.json`. Pure: a mapping in, YAML text out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from rocbench.errors import ConfigError
from rocbench.model.architecture import Architecture, from_config
from rocbench.model.hfconfig import without_effect
from rocbench.model.kinds import kind_of
from rocbench.physics import kv, weights
from rocbench.physics.layout import Layout
from rocbench.settings import yamltext
from rocbench.settings.checkpoints import detect_checkpoint
from rocbench.settings.schema import Checkpoint, Derived, ModelProfile
from rocbench.units import GIB, number, parameters, size

KEPT = re.compile(
    r"architectures|model_type|topk_method|scoring_func|n_group|topk_group|max_position_embeddings|(torch_)?dtype|expert_dtype|seq_length"
    r"|rope_(scaling|parameters|theta)|original_max_position_embeddings|vision_config|use_sliding_window|max_window_layers|no_rope_layers"
    r"|no_rope_layer_interval|.*hidden_act|hidden_activation|activation_function|mamba_ssm_(cache_)?dtype|use_mamba_kernels"
    r"|parallel_attn_output|time_step_rank|spatial_merge_size"
)
"""Fields that are kept although they decide no dimension: the model's name, its limits, and inputs of rules."""
NOT_KEPT = re.compile(r"vision_(start|end).*")
TARGET_HBM = 256 * GIB
WEIGHT_SHARE = 0.6
LABELS = {"none": "bf16", "fp8_block": "fp8", "fp8_channel": "fp8", "int4_group": "int4", "mxfp4": "mxfp4"}


def profile_text(config: Mapping[str, Any], name: str | None = None, repeated: Sequence[str] = ()) -> str:
    """Return a whole profile as YAML, with unknown facts as comments and under `unconfirmed`.

    Args:
        config: the parsed `config.json`.
        name: the profile's name; None derives it from the config.
        repeated: keys that the file has more than once in one object.

    Raises:
        ConfigError: the config lacks a field that every model description needs.
    """
    arch = from_config(config)
    checkpoint, doubts = detect_checkpoint(config)
    twice = [f"{key}: the config has this key more than once; the last value is used" for key in repeated]
    hf_id = str(config.get("_name_or_path") or "")
    named = bool(re.fullmatch(r"[\w.-]+/[\w.-]+", hf_id))
    tp, nodes = _spread(arch, checkpoint)
    profile = _checked(
        name=name or _slug(hf_id.rsplit("/", 1)[-1] or str(config.get("model_type") or arch.model_type)),
        hf_id=hf_id if named else "ORGANISATION/MODEL",
        trust_remote_code=bool(config.get("auto_map")),
        config=_kept(config),
        checkpoint=checkpoint.model_copy(update={"unsure": tuple(doubts)}),
        precision=LABELS[checkpoint.quantization] if not doubts else f"{checkpoint.bits:g} bit",
        tp=tp,
        nodes=nodes,
        max_model_len=arch.max_position_embeddings,
        vocab_size=arch.vocab_size,
        unconfirmed=(*arch.unknown, *doubts, *twice, *([] if named else ["hf_id: not in the config"])),
        derived=Derived(
            family=arch.family,
            total_params=arch.total_params,
            active_params=arch.active_params,
            kv_bytes_per_token=kv.kv_bytes_per_token(arch),
            indexer_bytes_per_token=kv.indexer_bytes_per_token(arch),
        ),
    )
    text = _comments(arch, checkpoint, profile) + _yaml(profile)
    try:
        yamltext.parse(text, "config.json")
    except ConfigError as error:
        raise ConfigError(
            f"the config cannot be written as a profile: {error.what}", where="config.json"
        ) from None
    return text


def _checked(**facts: Any) -> ModelProfile:
    try:
        return ModelProfile(**facts)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        raise ConfigError(
            f"does not make a valid profile: `{key}` {fault['msg']} (got {yamltext.shown(fault['input'])})",
            where="config.json",
        ) from None


def _spread(arch: Architecture, checkpoint: Checkpoint) -> tuple[int, int]:
    """(tp, nodes): the fewest GPUs of 256 GiB on which weights leave 40 % of the memory for KV and activations."""
    size_per_rank = 0.0
    for tp in (1, 2, 4, 8):
        size_per_rank = weights.weight_bytes_per_rank(arch, checkpoint, Layout(tp=tp))
        if arch.num_heads % tp == 0 and size_per_rank <= WEIGHT_SHARE * TARGET_HBM:
            return tp, 1
    return 8, 1 if size_per_rank < 0.9 * TARGET_HBM else 2


def _kept(config: Mapping[str, Any], *, nested: bool = False) -> dict[str, Any]:
    """Return all fields except those known to decide nothing: an unknown field must leave the profile in doubt."""
    filled = kind_of(config.get("model_type")).fills
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if value is None and key not in filled and key != "q_lora_rank":
            continue
        if without_effect(key) and not KEPT.fullmatch(key) and not nested:
            continue
        if NOT_KEPT.fullmatch(key):
            continue
        inner = key.endswith("_config") and isinstance(value, Mapping) and not key.startswith("linear")
        kept[key] = _kept(value, nested=key == "vision_config") if inner else value
    return kept


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _comments(arch: Architecture, checkpoint: Checkpoint, profile: ModelProfile) -> str:
    size_per_rank = weights.weight_bytes_per_rank(arch, checkpoint, Layout(tp=profile.tp))
    params = f"{parameters(arch.total_params)}, {parameters(arch.active_params)} active"
    index = kv.indexer_bytes_per_token(arch)
    lines = [
        f"{profile.name}: written from its config.json by `bench profiles new`.",
        f"Parameters {params}, without MTP layers ({parameters(arch.parts.mtp)}).",
        f"KV cache {number(kv.kv_bytes_per_token(arch), 0)} B/token at 2 bytes per number; indexer {number(index, 0)} B/token.",
        f"Weights {size(size_per_rank)} per GPU at tp {profile.tp}, the smallest tp that leaves 40 % of 256 GiB free.",
    ]
    if profile.unconfirmed:
        lines += ["Unknown or in doubt:", *(f"  - {doubt}" for doubt in profile.unconfirmed)]
    lines.append("To do: `serve` arguments per vLLM version with their source, `gated`, `sources`.")
    return "".join(f"# {line}\n" for line in lines)


class _Dumper(yaml.SafeDumper):
    """Lists of numbers and short words are on one line, other lists over several."""


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
