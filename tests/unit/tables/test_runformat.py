"""The format of a run folder's files: rows and shapes that bench writes pass, and the first mismatch of others is named."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rocbench.errors import InputError
from rocbench.tables import runformat

ROW = {
    "cell_id": "60249d794615",
    "repeat": 1,
    "output_throughput": 12.5,
    "axes": '{"aiter": "on"}',
    "valid": None,
}


def test_a_row_is_taken_as_it_is():
    """Also with what a later version adds."""
    assert runformat.row(ROW | {"a_new_column": "x"}) == ROW | {"a_new_column": "x"}


@pytest.mark.parametrize(
    ("changed", "read"),
    [
        ({"vllm_version": 0.14}, "0.14"),
        ({"output_throughput": math.nan}, None),
        ({"output_throughput": math.inf}, None),
        ({"valid": 1}, True),
        ({"prefix_cache_reset": "unproved"}, "unproved"),
        ({"a_new_column": {"a": 1}}, '{"a": 1}'),
    ],
)
def test_what_can_be_understood_is(changed, read):
    """A version that a CSV file made a number of, truths as 0 and 1; what is not finite is absent."""
    (name,) = changed
    assert runformat.row(ROW | changed)[name] == read


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"output_throughput": "x"}, "`output_throughput` must be a number, not 'x'"),
        ({"output_throughput": True}, "must be a number"),
        ({"output_throughput": [1]}, "must be a number"),
        ({"completed": 2**63}, "64 bits"),
        ({"valid": "yes"}, "`valid` must be true or false, not 'yes'"),
        ({"model": ["x"]}, "`model`"),
        ({"axes": "["}, "`axes`"),
        ({"axes": "[]"}, "`axes` must be an object, not []"),
        ({"axes": "null"}, "`axes`"),
        ({"failures": '{"timeout": "x"}'}, "`failures`.timeout must be a number, not 'x'"),
        ({"load_notes": "{}"}, "`load_notes` must be a list, not {}"),
        ({"load_notes": "[[1]]"}, "`load_notes`[0] must be text, not [1]"),
        ({"load_notes": "[" * 100_000}, "deeper than 64 levels"),
        ({"started_at": "yesterday"}, "`started_at` must be a time such as"),
        ({"duration_s": -1e300}, "`duration_s` must be between -1e+30 and 1e+30, not -1e+300"),
        ({"cell_id": None}, "`cell_id` is missing"),
        ({"cell_id": "../../etc"}, "cannot be part of a file name"),
        ({"cell_id": "x/y"}, "cannot be part of a file name"),
        ({"repeat": 0}, "`repeat`"),
        ({"repeat": 1.5}, "`repeat`"),
        ({"repeat": "x"}, "`repeat`"),
    ],
)
def test_a_row_that_cannot_be_read_names_its_column(changed, message):
    """The message shows the beginning of the value."""
    with pytest.raises(runformat.Mismatch) as error:
        runformat.row(ROW | changed)
    assert message in str(error.value)
    assert len(str(error.value)) < 200


def test_a_column_of_json_is_read_within_bounds():
    """Also one of a row that no file held; absent is empty."""
    assert runformat.json_column({"axes": '{"aiter": true}'}, "axes") == {"aiter": True}
    assert runformat.json_column({"load_notes": '["a", "b"]'}, "load_notes") == ["a", "b"]
    assert (
        runformat.json_column({"axes": None, "load_notes": ""}, "axes")
        == runformat.json_column({}, "axes")
        == {}
    )
    assert (
        runformat.json_column({"load_notes": ""}, "load_notes")
        == runformat.json_column({}, "load_notes")
        == []
    )
    for text, why in (("[" * 100_000, "deeper than 64 levels"), ("{", "not valid JSON"), ("[]", "an object")):
        with pytest.raises(InputError, match=f"c1: axes: .*{why}"):
            runformat.json_column({"cell_id": "c1", "axes": text}, "axes")


def test_the_columns_of_load_hosts_are_lists():
    """Names and clocks of several hosts are text, so that a row with them can be read again."""
    hosts = {"load_hosts": "left;right", "load_hosts_clock_ms": "+0.100;-0.200"}
    assert runformat.row(ROW | hosts) == ROW | hosts


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([], "it must be an object, not []"),
        ({"servers": {}}, "servers must be a list, not {}"),
        ({"servers": [None]}, "servers[0] is null"),
        ({"servers": [{"argv": ["vllm", 1]}]}, "servers[0].argv[1] must be text, not 1"),
        ({"sweep": {"slo": {"ttft_ms": "fast"}}}, "sweep.slo.ttft_ms must be a number, not 'fast'"),
        ({"sweep": {"saturation_gain": True}}, "sweep.saturation_gain must be a number, not true"),
    ],
)
def test_a_plan_of_another_shape_names_its_place(plan, message):
    """As a path of names and numbers."""
    with pytest.raises(runformat.Mismatch) as error:
        runformat.check(plan, runformat.PLAN)
    assert message in str(error.value)


def test_what_is_absent_or_new_fits():
    """Readers do without the one, and do not look at the other."""
    runformat.check({"sweep": None, "servers": [{"argv": None, "new": 1}], "new": [1]}, runformat.PLAN)


TIMELINE = {"cell_id": ["c"], "repeat": [1], "discarded": [False], "second": [0], "output_tokens": [7]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"second": ["x"]}, "column second holds string"),
        ({"cell_id": [1]}, "column cell_id holds int64"),
        ({"discarded": [0]}, "column discarded holds int64"),
        ({"output_tokens": [[1]]}, "column output_tokens holds list"),
    ],
)
def test_a_table_of_other_types_is_named(changed, message):
    """A column may be absent throughout; undocumented columns may have any type."""
    runformat.check_table("timeline", pa.table(TIMELINE | {"second": [None], "new": ["x"]}).schema)
    with pytest.raises(runformat.Mismatch, match=message):
        runformat.check_table("timeline", pa.table(TIMELINE | changed).schema)


def test_a_table_without_a_column_is_named():
    """Or with one twice."""
    table = pa.table(TIMELINE)
    with pytest.raises(runformat.Mismatch, match="second' is missing"):
        runformat.check_table("timeline", table.drop_columns(["second"]).schema)
    with pytest.raises(runformat.Mismatch, match="second' occurs twice"):
        runformat.check_table("timeline", table.append_column("second", table["second"]).schema)


def test_rows_of_a_frame_have_none_for_what_is_absent():
    """Whatever the type of its column; a number is one of Python's own."""
    frame = pd.DataFrame(
        {
            "whole": [1, None],
            "floats": [0.5, np.nan],
            "texts": ["x", None],
            "truths": [True, None],
            "times": pd.to_datetime(["2026-11-30", None]),
            "lists": [[1], np.nan],
        }
    )
    for made in (frame, frame.convert_dtypes()):
        first, second = runformat.rows(made)
        assert first == {
            "whole": 1,
            "floats": 0.5,
            "texts": "x",
            "truths": True,
            "times": pd.Timestamp("2026-11-30"),
            "lists": [1],
        }
        assert set(second.values()) == {None}
        assert not any(isinstance(value, np.generic) for value in first.values())
    assert runformat.rows(frame[:0]) == runformat.rows(pd.DataFrame()) == []
