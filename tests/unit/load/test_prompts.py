"""Lengths, ids and words of prompts; what is unique and what is shared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.load import prompts
from rocbench.load.prompts import Key, allowed_ids, common_indices, filler, indices, length, shared_length
from rocbench.load.spec import Lengths

KEY = Key("run", "cell", 0, 7)


@given(
    one=st.tuples(st.integers(0, 3), st.integers(0, 40)),
    other=st.tuples(st.integers(0, 3), st.integers(0, 40)),
    vocabulary=st.integers(3000, 200_000),
    size=st.integers(16, 300),
)
def test_no_two_requests_share_a_block(one, other, vocabulary, size):
    """The first 16 indices differ for unlike (repeat, request), and are the same for the same."""
    made = []
    for repeat, number in (one, other):
        key = Key("run", "cell", repeat, 7)
        rest = filler(vocabulary, size, key)
        made.append(indices(vocabulary, size, key, number, rest))
        assert len(made[-1]) == size
        assert made[-1].min() >= 0
        assert made[-1].max() < vocabulary
    assert (list(made[0][:16]) == list(made[1][:16])) == (one == other)
    assert (list(made[0]) == list(made[1])) == (one == other)


def test_no_two_requests_of_a_cell_share_even_their_first_token():
    """Within a cell the first token runs through the vocabulary, so not even blocks of one token are shared."""
    rest = filler(5000, 16, KEY)
    firsts = {int(indices(5000, 1, KEY, number, rest)[0]) for number in range(5000)}
    assert len(firsts) == 5000


@given(short=st.integers(1, 50), more=st.integers(0, 50))
def test_the_common_part_is_the_same_for_every_length(short, more):
    """A shorter shared prefix is the beginning of a longer one."""
    whole = common_indices(1000, short + more, KEY)
    assert (common_indices(1000, short, KEY) == whole[:short]).all()


@given(ratio=st.floats(0, 1), isl=st.integers(1, 5000))
def test_a_shared_prefix_leaves_something_of_its_own(ratio, isl):
    """The shared length is the stated share, and at least one token stays the request's own."""
    shared = shared_length(ratio, isl)
    assert 0 <= shared < isl
    assert abs(shared - ratio * isl) <= 1


@pytest.mark.parametrize(
    ("size", "special"), [(151_936, range(151_643, 151_936)), (128_256, range(128_000, 128_256))]
)
def test_ids_avoid_where_special_ones_stand(size, special):
    """Without a tokenizer the ends of the vocabulary are left out (Qwen3, Llama 3)."""
    ids = allowed_ids(size, frozenset({5000}))
    assert not set(special) & set(ids.tolist())
    assert 5000 not in ids
    assert ids.min() == 1000
    assert ids.max() < size


def test_ids_without_any_knowledge():
    """Nothing known: ids that are ordinary in every tokenizer."""
    ids = allowed_ids(None, frozenset())
    assert (ids.min(), ids.max()) == (1000, 3999)


@given(number=st.integers(0, 1000), low=st.integers(1, 100), more=st.integers(0, 100))
def test_uniform_lengths_stay_inside(number, low, more):
    """A uniform length is within its bounds, both possible."""
    plan = Lengths(mean=low, kind="uniform", low=low, high=low + more)
    assert low <= length(plan, KEY, "isl", number) <= low + more


def test_lognormal_lengths_have_their_mean():
    """A lognormal length has the mean asked for, and is cut to its bounds."""
    plan = Lengths(mean=500, kind="lognormal", sigma=0.5)
    drawn = np.array([length(plan, KEY, "isl", number) for number in range(4000)])
    assert drawn.mean() == pytest.approx(500, rel=0.05)
    cut = Lengths(mean=500, kind="lognormal", sigma=0.5, low=400, high=600)
    drawn = np.array([length(cut, KEY, "isl", number) for number in range(500)])
    assert drawn.min() == 400
    assert drawn.max() == 600


def test_keys_differ_in_every_part():
    """Run, cell, repeat, seed, purpose and number each change the digest, and none can imitate another."""
    keys = [
        Key("a", "b", 0, 0),
        Key("b", "a", 0, 0),
        Key("ab", "", 0, 0),
        Key("a", "b", 1, 0),
        Key("a", "b", 0, 1),
    ]
    digests = {key.digest(purpose, number) for key in keys for purpose in ("x", "y") for number in (0, 1)}
    assert len(digests) == 20


def test_words_stand_apart():
    """Text is words with a space before each; the words are all unlike."""
    assert len(set(prompts.WORDS)) == len(prompts.WORDS)
    assert prompts.text(("a", "b", "c"), np.array([2, 0])) == " c a"
