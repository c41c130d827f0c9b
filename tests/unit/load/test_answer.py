"""Counts, ends and names of single answers, each with its right value."""

from __future__ import annotations

import pytest

from answered import answered, delta, text, times_ms, total
from rocbench.load.answer import Answer
from rocbench.records import NONE, Doubt, Failure

TIMES = [30, 36, 42, 48]


def stream(counts, *end):
    """Four texts with these usages, and what comes after them."""
    return [text(usage=count, finish="length" if i == 3 else None) for i, count in enumerate(counts)] + [*end]


@pytest.mark.parametrize(
    ("events", "tokens", "counts", "doubted"),
    [
        (stream([1, 2, 3, 4]), 4, [1, 1, 1, 1], False),
        (stream([1, 2, 3, 4], total(4)), 4, [1, 1, 1, 1], False),
        (stream([3, 5, 6, 9]), 9, [3, 2, 1, 3], False),
        (stream([None] * 4, total(4)), 4, [1, 1, 1, 1], False),
        (stream([None] * 4, total(8)), 8, [2, 2, 2, 2], False),
        (stream([None] * 4), NONE, [0, 0, 0, 0], False),
        (stream([None, 2, None, 4]), 4, [1, 1, 1, 1], False),  # missing in some
        (stream([1, None, None, 4]), 4, [1, 1, 1, 1], False),
        (stream([1, 1, 1, 1], total(4)), 4, [1, 1, 1, 1], True),  # each its own count
        (stream([1, 1, 1, 1]), NONE, [0, 0, 0, 0], True),
        (stream([2, 1, 3, 2], total(8)), 8, [2, 2, 2, 2], True),
        (stream([0, 0, 0, 0], total(4)), 4, [1, 1, 1, 1], True),
        (stream([0, 0, 0, 0]), NONE, [0, 0, 0, 0], True),
        (stream([4, 3, 2, 1]), NONE, [0, 0, 0, 0], True),  # what is left
        (stream([1, 2, 3, 4], total(2)), 2, [0, 1, 0, 1], True),  # a sum that says less
        (stream([1, 2, 3, 4], total(40)), 40, [1, 1, 1, 37], True),  # or far more
        (stream([None] * 4, total(2)), 2, [0, 1, 0, 1], True),  # fewer tokens than texts
        (stream([1, 1, 2, 2]), 2, [1, 0, 1, 0], True),  # each event twice
        (stream([1.5, 2.5, 3.5, 4.5]), NONE, [0, 0, 0, 0], True),
        (stream([-1, -2, -3, -4]), NONE, [0, 0, 0, 0], True),
        (stream([10**12] * 4), NONE, [0, 0, 0, 0], True),
        (stream(["one", "two", "three", "four"]), NONE, [0, 0, 0, 0], True),
        (stream([1.0, 2.0, 3.0, 4.0]), 4, [1, 1, 1, 1], False),
        (stream(["1", "2", "3", "4"]), 4, [1, 1, 1, 1], False),
        (stream([{"prompt_tokens": 7}] * 4), NONE, [0, 0, 0, 0], False),  # of the prompt alone
        (stream([{"prompt_tokens": 7, "completion_tokens": None}] * 4), NONE, [0, 0, 0, 0], False),
    ],
)
def test_text_sets_the_stamps_whatever_the_usage_says(events, tokens, counts, doubted):
    """Every text has its stamp; tokens are what can be true, and a usage that cannot be raises the doubt."""
    answer = answered(events)
    assert times_ms(answer) == TIMES
    assert (answer.first_token_ns, answer.last_token_ns) == (answer.stamps[0], answer.stamps[-1])
    assert (Doubt.USAGE in answer.doubts(4)) is doubted
    assert answer.output_tokens() == tokens
    assert list(answer.token_counts()) == counts
    assert answer.output_tokens() == tokens


def test_text_held_back_from_a_counted_token_is_no_contradiction():
    """A token may be counted before its text can be shown, and its text come with nothing new."""
    answer = answered(
        [text(usage=1), text("", usage=2), text(" b", usage=3), text(" c", usage=3, finish="stop")]
    )
    assert times_ms(answer) == TIMES
    assert not answer.doubts(8)
    assert answer.output_tokens() == 3
    assert answer.verdict(complete=True, osl_asked=8, ignore_eos=False) is None


@pytest.mark.parametrize(
    ("reason", "tokens", "failure", "doubted"),
    [
        *((reason, 2, None, False) for reason in ("stop", "length", "tool_calls", "function_call", "STOP")),
        *((reason, 2, None, False) for reason in ("end_turn", "max-tokens", "repetition", "eos_token")),
        *(
            (reason, 2, Failure.ABORTED, False)
            for reason in ("abort", "error", "content_filter", "Cancelled")
        ),
        ("abort", 8, Failure.ABORTED, False),
        ("", 2, Failure.ABORTED, False),
        ("", 8, None, False),  # as long as asked: complete, whatever it says
        ("because", 2, None, True),
        ("because", 8, None, False),
        (17, 2, None, True),
        ({"type": "abort"}, 2, None, True),
        (None, 2, None, True),
        (None, 8, None, False),
    ],
)
@pytest.mark.parametrize("with_text", [True, False])
def test_only_reasons_of_a_complete_answer_are_good(reason, tokens, failure, doubted, with_text):
    """A reason that breaks off fails the request; one that is not understood doubts it."""
    events = [text(usage=i + 1) for i in range(tokens)]
    if with_text:
        events[-1] = text(usage=tokens, finish=reason)
    else:
        events.append(text("", usage=tokens, finish=reason))
    answer = answered(events)
    assert answer.verdict(complete=True, osl_asked=8, ignore_eos=False) is failure
    if failure is None:
        assert (Doubt.END in answer.doubts(8)) is doubted
    else:
        assert f"finish_reason {reason!r} after {tokens} of 8 tokens" in answer.error


def test_an_empty_reason_in_every_event_stands_for_null():
    """Some servers write an empty string until the last event, and some to its end, which is then not told."""
    good = answered([text(usage=1, finish=""), text(usage=2, finish=""), text(usage=3, finish="stop")])
    assert good.verdict(complete=True, osl_asked=8, ignore_eos=False) is None
    assert not good.doubts(8)
    late = answered([text(usage=1), text(usage=2, finish="stop"), text("", usage=2, finish="")])
    assert late.verdict(complete=True, osl_asked=8, ignore_eos=False) is None
    assert not late.doubts(8)
    untold = answered([text(usage=1, finish=""), text(usage=2, finish="")])
    assert untold.verdict(complete=True, osl_asked=8, ignore_eos=False) is None
    assert Doubt.END in untold.doubts(8)


@pytest.mark.parametrize(
    "said",
    [
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"reasoning_text": "hm"},
        {"thinking": "hm"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"refusal": "no"},
        {"audio": {"id": "audio_1", "transcript": "well"}},
        {"function_call": {"name": "f", "arguments": ""}},
        {"tool_calls": {"0": {"function": {"name": "f"}}}},
        {"content": [{"type": "text", "text": "well"}]},
    ],
)
def test_text_under_any_known_name_is_text(said):
    """Reasoning under any name, refusals, transcripts and calls of tools set the first stamp."""
    answer = answered([delta(role="assistant", content=""), delta(**said), delta("stop", content=" x")])
    assert times_ms(answer) == [36, 42]
    assert not answer.doubts(2)


@pytest.mark.parametrize(
    "event",
    [
        delta(monologue="hm"),
        delta(blocks=[{"kind": 1, "words": "hm"}]),
        {"choices": [{"index": 0, "token": "hm", "finish_reason": None}]},
        {"token": {"text": "hm"}},
        {"content": "hm"},
        {"type": "response.output_text.delta", "delta": "hm"},
    ],
)
def test_text_under_an_unknown_name_doubts(event):
    """It sets no stamp, since nobody knows whether it is of the answer; the row says so."""
    answer = answered([event, delta(content=" x"), delta("stop", content=" y")])
    assert times_ms(answer) == [36, 42]
    assert Doubt.UNKNOWN_TEXT in answer.doubts(2)
    alone = answered([event, {"choices": [], "usage": {"prompt_tokens": 3}}])
    assert alone.verdict(complete=True, osl_asked=2, ignore_eos=False) is Failure.EARLY_STOP
    assert "unknown field" in alone.error


@pytest.mark.parametrize(
    "event",
    [
        delta(role="assistant", content=None, refusal=None, tool_calls=[], function_call=None),
        delta(),
        delta(audio={"id": "audio_1", "expires_at": 3}),
        {
            "choices": [],
            "prompt_filter_results": [{"content_filter_results": {"hate": {"severity": "safe"}}}],
        },
        {
            "choices": [
                {"index": 0, "delta": {"content": ""}, "content_filter_results": {"hate": {"s": "safe"}}}
            ]
        },
        {"type": "ping"},
        {},
    ],
)
def test_what_stands_beside_the_text_is_no_text(event):
    """Roles, names, marks and heartbeats set no stamp and raise no doubt."""
    answer = answered([event, delta(content=" x"), delta("stop", content=" y")])
    assert len(answer.stamps) == 2
    assert not answer.doubts(2)


def test_a_usage_that_grows_counts_tokens_of_any_name():
    """Where usage tells of each event, text under a name that is not known has its stamp by its count."""
    events = [delta(monologue="hm") | {"usage": {"completion_tokens": 1}}]
    events.append(delta("stop", content=" x") | {"usage": {"completion_tokens": 2}})
    answer = answered(events)
    assert times_ms(answer) == [30, 36]
    assert not answer.doubts(2)


def burst(tokens, gap_ns, size=1):
    """An answer whose events follow one another by `gap_ns`, after 120 ms."""
    answer = Answer()
    answer.status = 200
    for place, done in enumerate(range(size, tokens + 1, size)):
        body = b'{"choices":[{"text":" x"}],"usage":{"completion_tokens":%d}}' % done
        answer.take([b"data: %b\n\n" % body], [120_000_000 + place * gap_ns])
    answer.finish_reason, answer.done = "length", True
    return answer


@pytest.mark.parametrize(
    ("tokens", "gap_ns", "size", "in_one"),
    [
        (16, 0, 1, True),
        (16, 40_000, 1, True),
        (16, 60_000, 1, False),  # 17,000 tokens/s of one stream
        (4, 0, 1, True),
        (3, 0, 1, False),  # too short to tell
        (1, 0, 1, False),
        (8, 0, 8, False),  # speculation
        (16, 0, 16, True),
        (64, 6_000_000, 8, False),
    ],
)
def test_an_answer_in_one_piece_is_told_from_a_fast_one(tokens, gap_ns, size, in_one):
    """No server decodes 20,000 tokens/s of one answer; few tokens at once may be speculation."""
    assert (Doubt.ONE_PIECE in burst(tokens, gap_ns, size).doubts(tokens)) is in_one


def test_a_chat_message_in_a_stream_is_a_whole_answer():
    """`message` in place of `delta` is the form of an answer that does not stream."""
    event = {"choices": [{"message": {"role": "assistant", "content": "a b"}, "finish_reason": "stop"}]}
    assert Doubt.ONE_PIECE in answered([event, total(2)]).doubts(2)
