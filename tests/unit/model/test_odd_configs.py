"""An impossible config.json is an error that names the field: nothing hangs, overflows or ends in a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rocbench.errors import ConfigError
from rocbench.model import images
from rocbench.model.architecture import from_config
from rocbench.newprofile import profile_text

CONFIGS = Path(__file__).parents[2] / "fixtures/hf_configs"
LLAMA = json.loads((CONFIGS / "llama-3.1-405b.json").read_text(encoding="utf-8"))
SPARSE = json.loads((CONFIGS / "deepseek-v3.2.json").read_text(encoding="utf-8"))
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"num_hidden_layers": 10**30}, "`num_hidden_layers` is 1e+30; the maximum is 4,294,967,296"),
    ({"num_hidden_layers": 10**6}, "1,000,000 layers; the maximum is 1,000"),
    ({"num_hidden_layers": 0}, "`num_hidden_layers` is 0"),
    ({"num_hidden_layers": -3}, "`num_hidden_layers` is -3"),
    ({"num_hidden_layers": float("inf")}, "`num_hidden_layers` is inf"),
    ({"num_hidden_layers": float("nan")}, "`num_hidden_layers` is nan"),
    ({"num_hidden_layers": "x" * 5000}, "it must be a whole number"),
    ({"vocab_size": 10**19}, "`vocab_size`"),
    ({"layer_types": ["full_attention"] * 3000, "num_hidden_layers": None}, "3,000 layers"),
    ({"block_configs": [{}] * 3000}, "3,000 layers"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "why"), REFUSED, ids=[why[:40] for _, why in REFUSED])
def test_what_cannot_be_counted_with_is_refused(change: dict[str, Any], why: str) -> None:
    """In one message that names the file."""
    with pytest.raises(ConfigError) as caught:
        from_config(LLAMA | change)
    assert why in caught.value.what
    assert caught.value.where == "config.json"
    assert len(caught.value.text()) < 300


@pytest.mark.parametrize(
    "change",
    [
        {"compress_ratios": [None]}, {"compress_ratios": ["fp8"]}, {"index_topk_pattern": 7},
        {"sparse_attention_config": {"sparse_topk_blocks": "x"}}, {"linear_attn_config": {"kda_layers": 7}},
    ],
)  # fmt: skip
def test_a_nested_value_of_the_wrong_kind_is_refused_by_name(change: dict[str, Any]) -> None:
    """Of the field that was read last."""
    with pytest.raises(ConfigError, match=r"has an impossible value") as caught:
        from_config(SPARSE | change)
    assert next(iter(change)).split("_")[0] in caught.value.what


def test_names_and_towers_of_the_wrong_kind_are_left_out() -> None:
    """They decide nothing that must be known."""
    assert from_config(LLAMA | {"architectures": 7}).architectures == ()
    assert from_config(LLAMA | {"architectures": [["a"], "b"]}).architectures == ("b",)
    assert images.image_rule({"vision_config": []}).factor == images.image_rule({}).factor == 28
    assert images.image_rule({"vision_config": {"patch_size": "x", "merge_kernel_size": [3]}}).factor == 42


@pytest.mark.parametrize(
    "config", [LLAMA | {"x": "\0"}, LLAMA | {"y" * 300: 1}, LLAMA | {"max_position_embeddings": 10**9}]
)
def test_no_profile_is_written_that_cannot_be_read(config: dict[str, Any]) -> None:
    """A control character, a key beyond bounds, a context of a thousand million tokens."""
    with pytest.raises(
        ConfigError, match=r"the config cannot be written as a profile|not make a valid profile"
    ):
        profile_text(config)


def test_the_same_config_is_derived_once() -> None:
    """A plan asks for it in each cell."""
    assert from_config(dict(LLAMA)) is from_config(dict(LLAMA))
    assert from_config(LLAMA | {"num_hidden_layers": 3}) is not from_config(LLAMA)
