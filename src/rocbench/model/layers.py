"""The layers of a model: the mixer, the heads and the MLP of each. Pure.

This module reads every published form: lists of words, patterns of letters or digits, intervals with offsets,
per-layer mappings. An unknown word or form is a doubt under the field's name, and the layer counts as plain
attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rocbench.errors import ConfigError
from rocbench.model.hfconfig import Fields
from rocbench.model.mlps import Mlp, mlps_of

MOST_LAYERS = 1000
"""Maximum number of layers. The deepest published model has 126; counting a layer takes 0.1 ms."""
Mixer = Literal["full", "sliding", "chunked", "linear", "parallel", "none"]
"""Attention to all, to a window, within chunks; a state instead of a cache; both of them; no mixer."""

KV_HEADS = (
    "num_key_value_heads",
    "num_kv_heads",
    "n_head_kv",
    "kv_n_heads",
    "multi_query_group_num",
    "num_attention_groups",
)
MAMBA = ("mamba_d_state", "mamba_n_heads", "mamba_num_heads", "ssm_state_size")
"""Fields of models with Mamba layers."""
LIGHTNING = ("minimax", "minimax_text_01", "minimax_m1")
"""Model types with mostly linear layers."""
WORDS: Mapping[str, Mixer] = {
    **dict.fromkeys(("full_attention", "attention", "full", "global_attention", "global", "indexed_attention", "deepseek_sparse_attention", "F", "*"), "full"),
    **dict.fromkeys(("sliding_attention", "sliding_window_attention", "sliding", "local_attention", "local", "swa", "S"), "sliding"),
    "chunked_attention": "chunked",
    **dict.fromkeys(("linear_attention", "linear", "mamba", "mamba2", "conv", "short_conv", "gdn", "kda", "M"), "linear"),
    **dict.fromkeys(("moe", "mlp", "E", "-"), "none"),
}  # fmt: skip
ALONE: Mapping[str, Mlp] = {"moe": "experts", "E": "experts", "mlp": "dense", "-": "dense"}
"""Words for layers with only an MLP; in models that use them, a mixer is also a separate layer."""
WORD_FIELDS = ("layers_block_type", "layer_types", "hybrid_override_pattern", "block_types")
DIGIT_FIELDS: Mapping[str, tuple[Mixer, Mixer]] = {
    "attn_type_list": ("linear", "full"),
    "hybrid_layer_pattern": ("full", "sliding"),
}
"""Lists of 0 and 1, and the meaning of both (MiniMax-Text-01, MiMo V2)."""


@dataclass(frozen=True, slots=True)
class Block:
    """One layer."""

    mixer: Mixer = "full"
    mlp: Mlp = "dense"
    heads: int = 0
    kv_heads: int = 0
    key: int = 0
    """Size of a key (and a query) of one head."""
    value: int = 0
    values: bool = True
    """True if values have their own projection."""
    width: int | None = None
    """Width of its dense MLP, if it differs between layers."""
    linears: int = 0
    """Number of attentions and MLPs replaced by one square matrix each (Nemotron-NAS)."""

    @property
    def attends(self) -> bool:
        """True if it has a KV cache."""
        return self.mixer not in ("linear", "none")


def blocks(fields: Fields) -> tuple[Block, ...]:
    """All layers, in order."""
    configured = _block_configs(fields)
    if configured is not None:
        return configured
    words = _words(fields)
    count = _checked(_count(fields, words))
    mixers, alone = _mixers(fields, words, count)
    mlps = alone or mlps_of(fields, count)
    heads = [_heads(fields, mixer) for mixer in mixers]
    widths = _per_layer(fields, count, "intermediate_size")
    per_layer = _per_layer(fields, count, "num_attention_heads")
    if per_layer:
        heads = [replace(block, heads=n) for block, n in zip(heads, per_layer, strict=True)]
    per_layer = _per_layer(fields, count, *KV_HEADS, "num_key_value_heads_per_layer")
    if per_layer:
        heads = [replace(block, kv_heads=n) for block, n in zip(heads, per_layer, strict=True)]
    return tuple(
        replace(block, mixer=mixer, mlp=mlp, width=widths[i] if widths else None)
        for i, (block, mixer, mlp) in enumerate(zip(heads, mixers, mlps, strict=True))
    )


def _checked(count: int) -> int:
    if count > MOST_LAYERS:
        raise ConfigError(
            f"the model has {count:,} layers; the maximum is {MOST_LAYERS:,}", where="config.json"
        )
    return count


def _words(fields: Fields) -> tuple[str, list[str]] | None:
    """(field, a word for each layer) of the first field that lists them."""
    for name in WORD_FIELDS:
        listed = fields.raw(name)
        if isinstance(listed, str):
            return name, [letter for letter in listed if letter != "|"]
        if isinstance(listed, list | tuple):
            return name, [str(word) for word in listed]
        if listed is not None:
            fields.doubt(name, "is neither a list nor a pattern")
    return None


def _count(fields: Fields, words: tuple[str, list[str]] | None) -> int:
    """Number of layers: as given, else the length of their list."""
    if fields.raw("num_hidden_layers") is None and words is not None:
        return len(words[1])
    count = fields.need("num_hidden_layers")
    if words is not None and len(words[1]) != count and words[0] != "block_types":
        fields.doubt(words[0], f"has {len(words[1])} entries for {count} layers")
    return count


def _mixers(
    fields: Fields, words: tuple[str, list[str]] | None, count: int
) -> tuple[list[Mixer], list[Mlp] | None]:
    """The mixer of each layer, and the MLPs if separate words give them."""
    if words is not None:
        name, listed = words
        unknown = sorted(set(listed) - WORDS.keys())
        if unknown:
            fields.doubt(name, f"has entries that are not understood: {', '.join(map(repr, unknown))}")
        if name == "block_types":  # repeated over the layers
            listed = [listed[i % len(listed)] for i in range(count)] if listed else []
        listed = (listed + ["full"] * count)[:count]
        mixers = [WORDS.get(word, "full") for word in listed]
        every = fields.number("full_attention_interval")
        if every and mixers != ["full" if (layer + 1) % every == 0 else "linear" for layer in range(count)]:
            fields.doubt("full_attention_interval", f"contradicts {name}")
        single = any(word in ALONE for word in listed)
        return _windowed(fields, mixers), [ALONE.get(word, "none") for word in listed] if single else None
    for name, meaning in DIGIT_FIELDS.items():
        digits = fields.listed(name)
        if digits is not None:
            if len(digits) != count or set(digits) - {0, 1}:
                fields.doubt(name, f"is not a list of {count} zeros and ones, one for each layer")
            digits = (digits + [1 if meaning[1] == "full" else 0] * count)[:count]
            return _windowed(fields, [meaning[1] if digit == 1 else meaning[0] for digit in digits]), None
    return _placed(fields, count), None


def _placed(fields: Fields, count: int) -> list[Mixer]:
    """Mixers from numbers: a list of attending layers, an interval, or the rule of a window."""
    settings = fields.part("linear_attn_config")
    linear = settings.get("kda_layers")
    if linear is not None:
        return ["linear" if layer + 1 in set(linear) else "full" for layer in range(count)]
    indices = fields.listed("full_attn_idxs") or fields.listed("attn_layer_indices")
    if indices is not None:
        return ["full" if layer in indices else "linear" for layer in range(count)]
    period = fields.number("attn_layer_period")
    if period:
        first = fields.number("attn_layer_offset") or 0
        return ["full" if layer % period == first else "linear" for layer in range(count)]
    if fields.number("linear_num_value_heads"):
        every = fields.number("full_attention_interval") or 4
        return ["full" if (layer + 1) % every == 0 else "linear" for layer in range(count)]
    if any(fields.number(name) for name in MAMBA):
        return _mamba(fields, count)
    if fields.model_type in LIGHTNING:
        fields.doubt("attn_type_list", "is not given, so the linear layers are unknown")
    return _slid(fields, count)


def _mamba(fields: Fields, count: int) -> list[Mixer]:
    """Mixers from Mamba fields without a list: with attention in each layer (Falcon-H1), or alone (Bamba)."""
    if fields.model_type == "bamba":
        return ["linear"] * count
    if fields.model_type != "falcon_h1":
        fields.doubt("mamba layers", "no field lists them")
    return ["parallel"] * count


def _slid(fields: Fields, count: int) -> list[Mixer]:
    """Full attention, except in layers limited by a window or chunks."""
    if fields.raw("compress_ratios") is not None:  # each layer also has a window
        return ["full"] * count
    window, chunk = fields.number("sliding_window"), fields.number("attention_chunk_size")
    if chunk and not window:
        return _chunked(fields, count)
    if not window or fields.raw("use_sliding_window") is False:
        _pattern(fields, 0)
        return ["full"] * count
    match fields.kind.slides:
        case "all":
            return ["sliding"] * count
        case "half":
            return ["full" if layer % 2 else "sliding" for layer in range(count)]
        case "upper":
            first = fields.number("max_window_layers")
            return [
                "sliding" if layer >= (28 if first is None else first) else "full" for layer in range(count)
            ]
        case "pattern":
            every = _pattern(fields, count)
            return ["full" if every and (layer + 1) % every == 0 else "sliding" for layer in range(count)]
    fields.doubt("sliding_window", "no field says which layers use it")
    return ["full"] * count


def _pattern(fields: Fields, count: int) -> int:
    """n of "all but every n-th layer slide"."""
    pattern = fields.raw("sliding_window_pattern", "_sliding_window_pattern")
    if isinstance(pattern, str):  # "LLLG"
        if set(pattern) <= {"L", "G"} and pattern.endswith("G") and pattern.count("G") == 1:
            return len(pattern)
        if count:
            fields.doubt("sliding_window_pattern", f"is {pattern!r}")
        return 0
    return fields.number("sliding_window_pattern", "_sliding_window_pattern") or fields.kind.pattern


def _chunked(fields: Fields, count: int) -> list[Mixer]:
    """Llama 4: layers with rotary positions attend within chunks; a 0, or every n-th, has none and attends to all."""
    if fields.kind.fills.get("attention_chunk_size") is None:
        fields.doubt("attention_chunk_size", "no field says which layers use it")
        return ["full"] * count
    listed = fields.listed("no_rope_layers")
    every = fields.number("no_rope_layer_interval") or 4
    rotary = listed if listed and len(listed) == count else [(layer + 1) % every for layer in range(count)]
    return ["chunked" if on else "full" for on in rotary]


def _windowed(fields: Fields, mixers: list[Mixer]) -> list[Mixer]:
    """Doubt sliding layers without a given window; mark a window that no layer uses as read."""
    window = fields.number("sliding_window", "sliding_window_size")
    fields.raw("use_sliding_window")
    if "sliding" in mixers:
        fields.raw("sliding_window_size")
        _pattern(fields, 0)
        if not window:
            fields.doubt("sliding_window", "is not given for the sliding layers")
    if "chunked" in mixers and not fields.number("attention_chunk_size"):
        fields.doubt("attention_chunk_size", "is not given for the chunked layers")
    return mixers


def _heads(fields: Fields, mixer: Mixer) -> Block:
    """Heads of one mixer and their sizes, which may differ between sliding and full layers."""
    plain = _plain_heads(fields)
    if mixer == "sliding":
        key = fields.number("swa_head_dim") or plain.key
        return Block(
            heads=fields.number("swa_num_attention_heads", "num_sliding_attention_heads") or plain.heads,
            kv_heads=fields.number("swa_num_key_value_heads") or plain.kv_heads,
            key=key,
            value=fields.number("swa_v_head_dim") or (plain.value if key == plain.key else key),
        )
    if mixer in ("full", "parallel"):
        size = fields.number("global_head_dim") or plain.key
        shared = fields.flag("attention_k_eq_v")
        kv_heads = fields.number("num_global_key_value_heads") if shared else None
        return replace(
            plain,
            kv_heads=kv_heads or plain.kv_heads,
            key=size,
            value=plain.value if size == plain.key else size,
            values=not shared,
        )
    return plain


def _plain_heads(fields: Fields) -> Block:
    heads, hidden = _first_of(fields, "num_attention_heads"), fields.need("hidden_size")
    nope = fields.number("qk_nope_head_dim")
    if nope:
        fields.raw("head_dim")  # of the rotary part, or derived
        fields.raw("qk_head_dim")
        key = nope + (fields.number("qk_rope_head_dim") or 0)
    else:
        key = fields.number("head_dim", "attention_head_dim") or hidden // heads
    value = fields.number("v_head_dim") or key
    return Block(heads=heads, kv_heads=kv_heads(fields) or heads, key=key, value=value)


def kv_heads(fields: Fields) -> int | None:
    """KV heads as published; None if the config has none, which means as many as query heads."""
    nested = fields.part_number("attn_config", "kv_n_heads")
    if nested:
        return nested
    if fields.model_type == "falcon" and not fields.flag("new_decoder_architecture"):
        fields.number(*KV_HEADS)
        return 1 if fields.flag("multi_query", default=True) else None
    if fields.model_type == "gpt_bigcode" and fields.flag("multi_query", default=True):
        return 1
    fields.raw("multi_query")
    if fields.raw("multi_query_attention") is False:
        return None
    counts = fields.raw(*KV_HEADS)
    if isinstance(counts, list | tuple):
        return max((int(n) for n in counts if isinstance(n, int)), default=None)
    return fields.number(*KV_HEADS)


def _first_of(fields: Fields, name: str) -> int:
    """A number, or the maximum of a list with one per layer."""
    value = fields.raw(name)
    if isinstance(value, list | tuple) and value and all(isinstance(n, int) for n in value):
        return max(int(n) for n in value)
    return fields.need(name)


def _per_layer(fields: Fields, count: int, *names: str) -> list[int] | None:
    """A number for each layer, if one of `names` lists them."""
    for name in names:
        counts = fields.listed(name)
        if counts is None:
            continue
        if len(counts) == count and all(isinstance(n, int) and n > 0 for n in counts):
            return [int(n) for n in counts]
        fields.doubt(name, f"is not a list of {count} positive whole numbers")
    return None


def _block_configs(fields: Fields) -> tuple[Block, ...] | None:
    """Nemotron-NAS: each layer's attention and MLP may be cut down, replaced by one matrix, or left out."""
    listed = fields.listed("block_configs")
    if listed is None:
        return None
    heads, hidden = fields.need("num_attention_heads"), fields.need("hidden_size")
    size = fields.number("head_dim") or hidden // heads
    layers = []
    _checked(len(listed))
    for entry in listed:
        attention, mlp = (entry.get(k) if isinstance(entry, Mapping) else None for k in ("attention", "ffn"))
        if not isinstance(attention, Mapping) or not isinstance(mlp, Mapping):
            fields.doubt("block_configs", "has an entry without `attention` and `ffn`")
            layers.append(Block(heads=heads, kv_heads=heads, key=size, value=size, width=4 * hidden))
            continue
        group, multiple = attention.get("n_heads_in_group"), mlp.get("ffn_mult")
        unread = {k for part in (attention, mlp) for k, v in part.items() if v and k not in _NAS_READ}
        if unread:
            fields.doubt("block_configs", f"has keys that are not understood: {', '.join(sorted(unread))}")
        width = mlp.get("intermediate_size") or (multiple and _rounded(int(2 * multiple * hidden / 3)))
        skips = attention.get("no_op") or attention.get("replace_with_linear")
        layers.append(
            Block(
                mixer="none" if skips else "full",
                mlp="none" if mlp.get("no_op") or mlp.get("replace_with_linear") else "dense",
                heads=heads,
                kv_heads=heads // int(group) if group else kv_heads(fields) or heads,
                key=size,
                value=size,
                width=int(width) if width else None,
                linears=sum(bool(part.get("replace_with_linear")) for part in (attention, mlp)),
            )
        )
    if len(layers) != (fields.number("num_hidden_layers") or len(layers)):
        fields.doubt("block_configs", f"has {len(layers)} entries")
    return tuple(layers)


_NAS_READ = {"n_heads_in_group", "no_op", "replace_with_linear", "ffn_mult", "intermediate_size"}


def _rounded(width: int, multiple: int = 256) -> int:
    return -(-width // multiple) * multiple
