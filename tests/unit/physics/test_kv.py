"""KV bytes, capacity against what vLLM reported, users that fit."""

from __future__ import annotations

import pytest

import published
from rocbench.physics import kv
from rocbench.physics.layout import Layout, kv_dtype
from rocbench.settings import catalog
from rocbench.settings.schema import Checkpoint
from rocbench.units import GIB

MI325X, MI355X, CPU = (catalog.hardware(name) for name in ("mi325x", "mi355x", "cpu"))
FP8 = Checkpoint(quantization="fp8_block", bits=8, block=(128, 128))


def rank(name: str, **layout: object) -> float:
    """KV bytes per token and rank."""
    return kv.kv_bytes_per_token_per_rank(published.arch(name), Layout(**layout))  # type: ignore[arg-type]


def test_gqa_is_split_over_heads_and_copied_beyond():
    """8 heads over 8 ranks are an eighth each; 4 heads over 8 ranks are a quarter each, twice in total."""
    assert rank("llama-3.1-405b", tp=8) == 516_096 / 8
    assert rank("llama-3.1-405b", tp=8, kv_dtype="fp8") == 516_096 / 16
    assert rank("qwen3-235b", tp=8) == rank("qwen3-235b", tp=4) == 192_512 / 4


def test_mla_is_whole_on_every_rank_unless_dcp():
    """The latent does not shrink with tp; decode context parallelism shares it out."""
    assert rank("deepseek-v3", tp=8) == rank("deepseek-v3", tp=1) == 70_272
    assert rank("deepseek-v3", tp=8, dcp=8) == 70_272 / 8
    assert rank("deepseek-v3", tp=8, pp=2) == 70_272 / 2


def test_sparse_attention_adds_its_indexer():
    """132 bytes for each layer with an indexer, whatever the cache's precision."""
    assert rank("deepseek-v3.2", tp=8) == 70_272 + 8_052
    assert rank("deepseek-v3.2", tp=8, kv_dtype="fp8_ds_mla") == 61 * (656 + 132)
    assert rank("glm-5.2", tp=8, kv_dtype="fp8") == 78 * 576 + 21 * 132
    assert rank("glm-5.2", tp=8, kv_dtype="fp8", mtp=True) == 79 * 576 + 22 * 132


def test_compressed_and_block_sparse_indexers():
    """DeepSeek V4 stores one index key per four tokens of 21 layers, MiniMax M3 a BF16 key in 57 layers."""
    assert kv.indexer_bytes_per_token(published.arch("deepseek-v4-flash")) == 21 * 33
    assert kv.indexer_bytes_per_token(published.arch("minimax-m3")) == 57 * 256


def test_deepseek_v41_shares_its_caches():
    """Entries and keys of four layers: of DeepSeek's FP4 records 890 bytes a token, of ROCm's 584 and 132 bytes 1,790."""
    arch = published.arch("deepseek-v4.1-flash")
    entries, keys = sum(1 / r for r in arch.stored_ratios), kv.index_keys_per_token(arch)
    assert entries * 288 + keys * 68 == 890
    for name in ("auto", "fp8"):
        layout = Layout(tp=4, kv_dtype=kv_dtype(name))
        assert kv.kv_bytes_per_token_per_rank(arch, layout) == 2.5 * (584 + 132)
    held = [kv.sequence_bytes_per_rank(arch, Layout(tp=4), tokens) for tokens in (1000, 1002)]
    assert held[0] == 1000 * 1790 + 40 * 128 * 584
    assert held[1] - held[0] == 2 * 1790


def test_sliding_layers_stop_growing():
    """Half of gpt-oss keeps 128 tokens: a long sequence costs half of the upper bound and a bit."""
    arch, layout = published.arch("gpt-oss-120b"), Layout(tp=8)
    assert kv.sequence_bytes_per_rank(arch, layout, 100) == 100 * 73_728 / 8
    long = kv.sequence_bytes_per_rank(arch, layout, 10_128)
    assert long == pytest.approx((10_128 + 128) / 2 * 73_728 / 8)


def test_linear_layers_keep_a_state():
    """Qwen3.5: 15 of 60 layers have KV; the others hold the same state at any length."""
    arch, layout = published.arch("qwen3.5-397b"), Layout(tp=2)
    assert kv.kv_bytes_per_token(arch) == 2 * 15 * 2 * 256 * 2
    empty, some = (kv.sequence_bytes_per_rank(arch, layout, n) for n in (0, 1000))
    assert empty == 45 * (64 * 128 * 128 + 3 * (2 * 16 * 128 + 64 * 128)) * 4 / 2
    assert some - empty == 1000 * kv.kv_bytes_per_token(arch) / 2


@pytest.mark.parametrize(
    ("name", "hardware", "reported", "within", "derived", "settings"),
    [
        (
            "glm-5.2",
            MI325X,
            1_564_016,
            0.06,
            1_651_056,
            dict(gmu=0.80, length=524_288, seqs=32, kv_dtype="fp8"),
        ),
        (
            "glm-5.2",
            MI355X,
            2_205_424,
            0.01,
            2_218_896,
            dict(gmu=0.80, length=524_288, seqs=32, kv_dtype="fp8"),
        ),
        (
            "glm-5.2",
            MI325X,
            1_477_168,
            0.12,
            1_651_056,
            dict(gmu=0.80, length=524_288, seqs=32, kv_dtype="fp8"),
        ),
        (
            "glm-5.2",
            MI355X,
            2_013_072,
            0.11,
            2_218_896,
            dict(gmu=0.80, length=524_288, seqs=32, kv_dtype="fp8"),
        ),
        (
            "glm-5",
            MI325X,
            1_292_544,
            0.01,
            1_297_376,
            dict(gmu=0.92, length=202_752, seqs=1024, kv_dtype="bf16"),
        ),
        (
            "glm-5",
            MI355X,
            1_587_312,
            0.02,
            1_609_024,
            dict(gmu=0.92, length=202_752, seqs=1024, kv_dtype="bf16"),
        ),
    ],
)
def test_capacity_against_what_recipes_report(name, hardware, reported, within, derived, settings):
    """vLLM's recipes report KV tokens for GLM-5.1, 5.2 and 5.3 (the shape of 5.2) on 8 GPUs of 256 and 288 GiB.

    Recipes vLLM v0.33.0: GLM-5.1.yaml:217-220, GLM-5.2.yaml:286-290, GLM-5.3.yaml:315-320 (MI350X has the
    memory of MI355X). Settings left out are the defaults of 0.28 and 0.29.
    """
    layout = Layout(tp=8, mtp=True, kv_dtype=settings["kv_dtype"], speculative_tokens=5)
    capacity = kv.kv_capacity_tokens(
        published.arch(name),
        FP8,
        hardware,
        layout,
        settings["gmu"],
        max_model_len=settings["length"],
        max_num_batched_tokens=16_384,
        max_num_seqs=settings["seqs"],
        vllm="0.29.0",
    )
    assert capacity.tokens == pytest.approx(reported, rel=within)
    assert capacity.tokens == derived  # as docs/physics.md has it


def test_capacity_items_add_up():
    """All of the HBM is accounted for."""
    capacity = kv.kv_capacity_tokens(published.arch("deepseek-v3"), FP8, MI325X, Layout(tp=8), 0.9)
    parts = (
        capacity.outside
        + capacity.weights
        + capacity.activations
        + capacity.indexer_workspace
        + capacity.graphs
        + capacity.overhead
        + capacity.kv_bytes
    )
    assert parts == pytest.approx(capacity.hbm_bytes)
    assert capacity.tokens % 16 == 0
    assert capacity.tokens * 70_272 <= capacity.kv_bytes


def test_what_does_not_fit_has_no_tokens():
    """DeepSeek V3 on two GPUs leaves nothing; the CPU has no physics at all."""
    arch = published.arch("deepseek-v3")
    tight = kv.kv_capacity_tokens(arch, FP8, MI325X, Layout(tp=2), 0.9)
    assert (tight.tokens, tight.fits, tight.kv_bytes) == (0, False, 0)
    assert kv.kv_capacity_tokens(arch, FP8, CPU, Layout(tp=2), 0.9) is None


def test_users_that_fit():
    """So many sequences of ISL + OSL as their bytes go into the cache."""
    arch, layout = published.arch("llama-3.1-405b"), Layout(tp=8, kv_dtype="fp8", online_fp8=True)
    capacity = kv.kv_capacity_tokens(arch, Checkpoint(), MI325X, layout, 0.9)
    users = kv.users_that_fit(capacity, arch, layout, 2560)
    assert users == int(capacity.kv_bytes / (2560 * 32_256))
    assert users * 2560 <= capacity.tokens + 16
    assert 1500 < users < 3000


def test_memory_that_depends_on_the_version():
    """Indexer logits from 0.23 to 0.29 for sparse models only; graphs count from 0.20 on."""

    def capacity(name, vllm):
        settings = dict(max_num_batched_tokens=16_384, max_model_len=524_288)
        return kv.kv_capacity_tokens(
            published.arch(name), FP8, MI325X, Layout(tp=8), 0.9, vllm=vllm, **settings
        )

    assert capacity("glm-5.2", "0.29.0").indexer_workspace == 32.5 * GIB
    for version in ("0.22.1", "0.30.0", "0.33.0", None):
        assert capacity("glm-5.2", version).indexer_workspace == 0
    assert capacity("deepseek-v3", "0.29.0").indexer_workspace == 0
    assert capacity("deepseek-v3", "0.14.1").graphs == 0
    assert capacity("deepseek-v3", "0.20.2").graphs == capacity("deepseek-v3", None).graphs > 0


@pytest.mark.parametrize(
    ("name", "bytes_"),
    [
        ("auto", 2),
        ("float16", 2),
        ("fp8_e5m2", 1),
        ("int8_per_token_head", 1),
        ("int4_per_token_head", 0.5),
        ("nvfp4_4over6", 0.5),
        ("ultraquant_4bit", 0.5),
        ("turboquant_4bit_nc", 0.5),
        ("turboquant_k3v4_nc", 0.375),
        ("octave_k3v3", 0.375),
    ],
)
def test_bytes_of_each_cache_dtype(name, bytes_):
    """The smaller of two precisions, scales left out: a bound must not be too low."""
    assert Layout(kv_dtype=kv_dtype(name)).kv_bytes_per_element == bytes_
