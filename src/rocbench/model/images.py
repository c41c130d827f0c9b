"""Token counts of images. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ImageRule:
    """Rule for the tokens of an image: one per `factor` x `factor` pixels, within the pixel bounds.

    Source: `smart_resize` of transformers' Qwen2VLImageProcessor.
    """

    factor: int
    min_pixels: int
    max_pixels: int
    extra: int = 2
    """Number of start and end marks."""

    def tokens(self, width: int, height: int) -> int:
        """Number of tokens of one image, with its marks."""
        rows, columns = self._grid(height), self._grid(width)
        pixels = rows * columns * self.factor**2
        if pixels > self.max_pixels:
            scale = (height * width / self.max_pixels) ** 0.5
            rows = max(1, int(height / scale / self.factor))
            columns = max(1, int(width / scale / self.factor))
        elif pixels < self.min_pixels:
            scale = (self.min_pixels / (height * width)) ** 0.5
            rows = -int(-height * scale // self.factor)
            columns = -int(-width * scale // self.factor)
        return rows * columns + self.extra

    def _grid(self, pixels: int) -> int:
        return max(1, round(pixels / self.factor))


def image_rule(config: Mapping[str, Any]) -> ImageRule:
    """The rule from patch and merge size; pixel bounds are the processors' defaults.

    Source: `preprocessor_config.json` of Qwen3-VL (4,096 to 16,777,216 pixels); others are assumed to be the same.
    """
    vision = config.get("vision_config")
    vision = vision if isinstance(vision, Mapping) else {}
    patch = _side(vision.get("patch_size")) or 14
    side = _side(vision.get("spatial_merge_size")) or _side(vision.get("merge_kernel_size")) or 2
    return ImageRule(patch * side, 4096, 16_777_216)


def image_tokens(config: Mapping[str, Any], count: int, width: int, height: int) -> int:
    """Prompt tokens of the images of one request; 0 for a model without image input."""
    return count * image_rule(config).tokens(width, height) if config.get("vision_config") else 0


def _side(value: Any) -> int | None:
    """A whole number of pixels or patches, or the first of several; None for any other value."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return first if isinstance(first, int) and not isinstance(first, bool) and 0 < first < 10_000 else None
