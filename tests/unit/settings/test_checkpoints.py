"""Quantisations of published checkpoints by their keys."""

from __future__ import annotations

import pytest

from rocbench.settings.checkpoints import detect_checkpoint

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
FP8 = {"num_bits": 8, "type": "float"}
INT4 = {"num_bits": 4, "type": "int", "group_size": 128}


def detect(**quantization):
    """The checkpoint of a small Llama with this `quantization_config`."""
    return detect_checkpoint({**LLAMA_8B, "quantization_config": quantization})


@pytest.mark.parametrize(
    ("quantization", "stored", "doubted"),
    [
        (  # INT4 weights that were FP8 before
            {
                "quant_method": "quark",
                "global_quant_config": {
                    "weight": [
                        {"dtype": "fp8_e4m3", "qscheme": "per_tensor"},
                        {"dtype": "int4", "qscheme": "per_channel"},
                    ]
                },
            },
            ("int4_group", 4, None),
            True,
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "int4", "qscheme": "per_group", "group_size": 128}},
            },
            ("int4_group", 4, 128),
            False,
        ),
        (  # a name is not searched for words
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}},
                "exclude": ["lm_head", "fp4_adapter"],
            },
            ("fp8_channel", 8, None),
            True,
        ),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}}, "exclude": ["lm_head"]},
            ("mxfp4", 4, None),
            False,
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}},
                "layer_quant_config": {"*mlp*": {}},
            },
            ("fp8_channel", 8, None),
            True,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": FP8}, "group_1": {"weights": INT4}},
            },
            ("fp8_channel", 8, None),
            True,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": INT4}, "group_1": {"weights": INT4}},
            },
            ("int4_group", 4, 128),
            False,
        ),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, ("int4_group", 4, 64), False),
        ({"quant_method": "awq", "bits": "4bit", "group_size": 128}, ("int4_group", 4, 128), False),
        ({"quant_method": "awq", "bits": "four"}, ("none", 16, None), True),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*attn": {}}}, ("int4_group", 4, 128), True),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, ("none", 8, None), False),
        ({"quant_method": "fp8", "ignored_layers": ["model.layers.3.mlp.down_proj"]}, ("fp8_channel", 8, None), True),
        ({"quant_method": "fp8", "modules_to_not_convert": ["lm_head", "model.layers.0.input_layernorm"]}, ("fp8_channel", 8, None), False),
        ({"quant_method": "fp8", "weight_block_size": "all"}, ("fp8_channel", 8, None), True),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {"a": {}}}, ("none", 8, None), True),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, ("fp8_channel", 8, None), False),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ("none", 8, None), True),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, ("int4_group", 4, 64), False),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": "all"}}, ("none", 16, None), True),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": INT4}}, "ignore": ["re:.*self_attn.*"]}, ("int4_group", 4, 128), True),
    ],
)  # fmt: skip
def test_a_form_gives_its_bits_or_a_doubt(quantization, stored, doubted):
    """Scheme, bits and group of a weight; what is mixed, left out or unreadable is said."""
    found, doubts = detect(**quantization)
    assert (found.quantization, found.bits, found.group) == stored
    assert bool(doubts) is doubted
    assert all(doubt.startswith("checkpoint: ") for doubt in doubts)


@pytest.mark.parametrize(
    ("left_out", "linear_bits", "doubted"),
    [
        (["lm_head", "model.layers.0.self_attn*", "model.layers.1.self_attn*"], 16, False),
        (["*.attn.*", "*.ffn.shared_experts.*", "head", "mtp.*"], 16, False),
        (["lm_head"], None, False),
        (["model.layers.0.self_attn*"], None, True),
        (["model.layers.1.mlp.experts*"], None, True),
        (["re:.*shared_experts.*"], None, True),
    ],
)
def test_what_is_left_out_beside_experts(left_out, linear_bits, doubted):
    """Attention of every layer at 16 bits is counted; some of it, or experts, is a doubt."""
    config = {**LLAMA_8B, "model_type": "qwen3_moe", "num_hidden_layers": 2, "num_experts": 8}
    stored = {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": left_out}
    found, doubts = detect_checkpoint({**config, "quantization_config": stored})
    assert (found.linear_bits, bool(doubts)) == (linear_bits, doubted)
