"""Numbers as files write them."""

from __future__ import annotations

import pytest

from rocbench.errors import InputError
from rocbench.load import fields


@pytest.mark.parametrize("value", [24, 24.0, "24", " 24 ", "24.0", "24.", "+24"])
def test_a_number_is_taken_however_it_is_written(value):
    """Whole floats and text of tables are numbers."""
    assert fields.length({"osl": value}, fields.OUTPUT_KEYS, "f:1") == 24


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        "0",
        0.0,
        0.5,
        "24.5",
        True,
        False,
        None,
        "",
        "many",
        "1e3",
        1e30,
        10**7 + 1,
        "9" * 40,
        [24],
        {},
        "nan",
    ],
)
def test_what_is_no_length_is_refused_by_name(value):
    """Nothing else is put in its place."""
    with pytest.raises(InputError, match=r"`osl` must be a whole number of tokens") as fault:
        fields.length({"osl": value}, fields.OUTPUT_KEYS, "f:1")
    assert fault.value.where == "f:1"


def test_times_may_be_any_finite_number():
    """Also as text; not true, not the text of infinity."""
    assert [fields.number(v) for v in (1, -0.5, "1.5", "2", "1e3")] == [1, -0.5, 1.5, 2, 1000.0]
    for value in (True, None, "", "inf", "nan", "2024-01-01", "1e999", [], float("inf")):
        assert fields.number(value) is None


def test_keys_that_look_like_a_length():
    """Found where they hold a number and are not read."""
    row = {
        "max_new_tokens": 5,
        "Response tokens": "7",
        "osl": 3,
        "prompt_tokens": [1],
        "id": 4,
        "GenLen": 2.0,
    }
    assert list(fields.others(row, fields.OUTPUT_KEYS)) == ["max_new_tokens", "Response tokens", "GenLen"]
    assert list(fields.disagree({"osl": 3, "max_tokens": 9, "output_len": "3"}, fields.OUTPUT_KEYS)) == [
        ("output_len", "max_tokens")
    ]
