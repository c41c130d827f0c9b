"""The bytes of answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rocbench.sim.prompts import ApiRequest
from rocbench.sim.steps import Sequence
from rocbench.sim.streams import Dialect, IntervalStream, Stream

OLD = Dialect(
    full_completion_events=True, reasoning_content=True, prompt_details=False, reasoning_parser=False
)
NEW = Dialect(
    full_completion_events=False, reasoning_content=False, prompt_details=True, reasoning_parser=False
)
ASKED = ApiRequest(
    chat=False,
    tokens=bytes(12),
    image_tokens=0,
    max_tokens=3,
    min_tokens=0,
    ignore_eos=True,
    stream=True,
    include_usage=True,
    continuous_usage=False,
    return_token_ids=False,
    by_id=True,
    salt="",
    model="100% model",
)


def events(dialect, *, tokens=3, interval=1, **changes):
    """The events of a whole stream, unframed; checks the HTTP chunks on the way."""
    written: list[bytes] = []
    request = replace(ASKED, **changes)
    kind = Stream if interval == 1 else IntervalStream
    dialect = replace(dialect, interval=interval)
    stream = kind("id-1", 17, request, Sequence(5, 3, tokens), dialect, written.append, lambda: None)
    if tokens > 1:
        stream.first()
        for _ in range(tokens - 2):
            stream.token()
    stream.finish("length")
    body = b""
    for framed in written:
        size, _, rest = framed.partition(b"\r\n")
        assert len(rest) == int(size, 16) + 2
        body += rest[:-2]
    lines = body.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_a_completion_of_0_14_writes_every_field():
    """Unset fields stand as null, usage at the end has no choices."""
    first, middle, last, usage = events(OLD)
    assert first == {
        "id": "id-1", "object": "text_completion", "created": 17, "model": "100% model",
        "choices": [{"index": 0, "text": first["choices"][0]["text"], "logprobs": None, "finish_reason": None,
                     "stop_reason": None, "prompt_token_ids": None, "token_ids": None}],
        "usage": None,
    }  # fmt: skip
    assert middle["choices"][0]["finish_reason"] is None
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "total_tokens": 6, "completion_tokens": 3}


def test_newer_versions_leave_unset_fields_out():
    """No `usage` where none was asked for."""
    assert "usage" not in events(NEW)[0]


@pytest.mark.parametrize("chat", [False, True])
def test_running_usage_counts_every_token(chat):
    """With continuous usage each event tells the tokens so far; a chat opens with the role and no token."""
    counts = [
        event["usage"]["completion_tokens"]
        for event in events(OLD, tokens=12, continuous_usage=True, chat=chat)
    ]
    assert counts == ([0] if chat else []) + [*range(1, 13), 12]


def test_a_chat_opens_with_its_role():
    """The first event has the role and empty content; 0.14 still has the old reasoning field."""
    role, token, *_ = events(OLD, chat=True)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning_content": None}
    assert set(token["choices"][0]["delta"]) == {"content", "reasoning_content"}
    assert "reasoning_content" not in events(NEW, chat=True)[0]["choices"][0]["delta"]


def test_reasoning_comes_first_where_a_parser_is_asked_for():
    """Half the answer is reasoning; 0.14 tells it under both names."""
    deltas = [
        e["choices"][0]["delta"]
        for e in events(replace(OLD, reasoning_parser=True), chat=True, tokens=4)[:-1]
    ]
    assert [("reasoning" in d, "content" in d) for d in deltas[1:]] == [(True, False)] * 2 + [
        (False, True)
    ] * 2
    assert deltas[1]["reasoning"] == deltas[1]["reasoning_content"]


def test_token_ids_come_back_when_asked_for():
    """The prompt's ids once, then each token's."""
    first, second, *_ = events(OLD, return_token_ids=True)
    assert first["choices"][0]["prompt_token_ids"] == [0, 0, 0]
    assert second["choices"][0]["prompt_token_ids"] is None
    assert len(first["choices"][0]["token_ids"]) == 1


def test_one_token_is_an_answer():
    """First and last event are one."""
    event, usage = events(OLD, tokens=1)
    assert event["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["completion_tokens"] == 1
    role, *_ = events(OLD, tokens=1, chat=True)
    assert role["choices"][0]["delta"]["role"] == "assistant"


def test_an_event_can_hold_several_tokens():
    """With --stream-interval 4: the first token alone, then four at a time, the rest with the end."""
    parts = events(OLD, tokens=12, interval=4, return_token_ids=True, continuous_usage=True)[:-1]
    assert [len(event["choices"][0]["token_ids"]) for event in parts] == [1, 4, 4, 3]
    assert [len(event["choices"][0]["text"].split()) for event in parts] == [1, 4, 4, 3]
    assert [event["usage"]["completion_tokens"] for event in parts] == [1, 5, 9, 12]
    assert len(events(OLD, tokens=1, interval=4)) == 2


def test_details_tell_cached_and_image_tokens():
    """Where the server was started with --enable-prompt-tokens-details, in the form of its version."""
    details = {"cached_tokens": 0, "multimodal_tokens": {"image": 9}}
    usage = events(replace(NEW, all_details=True), image_tokens=9)[-1]["usage"]
    assert usage["prompt_tokens_details"] == details
    assert "prompt_tokens_details" not in events(replace(OLD, prompt_details=True))[-1]["usage"]
