"""Profiles written from a config.json."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

import published
from rocbench.cli import app
from rocbench.errors import ConfigError, InputError
from rocbench.model import architecture
from rocbench.newprofile import detect_checkpoint, profile_text
from rocbench.physics import kv
from rocbench.settings import catalog
from rocbench.settings.schema import Checkpoint


@pytest.mark.parametrize("name", published.MODELS)
def test_a_written_profile_describes_the_same_model(name, tmp_path):
    """The YAML is a valid profile whose kept fields derive the same architecture, with both KV figures."""
    config = published.config(name)
    path = tmp_path / "model.yaml"
    path.write_text(profile_text(config, name))
    profile = catalog.model(str(path))
    arch = architecture.from_config(config)
    assert architecture.from_config(profile.config) == arch
    assert profile.name == name
    assert profile.derived.kv_bytes_per_token == kv.kv_bytes_per_token(arch)
    assert profile.derived.indexer_bytes_per_token == kv.indexer_bytes_per_token(arch)
    assert profile.derived.total_params == arch.total_params
    assert profile.checkpoint == published.checkpoint(name)


def test_comments_say_what_could_not_be_told():
    """A reader sees the derived figures, the doubts and what is left to do before the first key."""
    text = profile_text({**published.config("deepseek-v3.2"), "model_type": "novel", "auto_map": {}}, None)
    comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert "70,272 B/token" in comments
    assert "indexer 8,052" in comments
    assert "'novel' was not checked" in comments
    assert "hf_id: not in the config" in comments
    assert "To do" in comments
    data = yaml.safe_load(text)
    assert data["name"] == "novel"
    assert any("hf_id" in doubt for doubt in data["unconfirmed"])


def test_name_and_identity_come_from_the_config():
    """`_name_or_path` gives the id and the name; remote code is seen; noise is left out."""
    config = {**published.config("llama-3.1-405b"), "_name_or_path": "meta-llama/Llama-3.1-405B"}
    text = profile_text({**config, "auto_map": {"AutoConfig": "x"}, "bos_token_id": 1, "use_cache": True})
    data = yaml.safe_load(text)
    assert (data["hf_id"], data["name"]) == ("meta-llama/Llama-3.1-405B", "llama-3.1-405b")
    assert data["trust_remote_code"] is True
    assert not {"bos_token_id", "use_cache", "auto_map"} & set(data["config"])


@pytest.mark.parametrize(
    ("name", "tp", "nodes"),
    [("gpt-oss-120b", 1, 1), ("qwen3-235b", 4, 1), ("deepseek-v3", 8, 1), ("kimi-k3", 8, 1), ("glm-5", 8, 1)],
)
def test_parallelism_follows_the_weights(name, tp, nodes):
    """The fewest GPUs of 256 GiB that leave 40 % to KV; more nodes only where eight GPUs do not hold them."""
    data = yaml.safe_load(profile_text(published.config(name), name))
    assert (data["tp"], data.get("nodes", 1)) == (tp, nodes)


@pytest.mark.parametrize(
    ("quantization", "checkpoint"),
    [
        (None, Checkpoint()),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            Checkpoint(quantization="fp8_block", bits=8, block=(128, 128)),
        ),
        ({"quant_method": "fp8"}, Checkpoint(quantization="fp8_channel", bits=8)),
        ({"quant_method": "mxfp4"}, Checkpoint(quantization="mxfp4", bits=4)),
        (
            {
                "quant_method": "compressed-tensors",
                "ignore": ["re:.*self_attn.*"],
                "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
            },
            Checkpoint(quantization="int4_group", bits=4, group=32),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "ignore": ["lm_head"],
                "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}},
            },
            Checkpoint(quantization="int4_group", bits=4, group=128, linear_bits=4.125),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            Checkpoint(quantization="fp8_channel", bits=8),
        ),
        (
            {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized", "config_groups": {}},
            Checkpoint(quantization="mxfp4", bits=4),
        ),
        (
            {"quant_method": "awq", "bits": 4, "group_size": 64},
            Checkpoint(quantization="int4_group", bits=4, group=64, linear_bits=4.25),
        ),
        (  # one scale a channel
            {"quant_method": "gptq", "bits": 4, "group_size": -1},
            Checkpoint(quantization="int4_group", bits=4, linear_bits=4),
        ),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}}},
            Checkpoint(quantization="mxfp4", bits=4),
        ),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}},
            Checkpoint(quantization="fp8_channel", bits=8),
        ),
    ],
)
def test_quantisations_are_told_apart(quantization, checkpoint):
    """Every way a config.json names its quantisation gives the checkpoint it means."""
    assert detect_checkpoint({"quantization_config": quantization})[0] == checkpoint


def test_mixed_and_unknown_quantisations():
    """V4 keeps FP8 beside FP4 experts; an unknown method is assumed and said."""
    found, doubts = detect_checkpoint(published.config("deepseek-v4-flash"))
    assert (found.quantization, found.linear_bits, doubts) == ("mxfp4", 8, [])
    found, doubts = detect_checkpoint({"quantization_config": {"quant_method": "new", "bits": 3}})
    assert (found.bits, len(doubts)) == (3, 1)
    int8 = {
        "quant_method": "compressed-tensors",
        "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}}},
    }
    for quantization, bits in (
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4),
        ("fp8", 16),
    ):
        found, doubts = detect_checkpoint({"quantization_config": quantization})
        assert (found.bits, len(doubts)) == (bits, 1)
    assert "int8 is not known" in detect_checkpoint({"quantization_config": int8})[1][0]


@pytest.mark.parametrize(
    "fields",
    [
        {"hybrid_override_pattern": "M-*-"},
        {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 16},
        {"mamba_d_state": 256},
    ],
)
def test_a_written_profile_of_a_hybrid_stays_one(fields):
    """What makes it a hybrid is kept: rules for plain attention must not hold for it."""
    plain = published.config("llama-3.1-405b") | {"num_hidden_layers": 4, "model_type": "jamba"} | fields
    written = yaml.safe_load(profile_text(plain))
    assert written["derived"]["family"] == "hybrid"
    assert architecture.from_config(written["config"]).family == "hybrid"


def test_a_config_that_is_no_model_is_refused():
    """Nothing to describe is an error that names the first missing field."""
    with pytest.raises(ConfigError, match="num_attention_heads"):
        profile_text({"model_type": "empty"})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "t5", "d_model": 768, "num_heads": 12}, "'t5' is not supported"),
        (
            {"model_type": "mamba", "hidden_size": 768, "state_size": 16},
            "has state_size instead of `num_attention_heads`",
        ),
        (
            {"model_type": "llama", "hidden_size": 4096},
            "add the values that transformers fills in by default",
        ),
    ],
)
def test_a_model_of_another_kind_is_told_from_a_config_that_is_cut(config, said):
    """The whole config is there; asking for it would mislead."""
    with pytest.raises(ConfigError, match="num_attention_heads") as caught:
        profile_text(config)
    assert said in caught.value.text()


def test_gemma_counts_its_embedding_once():
    """Its configs leave out `tie_word_embeddings`, which is true there; Gemma 3 1B has 999.9M parameters."""
    gemma = {
        "model_type": "gemma3_text",
        "hidden_size": 1152,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "num_hidden_layers": 26,
        "intermediate_size": 6912,
        "vocab_size": 262_144,
    }
    assert architecture.from_config(gemma).total_params == pytest.approx(999.9e6, rel=1e-3)
    assert "Parameters 999.89M, 999.89M active, without MTP layers (0)." in profile_text(gemma)


def test_files_that_cannot_be_read_or_written_end_in_one_message(tmp_path):
    """A folder for a config.json, and a folder that is not there."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(published.config("llama-3.1-405b")))
    for argv, said in (
        ([str(tmp_path)], "is a folder"),
        ([str(config), "--out", str(tmp_path / "none" / "p.yaml")], "cannot be written: No such file"),
    ):
        error = CliRunner().invoke(app, ["profiles", "new", *argv]).exception
        assert isinstance(error, InputError)
        assert said in error.text()


def test_of_a_repeated_key_the_last_value_is_taken_as_transformers_does(tmp_path):
    """The profile says so; files of ours are refused for it."""
    config = tmp_path / "config.json"
    config.write_text('{"vocab_size": 7, ' + json.dumps(published.config("llama-3.1-405b"))[1:])
    done = CliRunner().invoke(app, ["profiles", "new", str(config)])
    assert done.exit_code == 0
    made = yaml.safe_load(done.output)
    assert made["config"]["vocab_size"] == 128_256
    assert "vocab_size: the config has this key more than once; the last value is used" in made["unconfirmed"]
