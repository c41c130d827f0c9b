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


FITTED = reach([at(in_flight=1.0), at(in_flight=32.0), at(in_flight=128.0)])


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


@pytest.mark.parametrize(
    ("name", "ends", "value", "ratio", "words"),
    [
        ("in_flight", (10, 250), 40, 4, "40 requests in flight is in a gap, 4 times the nearest fitted load"),
        (
            "in_flight",
            (10, 250),
            62.5,
            4,
            "62 requests in flight is in a gap, 1/4 of the nearest fitted load",
        ),
        ("prompt_tokens", (500, 9000), 3000, 3, "3,000 prompt tokens is in a gap, 1/3 of the nearest fitted"),
        ("output_tokens", (100, 2000), 300, 3, "300 output tokens is in a gap, 3 times the nearest fitted"),
        (
            "computed_share",
            (0.06, 1.0),
            0.18,
            3,
            "18 % of the prompt tokens are computed, not cached: in a gap, 3 times the nearest fitted",
        ),
    ],
)
def test_a_gap_between_fitted_levels_is_named(name, ends, value, ratio, words):
    """From twice the nearest value on; a level near a fitted one is not in a gap."""
    fitted = reach([at(**{name: float(end)}) for end in ends])
    found = distance(at(**{name: float(value)}), fitted)
    assert found.size == pytest.approx(math.log(ratio / 2))
    assert found.words == (words,)
    assert distance(at(**{name: 1.9 * ends[0]}), fitted).words == ()
    assert distance(at(**{name: ends[1] / 1.9}), fitted).words == ()


def test_an_older_file_shows_no_gap():
    """It has the ends of its spans alone, and a value between them may have been fitted."""
    older = reach([at(in_flight=1.0), at(in_flight=1000.0)]).model_copy(update={"fitted": {}})
    assert distance(at(in_flight=30.0), older).words == ()


@given(st.lists(LOADS, min_size=1, max_size=12), LOADS)
def test_a_fitted_level_is_at_no_distance(loads, other):
    """Whatever the others are; and each further fitted level leaves a place as near or nearer."""
    fitted = reach([at(in_flight=load) for load in loads])
    assert all(distance(at(in_flight=load), fitted).size == 0 for load in loads)
    more = reach([at(in_flight=load) for load in (*loads, other)])
    assert all(
        distance(at(in_flight=place), more).size <= distance(at(in_flight=place), fitted).size + 0.2
        for place in (1.5, 40.0, 900.0)
    )


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
