"""Weight bytes on each GPU."""

from __future__ import annotations

import pytest

import published
from rocbench.physics import weights
from rocbench.physics.layout import Layout, from_args
from rocbench.settings.schema import Checkpoint
from rocbench.units import GIB


@pytest.mark.parametrize(
    ("name", "checkpoint", "layout", "gib"),
    [
        ("llama-3.1-405b", Checkpoint(), Layout(tp=8, online_fp8=True), 48),
        ("llama-3.1-405b", Checkpoint(), Layout(tp=8), 94.5),
        ("deepseek-v3.2", published.checkpoint("deepseek-v3.2"), Layout(tp=8), 79),
        ("kimi-k2.5", published.checkpoint("kimi-k2.5"), Layout(tp=8, language_only=True), 69),
        ("kimi-k2.5", published.checkpoint("kimi-k2.5"), Layout(tp=4, language_only=True), 138),
        ("qwen3-235b", Checkpoint(), Layout(tp=8), 55),
    ],
)
def test_weights_per_gpu_of_the_studied_models(name, checkpoint, layout, gib):
    """Known sizes: all bytes over the ranks, and on top the parts that each rank holds whole (up to 3 %)."""
    held = weights.weight_bytes_per_rank(published.arch(name), checkpoint, layout) / GIB
    assert gib * 0.99 <= held <= gib * 1.035


@pytest.mark.parametrize(
    ("checkpoint", "each"),
    [
        (Checkpoint(), 2),
        (Checkpoint(quantization="fp8_block", bits=8, block=(128, 128)), 1 + 4 / 16384),
        (Checkpoint(quantization="fp8_channel", bits=8), 1),
        (Checkpoint(quantization="int4_group", bits=4, group=32), 0.5625),
        (Checkpoint(quantization="int4_group", bits=4, group=128), 0.515625),
        (Checkpoint(quantization="mxfp4", bits=4), 0.53125),
    ],
)
def test_bytes_of_a_quantised_weight(checkpoint, each):
    """Scales are counted with the weights they belong to."""
    assert weights.quantised_bytes(checkpoint) == pytest.approx(each)


def test_int4_of_experts_leaves_the_rest_at_16_bits():
    """Kimi-K2.5's checkpoint is 594 GB: INT4 experts in groups of 32, everything else BF16."""
    arch, checkpoint = published.arch("kimi-k2.5"), published.checkpoint("kimi-k2.5")
    held = weights.items(arch, checkpoint, Layout(language_only=True)).total
    assert held / 1e9 == pytest.approx(594, rel=0.002)


def test_int4_of_a_dense_model_is_all_linears():
    """Without experts a 4-bit checkpoint quantises the linear layers themselves."""
    arch = published.arch("llama-3.1-405b")
    held = weights.items(arch, Checkpoint(quantization="int4_group", bits=4, group=128), Layout())
    assert held.mlp == pytest.approx(arch.parts.dense_mlp * 0.515625)


def test_replicated_parts_stay_whole():
    """MLA down-projections, indexer, router and norms do not shrink with tp; split parts do."""
    arch, checkpoint = published.arch("deepseek-v3.2"), published.checkpoint("deepseek-v3.2")
    one, eight = (weights.items(arch, checkpoint, Layout(tp=tp)) for tp in (1, 8))
    assert eight.replicated == one.replicated
    assert eight.experts == pytest.approx(one.experts / 8)
    assert eight.attention == pytest.approx(one.attention / 8)


def test_few_kv_heads_are_copied():
    """Qwen3-235B has 4 KV heads: at tp 8 each rank holds one of them, twice in all."""
    arch = published.arch("qwen3-235b")
    four, eight = (weights.items(arch, Checkpoint(), Layout(tp=tp)).attention for tp in (4, 8))
    split, kv = arch.parts.attention, arch.parts.kv_projection
    assert (four, eight) == (pytest.approx(2 * (split + kv) / 4), pytest.approx(2 * (split / 8 + kv / 4)))


def test_experts_spread_over_data_parallel_ranks():
    """Routed experts go over tp x dp ranks, attention is copied per data-parallel rank."""
    arch, checkpoint = published.arch("deepseek-v3"), published.checkpoint("deepseek-v3")
    spread = weights.items(arch, checkpoint, Layout(tp=1, dp=8, ep=True))
    whole = weights.items(arch, checkpoint, Layout())
    assert spread.experts == pytest.approx(whole.experts / 8)
    assert spread.attention == whole.attention


def test_vision_tower_is_copied_when_images_are_shared_out():
    """`--mm-encoder-tp-mode data` keeps a whole tower on each rank, else it is split, or not loaded at all."""
    arch = published.arch("qwen3-vl-235b")
    copied = weights.items(arch, Checkpoint(), Layout(tp=8, vision_data_parallel=True)).vision
    assert copied == pytest.approx(8 * weights.items(arch, Checkpoint(), Layout(tp=8)).vision)
    assert weights.items(arch, Checkpoint(), Layout(language_only=True)).vision == 0


def test_pipeline_stages_share_the_layers():
    """Two stages hold half the layers each, and the fuller one either the embedding or the head."""
    arch = published.arch("llama-3.1-405b")
    one, two = (weights.items(arch, Checkpoint(), Layout(pp=pp)) for pp in (1, 2))
    assert two.mlp == one.mlp / 2
    assert two.embedding + two.head == one.embedding


def test_tables_of_n_grams_are_on_the_host_unless_told_otherwise():
    """47.2 GiB a rank at tp 4 if they are on the GPUs, as DeepSeek-V4.1-Flash's recipe says."""
    arch, stored = published.arch("deepseek-v4.1-flash"), published.checkpoint("deepseek-v4.1-flash")
    assert (stored.quantization, stored.linear_bits) == ("mxfp4", 8)
    held = {
        where: weights.items(arch, stored, from_args({"tp": 4, "engram-config": {"cpu_offload": where}}))
        for where in (True, False)
    }
    assert weights.items(arch, stored, from_args({"tp": 4})) == held[True]
    assert held[True].tables == 0
    assert held[False].tables / 2**30 == pytest.approx(47.2, abs=0.05)
    assert weights.checkpoint_bytes(arch, stored) / 1e9 == pytest.approx(510.3 - 7.2, rel=0.005)


def test_mtp_layers_only_when_they_draft():
    """DeepSeek's MTP layer adds its 11.6 B parameters when speculation loads it."""
    arch, checkpoint = published.arch("deepseek-v3"), published.checkpoint("deepseek-v3")
    assert weights.items(arch, checkpoint, Layout()).mtp == 0
    assert weights.items(arch, checkpoint, Layout(mtp=True)).mtp / 1e9 == pytest.approx(11.6, rel=0.01)


def test_checkpoint_bytes_prefers_what_is_stated():
    """The size on disk is taken from the profile where it is known."""
    arch = published.arch("deepseek-v3")
    assert weights.checkpoint_bytes(arch, Checkpoint(bytes=7)) == 7
    assert weights.checkpoint_bytes(arch, published.checkpoint("deepseek-v3")) / 1e9 == pytest.approx(
        685, rel=0.01
    )
