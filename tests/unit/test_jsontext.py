"""JSON within bounds: one message with its place for each text that would hang, exhaust or crash a reader."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench import jsontext
from rocbench.errors import Exit, InputError

REFUSED = {
    "deep": ("[" * 900 + "]" * 900, "deeper than 64"),
    "deeper than the stack": ("[" * 100_000, "deeper than 64"),
    "deep beside half a character": ('{"a":' * 70 + '"\\ud800"' + "}" * 70, "deeper than 64"),
    "4,300 digits": ("1" * 4300, "4300 digits"),
    "21 digits": ("-" + "1" * 21, "21 digits"),
    "beyond a float": ("1e400", "'1e400' is too large"),
    "beyond a float without exponent": ("1" * 310 + ".0", "is too large"),
    "not a number": ("[NaN]", "NaN is not a JSON number"),
    "infinite": ("-Infinity", "-Infinity is not a JSON number"),
    "half a character": ('["\\ud800"]', "half a character"),
    "half a character in a key": ('{"\\uDFFF": 1}', "half a character"),
    "twice": ('{"a": 1, "a": 2}', "key 'a' appears twice"),
    "no UTF-8": (b'"\xff"', "not UTF-8"),
    "empty": ("", "not valid JSON"),
    "many values": ("[" + "0," * 1_000_001 + "0]", "more than 1,000,000 values"),
}


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=list(REFUSED))
def test_a_text_out_of_bounds_is_told_in_one_message(text: str | bytes, why: str) -> None:
    """The message has fault and place, short and printable."""
    with pytest.raises(InputError) as told:
        jsontext.parse(text, "a.json", fix="do this")
    assert why in told.value.what
    assert (told.value.where, told.value.fix, told.value.exit_code) == ("a.json", "do this", Exit.BAD_INPUT)
    assert len(told.value.text()) < 200
    told.value.text().encode()


@pytest.mark.parametrize("bad", ['"a": NaN', f'"a": {"9" * 30}', '"a": 1e999', '"a": ]', '"b": 2'])
def test_the_line_is_told(bad: str) -> None:
    """Of the value that is at fault; a repeated key is shown at its first place."""
    text = '{"b": 1,\n\n' + bad + "}"
    with pytest.raises(InputError) as told:
        jsontext.parse(text, "a.json")
    assert told.value.where == ("a.json:1" if '"b": 2' in bad else "a.json:3")


def test_what_lies_on_the_bounds_is_taken() -> None:
    """One step more is refused above."""
    deep = "[" * 64 + "]" * 64
    assert json.dumps(jsontext.parse(deep)) == deep
    assert jsontext.parse("\ufeff" + "9" * 20) == jsontext.parse(b"\xef\xbb\xbf" + b"9" * 20) == int("9" * 20)
    assert jsontext.parse('"\\ud83d\\ude00 \\u0000"') == "\U0001f600 \0"
    assert math.isnan(jsontext.parse("[NaN, Infinity]", finite=False)[0])


def test_keys_that_stand_twice_are_told_where_they_are_allowed() -> None:
    """Each once; the last value counts, also of an object within another."""
    repeated: list[str] = []
    found = jsontext.parse(
        '[{"a": 1, "a": 2, "a": 3}, {"b": {"a": 1, "a": 4}, "b": 5, "c": 6}]', repeated=repeated
    )
    assert found == [{"a": 3}, {"b": 5, "c": 6}]
    assert repeated == ["a", "b"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_other_texts_are_read_as_json_reads_them(value: object) -> None:
    """The bounds change nothing else."""
    text = json.dumps(value)
    if "Infinity" not in text:
        assert jsontext.parse(text) == value
