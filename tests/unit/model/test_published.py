"""Computed against published parameters and KV bytes, for every model whose count is cited."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rocbench.errors import ConfigError
from rocbench.model.architecture import from_config
from rocbench.physics import kv
from rocbench.physics.layout import Layout

TABLE = yaml.load(
    (Path(__file__).parents[2] / "fixtures" / "published_parameters.yaml").read_text(),
    Loader=yaml.CSafeLoader,
)


def within(computed: float, published: float, rounded: float) -> bool:
    """Within 1 %, or half of the last digit that the source gives."""
    return abs(computed - published) <= max(0.01 * published, rounded / 2)


@pytest.mark.parametrize("model", TABLE, ids=lambda model: model["name"])
def test_computed_is_published(model):
    """Total and active parameters and the growth of the KV cache, with no doubt that hides a wrong one."""
    arch = from_config(model["config"])
    assert arch.unknown == ()
    assert within(arch.total_params, model["total"] - model.get("apart", 0), model.get("rounded", 0))
    if "active" in model:
        left_out = {
            "embedding": arch.parts.embedding,
            "embedding and head": arch.parts.embedding + arch.parts.head,
        }
        active = arch.active_params - left_out.get(model.get("without"), 0)
        assert within(active, model["active"], model.get("active_rounded", 0))
    if "kv" in model:
        grown = [kv.sequence_bytes_per_rank(arch, Layout(), tokens) for tokens in (40_000.0, 40_001.0)]
        assert grown[1] - grown[0] == pytest.approx(model["kv"])


def test_the_table_is_long_enough_to_mean_something():
    """Dense, routed, latent, sliding, hybrid and old forms, 40 at least, each with its source."""
    assert len(TABLE) >= 40
    assert all(model["source"] for model in TABLE)
    assert len({model["config"]["model_type"] for model in TABLE if "model_type" in model["config"]}) >= 40


NESTED = [
    (model["config"], part)
    for model in TABLE
    for part in ("attn_config", "ffn_config", "linear_attn_config")
    if part in model["config"]
]


@pytest.mark.parametrize(("config", "part"), NESTED, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize(
    ("key", "value"), [("n_global_heads", 4), ("low_rank", {"a": 1}), ("layers", [1]), ("use_it", True)]
)
def test_a_nested_key_that_is_not_understood_is_a_doubt(config, part, key, value):
    """As for fields of the config itself: it may decide anything."""
    (doubt,) = from_config({**config, part: {**config[part], key: value}}).unknown
    assert doubt == f"{part}: has keys that are not understood: {key}"


@pytest.mark.parametrize(("config", "part"), NESTED, ids=lambda value: str(value)[:30])
def test_a_nested_key_that_is_renamed_is_never_lost_in_silence(config, part):
    """Either the figures stay, or the doubt names the part."""
    whole = from_config(config)
    for key, value in config[part].items():
        settings = {**{k: v for k, v in config[part].items() if k != key}, f"{key}_v2": value}
        try:
            arch = from_config({**config, part: settings})
        except ConfigError:
            continue
        same = (arch.total_params, arch.kv_groups) == (whole.total_params, whole.kv_groups)
        assert same or any(doubt.startswith(part) for doubt in arch.unknown), key


@pytest.mark.parametrize("value", [8.5, "8", -8, True, [8]])
def test_a_nested_count_that_is_none_is_a_doubt(value):
    """It was once ignored silently, and DBRX had six times its KV cache."""
    config = next(model["config"] for model in TABLE if model["name"] == "DBRX")
    arch = from_config({**config, "attn_config": {"kv_n_heads": value}})
    assert any("kv_n_heads" in doubt for doubt in arch.unknown)


@pytest.mark.parametrize(
    ("name", "changes", "doubt"),
    [
        ("MPT-7B", {"attn_config": {"attn_type": "multiquery_attention"}}, "attn_config"),
        ("MPT-7B", {"attn_config": {"qk_ln": True}}, "attn_config"),
        ("MiniMax-Text-01", {"attn_type_list": None}, "attn_type_list"),
        ("DeepSeek-V2", {"kv_lora_rank": None}, "kv_lora_rank"),
        ("Qwen3.5-35B-A3B", {"first_k_dense_replace": 2}, "first_k_dense_replace"),
        ("Llama-3.1-8B", {"num_meta_tokens": 128}, "num_meta_tokens"),
    ],
)
def test_a_change_that_decides_is_a_doubt(name, changes, doubt):
    """By the name of the changed field, inside the language part or outside."""
    config = next(model["config"] for model in TABLE if model["name"] == name)
    assert any(text.startswith(f"{doubt}:") for text in from_config({**config, **changes}).unknown)
