"""What must hold of the physics whatever the model, the layout and the load."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import published
from rocbench.physics import kv, roofline, weights
from rocbench.physics.layout import Layout
from rocbench.physics.roofline import RequestShape
from rocbench.physics.steps import StepModel
from rocbench.settings import catalog

NAMES = st.sampled_from(sorted(published.MODELS))
HARDWARE = st.sampled_from([catalog.hardware(name) for name in ("mi300x", "mi325x", "mi355x")])
LAYOUTS = st.builds(
    Layout,
    tp=st.sampled_from([1, 2, 4, 8]),
    pp=st.sampled_from([1, 2]),
    dp=st.sampled_from([1, 2, 8]),
    ep=st.booleans(),
    kv_dtype=st.sampled_from(["bf16", "fp8"]),
    mtp=st.booleans(),
    speculative_tokens=st.integers(0, 5),
)
TOKENS = st.integers(1, 30_000)


def model_of(name, layout, hardware, **more):
    """The step model of a published checkpoint."""
    return StepModel(published.arch(name), published.checkpoint(name), hardware, layout, **more)


@given(NAMES, LAYOUTS, HARDWARE, st.integers(0, 16_384), TOKENS, st.integers(0, 512), TOKENS)
def test_no_step_is_faster_than_its_bound(name, layout, hardware, prefill, before, seqs, context):
    """The expected time of any step is at least the bound's."""
    step = (prefill, prefill * (before + prefill / 2), seqs, seqs * context)
    longest = before + prefill + context
    least = model_of(name, layout, hardware, bound=True, max_context=longest)
    mean = model_of(name, layout, hardware)
    assert least.cost(*step) <= mean.cost(*step) * (1 + 1e-9)


@given(NAMES, LAYOUTS, HARDWARE, st.booleans(), st.integers(0, 8192), st.integers(1, 512), TOKENS)
def test_more_work_never_takes_less_time(name, layout, hardware, bound, prefill, seqs, context):
    """More prompt tokens, more sequences or longer ones never shorten a step."""
    model = model_of(name, layout, hardware, bound=bound)
    here = model.cost(prefill, prefill * prefill / 2, seqs, seqs * context)
    more = (
        model.cost(prefill + 100, (prefill + 100) ** 2 / 2, seqs, seqs * context),
        model.cost(prefill, prefill * prefill / 2, seqs + 1, (seqs + 1) * context),
        model.cost(prefill, prefill * prefill / 2, seqs, seqs * (context + 100)),
    )
    assert min(more) >= here * (1 - 1e-9)


@given(NAMES, LAYOUTS, HARDWARE, st.integers(1, 2000), st.integers(1, 2000), TOKENS, st.integers(1, 4000))
def test_more_users_never_lower_the_bound(name, layout, hardware, users, more, isl, osl):
    """The best output throughput never falls with concurrency."""
    args = (published.arch(name), published.checkpoint(name), hardware, layout)
    few, many = (roofline.bound(*args, n, RequestShape(isl, osl)) for n in (users, users + more))
    assert many.output_throughput >= few.output_throughput * (1 - 1e-9) > 0


@given(NAMES, LAYOUTS)
def test_more_ranks_never_hold_more(name, layout):
    """Doubling tp never raises weight or KV bytes of a rank; doubling it beyond the KV heads keeps the KV."""
    if layout.tp == 8:
        return
    arch, checkpoint = published.arch(name), published.checkpoint(name)
    wider = Layout(
        tp=2 * layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep, kv_dtype=layout.kv_dtype, mtp=layout.mtp
    )
    held, less = (weights.weight_bytes_per_rank(arch, checkpoint, each) for each in (layout, wider))
    assert less <= held
    cached, also = (kv.kv_bytes_per_token_per_rank(arch, each) for each in (layout, wider))
    assert also <= cached


@given(NAMES, LAYOUTS, HARDWARE, st.floats(0.5, 0.9), st.integers(1, 100_000))
def test_capacity_grows_with_memory_and_holds_its_users(name, layout, hardware, share, length):
    """A larger share of the HBM never holds fewer tokens, and the reported users fit."""
    args = (published.arch(name), published.checkpoint(name), hardware, layout)
    less, more = (kv.kv_capacity_tokens(*args, u, max_num_batched_tokens=2048) for u in (share, share + 0.1))
    assert more.tokens >= less.tokens >= 0
    users = kv.users_that_fit(more, args[0], layout, length)
    assert users * kv.sequence_bytes_per_rank(args[0], layout, length) <= more.kv_bytes * (1 + 1e-9)
