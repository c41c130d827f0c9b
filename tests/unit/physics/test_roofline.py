"""Throughput bounds, and rows that claim more."""

from __future__ import annotations

import pytest

import published
from rocbench.physics import roofline
from rocbench.physics.layout import Layout
from rocbench.physics.roofline import RequestShape
from rocbench.physics.steps import StepModel
from rocbench.settings import catalog
from rocbench.settings.schema import Checkpoint

MI325X, MI300X, MI355X = (catalog.hardware(name) for name in ("mi325x", "mi300x", "mi355x"))
LLAMA, BF16 = published.arch("llama-3.1-405b"), Checkpoint()
STUDY = Layout(tp=8, online_fp8=True, kv_dtype="fp8")


def test_one_user_gets_one_token_per_step():
    """Alone, Llama-405B cannot beat a prefill and a weights-read per token: under 118 tokens/s."""
    best = roofline.bound(LLAMA, BF16, MI325X, STUDY, 1, RequestShape(1245, 512))
    step = StepModel(LLAMA, BF16, MI325X, STUDY, bound=True).cost(0, 0, 1, 1245 + 256)
    assert best.limiter == "latency"
    assert best.output_throughput == pytest.approx(512 / (best.ttft_s + 511 * step), rel=1e-3)
    assert 110 < best.output_throughput < 118


def test_many_users_are_bound_by_compute():
    """At 1,000 users the FLOPs of prompt and output decide, and more users change nothing."""
    shape = RequestShape(1245, 512)
    best = roofline.bound(LLAMA, BF16, MI325X, STUDY, 1000, shape)
    assert best.limiter == "compute"
    assert best == roofline.bound(LLAMA, BF16, MI325X, STUDY, 1000, shape)
    flops = 2 * (LLAMA.total_params - LLAMA.parts.embedding - LLAMA.parts.head)
    total = best.output_throughput * (1245 + 512) / 512
    assert total == pytest.approx(8 * 2614.9e12 / flops, rel=0.02)


def test_the_study_s_34050_tokens_were_not_computed():
    """34,050 tokens/s of Llama-405B need 131 % of eight MI325X' dense FP8 peak."""
    share = roofline.roofline_share(LLAMA, BF16, MI325X, STUDY, total_throughput=34_050)
    assert share.value == pytest.approx(1.31, abs=0.02)
    assert "34,050 computed tokens/s" in share.what
    for isl, osl in ((430, 100), (400, 130), (250, 250)):
        best = roofline.bound(LLAMA, BF16, MI325X, STUDY, 500, RequestShape(isl, osl))
        assert best.output_throughput * (isl + osl) / osl < 34_050


@pytest.mark.parametrize(
    ("name", "total", "output"),
    [("llama-3.1-405b", 15_944, 3_673), ("qwen3-vl-235b", 47_873, 7_140), ("deepseek-v3.2", 37_413, None)],
)
def test_the_study_s_other_peaks_are_possible(name, total, output):
    """No false alarm: the other published peaks stay below what the node can do."""
    layout = STUDY if name.startswith("llama") else Layout(tp=8)
    shape = None if output is None else RequestShape(424 - 100 if "llama" in name else 1135, 100)
    share = roofline.roofline_share(
        *(published.arch(name), published.checkpoint(name), MI325X, layout),
        total_throughput=total,
        output_throughput=output,
        concurrency=450,
        shape=shape,
    )
    assert share.value < 1


def test_cached_tokens_are_left_out():
    """A prompt that was cached needs no compute: the same total is then possible."""
    shape = RequestShape(430, 100, cached=400)
    share = roofline.roofline_share(LLAMA, BF16, MI325X, STUDY, total_throughput=34_050, shape=shape)
    assert share.value < 0.5


def test_an_output_rate_above_the_bound_is_named():
    """Ten users cannot get 5,000 output tokens/s out of Llama-405B; the reason says the limit."""
    shape = RequestShape(1000, 500)
    share = roofline.roofline_share(
        LLAMA, BF16, MI325X, STUDY, output_throughput=5_000, concurrency=10, shape=shape
    )
    assert share.value > 4
    assert "5,000 output tokens/s; the GPUs allow at most 1,1" in share.what
    assert roofline.roofline_share(LLAMA, BF16, MI325X, STUDY, concurrency=10, shape=shape) is None


def test_accepted_drafts_raise_the_bound():
    """With 3 tokens accepted per step a user waits for a third of the steps."""
    args = (published.arch("deepseek-v3"), published.checkpoint("deepseek-v3"), MI325X)
    drafts = Layout(tp=8, mtp=True, speculative_tokens=5)
    plain = roofline.bound(*args, Layout(tp=8), 1, RequestShape(100, 1000)).output_throughput
    drafted = roofline.bound(*args, drafts, 1, RequestShape(100, 1000, accepted_per_step=3)).output_throughput
    assert 2 * plain < drafted < 3.01 * plain


def test_users_that_fit_limit_the_batch():
    """With room for 20 sequences, 1,000 users get what 20 get, or less."""
    args = (published.arch("qwen3-235b"), BF16, MI325X, Layout(tp=8))
    shape = RequestShape(500, 500)
    limited, few = roofline.bound(*args, 1000, shape, users=20), roofline.bound(*args, 20, shape)
    assert limited.output_throughput == pytest.approx(few.output_throughput)


def test_open_loops_have_no_latency_bound():
    """Without a number of users only the node's resources bound the rate."""
    best = roofline.bound(LLAMA, BF16, MI325X, STUDY, None, RequestShape(1000, 500))
    assert best.limiter == "compute"


def test_prefill_is_the_least_ttft():
    """TTFT of 8,192 tokens takes at least their FLOPs, of which a cached half takes half or less."""
    shapes = RequestShape(8192, 1), RequestShape(8192, 1, cached=4096)
    whole, half = (roofline.bound(LLAMA, BF16, MI325X, STUDY, 1, shape).ttft_s for shape in shapes)
    assert whole == pytest.approx(0.32, rel=0.05)
    assert half < 0.52 * whole
    step_s = StepModel(LLAMA, BF16, MI325X, STUDY, bound=True).cost(8192, 8192 * 8193 / 2, 0, 0)
    assert step_s == pytest.approx(whole)


def test_faster_hardware_raises_the_bound():
    """MI355X beats MI325X, which beats MI300X where memory decides."""
    bounds = [
        roofline.bound(LLAMA, BF16, hardware, STUDY, 1, RequestShape(100, 1000)).output_throughput
        for hardware in (MI300X, MI325X, MI355X)
    ]
    assert bounds == sorted(bounds)
    assert bounds[1] / bounds[0] == pytest.approx(6 / 5.3, rel=0.02)


def test_known_lengths_tighten_the_bound_of_sparse_attention():
    """Up to 2,048 tokens V3.2 reads them all; without the longest length some might be far longer."""
    args = (published.arch("deepseek-v3.2"), published.checkpoint("deepseek-v3.2"), MI325X, Layout(tp=8))
    loose = roofline.bound(*args, 1000, RequestShape(1000, 1000))
    tight = roofline.bound(*args, 1000, RequestShape(1000, 1000, longest=2000))
    assert tight.output_throughput < loose.output_throughput
