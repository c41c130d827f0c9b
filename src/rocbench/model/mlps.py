"""Layers with routed experts and layers with a dense MLP, from a config.json. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from rocbench.model.hfconfig import Fields

Mlp = Literal["dense", "experts", "none"]


def experts(fields: Fields) -> int | None:
    """Routed experts per layer, under vLLM's names (transformers_utils/config.py, v0.33.0), or None."""
    nested = fields.part_number("ffn_config", "moe_num_experts")
    if nested:
        return nested
    if fields.raw("enable_moe_block") is False:
        return None
    names = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts", "num_moe_experts")
    return fields.number(*names) or None


def mlps_of(fields: Fields, count: int) -> list[Mlp]:
    """The MLP of each layer: routed experts or dense."""
    if not experts(fields):
        return ["dense"] * count
    listed = _listed_experts(fields, count)
    first = _from_first(fields, count)
    if listed is None:
        placed = [a and b for a, b in zip(first, _at_intervals(fields, count), strict=True)]
    else:
        placed = listed
        _agree(fields, listed, first, count)
    return ["experts" if on else "dense" for on in placed]


def _agree(fields: Fields, listed: list[bool], first: list[bool], count: int) -> None:
    """Doubt a list and numbers that place the experts differently; filled-in numbers do not count."""
    for name in ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"):
        if fields.text.get(name) is not None and listed != first:
            fields.doubt(name, "contradicts the list of layers with experts")
    every = fields.raw("moe_layer_freq")
    if isinstance(every, int) and every > 1:
        fields.doubt("moe_layer_freq", "contradicts the list of layers with experts")
    step = fields.number("interleave_moe_layer_step")
    if step and fields.text.get("interleave_moe_layer_step") and sum(listed) != count // step:
        fields.doubt("interleave_moe_layer_step", "contradicts the list of layers with experts")


def _listed_experts(fields: Fields, count: int) -> list[bool] | None:
    """Expert layers from a list: `mlp_layer_types`, `moe_layer_freq`, `moe_layers`, `moe_layers_enum`."""
    for name in ("mlp_layer_types", "moe_layer_freq"):
        listed = fields.listed(name)
        if listed is None:
            continue
        unknown = [entry for entry in listed if entry not in ("dense", "sparse", "moe", 0, 1)]
        if unknown or len(listed) != count:
            fields.doubt(name, f"is not a list of {count} entries `dense` or `sparse`, one for each layer")
        return ([entry not in ("dense", 0) for entry in listed] + [True] * count)[:count]
    for name in ("moe_layers", "moe_layers_enum"):
        indices = fields.raw(name)
        if isinstance(indices, str):
            indices = [int(part) for part in indices.split(",") if part.strip().isdigit()]
        if isinstance(indices, list | tuple):
            return [layer in indices for layer in range(count)]
    return None


def _from_first(fields: Fields, count: int) -> list[bool]:
    """Expert layers from a first to a last one (`first_k_dense_replace`, `num_dense_layers`, Ernie's indices)."""
    names = (
        "first_k_dense_replace",
        "moe_first_k_dense_replace",
        "num_dense_layers",
        "moe_layer_start_index",
    )
    first, last = fields.number(*names) or 0, fields.number("moe_layer_end_index")
    last = count - 1 if last is None or last < 0 else last
    return [first <= layer <= last for layer in range(count)]


def _at_intervals(fields: Fields, count: int) -> list[bool]:
    """Expert layers at every n-th layer, by each model type's way of counting, except `mlp_only_layers`."""
    dense: Sequence[Any] = fields.listed("mlp_only_layers") or ()
    every = fields.number("moe_layer_freq") or 1
    period, offset = fields.number("expert_layer_period") or 1, fields.number("expert_layer_offset") or 0
    steps = [
        fields.number(n) or 1
        for n in ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval")
    ]
    return [
        layer not in dense
        and layer % every == 0
        and layer % period == offset % period
        and all((layer + 1) % step == 0 for step in steps)
        for layer in range(count)
    ]
