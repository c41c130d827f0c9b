"""Step times by hand, their parts, and the two questions they answer."""

from __future__ import annotations

import numpy as np
import pytest

import published
from rocbench.physics import demand, roofline
from rocbench.physics.layout import Layout
from rocbench.physics.steps import StepModel
from rocbench.settings import catalog
from rocbench.settings.schema import Checkpoint

MI325X, CPU = catalog.hardware("mi325x"), catalog.hardware("cpu")
MEMORY, BF16, FP8_PEAK, LINKS = 6.0e12, 1307.4e12, 2614.9e12, 7 * 64e9


def model(name: str, layout: Layout, *, bound: bool = False, **more: object) -> StepModel:
    """A step model on 8x MI325X."""
    checkpoint = published.checkpoint(name)
    return StepModel(published.arch(name), checkpoint, MI325X, layout, bound=bound, **more)  # type: ignore[arg-type]


def test_a_dense_decode_step_reads_the_weights():
    """Llama-405B in FP8 at tp 8: 50.7 GB of weights at 6 TB/s are 8.46 ms, whatever else happens."""
    layout = Layout(tp=8, online_fp8=True, kv_dtype="fp8")
    least = model("llama-3.1-405b", layout, bound=True)
    step = least.parts(0, 0, 1, 1000)
    arch = published.arch("llama-3.1-405b")
    layers = arch.parts.attention + arch.parts.kv_projection + arch.parts.dense_mlp
    held = layers / 8 + 2 * arch.parts.norms + 2 * arch.parts.head / 8
    assert step.weights == pytest.approx(held / MEMORY)
    assert step.kv == pytest.approx(1001 * 258_048 / 8 / MEMORY)
    assert least.cost(0, 0, 1, 1000) == pytest.approx(step.weights + step.kv - 2**28 / MEMORY)


def test_a_long_prefill_is_bound_by_compute():
    """8,192 tokens of Llama-405B: 2 x parameters x tokens / 8 at the FP8 peak, and attention over all pairs."""
    layout = Layout(tp=8, online_fp8=True)
    arch, n = published.arch("llama-3.1-405b"), 8192
    pairs = n * (n + 1) / 2
    least = model("llama-3.1-405b", layout, bound=True)
    step = least.parts(n, pairs, 0, 0)
    matrices = arch.parts.attention + arch.parts.kv_projection + arch.parts.dense_mlp
    assert step.linear == pytest.approx(2 * matrices * n / 8 / FP8_PEAK)
    assert step.prefill_attention == pytest.approx(4 * 128 * 128 * 126 * pairs / 8 / BF16)
    assert least.cost(n, pairs, 0, 0) == pytest.approx(step.linear + step.prefill_attention)


def test_all_reduces_take_their_bytes():
    """Two of tokens x hidden a layer, 2 x 7/8 of it over seven links; the bound grants four bits a number."""
    layout = Layout(tp=8)
    expected = model("qwen3-235b", layout).parts(1000, 500_500, 0, 0).collectives
    assert expected == pytest.approx(1000 * 2 * 94 * 1.75 * 4096 * 2 / LINKS)
    assert model("qwen3-235b", layout, bound=True).parts(1000, 500_500, 0, 0).collectives == expected / 4
    assert model("qwen3-235b", Layout()).parts(1000, 500_500, 0, 0).collectives == 0


def test_experts_visited():
    """The bound has all tokens choose the same 8 of 256; expected are 256 (1 - (1 - 1/32)^tokens)."""
    layout = Layout(tp=8)
    bound, expected = model("deepseek-v3", layout, bound=True), model("deepseek-v3", layout)
    assert bound.expert_share(1) == bound.expert_share(10_000) == 8 / 256
    assert expected.expert_share(1) == pytest.approx(8 / 256)
    assert expected.expert_share(64) == pytest.approx(1 - (1 - 1 / 32) ** 64)
    assert expected.expert_share(0) == 0
    shared = model("deepseek-v3", Layout(tp=1, dp=8, ep=True))
    assert shared.expert_share(8) == pytest.approx(expected.expert_share(64))
    assert model("llama-3.1-405b", Layout(tp=8)).expert_share(5) == 0


def test_sparse_attention_reads_what_it_chose():
    """Beyond 2,048 tokens V3.2 reads no more latents, only more index keys."""
    sparse = model("deepseek-v3.2", Layout(tp=8))
    short, long = (sparse.parts(0, 0, 10, 10 * n).kv for n in (4096, 65_536))
    assert long - short == pytest.approx(10 * (65_536 - 4096) * 8_052 / MEMORY)
    dense = model("deepseek-v3", Layout(tp=8)).parts(0, 0, 10, 10 * 65_536).kv
    assert dense > 5 * long


def test_the_bound_of_unequal_contexts_is_below_any_mix():
    """One long and 99 short sequences read less than 100 equal ones; the bound stays below both."""
    layout = Layout(tp=8)
    expected = model("deepseek-v3.2", layout)
    mixed = expected.parts(0, 0, 99, 99 * 100).kv + expected.parts(0, 0, 1, 100_000).kv
    bound = model("deepseek-v3.2", layout, bound=True, max_context=163_840)
    least = bound.parts(0, 0, 100, 99 * 100 + 100_000).kv
    assert least <= mixed <= expected.parts(0, 0, 100, 99 * 100 + 100_000).kv


def test_parts_make_the_total():
    """The bound overlaps everything; the expectation puts kernels after one another."""
    layout = Layout(tp=8)
    args = (2048, 2048 * 1024.0, 100, 200_000)
    bound, expected = (model("deepseek-v3.2", layout, bound=which) for which in (True, False))
    b, e = bound.parts(*args), expected.parts(*args)
    compute = b.linear + b.expert_compute + b.decode_attention + b.prefill_attention
    assert bound.cost(*args) == max(b.weights + b.experts + b.kv - 2**28 / MEMORY, compute, b.collectives)
    in_turn = max(e.weights, e.linear) + max(e.experts, e.expert_compute) + max(e.kv, e.decode_attention)
    assert expected.cost(*args) == pytest.approx(in_turn + e.prefill_attention + e.collectives)


def test_vectorised_decode_steps_equal_single_ones():
    """`cost` and the vectorised `decode_s` agree."""
    for bound in (True, False):
        for name, layout in (
            ("deepseek-v3.2", Layout(tp=8)),
            ("gpt-oss-120b", Layout(tp=8)),
            ("llama-3.1-405b", Layout(tp=8, pp=2)),
            ("kimi-k3", Layout(tp=8)),
            ("deepseek-v4-flash", Layout(tp=4)),
        ):
            one = model(name, layout, bound=bound)
            contexts = np.array([100.0, 10_000.0, 3_000_000.0])
            several = one.decode_s(100, contexts)
            for context, seconds in zip(contexts, several, strict=True):
                assert one.cost(0, 0, 100, context) == pytest.approx(seconds)


def test_latency_and_overhead_are_the_expectation_s():
    """A step's overhead and each all-reduce's latency add to the expectation and never to the bound."""
    layout = Layout(tp=8)
    plain = model("qwen3-235b", layout).cost(0, 0, 1, 100)
    slow = model("qwen3-235b", layout, collective_latency_s=1e-5, overhead_s=1e-3).cost(0, 0, 1, 100)
    assert slow - plain == pytest.approx(1e-3 + 2 * 94 * 1e-5)
    least = model("qwen3-235b", layout, bound=True)
    also = model("qwen3-235b", layout, bound=True, collective_latency_s=1e-5, overhead_s=1e-3)
    assert least.cost(0, 0, 1, 100) == also.cost(0, 0, 1, 100)


def test_prompts_of_deepseek_v41_pass_half_of_its_layers():
    """Prompt tokens cost half of what output tokens do in matrices; the layers above read the same cache."""
    step = model("deepseek-v4.1-flash", Layout(tp=4))
    prompt, output = step.parts(1000, 500_500, 0, 0), step.parts(0, 0, 1000, 500_500)
    assert prompt.expert_compute == pytest.approx(output.expert_compute / 2)
    assert prompt.collectives == pytest.approx(output.collectives / 2)
    arch = published.arch("deepseek-v4.1-flash")
    read, attended = demand.read_terms(arch, Layout()), demand.attention_terms(arch, Layout(), absorbed=True)
    assert [(t.each, t.limit) for t in read[:3]] == [(40 * 584, 128), (584, 512), (1.5 * 584, 1024)]
    flops = 2 * 64 * 1024
    assert [(t.each, t.limit) for t in attended] == [
        (40 * flops, 128),
        (20 * flops, 512),
        (9 * flops, 1024),
    ]
    prompt_terms = demand.attention_terms(arch, Layout(), absorbed=False)
    assert [(t.each, t.limit) for t in prompt_terms] == [(20 * flops, 128), (9 * flops, 1024)]


def test_images_pass_the_tower():
    """An image token is four patches through the tower's parameters, shared out over the ranks."""
    arch = published.arch("qwen3-vl-235b")
    step = model("qwen3-vl-235b", Layout(tp=8)).parts(1000, 500_500, 0, 0, images=900)
    assert step.vision == pytest.approx(900 * 4 * 2 * arch.vision_params / 8 / BF16)


def test_offloaded_kv_comes_over_pcie():
    """64 GB/s per GPU bring back a token's KV; a step lasts no less."""
    expected = model("deepseek-v3", Layout(tp=8))
    loading_s = expected.parts(0, 0, 1, 100_000, loaded=100_000).loading
    assert loading_s == pytest.approx(100_000 * 70_272 / 64e9)
    assert expected.cost(0, 0, 1, 100_000, loaded_tokens=100_000) == loading_s


def test_drafting_costs_its_layers():
    """Speculation with MTP reads the draft layer once per draft token and verifies all of them."""
    plain = model("deepseek-v3", Layout(tp=8)).parts(0, 0, 10, 10_000)
    draft = model("deepseek-v3", Layout(tp=8, mtp=True, speculative_tokens=3)).parts(0, 0, 10, 10_000)
    assert draft.linear == pytest.approx(4 * plain.linear)
    assert draft.weights > plain.weights


def test_an_empty_step_costs_nothing():
    """Nothing to do takes no time."""
    assert model("deepseek-v3", Layout(tp=8)).cost(0, 0, 0, 0) == 0


def test_no_gpu_no_physics():
    """The CPU profile is refused by the step model and answered with None by the bounds."""
    arch = published.arch("deepseek-v3")
    with pytest.raises(ValueError, match="no GPU"):
        StepModel(arch, Checkpoint(), CPU, Layout())
    assert roofline.bound(arch, Checkpoint(), CPU, Layout(), 10, roofline.RequestShape(100, 100)) is None
    assert roofline.roofline_share(arch, Checkpoint(), CPU, Layout(), total_throughput=1.0) is None


def test_the_last_level_cache_is_granted():
    """What fits 256 MB need not come from HBM each step: the bound has it, the expectation does not."""
    layout = Layout(tp=8)
    least = model("gpt-oss-120b", layout, bound=True)
    step = least.parts(0, 0, 1, 1000)
    assert least.cost(0, 0, 1, 1000) == pytest.approx(step.weights + step.experts + step.kv - 2**28 / MEMORY)
    staged = model("gpt-oss-120b", Layout(tp=8, pp=2), bound=True)
    small = staged.parts(0, 0, 1, 1000)
    assert small.weights + small.experts < 2**28 / MEMORY
    assert 0 < staged.cost(0, 0, 1, 1000) < small.weights + small.experts
