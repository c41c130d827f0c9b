"""Count a vision tower with its projector. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rocbench.model.hfconfig import Fields


def tower_parameters(config: Fields) -> int | None:
    """Parameters of the vision tower with its projector; None if the config lacks fields.

    The tower has plain ViT blocks with biases: patch embedding, positions, per block qkv, projection, a two-matrix
    MLP and two norms; a merger of `merge` x `merge` patches, and Qwen3-VL's deepstack mergers
    (vLLM v0.33.0 qwen2_vl.py, qwen3_vl.py, kimi_k25_vit.py).
    """
    tower = config.outer.get("vision_config")
    if not isinstance(tower, Mapping):
        return 0
    depth = _first(tower, "depth", "vt_num_hidden_layers", "num_hidden_layers")
    width = _first(tower, "embed_dim", "vt_hidden_size", "hidden_size")
    inner = _first(tower, "vt_intermediate_size", "intermediate_size")
    if inner is None and width is not None and _first(tower, "mlp_ratio"):
        inner = int(width * _first(tower, "mlp_ratio"))
    if depth is None or width is None or inner is None:
        return None
    patch, frames = _first(tower, "patch_size") or 14, _first(tower, "temporal_patch_size") or 1
    if not all(isinstance(n, int) for n in (depth, width, inner, patch, frames)):
        return None
    out = _first(tower, "out_hidden_size", "text_hidden_size") or config.need("hidden_size")
    qkv = _first(tower, "qkv_hidden_size") or width
    block = 4 * width * qkv + 3 * qkv + width + 2 * width * inner + inner + width + 4 * width
    merged = width * merge(tower) ** 2
    merger = merged * merged + merged + merged * out + out + 2 * width
    mergers = 1 + len(tower.get("deepstack_visual_indexes") or ())
    grid = (_first(tower, "init_pos_emb_height") or 0) * (_first(tower, "init_pos_emb_width") or 0)
    positions = _first(tower, "num_position_embeddings") or grid
    return int(depth * block + 3 * frames * patch * patch * width + positions * width + mergers * merger)


def merge(tower: Mapping[str, Any]) -> int:
    """Side of the square of patches that forms one token."""
    kernel = tower.get("merge_kernel_size")
    return int(kernel[0]) if kernel else int(tower.get("spatial_merge_size") or 1)


def _first(tower: Mapping[str, Any], *names: str) -> Any:
    return next((tower[name] for name in names if tower.get(name) is not None), None)


KNOWN_TOWERS = {
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"),
    *("kimi_k25", "kimi_k3", "kimi_vl"),
}
"""Model types with a tower count that matches the published one."""


def tower_doubt(config: Fields) -> list[str]:
    """Parts of the tower that are not understood."""
    if tower_parameters(config) is None:
        return ["the vision tower's dimensions are incomplete"]
    kind = str(config.outer.get("model_type"))
    return [] if kind in KNOWN_TOWERS else [f"the vision tower of model type {kind!r} was not checked"]
