"""JSONL files of prompts, conversations and traces."""

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


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"timestamp_s": 10.0}, {"timestamp_s": 10.5}], [0, 500_000_000]),
        ([{"timestamp_ms": 5}, {"timestamp_ms": 3}], [0, 2_000_000]),
        ([{"timestamp": 1000}, {"timestamp": 2000}], [0, 1_000_000_000]),
        ([{"timestamp": 0}, {"timestamp": 1.5}], [0, 1_500_000_000]),
    ],
)
def test_trace_times(tmp_path, rows, expected):
    """Times count from the first line, in order; bare whole numbers are milliseconds, fractions seconds."""
    path = file(tmp_path, *({**row, "input_length": 3, "output_length": 4} for row in rows))
    arrivals = datasets.trace(path)
    assert [arrival.at_ns for arrival in arrivals] == expected
    assert all((arrival.turn.isl, arrival.turn.osl) == (3, 4) for arrival in arrivals)


@pytest.mark.parametrize(
    ("shape", "row", "said"),
    [
        ("prompt", {"text": "x"}, "no `prompt`"),
        ("prompt", "{", "not JSON"),
        ("prompt", "[1]", "JSON object"),
        ("sharegpt", {"prompt": "x"}, "no `conversations`"),
        ("sharegpt", {"conversations": [{"from": "robot", "value": "x"}]}, "known role"),
        ("trace", {"timestamp": 1}, "no lengths"),
    ],
)
def test_faults_name_the_line(tmp_path, shape, row, said):
    """A line that cannot be used is named."""
    good = {"prompt": "x", "conversations": [], "input_length": 1, "output_length": 1}
    path = file(tmp_path, good, row)
    with pytest.raises(InputError, match=said) as fault:
        datasets.conversations(path, shape, multi_turn=False)
    assert fault.value.where.endswith("data.jsonl:2")


def test_a_trace_without_times_and_files_without_lines(tmp_path):
    """Traces need times; empty and missing files are errors."""
    with pytest.raises(InputError, match="no timestamp"):
        datasets.trace(file(tmp_path, {"input_length": 1, "output_length": 1}))
    with pytest.raises(InputError, match="empty"):
        datasets.trace(file(tmp_path))
    with pytest.raises(InputError, match="no prompt"):
        datasets.conversations(file(tmp_path), "prompt", multi_turn=False)
    with pytest.raises(InputError, match="cannot read"):
        datasets.trace(str(tmp_path / "none.jsonl"))
