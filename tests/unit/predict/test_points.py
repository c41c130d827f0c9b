"""Distances of levels from those of a fit, and which levels are one condition."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.predict.points import STRANGE, Point, conditions, distance, reach

BASE = Point(64.0, 1000.0, 1.0, 200.0, False, 8, "0.14.1", True, "ROCM_AITER_FA")
LOADS = st.floats(1, 5000)


def at(**changes: object) -> Point:
    """The base with some facts changed."""
    return replace(BASE, **changes)  # type: ignore[arg-type]


FITTED = reach([at(in_flight=1.0), at(in_flight=128.0)])


def test_a_level_among_the_fitted_ones_has_no_distance():
    """Nor has one that differs by noise."""
    assert distance(BASE, FITTED).size == 0
    assert distance(at(in_flight=129.0), FITTED) == distance(BASE, FITTED)


@pytest.mark.parametrize(
    ("changes", "size", "words"),
    [
        ({"in_flight": 1024.0}, math.log(8), "1,024 requests in flight is 8 times the highest fitted load"),
        ({"prompt_tokens": 4000.0}, math.log(4), "4,000 prompt tokens is 4 times the highest fitted"),
        (
            {"computed_share": 0.25},
            math.log(4),
            "25 % of the prompt tokens are computed, not cached: 1/4 of the lowest fitted",
        ),
        ({"output_tokens": 800.0}, math.log(4), "800 output tokens is 4 times the highest fitted"),
        ({"tp": 4}, STRANGE, "no fitted row has tp 4"),
        ({"images": True}, STRANGE, "no fitted row has images"),
        ({"vllm": "0.33.0"}, STRANGE, "no fitted row has vllm 0.33.0"),
        ({"aiter": False}, STRANGE, "no fitted row has aiter off"),
    ],
)
def test_what_is_outside_is_named(changes, size, words):
    """By how much, and in which respect."""
    found = distance(at(**changes), FITTED)
    assert found.size == pytest.approx(size)
    assert found.words == (words,)


def test_a_prompt_counts_once():
    """By its length, or by its cached share."""
    both = distance(at(prompt_tokens=4000.0, computed_share=0.125), FITTED)
    assert both.size == pytest.approx(math.log(8))


def test_lengths_below_a_few_tokens_are_one():
    """And prompts from the cache are alike, whether 1 or 4 % were computed."""
    cached = reach([at(computed_share=0.04, prompt_tokens=40.0)])
    assert distance(at(computed_share=0.01, prompt_tokens=6.0), cached).size == 0


@given(LOADS, LOADS)
def test_the_distance_grows_with_the_load(one, other):
    """Outside, and never without a word."""
    near, far = sorted((one, other))
    near_, far_ = (distance(at(in_flight=128.0 + load), FITTED) for load in (near, far))
    assert near_.size <= far_.size
    assert bool(far_.words) == (far_.size > 0)


def test_the_same_requests_in_flight_are_one_condition():
    """100 requests of 100 and of 1,000 users; the other arm of an ablation too."""
    found = conditions(
        [at(in_flight=100.0), at(in_flight=99.7, aiter=False), BASE, at(in_flight=100.0, images=True)]
    )
    assert found == [0, 0, 1, 2]
