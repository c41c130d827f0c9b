"""Whatever stands in a line of a file: it is a request that can be sent, or one message with the file and the line."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from rocbench.errors import InputError
from rocbench.load.requestfactory import RequestFactory
from rocbench.load.spec import Closed, Dataset, Dialect, Lengths, LoadSpec, RequestPlan, Shape, Target, Trace

GOOD = {
    "prompt": {"prompt": "some words", "output_len": 4, "completion": "more words"},
    "ids": {"prompt": [5, 6, 7], "max_tokens": 4},
    "sharegpt": {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
    "trace": {"timestamp": 5, "input_length": 16, "output_length": 4, "hash_ids": [1, 2]},
}
ODD = (
    None, True, 0, -1, 1, 24.0, 0.5, 1e30, 2**63, "24", "", " ", "x", "\ud800", [], [None], ["a"], [[1]], [1e9], {}, {"a": 1},
)  # fmt: skip
"""What stands where something else should."""
BYTES = b'"{}[],:\\\n\r\0\xff0e-.tn \xef\xbb\xbf'


def mutated(row: object, chance: random.Random) -> object:
    """The row with one value, key or element of it changed, taken away or doubled."""
    if isinstance(row, dict) and row and chance.random() < 0.9:
        key = chance.choice(list(row))
        match chance.randrange(5):
            case 0:
                return {name: value for name, value in row.items() if name != key}
            case 1:
                return {
                    **row,
                    chance.choice(["osl", "messages", "timestamp_s", "prompt", "delay", key + "s"]): row[key],
                }
            case _:
                return {**row, key: mutated(row[key], chance)}
    if isinstance(row, list) and row and chance.random() < 0.8:
        place = chance.randrange(len(row))
        return [*row[:place], mutated(row[place], chance), *row[place + chance.randrange(2) :]]
    return chance.choice(ODD)


def line(row: object, chance: random.Random) -> bytes:
    """A line of the row, changed as a value or byte by byte."""
    if chance.random() < 0.7:
        for _ in range(chance.randrange(1, 3)):
            row = mutated(row, chance)
        return json.dumps(row).encode()
    text = bytearray(json.dumps(row).encode())
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(text))
        text[place : place + chance.randrange(2)] = bytes([chance.choice(BYTES)])
    return bytes(text)


def load(path: Path, name: str) -> LoadSpec:
    """A load that takes its requests from the file."""
    shape: Shape = Trace(str(path), unit="s") if name == "trace" else Closed(1)
    form = "sharegpt" if name == "sharegpt" else "prompt"
    dataset = None if name == "trace" else Dataset(str(path), form, multi_turn=name == "sharegpt")
    return LoadSpec(
        Target("http://127.0.0.1:1", "m", vocab_size=5000),
        RequestPlan(Lengths(16), Lengths(4), dataset=dataset),
        shape,
    )


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("times", [150, pytest.param(2500, marks=pytest.mark.slow)])
def test_a_line_is_a_request_or_a_message(tmp_path, name, times, array):
    """No other error comes out, and no length but the one that stands there goes in."""
    chance = random.Random(f"{name}{array}")
    path = tmp_path / "d.jsonl"
    good = json.dumps(GOOD[name]).encode()
    refused = []
    for _ in range(times):
        odd = line(GOOD[name], chance)
        path.write_bytes(
            b"[%b,\n%b,\n%b]" % (good, odd, good) if array else b"%b\n%b\n%b\n" % (good, odd, good)
        )
        try:
            source = RequestFactory(load(path, name), Dialect(), wire=False)
            for number in range(len(source.conversations)):
                json.loads(source.make(number, 0).payload)
        except InputError as error:
            refused.append((odd, error))
    for odd, error in refused:
        assert error.where.startswith(f"{path}:"), odd
        if b"\n" not in odd and not (
            array and error.what.startswith(("a comma", "something", "this entry", "not JSON", "an entry"))
        ):
            assert error.where.removeprefix(f"{path}:").startswith("2"), (odd, error)
    assert 0.2 * times < len(refused) < 0.98 * times
