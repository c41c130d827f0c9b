"""Image tokens by a model's patches."""

from __future__ import annotations

import pytest

from rocbench.model.images import ImageRule, image_tokens
from rocbench.settings import catalog


def test_images_are_scaled_into_the_pixel_bounds():
    """Too small ones are enlarged, too large ones shrunk."""
    rule = ImageRule(28, 56 * 56, 28 * 28 * 100)
    assert rule.tokens(10, 10) == 4 + 2
    assert rule.tokens(2800, 2800) <= 100 + 2


@pytest.mark.parametrize(
    ("model", "tokens"),
    [("qwen3-vl-235b", 3 * (32 * 32 + 2)), ("kimi-k2.5", 3 * (37 * 37 + 2)), ("llama-3.3-70b", 0)],
)
def test_a_requests_images(model, tokens):
    """Three images of 1024 x 1024: patches of 16 or 14, merged by 2 x 2, and two marks each."""
    assert image_tokens(catalog.model(model).config, 3, 1024, 1024) == tokens
