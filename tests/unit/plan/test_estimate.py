"""What a cell can do at best, beforehand."""

from __future__ import annotations

import pytest

from virtual import plan_of


def only(workload: str):
    """The estimate of the one cell of a sweep of Qwen3-VL with this workload."""
    sweep = {
        "name": "one",
        "vllm": "0.33.0",
        "models": ["qwen3-vl-235b"],
        "workloads": [workload],
        "concurrency": [64],
    }
    (group,) = plan_of(sweep).groups
    (cell,) = group.cells
    return cell.workload, cell.estimate


def test_images_take_room_and_time():
    """A 1,024 x 1,024 image of Qwen3-VL is 1,026 tokens: they take KV cache, prefill and time like text."""
    vision, seen = only("vision")
    assert (vision.images.count, vision.images.width, vision.images.height) == (1, 1024, 1024)
    assert seen.kv_capacity_tokens is not None
    tokens = vision.isl.mean + 1026 + vision.osl.mean
    assert seen.users_that_fit == pytest.approx(seen.kv_capacity_tokens / tokens, rel=0.05)
    _, read = only("text-short")
    assert seen.roofline_output_throughput < read.roofline_output_throughput
