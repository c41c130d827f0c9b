"""What is known of a cell before it runs."""

from __future__ import annotations

import pytest

from rocbench.plan.estimate import Estimate, estimate
from rocbench.settings import catalog
from rocbench.settings.schema import Assume, Images, Length, Load, Workload
from rulecases import hardware, request, resolve

IMAGES = Images(count=5, width=1024, height=1024)
SEEN = 5 * (32 * 32 + 2)
"""Tokens of these in Qwen3-VL."""


def estimated(isl: int, images: Images | None = None, assume: Assume | None = None, **args: int) -> Estimate:
    """The estimate of Qwen3-VL at 64 users."""
    profile = catalog.model("qwen3-vl-235b")
    resolution = resolve(request({"model": "qwen3-vl-235b", "args": args}, "0.33.0"))
    work = Workload(name="w", isl=Length(mean=isl), osl=Length(mean=500), images=images)
    return estimate(profile, hardware("mi325x"), resolution, work, Load(), concurrency=64, assume=assume)


def test_image_tokens_take_room_and_time() -> None:
    """Five images are 5,130 tokens on top of the text: fewer users fit, and the bound is lower."""
    text, vision = estimated(260), estimated(260, IMAGES)
    assert (text.image_tokens, vision.image_tokens) == (0, SEEN)
    assert vision.users_that_fit == estimated(260 + SEEN).users_that_fit
    assert vision.users_that_fit is not None
    assert text.users_that_fit is not None
    assert vision.users_that_fit < text.users_that_fit / 6
    assert (vision.roofline_output_throughput or 0) < (text.roofline_output_throughput or 0)
    assert (vision.duration_s or 0) > (estimated(260 + SEEN).duration_s or 0)  # the tower works besides


def test_what_the_time_takes_for_granted_can_be_set() -> None:
    """Start and load rate go into the load, the efficiency into the steps."""
    usual = estimated(1000)
    fast = estimated(1000, assume=Assume(load_bytes_per_s=20e9, start_s=60))
    assert usual.server_load_s == pytest.approx(120 + 470.2e9 / 2e9, rel=0.01)
    assert fast.server_load_s == pytest.approx(60 + 470.2e9 / 20e9, rel=0.01)
    assert fast.duration_s == usual.duration_s
    slow = estimated(1000, assume=Assume(efficiency=0.25))
    assert (slow.duration_s or 0) > (usual.duration_s or 0)
    assert slow.roofline_output_throughput == usual.roofline_output_throughput


def test_a_stated_kv_cache_is_the_capacity() -> None:
    """--kv-cache-memory-bytes is each GPU's, whatever the utilization: 4 heads over 8 ranks are 376 KiB a token of 8."""
    found = estimated(1000, **{"kv-cache-memory-bytes": 48_128 * 16_000, "max-model-len": 8000})
    assert found.kv_capacity_tokens == 16_000
    assert found.users_that_fit == 16_000 // 1500


def test_users_of_all_data_parallel_engines_count() -> None:
    """Each engine has a cache of its own; the capacity told is one engine's."""
    engine = {"kv-cache-memory-bytes": 10**9, "tensor-parallel-size": 4, "max-model-len": 8000}
    one, two = estimated(1000, **engine), estimated(1000, **engine, **{"data-parallel-size": 2})
    assert two.kv_capacity_tokens == one.kv_capacity_tokens
    assert two.users_that_fit == 2 * (one.users_that_fit or 0)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"max-model-len": 262_144, "kv-cache-memory-bytes": 48_128 * 200_000},
         "holds 200,000 tokens, fewer than --max-model-len 262,144: vLLM refuses to start"),
        ({"tensor-parallel-size": 1}, "the weights take 439.0 GiB per GPU, more than the"),
        ({"tensor-parallel-size": 2, "gpu-memory-utilization": 0.86}, "no room for a KV cache"),
    ],
)  # fmt: skip
def test_what_vllm_would_not_start_with_is_left_out_and_told(args: dict[str, int], said: str) -> None:
    """vLLM wants room for one sequence of --max-model-len; weights that don't fit are named as the cause."""
    assert said in (estimated(1000, **args).cannot_fit or "")


def test_a_length_that_the_server_finds_out_itself_is_no_obstacle() -> None:
    """`auto` takes what fits."""
    found = estimated(1000, **{"max-model-len": "auto", "kv-cache-memory-bytes": 48_128 * 16_000})  # type: ignore[arg-type]
    assert found.cannot_fit is None
    assert found.kv_capacity_tokens == 16_000


def test_announced_hardware_refuses_nothing() -> None:
    """What would not fit by a data sheet is planned with a note if the figures are only announced."""
    node = hardware("mi325x")
    assert node.gpu is not None
    small = node.model_copy(update={"gpu": node.gpu.model_copy(update={"hbm_bytes": 40 * 2**30})})
    resolution = resolve(request({"model": "qwen3-vl-235b"}, "0.33.0"))
    work = Workload(name="w", isl=Length(mean=1000), osl=Length(mean=500))
    profile = catalog.model("qwen3-vl-235b")
    published, announced = (
        estimate(profile, each, resolution, work, Load(), concurrency=64)
        for each in (small, small.model_copy(update={"announced": True}))
    )
    assert published.cannot_fit
    assert published.in_doubt is None
    assert announced.cannot_fit is None
    assert (announced.in_doubt or "").startswith(
        "qwen3-vl-235b: the figures of AMD Instinct MI325X are announced, not from a data sheet; by what is known, "
        "the model would not run"
    )
