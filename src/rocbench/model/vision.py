"""Count a vision tower with its projector. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rocbench.model.hfconfig import Fields


class _Tower(NamedTuple):
    """A tower's fields, and its main dimensions."""

    fields: Mapping[str, Any]
    depth: int
    width: int
    inner: int
    patch: int

    def block(self) -> int:
        """A plain block with biases: qkv and a projection, a two-matrix MLP, two norms."""
        width, inner = self.width, self.inner
        qkv = _first(self.fields, "qkv_hidden_size") or width
        return int(4 * width * qkv + 3 * qkv + width + 2 * width * inner + inner + width + 4 * width)


def tower_parameters(config: Fields) -> int | None:
    """Parameters of the vision tower with its projector; None if the config lacks fields."""
    fields = config.outer.get("vision_config")
    if not isinstance(fields, Mapping):
        return 0
    depth = _first(fields, "depth", "vt_num_hidden_layers", "num_hidden_layers")
    width = _first(fields, "embed_dim", "vt_hidden_size", "hidden_size")
    inner = _first(fields, "vt_intermediate_size", "intermediate_size")
    if inner is None and width is not None and _first(fields, "mlp_ratio"):
        inner = int(width * _first(fields, "mlp_ratio"))
    patch = _first(fields, "patch_size") or 14
    if not all(isinstance(n, int) for n in (depth, width, inner, patch)):
        return None
    kind = str(config.outer.get("model_type"))
    if any(_first(fields, name) is None for name in NEEDED.get(kind, ())):
        return None
    count = {"minimax_m3_vl": _clip, "deepseek_v41": _gated, "llama4": _tiles}.get(kind, _plain)
    return int(count(config, _Tower(fields, depth, width, inner, patch)))


def _plain(config: Fields, tower: _Tower) -> int:
    """Patch embedding, positions, blocks, a merger of `merge` x `merge` patches, and Qwen3-VL's deepstack mergers.

    Source: vLLM v0.33.0 qwen2_vl.py, qwen3_vl.py, kimi_k25_vit.py.
    """
    width, fields = tower.width, tower.fields
    out = _first(fields, "out_hidden_size", "text_hidden_size") or config.need("hidden_size")
    frames = _first(fields, "temporal_patch_size") or 1
    merged = width * merge(fields) ** 2
    merger = merged * merged + merged + merged * out + out + 2 * width
    mergers = 1 + len(fields.get("deepstack_visual_indexes") or ())
    grid = (_first(fields, "init_pos_emb_height") or 0) * (_first(fields, "init_pos_emb_width") or 0)
    positions = _first(fields, "num_position_embeddings") or grid
    patches = 3 * frames * tower.patch**2 * width
    return int(tower.depth * tower.block() + patches + positions * width + mergers * merger)


def _clip(config: Fields, tower: _Tower) -> int:
    """MiniMax M3: a projector of two matrices for each patch, and one for each square of patches.

    Source: vLLM v0.33.0 models/minimax_m3/common/vision_tower.py.
    """
    width, out = tower.width, config.need("hidden_size")
    middle = config.number("projector_hidden_size") or out
    frames = tower.fields["img_token_compression_config"].get("temporal_patch_size", 2)
    projector = (width + out) * middle + middle + out
    merger = (out * merge(tower.fields) ** 2 + out) * middle + middle + out
    patches = 3 * frames * tower.patch**2 * width
    return int(tower.depth * tower.block() + patches + 4 * width + projector + merger)


def _gated(config: Fields, tower: _Tower) -> int:
    """DeepSeek V4.1: blocks with a gated MLP without biases, an aligner, three vectors that mark an image.

    Source: vLLM v0.33.0 models/deepseek_v4/common/vision.py, models/deepseek_v41/amd/vl_model.py.
    """
    width, out = tower.width, config.need("hidden_size")
    block = 4 * width * width + 4 * width + 3 * width * tower.inner + 2 * width
    aligner = width * merge(tower.fields) ** 2 * out + out * out + 2 * out
    return int(tower.depth * block + (3 * tower.patch**2 + 1) * width + width + aligner + 3 * out)


def _tiles(config: Fields, tower: _Tower) -> int:
    """Llama 4: blocks over tiles, a shuffle of `merge` x `merge` patches into one, a projector.

    Source: vLLM v0.33.0 model_executor/models/mllama4.py.
    """
    width, fields = tower.width, tower.fields
    middle, out = fields["projector_input_dim"], fields["projector_output_dim"]
    positions = (fields["image_size"] // tower.patch) ** 2 + 1
    shuffle = width * merge(fields) ** 2 * middle + middle * out
    projector = fields["vision_output_dim"] * config.need("hidden_size")
    vectors = (3 * tower.patch**2 + 1 + positions + 4) * width
    return int(tower.depth * tower.block() + vectors + shuffle + projector)


def merge(tower: Mapping[str, Any]) -> int:
    """Side of the square of patches that forms one token."""
    kernel = tower.get("merge_kernel_size")
    if kernel:
        return int(kernel[0])
    if tower.get("pixel_shuffle_ratio"):
        return int(1 / tower["pixel_shuffle_ratio"] + 0.5)
    nested = tower.get("img_token_compression_config")
    nested = nested if isinstance(nested, Mapping) else {}
    return int(
        _first(tower, "spatial_merge_size", "downsample_ratio") or nested.get("spatial_merge_size") or 1
    )


def _first(tower: Mapping[str, Any], *names: str) -> Any:
    return next((tower[name] for name in names if tower.get(name) is not None), None)


NEEDED = {
    "minimax_m3_vl": ("img_token_compression_config",),
    "deepseek_v41": ("downsample_ratio",),
    "llama4": (
        "image_size",
        "pixel_shuffle_ratio",
        "projector_input_dim",
        "projector_output_dim",
        "vision_output_dim",
    ),
}
"""Fields of a tower that its count needs, with depth and widths."""
KNOWN_TOWERS = {
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"),
    *("kimi_k25", "kimi_k3", "kimi_vl", "minimax_m3_vl", "deepseek_v41", "llama4"),
}
"""Model types with a tower count that matches the published one, or vLLM's code where none is published."""


def tower_doubt(config: Fields) -> list[str]:
    """Parts of the tower that are not understood."""
    if tower_parameters(config) is None:
        return ["the vision tower's dimensions are incomplete"]
    kind = str(config.outer.get("model_type"))
    return [] if kind in KNOWN_TOWERS else [f"the vision tower of model type {kind!r} was not checked"]
