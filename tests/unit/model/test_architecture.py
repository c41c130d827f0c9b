"""What a config.json says of a model, held against published figures."""

from __future__ import annotations

import pytest

import published
from rocbench.errors import ConfigError
from rocbench.model.architecture import from_config
from rocbench.physics import kv

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 4096,
}
TINY_DEEPSEEK = {
    "model_type": "deepseek_v3",
    "hidden_size": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 64,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "topk_method": "noaux_tc",
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 0,
    "vocab_size": 4096,
}


@pytest.mark.parametrize("name", published.MODELS)
def test_parameters_agree_with_what_is_published(name):
    """Attention family, total and active parameters of every model, and KV bytes per token where they are known."""
    known, arch = published.MODELS[name], published.arch(name)
    assert arch.family == known.family
    assert arch.total_params / 1e9 == pytest.approx(known.total, rel=min(known.within, 0.02))
    assert arch.active_params / 1e9 == pytest.approx(known.active, rel=known.within)
    if known.kv is not None:
        assert kv.kv_bytes_per_token(arch) == known.kv
        assert kv.indexer_bytes_per_token(arch) == known.indexer


def test_a_small_llama_is_counted_to_the_last_parameter():
    """Embedding, head, q, k, v, o, three MLP matrices and the norms, by hand."""
    layer = 64 * 128 + 2 * 64 * 64 + 128 * 64 + 3 * 64 * 128 + 2 * 64
    assert from_config(LLAMA).total_params == 2 * 4096 * 64 + 2 * layer + 64
    assert from_config({**LLAMA, "tie_word_embeddings": True}).total_params == 4096 * 64 + 2 * layer + 64


def test_a_small_mla_model_is_counted_to_the_last_parameter():
    """MLA projections with their norms, one dense layer, one of experts with its router, bias and shared one."""
    mla = 64 * 64 + 64 + 64 * 4 * 192 + 64 * 576 + 512 + 512 * 4 * 256 + 4 * 128 * 64 + 2 * 64
    experts = 4 * 3 * 64 * 64 + 3 * 64 * 64 + 4 * 64 + 4
    arch = from_config(TINY_DEEPSEEK)
    assert arch.total_params == 2 * 4096 * 64 + 2 * mla + 3 * 64 * 128 + experts + 64
    assert arch.total_params - arch.active_params == 2 * 3 * 64 * 64
    assert (arch.num_kv_heads, arch.head_dim) == (1, 192)


def test_fp8_block_scales_explain_the_rest_of_minimax_m2():
    """The checkpoint's tensor count, 228,703,644,928, is our count plus one scale per 128 x 128 block."""
    arch = published.arch("minimax-m2")
    p = arch.parts
    scales = (p.attention + p.kv_projection + p.routed_experts) / 128**2
    assert arch.total_params + scales == pytest.approx(228_703_644_928, rel=1e-6)


def test_nested_configs_read_the_language_model():
    """Kimi-K2.5 keeps its dimensions in text_config and counts like Kimi-K2; its tower is apart."""
    nested, plain = published.arch("kimi-k2.5"), published.arch("kimi-k2")
    assert nested.total_params == plain.total_params
    assert nested.model_type == "kimi_k2"
    assert nested.vision
    assert not plain.vision
    assert nested.vision_merge == 2
    assert nested.vision_params / 1e6 == pytest.approx(471, rel=0.01)


def test_vision_of_the_small_qwen_models():
    """The tiny models' towers are counted: attention, MLP, merger and deepstack mergers."""
    tower = {"depth": 2, "embed_dim": 64, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    arch = from_config(
        {**LLAMA, "model_type": "qwen2_vl", "vision_config": tower | {"spatial_merge_size": 2}}
    )
    block = 4 * 64 * 64 + 4 * 64 + 2 * 64 * 128 + 128 + 64 + 4 * 64
    merger = 256 * 256 + 256 + 256 * 64 + 64 + 128
    assert arch.vision_params == 2 * block + 3 * 14 * 14 * 64 + merger


def test_glm_52_shares_its_indexers():
    """78 layers, of which 21 choose tokens themselves; the frequency says the same as the list."""
    assert published.arch("glm-5").indexer_layers == 78
    assert published.arch("glm-5.2").indexer_layers == 21
    assert published.arch("glm-5.2", indexer_types=None).indexer_layers == 21
    pattern = "FSSS" * 19 + "FS"
    assert published.arch("glm-5", index_topk_pattern=pattern).indexer_layers == 20


def test_mla_can_be_switched_off():
    """VLLM_MLA_DISABLE turns a latent cache into one of all heads, parameters the same."""
    arch = from_config(published.config("deepseek-v3"), mla_disabled=True)
    assert (arch.family, arch.num_kv_heads, arch.mla) == ("mha", 128, False)
    assert arch.total_params == published.arch("deepseek-v3").total_params
    assert kv.kv_bytes_per_token(arch) == 2 * 61 * 128 * 192 * 2


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        ({"num_key_value_heads": 1}, "mqa"),
        ({"num_key_value_heads": 4}, "mha"),
        ({"num_key_value_heads": None}, "mha"),
        ({"num_key_value_heads": None, "n_head_kv": 2}, "gqa"),
        ({"layer_types": ["mamba", "full_attention"]}, "hybrid"),
        ({"hybrid_override_pattern": "M-*-"}, "hybrid"),  # Nemotron-H
        ({"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 16}, "hybrid"),  # Jamba
        ({"mamba_d_state": 256, "mamba_n_heads": 24}, "hybrid"),  # Falcon-H1: both in each layer
    ],
)
def test_family_follows_the_kv_heads(changes, family):
    """gqa, mha and mqa by the number of KV heads under any of its names, hybrid by its layers."""
    assert from_config({**LLAMA, **changes}).family == family


@pytest.mark.parametrize(
    ("changes", "attending"),
    [
        ({"num_hidden_layers": 32, "attn_layer_period": 8, "attn_layer_offset": 4}, 4),
        ({"num_hidden_layers": 8, "hybrid_override_pattern": "M-M*-M-*"}, 2),
        ({"num_hidden_layers": 8, "mamba_d_state": 256}, 8),
    ],
)
def test_only_attending_layers_of_a_hybrid_keep_kv(changes, attending):
    """Mamba layers, and the MLPs that count as layers, hold none."""
    arch = from_config({**LLAMA, **changes})
    assert kv.kv_bytes_per_token(arch) == attending * 2 * arch.num_kv_heads * arch.head_dim * 2


def test_one_architecture_may_stand_as_text():
    """Not as a list of its letters."""
    assert from_config({**LLAMA, "architectures": "LlamaForCausalLM"}).architectures == ("LlamaForCausalLM",)


def test_sliding_layers():
    """Half of gpt-oss slides over 128 tokens, by its layer types or, without them, by its model type."""
    arch = published.arch("gpt-oss-120b")
    assert (arch.sliding_layers, arch.sliding_window) == (18, 128)
    assert published.arch("gpt-oss-120b", layer_types=None).sliding_layers == 18
    assert from_config({**LLAMA, "sliding_window": 4096, "use_sliding_window": False}).sliding_layers == 0


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_a_missing_dimension_is_named(key):
    """An indispensable field that is missing is an error that names it and says what to do."""
    broken = {k: v for k, v in LLAMA.items() if k != key}
    with pytest.raises(ConfigError, match=f"`{key}`") as fault:
        from_config(broken)
    assert fault.value.fix


V41 = published.config("deepseek-v4.1-flash")["text_config"]


def v41(**changes):
    """DeepSeek-V4.1-Flash with fields of its language part changed; None leaves one out."""
    text = {name: value for name, value in {**V41, **changes}.items() if value is not None}
    return from_config({**published.config("deepseek-v4.1-flash"), "text_config": text})


def test_deepseek_v41_has_few_caches_and_large_tables():
    """4 of 38 compressed layers store entries; the n-gram tables and the drafter are apart; the tower is counted."""
    arch = v41()
    assert arch.unknown == ()
    assert (arch.stored_ratios, arch.indexed_ratios, arch.prompt_layers) == ((2, 2, 2, 1), (2, 2, 2, 1), 20)
    assert arch.parts.tables == (384_006_168 + 384_016_682) * 256
    assert arch.parts.mtp == 0
    assert arch.total_params / 1e9 == pytest.approx(552, rel=0.001)
    assert "196.6 billion" in arch.notes[0]
    assert arch.vision_params / 1e6 == pytest.approx(485, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"kv_source_layer_ids": None}, "kv_source_layer_ids: is not given"),
        ({"index_source_layer_ids": None}, "index_source_layer_ids: is not given"),
        ({"kv_source_layer_ids": [1, 8]}, "kv_source_layer_ids: names a layer without a compression ratio"),
        ({"kv_source_layer_ids": [8, 20]}, "kv_source_layer_ids: leaves out the first layer"),
        ({"index_source_layer_ids": [2, 99]}, "index_source_layer_ids: names a layer without"),
        ({"compress_ratios": [0, 0] + [4] * 38}, "compress_ratios: has unknown ratios: 4"),
        ({"compress_ratios": [0, 0, 2]}, "compress_ratios: has 3 entries for 40 layers"),
        ({"engram_num_embeddings": [384_006_168]}, "engram_num_embeddings: the n-gram tables"),
        ({"engram_head_dim": None}, "engram_num_embeddings: the n-gram tables"),
        ({"engram_rank": 8}, "engram_rank: this field is not understood"),
    ],
)
def test_a_deepseek_v41_that_is_not_described_is_in_doubt(changes, doubt):
    """By the name of the field that decides."""
    assert any(text.startswith(doubt) for text in v41(**changes).unknown)


@pytest.mark.parametrize(("name", "numbers"), [("deepseek-v4-flash", 158e9), ("deepseek-v4-pro", 862e9)])
def test_the_numbers_in_deepseek_v4_s_files(name, numbers):
    """As huggingface.co counts them: FP4 experts in pairs, a scale for each 32 of them, MTP layers too."""
    parts = published.arch(name).parts
    packed = parts.routed_experts + parts.mtp_experts
    other = parts.total + parts.mtp - packed
    assert packed * (1 / 2 + 1 / 32) + other == pytest.approx(numbers, abs=0.6e9)


def test_deepseek_v4_has_no_shared_caches():
    """The field of another type, and another type's ratio, are doubts."""
    shared = published.arch("deepseek-v4-flash", kv_source_layer_ids=[2, 8])
    assert any(text.startswith("kv_source_layer_ids:") for text in shared.unknown)
    halved = published.arch("deepseek-v4-flash", compress_ratios=[0, 0] + [2] * 41)
    assert "compress_ratios: has unknown ratios: 2" in halved.unknown


def test_a_drafter_is_no_mtp_layer():
    """DeepSeek V4 with a DSpark drafter: its layers are of another kind."""
    drafted = published.arch("deepseek-v4-pro", num_nextn_predict_layers=3, dspark_block_size=7)
    assert (drafted.mtp_layers, drafted.parts.mtp, drafted.unknown) == (0, 0, ())


def test_towers_of_other_shapes():
    """Llama 4 and MiniMax M3 to the last parameter that their checkpoints have; without a needed field in doubt."""
    tiles = {
        "hidden_size": 1408, "image_size": 336, "intermediate_size": 5632, "num_hidden_layers": 34, "patch_size": 14,
        "pixel_shuffle_ratio": 0.5, "projector_input_dim": 4096, "projector_output_dim": 4096, "vision_output_dim": 4096,
    }  # fmt: skip
    config = {**LLAMA, "model_type": "llama4", "hidden_size": 5120, "vision_config": tiles}
    assert from_config(config).vision_params == 871_932_416
    clip = {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "patch_size": 14,
        "img_token_compression_config": {"spatial_merge_size": 2, "temporal_patch_size": 2},
    }  # fmt: skip
    m3 = {**published.config("minimax-m3"), "projector_hidden_size": 6144, "vision_config": clip}
    arch = from_config(m3)
    assert (arch.vision_merge, arch.unknown) == (2, ())
    assert (arch.total_params + arch.vision_params) / 1e9 == pytest.approx(427.04, abs=0.001)
    for whole, part in ((config, "image_size"), (m3, "img_token_compression_config")):
        tower = {k: v for k, v in whole["vision_config"].items() if k != part}
        assert (
            "vision_config: the vision tower's dimensions are incomplete"
            in from_config({**whole, "vision_config": tower}).unknown
        )


@pytest.mark.parametrize("value", ["many", 2.5, True, 0, -1])
def test_a_dimension_that_is_no_count_is_refused(value):
    """Text, fractions, booleans, zero and less are no layer counts."""
    with pytest.raises(ConfigError, match="num_hidden_layers"):
        from_config({**LLAMA, "num_hidden_layers": value})


def test_doubts_are_said():
    """A model type that was not checked is in `unknown`; the meaning of figures is in `notes`."""
    assert from_config(LLAMA).unknown == ()
    assert published.arch("deepseek-v3").unknown == ()
    assert "not checked" in from_config({**LLAMA, "model_type": "new_thing"}).unknown[0]
    assert "keep only the last window" in published.arch("gpt-oss-120b").notes[0]
    assert "linear layers" in published.arch("kimi-k3").notes[0]
    assert published.arch("gpt-oss-120b").unknown == published.arch("kimi-k3").unknown == ()
    assert any("no MLA" in doubt for doubt in from_config({**TINY_DEEPSEEK, "model_type": "new"}).unknown)
