"""Whatever usage says: text sets the stamps, and tokens are right or doubted."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from answered import answered, text, times_ms, total
from rocbench.records import NONE, Doubt

ODD = st.sampled_from([-3, 2.5, 10**10, "x", True, [1], {"prompt_tokens": 7}])
KINDS = ("sum", "own", "zero", "same", "left", "none", "with the prompt", "behind")


def told(kind, sizes):
    """What the events of these sizes say of their tokens."""
    sums = list(accumulate(sizes))
    return {
        "sum": sums,
        "own": sizes,
        "zero": [0] * len(sums),
        "same": [sums[-1]] * len(sums),
        "left": [sums[-1] - done for done in sums],
        "none": [None] * len(sums),
        "with the prompt": [done + 7 for done in sums],
        "behind": [0, *sums[:-1]],
    }[kind]


@st.composite
def usages(draw):
    """Sizes of an answer's events, what each says, and the sum at the end (None: not told)."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=24))
    sums = list(accumulate(sizes))
    said = list(told(draw(st.sampled_from(KINDS)), sizes))
    for place in draw(st.sets(st.integers(0, len(said) - 1), max_size=4)):
        said[place] = draw(st.one_of(st.none(), ODD))
    end = draw(st.sampled_from([None, sums[-1], sums[-1], 0, sums[-1] * 3 + 2]))
    return sizes, said, end


@settings(max_examples=400, deadline=None)
@given(usage=usages())
def test_text_sets_every_stamp_and_tokens_are_right_or_doubted(usage):
    """First and last stamps are those of the text; a token count that no rule doubts was told and can be true."""
    sizes, said, end = usage
    last = len(sizes) - 1
    events = [text(usage=one, finish="length" if i == last else None) for i, one in enumerate(said)]
    answer = answered([*events, *([] if end is None else [total(end)])])
    assert times_ms(answer) == [30 + 6 * i for i in range(len(sizes))]
    doubts, tokens = answer.doubts(sum(sizes)), answer.output_tokens()
    counts = list(answer.token_counts())
    assert answer.output_tokens() == tokens
    assert sum(counts) == max(tokens, 0)
    assert all(count >= 0 for count in counts)
    if not doubts & Doubt.USAGE and tokens != NONE:
        assert tokens >= len(sizes) - 1 - len(sizes) // 10  # a text or two may be of tokens counted before
        if said == list(accumulate(sizes)) and end in {None, sum(sizes)}:
            assert counts == sizes
        counts_told = [*(one for one in said if isinstance(one, int)), *([] if end is None else [end])]
        assert tokens == counts_told[-1]


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=24), missing=st.sets(st.integers(0, 22)))
def test_a_running_sum_that_is_missing_in_places_is_exact_at_its_edges(sizes, missing):
    """Between two counts that were told the tokens are shared out evenly; no doubt is raised."""
    sums, last = list(accumulate(sizes)), len(sizes) - 1
    events = [
        text(usage=None if i in missing and i != last else done, finish="length" if i == last else None)
        for i, done in enumerate(sums)
    ]
    answer = answered(events)
    assert not answer.doubts(sums[-1]) & Doubt.USAGE
    counts = list(answer.token_counts())
    for place, done in enumerate(sums):
        if place not in missing or place == last:
            assert sum(counts[: place + 1]) == done


@settings(max_examples=200, deadline=None)
@given(size=st.integers(4, 40), every=st.integers(1, 3), summed=st.booleans())
def test_doubled_events_are_doubted(size, every, summed):
    """A relay that sends events twice makes more pieces of text than tokens."""
    events = [text(usage=i + 1, finish="length" if i == size - 1 else None) for i in range(size)]
    twice = [event for i, event in enumerate(events) for _ in range(2 if i % every == 0 else 1)]
    answer = answered([*twice, *([total(size)] if summed else [])])
    assert answer.doubts(size) & Doubt.USAGE
    assert answer.output_tokens() == size
