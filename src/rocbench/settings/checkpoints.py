"""Tell from a `config.json` how a checkpoint's weights are stored. Pure.

What is not understood (a method, a form, two precisions side by side, layers left out that weigh something) is a
doubt by its key; the bits are then the nearest that the config names. Names of layers are never searched for words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rocbench.errors import BenchError
from rocbench.model import mlps
from rocbench.model.hfconfig import Fields
from rocbench.settings.schema import Checkpoint

Found = tuple[Checkpoint, list[str]]

LEFT_OUT = (
    "ignore",
    "ignored_layers",
    "modules_to_not_convert",
    "exclude",
    "exclude_modules",
    "llm_int8_skip_modules",
)
"""Keys that list layers which stay at 16 bits."""
LIGHT = re.compile(
    r"norm|embed|(^|[._])(lm_)?head|router|\bgate($|[.$*\\_]*(weight|bias)?$|\.e_score)|_gate\b|e_score|correction_bias|vis(ion|ual)|projector"
    r"|patch_|audio|mtp|eh_proj|conv1d|in_proj_(a|b|ba)\b|indexer|weights_proj|A_log|dt_bias|\bwte\b|\bwpe\b|ffn_gate_inp"
)
"""Modules that weigh next to nothing, or are counted at 16 bits anyway."""
ATTENTION = re.compile(r"attn|attention|mixer")
LAYER = re.compile(r"(?:layers|blocks|h)\.(\d+)")
NVFP4_GROUP = 16
MXFP4_BITS = 4.25
"""With an 8-bit scale for each 32 weights."""
INT_GROUP = 128
FLOATS = re.compile(r"(?:fp|float|mxfp|mx_fp|nvfp)(\d+)")


def detect_checkpoint(config: Mapping[str, Any]) -> Found:
    """The checkpoint's quantisation by `quantization_config`, and what of it is not understood."""
    fields = Fields(config)
    found = fields.raw("quantization_config") or fields.raw("compression_config")
    if not found:
        return Checkpoint(), []
    if not isinstance(found, Mapping):
        what = f"only the word {found!r}" if isinstance(found, str) else f"{found!r}, no mapping"
        return Checkpoint(), [f"checkpoint: `quantization_config` is {what}; 16 bits assumed"]
    try:
        stored, doubts = _by_method(fields, found)
        if not 1 <= stored.bits <= 32:
            return Checkpoint(), [
                f"checkpoint: `quantization_config` names {stored.bits:g} bits; 16 bits assumed"
            ]
        return _with_left_out(fields, found, stored, doubts)
    except (ValueError, TypeError, KeyError, AttributeError, BenchError) as fault:
        return Checkpoint(), [
            f"checkpoint: `quantization_config` could not be read ({fault}); 16 bits assumed"
        ]


def _by_method(fields: Fields, found: Mapping[str, Any]) -> Found:
    nested = found.get("quantization")
    algorithm = str(
        found.get("quant_algo") or (nested.get("quant_algo") if isinstance(nested, Mapping) else "")
    ).lower()
    method = str(found.get("quant_method") or algorithm).lower().replace("-", "_")
    match method:
        case "fp8" | "deepseek_v4_fp8" | "fbgemm_fp8" | "ptpc_fp8":
            if fields.raw("expert_dtype") == "fp4":
                return Checkpoint(quantization="mxfp4", bits=4, linear_bits=8), []
            return _fp8(found.get("weight_block_size"))
        case "mxfp4" | "gpt_oss_mxfp4":
            return Checkpoint(quantization="mxfp4", bits=4), []
        case "compressed_tensors":
            return _grouped_layers(found)
        case (
            "awq"
            | "awq_marlin"
            | "gptq"
            | "gptq_marlin"
            | "auto_round"
            | "auto_awq"
            | "moe_wna16"
            | "intel/auto_round"
        ):
            return _integers(found, method)
        case "quark":
            return _quark(found)
        case "bitsandbytes":
            return _bitsandbytes(found)
        case "hqq":
            return _hqq(found)
        case "experts_int8":
            return Checkpoint(quantization="none", bits=8, linear_bits=16), []
    if method.startswith("modelopt") or algorithm:
        return _modelopt(found, algorithm)
    assumed = count(_first(found, "bits", "num_bits", "w_bit", "nbits")) or (
        4 if found.get("load_in_4bit") else 8
    )
    return Checkpoint(bits=assumed), [_unknown(method, assumed)]


def _unknown(method: str, bits: float) -> str:
    return f"checkpoint: quantisation {method!r} is not known; {bits:g} bits assumed"


def count(value: object) -> int | None:
    """A number of bits or weights under any of its spellings (4, 4.0, "4", "4bit", "int4"); None where there is none.

    Raises:
        ValueError: there is a value and no number in it.
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value)
    number = re.search(r"-?\d+", str(value))
    if number is None:
        raise ValueError(f"{value!r} is no number")
    return int(number[0])


def _first(found: Mapping[str, Any], *names: str) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _fp8(block: object) -> Found:
    if block is None:
        return Checkpoint(quantization="fp8_channel", bits=8), []
    if (
        isinstance(block, list | tuple)
        and len(block) == 2
        and all(isinstance(n, int) and n > 0 for n in block)
    ):
        return Checkpoint(quantization="fp8_block", bits=8, block=(int(block[0]), int(block[1]))), []
    return Checkpoint(quantization="fp8_channel", bits=8), [f"checkpoint: `weight_block_size` is {block!r}"]


def _whole(bits: int, group: int | None, *, linear_too: bool = True) -> Checkpoint:
    """Integers with a 16-bit scale for each group of weights; -1 is one scale a channel, too few to count."""
    held = group if group is not None and group > 0 else None
    if bits == 8:
        return Checkpoint(quantization="none", bits=8 + (16 / held if held else 0))
    linear = bits + (16 / held if held else 0) if linear_too else None
    return Checkpoint(quantization="int4_group", bits=bits, group=held, linear_bits=linear)


def _integers(found: Mapping[str, Any], method: str) -> Found:
    """AWQ, GPTQ and what is stored like them."""
    bits, group = (
        count(_first(found, "bits", "w_bit", "wbits", "num_bits")),
        count(_first(found, "group_size", "q_group_size")),
    )
    doubts = []
    if bits is None or not 2 <= bits <= 8:
        doubts.append(f"checkpoint: {method} names {'no' if bits is None else bits} bits; 4 assumed")
        bits = 4
    doubts += [
        f"checkpoint: `{name}` gives some layers a precision of their own"
        for name in ("dynamic", "extra_config", "modules_in_block_to_quantize")
        if found.get(name)
    ]
    return _whole(bits, INT_GROUP if group is None else group), doubts


def _grouped_layers(found: Mapping[str, Any]) -> Found:
    """compressed-tensors: groups of layers, each with its weights' form."""
    groups = found.get("config_groups")
    parts = (
        [part for part in groups.values() if isinstance(part, Mapping)] if isinstance(groups, Mapping) else []
    )
    outer = str(found.get("format") or "")
    if not parts:
        if "mxfp4" in outer:
            return Checkpoint(quantization="mxfp4", bits=4), []
        return Checkpoint(), ["checkpoint: compressed-tensors without `config_groups`; 16 bits assumed"]
    forms = [_weights(part.get("weights"), str(part.get("format") or outer)) for part in parts]
    stored, doubts = max(forms, key=lambda form: form[0].bits)
    if any(form[0] != stored for form in forms):
        names = ", ".join(f"{form[0].bits:g}" for form in forms)
        return stored, [
            *doubts,
            f"checkpoint: the groups of `config_groups` differ ({names} bits); the widest is taken for all",
        ]
    return stored, doubts


def _weights(stored: object, form: str) -> Found:
    """One group's `weights` of compressed-tensors or ModelOpt."""
    if not isinstance(stored, Mapping):
        return Checkpoint(), [f"checkpoint: `weights` is {stored!r}; 16 bits assumed"]
    bits, kind, group = (
        count(stored.get("num_bits")),
        str(stored.get("type") or "int"),
        count(stored.get("group_size")),
    )
    if "mxfp4" in form:
        return Checkpoint(quantization="mxfp4", bits=4), []
    if bits == 8 and kind == "float":
        return _fp8(stored.get("block_structure"))
    if bits == 4 and kind == "float":
        if group == 32 or "mx" in form:
            return Checkpoint(quantization="mxfp4", bits=4), []
        return _nvfp4(group)
    if bits == 4 and kind == "int":
        by_group = group is not None or str(stored.get("strategy") or "group") == "group"
        return _whole(4, group or 32 if by_group else None), []
    named = f"{kind}{bits or '?'}"
    return Checkpoint(bits=bits or 16), [
        f"checkpoint: compressed-tensors {named} is not known; {bits or 16} bits assumed"
    ]


def _nvfp4(group: int | None) -> Found:
    """FP4 with an FP8 scale for each 16 weights."""
    return Checkpoint(bits=4, group=group or NVFP4_GROUP), []


def _modelopt(found: Mapping[str, Any], algorithm: str) -> Found:
    groups = found.get("config_groups")
    if found.get("quantized_layers") or "mixed" in algorithm:
        return Checkpoint(bits=8), [
            "checkpoint: `quantized_layers` gives layers precisions of their own; 8 bits assumed"
        ]
    if "mxfp8" in algorithm:
        return Checkpoint(bits=8.25), []
    if "nvfp4" in algorithm or "fp4" in algorithm:
        group = count(found.get("group_size"))
        stored, doubts = _nvfp4(group)
        return stored, [*doubts, "checkpoint: `quant_algo` NVFP4 is not known to run on this hardware"]
    if algorithm == "fp8" or algorithm.startswith("fp8_pe"):
        return _fp8(found.get("weight_block_size"))
    if isinstance(groups, Mapping) and groups:
        return _grouped_layers(found)
    bits = 4 if "4" in algorithm else 8
    return Checkpoint(bits=bits), [
        f"checkpoint: `quant_algo` {algorithm!r} is not known; {bits} bits assumed"
    ]


def _quark(found: Mapping[str, Any]) -> Found:
    """AMD Quark: `global_quant_config.weight`, one entry or several that are applied one after the other."""
    settings = found.get("global_quant_config")
    weight = settings.get("weight") if isinstance(settings, Mapping) else None
    entries = list(weight) if isinstance(weight, list | tuple) else [weight]
    doubts = [
        f"checkpoint: `{name}` gives some layers a precision of their own"
        for name in ("layer_quant_config", "layer_type_quant_config")
        if found.get(name)
    ]
    read = [entry for entry in entries if isinstance(entry, Mapping)]
    if len(read) < len(entries):
        return Checkpoint(bits=8), [*doubts, f"checkpoint: Quark's `weight` is {weight!r}; 8 bits assumed"]
    forms = [_quark_weight(entry) for entry in read]
    # Weights that are quantised twice (FP8, then INT4) are stored as the narrower.
    stored, unsure = min(forms, key=lambda form: form[0].bits)
    if len(forms) > 1:
        unsure = [
            *unsure,
            f"checkpoint: Quark's `weight` has {len(forms)} entries; the narrowest is taken as stored",
        ]
    return stored, [*doubts, *unsure]


def _quark_weight(entry: Mapping[str, Any]) -> Found:
    dtype, scheme = str(entry.get("dtype") or "").lower(), str(entry.get("qscheme") or "").lower()
    group = count(entry.get("group_size"))
    if dtype in ("fp4", "mxfp4", "mx_fp4"):
        return Checkpoint(quantization="mxfp4", bits=4), []
    if dtype.startswith("fp8") or dtype in ("float8_e4m3fn", "e4m3"):
        return Checkpoint(quantization="fp8_channel", bits=8), []
    if re.fullmatch(r"u?int\d", dtype):
        bits = count(dtype) or 8
        return _whole(bits, group if "group" in scheme else -1), []
    number = FLOATS.search(dtype)
    bits = int(number[1]) if number else 8
    return Checkpoint(bits=bits), [f"checkpoint: Quark's dtype {dtype!r} is not known; {bits} bits assumed"]


def _bitsandbytes(found: Mapping[str, Any]) -> Found:
    """Loaded as NF4 or INT8; whether the files are so too is not said."""
    if found.get("load_in_8bit") and not found.get("load_in_4bit"):
        return Checkpoint(bits=8), [
            "checkpoint: bitsandbytes INT8 is quantised while it loads, if the files are not"
        ]
    return Checkpoint(bits=4), ["checkpoint: bitsandbytes is counted without its scales; 4 bits assumed"]


def _hqq(found: Mapping[str, Any]) -> Found:
    settings = found.get("quant_config")
    inner = settings.get("weight_quant_params") if isinstance(settings, Mapping) else None
    inner = inner if isinstance(inner, Mapping) else found
    bits, group = count(_first(inner, "nbits", "bits")), count(inner.get("group_size"))
    if bits is None:
        return Checkpoint(bits=8), ["checkpoint: hqq names no bits; 8 bits assumed"]
    return _whole(bits, group or 64), []


def _with_left_out(fields: Fields, found: Mapping[str, Any], stored: Checkpoint, doubts: list[str]) -> Found:
    """What stays at 16 bits: attention beside routed experts does so at little cost; anything else is a doubt."""
    key, names = _left_out(found)
    heavy = [name for name in names if LIGHT.search(_last(name)) is None]
    moe = bool(mlps.experts(fields))
    attention = [name for name in heavy if ATTENTION.search(name)]
    method = str(found.get("quant_method") or "").lower()
    if stored.quantization == "mxfp4" and moe and not attention and method in ("quark", "compressed-tensors"):
        stored = stored.model_copy(update={"linear_bits": stored.linear_bits or MXFP4_BITS})
    if not heavy:
        return stored, doubts
    if any("experts" in name and "shared" not in name for name in heavy):
        return stored, [*doubts, f"checkpoint: `{key}` leaves out routed experts ({heavy[0]!r} and others)"]
    if not attention or not _everywhere(attention, fields):
        others = " and others" if heavy[1:] else ""
        return stored, [*doubts, f"checkpoint: `{key}` leaves out {heavy[0]!r}{others}"]
    if not moe and fields.raw("num_hidden_layers") is not None:
        return stored, [
            *doubts,
            f"checkpoint: `{key}` leaves out the attention; the MLPs' bits are taken for all",
        ]
    sixteen = None if stored.quantization in ("int4_group", "mxfp4") else 16.0
    return stored.model_copy(update={"linear_bits": sixteen}), doubts


def _left_out(found: Mapping[str, Any]) -> tuple[str, list[str]]:
    """(the key, names of the layers that stay at 16 bits)."""
    for key in LEFT_OUT:
        named = found.get(key)
        if isinstance(named, Iterable) and not isinstance(named, str | Mapping) and named:
            return key, [str(name) for name in named]
    return "", []


def _last(name: str) -> str:
    """A module's name behind its layer's number, with a pattern's signs taken off."""
    plain = re.sub(r"\\(.)", r"\1", name.removeprefix("re:")).replace(".*", "*")
    return re.split(r"(?:layers|blocks|h)\.(?:\d+|\*)\.", plain)[-1]


def _everywhere(names: Iterable[str], fields: Fields) -> bool:
    """Whether names without a layer's number are among them, or numbers of all layers."""
    numbers = [LAYER.search(name) for name in names]
    if any(number is None for number in numbers):
        return True
    found = {int(number[1]) for number in numbers if number is not None}
    total = fields.raw("num_hidden_layers")
    return isinstance(total, int) and found.issuperset(range(total))
