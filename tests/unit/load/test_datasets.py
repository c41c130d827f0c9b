"""Files of prompts, conversations and traces: what they hold, what is refused, what is told."""

from __future__ import annotations

import json

import pytest

from rocbench.errors import InputError
from rocbench.load import datasets


def file(tmp_path, *rows):
    """A JSONL file of these rows; text goes in as it is."""
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return str(path)


def test_prompts_with_their_lengths(tmp_path):
    """Text or ids, with an output length under any of its usual names."""
    path = file(
        tmp_path,
        {"prompt": "hello", "output_len": 5},
        "",
        {"prompt": [1, 2], "output_tokens": 6},
        {"prompt": "x"},
    )
    talks = datasets.conversations(path, "prompt", multi_turn=False)
    assert [talk[0].osl for talk in talks] == [5, 6, None]
    assert talks[0][0].messages == (("user", "hello"),)
    assert talks[1][0].ids == (1, 2)


def test_sharegpt_turns(tmp_path):
    """Each user message with an answer is a turn that holds all before it; without multi_turn only the first."""
    talk = {"conversations": [{"from": who, "value": what} for who, what in [
        ("system", "s"), ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"), ("human", "e")]]}  # fmt: skip
    path = file(
        tmp_path,
        talk,
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]},
    )
    talks = datasets.conversations(path, "sharegpt", multi_turn=True)
    assert [len(talk) for talk in talks] == [3, 1]
    assert talks[0][1].messages == (("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    assert talks[0][1].answer == "d"
    assert talks[0][2].answer is None
    assert [len(talk) for talk in datasets.conversations(path, "sharegpt", multi_turn=False)] == [1, 1]


def arrivals(path, unit=None, **more):
    """When the requests of a trace arrive, in seconds, and what was told."""
    told = []
    found = datasets.trace(path, unit, take_note=told.append, **more)
    return [round(arrival.at_ns / 1e9, 6) for arrival in found], "\n".join(told)


def lines(*times, key="timestamp", **more):
    """Lines of a trace."""
    return [{key: at, "input_length": 16, "output_length": 4, **more} for at in times]


@pytest.mark.parametrize(
    ("rows", "unit", "expected", "told"),
    [
        (lines(10.0, 10.5, key="timestamp_s"), None, [0, 0.5], "0.5 s; timestamps are in seconds"),
        (
            lines(5, "3", key="timestamp_ms"),
            None,
            [0, 0.002],
            "0.002 s; timestamps are in milliseconds",
        ),
        (lines(5, 3, key="timestamp_ms"), "ms", [0, 0.002], "milliseconds"),
        (lines(0, 35), "s", [0, 35], "35 s; timestamps are in seconds, as set by `unit`"),
        (lines(0, 35), "ms", [0, 0.035], "0.035 s; timestamps are in milliseconds, as set by `unit`"),
        (lines(0.5, 2.5), "ms", [0, 0.002], "milliseconds, as set by `unit`"),
        (lines(0, 3500, hash_ids=[1]), None, [0, 3.5], "3.5 s; timestamps are in milliseconds"),
        (lines(1.7e9, 1.7e9 + 0.25), "s", [0, 0.25], "0.25 s"),
    ],
)
def test_a_trace_s_unit_is_stated_or_follows_from_its_form(tmp_path, rows, unit, expected, told):
    """By the key, by the sweep, or by Mooncake's form; unit and length are told, and nothing is guessed."""
    times, said = arrivals(file(tmp_path, *rows), unit, guess=False)
    assert times == expected
    assert told in said


@pytest.mark.parametrize(
    "rows", [lines(0, 5, 35), lines(0.0, 35.0), lines(0.5, 35.5), lines(0.5, 35.5, hash_ids=[1])]
)
def test_a_time_without_a_unit_is_refused_by_a_sweep(tmp_path, rows):
    """With the replay's length by either unit; who calls without a sweep is told what was guessed."""
    path = file(tmp_path, *rows)
    with pytest.raises(
        InputError, match=r"0\.035 s if timestamps are in milliseconds, 35 s if they are in seconds"
    ):
        datasets.trace(path, guess=False)
    times, said = arrivals(path)
    assert times[-1] == (0.035 if float(rows[0]["timestamp"]).is_integer() else 35)
    assert f"{path}: " in said
    assert "a guess (the replay lasts 0.035 s" in said


def test_a_stated_unit_does_not_change_what_a_key_says(tmp_path):
    """`unit: s` over `timestamp_ms` is a mistake in one of the two."""
    with pytest.raises(InputError, match="`timestamp_ms` contradicts `unit: s`"):
        datasets.trace(file(tmp_path, *lines(0, 1, key="timestamp_ms")), "s")


def test_hash_ids_that_are_not_replayed_are_told_with_their_share(tmp_path):
    """39 of 40 requests share their first of two blocks; also where the trace is only a dataset."""
    rows = [lines(i * 100, hash_ids=[0, i + 1])[0] | {"input_length": 1024} for i in range(40)]
    path, told = file(tmp_path, *rows), []
    datasets.conversations(path, "trace", multi_turn=False, take_note=told.append)
    for said in (arrivals(path)[1], "\n".join(told)):
        assert f"share no prefix. In the trace, {100 * 39 / 80:.3g} %" in said
    assert "timestamps are not replayed" in "\n".join(told)


def test_what_is_not_read_is_told(tmp_path):
    """Keys that look like lengths, two that differ, lengths that are missing, sessions."""
    told = []
    rows = [
        {"prompt": "a", "max_new_tokens": 5},
        {"prompt": "b", "output_len": 3, "max_tokens": 9, "input_length": 7},
        {"prompt": "c", "response": "d"},
    ]
    datasets.conversations(file(tmp_path, *rows), "prompt", multi_turn=False, take_note=told.append)
    said = "\n".join(told)
    assert "1 requests have no output length" in said
    for what in (
        "`max_new_tokens` is ignored: output lengths",
        "`max_tokens` is ignored, because `output_len` gives a different",
        "`input_length` is ignored: the prompt",
    ):
        assert f"1 of 3 entries: {what}" in said
    assert "`session_id` is ignored" in arrivals(file(tmp_path, *lines(0, session_id="x")), "s")[1]


def test_an_odd_entry_is_left_out_only_if_asked_to(tmp_path):
    """Named with line and role; with `skip_bad` counted and told; all of them odd is a fault."""
    good = {"conversations": [{"from": "human", "value": "hi"}, {"from": "chatgpt", "value": "hello"}]}
    odd = {"conversations": [{"from": "human", "value": "hi"}, {"from": "tool", "value": "x"}]}
    silent = {"conversations": [{"from": "gpt", "value": "hello"}]}
    for array in (False, True):
        rows = [good, odd, silent, good]
        path = file(tmp_path, *([json.dumps(rows)] if array else rows))
        where = rf"data\.jsonl:{'1 .entry 2.' if array else 2}: message 2 has an unknown role: \"tool\""
        with pytest.raises(InputError, match=where):
            datasets.conversations(path, "sharegpt", multi_turn=True)
        told = []
        talks = datasets.conversations(
            path, "sharegpt", multi_turn=True, skip_bad=True, take_note=told.append
        )
        assert [talk[0].answer for talk in talks] == ["hello", "hello"]
        assert "1 of 4 entries are skipped; the first:" in told[0]
        assert "no user message" in told[1]
    with pytest.raises(InputError, match="none of the 2 entries is usable"):
        datasets.conversations(file(tmp_path, odd, odd), "sharegpt", multi_turn=True, skip_bad=True)
    with pytest.raises(InputError, match="no message has the role user"):
        datasets.conversations(file(tmp_path, silent), "sharegpt", multi_turn=True)


@pytest.mark.parametrize(
    ("shape", "row", "said"),
    [
        ("prompt", {"text": "x"}, "no `prompt`"),
        ("prompt", "{", "not JSON"),
        ("prompt", "[1]", "JSON object"),
        ("sharegpt", {"prompt": "x"}, "no `conversations`"),
        ("sharegpt", {"conversations": [{"from": "robot", "value": "x"}]}, "unknown role"),
        ("trace", {"timestamp": 1}, "no lengths"),
        ("trace", {"input_length": 0, "output_length": 1}, "`input_length` must be .*, not 0"),
        ("trace", {"input_length": 1, "output_length": 1, "hash_ids": "a"}, "must be a list of block ids"),
        ("prompt", {"prompt": "x", "output_len": None}, "`output_len` must be .*, not null"),
        ("prompt", {"prompt": " "}, "not an empty value"),
        ("prompt", {"prompt": []}, "not an empty value"),
        ("prompt", {"prompt": None}, "`prompt` must be text or token ids, not null"),
        ("prompt", {"prompt": ["a"]}, r"`prompt\[0\]` must be a token id, not \"a\""),
        ("prompt", {"prompt": [1, 2.5]}, r"`prompt\[1\]` must be a token id, not 2.5"),
        ("prompt", {"prompt": [True]}, r"`prompt\[0\]` must be a token id, not true"),
        ("prompt", {"prompt": [-1]}, r"`prompt\[0\]` must be a token id, not -1"),
        (
            "prompt",
            {"prompt_token_ids": [5, 100]},
            r"must be a token id, not 100 .the vocabulary has 100 tokens",
        ),
        (
            "prompt",
            {"prompt": "x", "completion": 3},
            "`completion` must be the text of a recorded answer, not 3",
        ),
        ("prompt", {"messages": []}, "no `prompt`.*\n.*shape: sharegpt"),
        ("sharegpt", {"messages": ["hi"]}, 'message 1 has no role: "hi"'),
        ("sharegpt", {"messages": "hi"}, "not a list of messages"),
        ("sharegpt", {"messages": [{"role": ["user"], "content": "x"}]}, "unknown role"),
        (
            "sharegpt",
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "the content of message 1 must be text",
        ),
        ("sharegpt", {"messages": [{"role": "user", "content": ""}]}, "is empty"),
    ],
)
def test_faults_name_the_line(tmp_path, shape, row, said):
    """A line that cannot be used is named."""
    good = {"prompt": "x", "conversations": [], "input_length": 1, "output_length": 1}
    path = file(tmp_path, good, row)
    with pytest.raises(InputError, match=said) as fault:
        datasets.conversations(path, shape, multi_turn=False, vocab_size=100)
    assert fault.value.where.endswith("data.jsonl:2")


@pytest.mark.parametrize("at", [None, True, "soon", "", 1e300, "1e999", [1], 1e12])
def test_what_is_no_time_is_refused(tmp_path, at):
    """A time that is none, or thousands of years after the first."""
    with pytest.raises(InputError, match=r"must be a time|ten years") as fault:
        datasets.trace(file(tmp_path, *lines(0, at)), "s")
    assert fault.value.where.endswith("data.jsonl:2")


def test_a_trace_without_times_and_files_without_lines(tmp_path):
    """Traces need times; empty and missing files are errors."""
    with pytest.raises(InputError, match="no timestamp"):
        datasets.trace(file(tmp_path, {"input_length": 1, "output_length": 1}))
    with pytest.raises(InputError, match="empty"):
        datasets.trace(file(tmp_path))
    with pytest.raises(InputError, match="empty"):
        datasets.conversations(file(tmp_path), "prompt", multi_turn=False)
    with pytest.raises(InputError, match="cannot read"):
        datasets.trace(str(tmp_path / "none.jsonl"))
