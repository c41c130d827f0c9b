"""Storage of a checkpoint's weights, derived from its `config.json`. Pure.

Anything unknown (a method, a format, two precisions together, excluded layers of significant size) is a doubt that names
its key; the bits are then the nearest that the config names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rocbench.errors import BenchError
from rocbench.model import mlps
from rocbench.model.hfconfig import Fields
from rocbench.settings.schema import Checkpoint

Detected = tuple[Checkpoint, list[str]]
"""A checkpoint, and doubts about it."""

LEFT_OUT = (
    "ignore",
    "ignored_layers",
    "modules_to_not_convert",
    "exclude",
    "exclude_modules",
    "llm_int8_skip_modules",
)
"""Keys that list layers of 16 bits."""
LIGHT = re.compile(
    r"norm|embed|(^|[._])(lm_)?head|router|\bgate($|[.$*\\_]*(weight|bias)?$|\.e_score)|_gate\b|e_score|correction_bias|vis(ion|ual)|projector"
    r"|patch_|audio|mtp|eh_proj|conv1d|in_proj_(a|b|ba)\b|indexer|weights_proj|A_log|dt_bias|\bwte\b|\bwpe\b|ffn_gate_inp"
)
"""Modules of insignificant size, or counted at 16 bits in any case."""
ATTENTION = re.compile(r"attn|attention|mixer")
LAYER = re.compile(r"(?:layers|blocks|h)\.(\d+)")
NVFP4_GROUP = 16
MXFP4 = Checkpoint(quantization="mxfp4", bits=4)
MXFP4_BITS = 4.25
"""4 bits, and an 8-bit scale for each 32 weights."""
INT_GROUP = 128
INTEGERS = frozenset("awq awq_marlin gptq gptq_marlin auto_round auto_awq moe_wna16 intel/auto_round".split())
"""Methods whose weights are integers with a scale per group."""
FLOATS = re.compile(r"(?:fp|float|mxfp|mx_fp|nvfp)(\d+)")


def detect_checkpoint(config: Mapping[str, Any]) -> Detected:
    """Return the quantisation in `quantization_config`, and doubts about it."""
    fields = Fields(config)
    settings = fields.raw("quantization_config") or fields.raw("compression_config")
    if not settings:
        return Checkpoint(), []
    stored, doubts = _detect(fields, settings)
    return stored, [f"checkpoint: {doubt}" for doubt in doubts]


def _detect(fields: Fields, settings: object) -> Detected:
    if not isinstance(settings, Mapping):
        return _assumed(f"`quantization_config` is {settings!r}, not a mapping")
    try:
        stored, doubts = _by_method(fields, settings)
        if not 1 <= stored.bits <= 32:
            return _assumed(f"`quantization_config` gives {stored.bits:g} bits per weight, outside 1 to 32")
        return _with_left_out(fields, settings, stored, doubts)
    except (ValueError, TypeError, KeyError, AttributeError, BenchError) as fault:
        return _assumed(f"`quantization_config` could not be read ({fault})")


def _assumed(reason: str, bits: float = 16) -> Detected:
    return Checkpoint(bits=bits), [f"{reason}; {bits:g} bits per weight are assumed"]


def _by_method(fields: Fields, settings: Mapping[str, Any]) -> Detected:
    nested = settings.get("quantization")
    algorithm = str(
        settings.get("quant_algo") or (nested.get("quant_algo") if isinstance(nested, Mapping) else "")
    ).lower()
    method = str(settings.get("quant_method") or algorithm).lower().replace("-", "_")
    match method:
        case "fp8" | "deepseek_v4_fp8" | "fbgemm_fp8" | "ptpc_fp8":
            if "fp4" in (fields.raw("expert_dtype"), settings.get("expert_dtype")):
                return Checkpoint(quantization="mxfp4", bits=4, linear_bits=8), []
            return _fp8(settings.get("weight_block_size"))
        case "mxfp4" | "gpt_oss_mxfp4":
            return MXFP4, []
        case "compressed_tensors":
            return _grouped_layers(settings)
        case _ if method in INTEGERS:
            return _integers(settings, method)
        case "quark":
            return _quark(settings)
        case "bitsandbytes":
            return _bitsandbytes(settings)
        case "hqq":
            return _hqq(settings)
        case "experts_int8":
            return Checkpoint(quantization="none", bits=8, linear_bits=16), []
    if method.startswith("modelopt") or algorithm:
        return _modelopt(settings, algorithm)
    bits = count(_first(settings, "bits", "num_bits", "w_bit", "nbits"))
    return _assumed(
        f"the quantisation method {method!r} is not known", bits or (4 if settings.get("load_in_4bit") else 8)
    )


def count(value: object) -> int | None:
    """Return a number of bits or weights in any spelling (4, 4.0, "4", "4bit", "int4"); None for none.

    Raises:
        ValueError: the value holds no number.
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value)
    number = re.search(r"-?\d+", str(value))
    if number is None:
        raise ValueError(f"{value!r} is not a number")
    return int(number[0])


def _first(settings: Mapping[str, Any], *names: str) -> Any:
    return next((settings[name] for name in names if settings.get(name) is not None), None)


def _fp8(block: object) -> Detected:
    if block is None:
        return Checkpoint(quantization="fp8_channel", bits=8), []
    if (
        isinstance(block, list | tuple)
        and len(block) == 2
        and all(isinstance(n, int) and n > 0 for n in block)
    ):
        return Checkpoint(quantization="fp8_block", bits=8, block=(int(block[0]), int(block[1]))), []
    return Checkpoint(quantization="fp8_channel", bits=8), [f"`weight_block_size` is {block!r}"]


def _whole(bits: int, group: int | None, *, linear_too: bool = True) -> Checkpoint:
    """Integers with a 16-bit scale per group of weights; a group of -1 is one scale per channel, which is not counted."""
    counted = group if group is not None and group > 0 else None
    if bits == 8:
        return Checkpoint(quantization="none", bits=8 + (16 / counted if counted else 0))
    linear = bits + (16 / counted if counted else 0) if linear_too else None
    return Checkpoint(quantization="int4_group", bits=bits, group=counted, linear_bits=linear)


def _integers(settings: Mapping[str, Any], method: str) -> Detected:
    """AWQ, GPTQ and methods with the same storage."""
    bits = count(_first(settings, "bits", "w_bit", "wbits", "num_bits"))
    group = count(_first(settings, "group_size", "q_group_size"))
    doubts = []
    if bits is None or not 2 <= bits <= 8:
        doubts.append(
            f"{method}: the config gives {'no' if bits is None else bits} bits per weight; 4 are assumed"
        )
        bits = 4
    doubts += [
        f"`{name}` gives some layers another precision"
        for name in ("dynamic", "extra_config", "modules_in_block_to_quantize")
        if settings.get(name)
    ]
    return _whole(bits, INT_GROUP if group is None else group), doubts


def _grouped_layers(settings: Mapping[str, Any]) -> Detected:
    """compressed-tensors: groups of layers, each with a format of weights."""
    groups = settings.get("config_groups")
    parts = (
        [part for part in groups.values() if isinstance(part, Mapping)] if isinstance(groups, Mapping) else []
    )
    outer = str(settings.get("format") or "")
    if not parts:
        if "mxfp4" in outer:
            return MXFP4, []
        return _assumed("the compressed-tensors config has no `config_groups`")
    forms = [_weights(part.get("weights"), str(part.get("format") or outer)) for part in parts]
    stored, doubts = max(forms, key=lambda form: form[0].bits)
    if any(form[0] != stored for form in forms):
        names = ", ".join(f"{form[0].bits:g}" for form in forms)
        return stored, [
            *doubts,
            f"the groups of `config_groups` differ ({names} bits); the highest of these numbers is assumed for all groups",
        ]
    return stored, doubts


def _weights(stored: object, form: str) -> Detected:
    """`weights` of one group, of compressed-tensors or ModelOpt."""
    if not isinstance(stored, Mapping):
        return _assumed(f"a group's `weights` is {stored!r}, not a mapping")
    bits, group = count(stored.get("num_bits")), count(stored.get("group_size"))
    kind = str(stored.get("type") or "int")
    if "mxfp4" in form:
        return MXFP4, []
    if bits == 8 and kind == "float":
        return _fp8(stored.get("block_structure"))
    if bits == 4 and kind == "float":
        if group == 32 or "mx" in form:
            return MXFP4, []
        return _nvfp4(group), []
    if bits == 4 and kind == "int":
        by_group = group is not None or str(stored.get("strategy") or "group") == "group"
        return _whole(4, group or 32 if by_group else None), []
    return _assumed(f"the compressed-tensors type {kind}{bits or '?'} is not known", bits or 16)


def _nvfp4(group: int | None) -> Checkpoint:
    """FP4, with an FP8 scale per 16 weights."""
    return Checkpoint(bits=4, group=group or NVFP4_GROUP)


def _modelopt(settings: Mapping[str, Any], algorithm: str) -> Detected:
    groups = settings.get("config_groups")
    if settings.get("quantized_layers") or "mixed" in algorithm:
        return _assumed("`quantized_layers` gives layers different precisions", 8)
    if "mxfp8" in algorithm:
        return Checkpoint(bits=8.25), []
    if "nvfp4" in algorithm or "fp4" in algorithm:
        stored = _nvfp4(count(settings.get("group_size")))
        return stored, ["`quant_algo` NVFP4 is not known to run on this hardware"]
    if algorithm == "fp8" or algorithm.startswith("fp8_pe"):
        return _fp8(settings.get("weight_block_size"))
    if isinstance(groups, Mapping) and groups:
        return _grouped_layers(settings)
    return _assumed(f"`quant_algo` {algorithm!r} is not known", 4 if "4" in algorithm else 8)


def _quark(settings: Mapping[str, Any]) -> Detected:
    """AMD Quark: `global_quant_config.weight`, one entry or several that are applied in turn."""
    nested = settings.get("global_quant_config")
    weight = nested.get("weight") if isinstance(nested, Mapping) else None
    entries = list(weight) if isinstance(weight, list | tuple) else [weight]
    doubts = [
        f"`{name}` gives some layers another precision"
        for name in ("layer_quant_config", "layer_type_quant_config")
        if settings.get(name)
    ]
    read = [entry for entry in entries if isinstance(entry, Mapping)]
    if len(read) < len(entries):
        stored, assumed = _assumed(f"Quark's `weight` is {weight!r}", 8)
        return stored, doubts + assumed
    forms = [_quark_weight(entry) for entry in read]
    # Weights that are quantised twice (FP8, then INT4) are stored in the narrower format.
    stored, unsure = min(forms, key=lambda form: form[0].bits)
    doubts += unsure
    if len(forms) > 1:
        doubts.append(f"Quark's `weight` has {len(forms)} entries; the entry with the fewest bits is assumed")
    return stored, doubts


def _quark_weight(entry: Mapping[str, Any]) -> Detected:
    dtype, scheme = str(entry.get("dtype") or "").lower(), str(entry.get("qscheme") or "").lower()
    group = count(entry.get("group_size"))
    if dtype in ("fp4", "mxfp4", "mx_fp4"):
        return MXFP4, []
    if dtype.startswith("fp8") or dtype in ("float8_e4m3fn", "e4m3"):
        return Checkpoint(quantization="fp8_channel", bits=8), []
    if re.fullmatch(r"u?int\d", dtype):
        bits = count(dtype) or 8
        return _whole(bits, group if "group" in scheme else -1), []
    number = FLOATS.search(dtype)
    return _assumed(f"Quark's dtype {dtype!r} is not known", int(number[1]) if number else 8)


def _bitsandbytes(settings: Mapping[str, Any]) -> Detected:
    """Loaded as NF4 or INT8; the config does not say if the files are quantised."""
    if settings.get("load_in_8bit") and not settings.get("load_in_4bit"):
        return Checkpoint(bits=8), [
            "bitsandbytes INT8: the config does not say whether the weights in the files are already quantised or vLLM quantises them while loading"
        ]
    return _assumed("the scales of bitsandbytes are not counted", 4)


def _hqq(settings: Mapping[str, Any]) -> Detected:
    nested = settings.get("quant_config")
    inner = nested.get("weight_quant_params") if isinstance(nested, Mapping) else None
    inner = inner if isinstance(inner, Mapping) else settings
    bits, group = count(_first(inner, "nbits", "bits")), count(inner.get("group_size"))
    if bits is None:
        return _assumed("the hqq config gives no bits per weight", 8)
    return _whole(bits, group or 64), []


def _with_left_out(
    fields: Fields, settings: Mapping[str, Any], stored: Checkpoint, doubts: list[str]
) -> Detected:
    """Account for layers of 16 bits: attention next to routed experts is small; anything else is a doubt."""
    key, names = _left_out(settings)
    heavy = [name for name in names if LIGHT.search(_last(name)) is None]
    moe = bool(mlps.experts(fields))
    attention = [name for name in heavy if ATTENTION.search(name)]
    method = str(settings.get("quant_method") or "").lower()
    if stored.quantization == "mxfp4" and moe and not attention and method in ("quark", "compressed-tensors"):
        stored = stored.model_copy(update={"linear_bits": stored.linear_bits or MXFP4_BITS})
    if not heavy:
        return stored, doubts
    if any("experts" in name and "shared" not in name for name in heavy):
        return stored, [
            *doubts,
            f"`{key}` excludes routed experts from quantisation ({heavy[0]!r} and others)",
        ]
    if not attention or not _everywhere(attention, fields):
        others = " and others" if heavy[1:] else ""
        return stored, [*doubts, f"`{key}` excludes {heavy[0]!r}{others} from quantisation"]
    if not moe and fields.raw("num_hidden_layers") is not None:
        return stored, [
            *doubts,
            f"`{key}` excludes the attention from quantisation; the bits of the MLPs are assumed for all layers",
        ]
    sixteen = None if stored.quantization in ("int4_group", "mxfp4") else 16.0
    return stored.model_copy(update={"linear_bits": sixteen}), doubts


def _left_out(settings: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the key, and the names of the layers of 16 bits."""
    for key in LEFT_OUT:
        named = settings.get(key)
        if isinstance(named, Iterable) and not isinstance(named, str | Mapping) and named:
            return key, [str(name) for name in named]
    return "", []


def _last(name: str) -> str:
    """Return a module's name after its layer number, without the characters of a pattern."""
    plain = re.sub(r"\\(.)", r"\1", name.removeprefix("re:")).replace(".*", "*")
    return re.split(r"(?:layers|blocks|h)\.(?:\d+|\*)\.", plain)[-1]


def _everywhere(names: Iterable[str], fields: Fields) -> bool:
    """Return True if a name has no layer number, or the names cover all layers."""
    numbers = [LAYER.search(name) for name in names]
    if any(number is None for number in numbers):
        return True
    layers = {int(number[1]) for number in numbers if number is not None}
    total = fields.raw("num_hidden_layers")
    return isinstance(total, int) and layers.issuperset(range(total))
