"""A row of `cells` as what it says: nothing that a column holds makes it fail, and what is absent is None."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rocbench.store.cells import frame_of
from rocbench.tables.row import Row, figures, judged, listed, needed_samples, number, records, too_few
from rocbench.verdict.judge import Evidence, judge

ROW = Row(
    {
        "run_id": "r",
        "cell_id": "60249d794615",
        "repeat": 2,
        "key": "m@x=1/w/c64",
        "model": "m",
        "concurrency": 64,
        "valid": False,
        "reasons": "littles_law;few_samples_p99",
        "median_ttft_ms": 12.5,
        "completed": 310,
        "ttft_n": 300,
    }
)
COLUMNS = "valid reasons unknown_checks concurrency request_rate load_shape key model server_id simulated predicted completed ttft_n".split()
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.just(pd.NA),
    st.just(pd.NaT),
    st.lists(st.integers(), max_size=2),
)


def test_a_row_says_what_it_is():
    """Verdict, codes, level, key and figures, each in one place."""
    assert (ROW.valid, ROW.word, ROW.codes) == (False, "invalid", ("littles_law", "few_samples_p99"))
    assert (ROW.level, ROW.shape, ROW.configuration, ROW.origin) == (64.0, "closed", "m@x=1", "")
    assert (ROW.key, ROW.identity.stem) == (("60249d794615", 2, False), "60249d794615-002")
    assert (ROW.figure("median_ttft_ms"), ROW.samples("median_ttft_ms")) == (12.5, 300)
    assert (ROW.few_samples("p99_ttft_ms"), ROW.few_samples("p95_ttft_ms")) == (True, False)


def test_what_is_absent_is_none():
    """No column, no figure: never zero, never false."""
    empty = Row({})
    assert (empty.valid, empty.word, empty.level, empty.codes) == (None, "unknown", None, ())
    assert (empty.figure("ttft_n"), empty.samples("p99_ttft_ms"), empty.origin) == (None, None, "")
    assert not empty.discarded


def test_a_row_never_changes():
    """Neither by itself nor by the dict that it was made of; with more columns it is another one."""
    columns = {"valid": True}
    row = Row(columns)
    columns["valid"] = False
    with pytest.raises(TypeError):
        row["valid"] = False
    assert row.valid is True
    assert (row | {"valid": None}).valid is None
    assert row == {"valid": True}


@given(st.dictionaries(st.sampled_from(COLUMNS), ODD))
def test_no_value_makes_it_fail(columns):
    """Rows of other tools and of damaged tables are read as far as they say something."""
    row = Row(columns)
    assert row.valid in {True, False, None}
    assert all(row.codes)
    assert len(set(row.codes)) == len(row.codes)
    assert row.level is None or isinstance(row.level, float)
    assert row.shape in {"closed", "open", "trace"}
    assert row.origin in {"", "simulated", "predicted"}
    assert row.samples("p99_ttft_ms") is None or isinstance(row.samples("p99_ttft_ms"), int)
    assert isinstance(row.configuration, str)
    assert "-" not in row.server
    assert row.few_samples("p99_x_ms") in {True, False}


@given(st.lists(st.text("abc_", min_size=1), unique=True))
def test_codes_come_back_as_they_were_joined(codes):
    """In their order, each once."""
    assert Row({"reasons": ";".join(codes)}).codes == tuple(codes)
    assert Row({"reasons": ";".join([*codes, "", *codes])}).codes == tuple(codes)


@given(
    st.sampled_from([True, False, None]),
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    st.booleans(),
)
def test_a_row_comes_back_from_a_frame(valid, figure, simulated):
    """Absent stays absent, whatever a frame's column makes of it."""
    columns = {"cell_id": "a", "repeat": 1, "valid": valid, "output_throughput": figure, "axes": '{"x": 1}'}
    other = {"cell_id": "b", "repeat": 1, "discarded": True}
    (row,) = records(frame_of([columns | {"simulated": simulated}, other]))
    assert (row.valid, row.figure("output_throughput")) == (valid, figure)
    assert (row.origin, row["axis.x"]) == ("simulated" if simulated else "", 1)


EXACT = st.integers(-(2**53), 2**53)
KINDS = (
    st.booleans(),
    EXACT,
    st.integers(),
    st.floats(),
    EXACT.map(float),
    EXACT | st.floats(),
    st.text(),
    st.booleans() | EXACT,
    st.text() | st.floats(),
    st.nothing(),
)


@given(st.sampled_from(KINDS).flatmap(lambda kind: st.lists(st.none() | kind, max_size=4)))
@example([1, 2**64])
@example([1.0, 2**64])
@example([2**63 - 1, -(2**63)])
@example([math.nan, None])
@example([math.inf, 2.0**63, 1])
def test_a_frame_has_the_types_of_convert_dtypes(values):
    """Whole numbers, numbers, truths and text are each of one type, with absent values; others stay objects."""
    assume(None not in values or all(abs(value) <= 2**53 for value in values if type(value) is int))
    frame = frame_of([{"axes": value} for value in values])
    expected = pd.DataFrame({"axes": values}).convert_dtypes()
    pd.testing.assert_frame_equal(frame[["axes"]], expected)


def test_whole_numbers_stay_exact_beside_absent_ones():
    """A float would round them."""
    assert frame_of([{"axes": 2**53 + 1}, {"axes": None}])["axes"].tolist() == [2**53 + 1, pd.NA]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (1, 1.0),
        (math.inf, math.inf),
        (math.nan, None),
        (True, None),
        ("1", None),
        (None, None),
        (10**400, None),
    ],
)
def test_a_number_is_a_number(value, read):
    """A text or a truth is none, nor is what no float holds."""
    assert number(value) == read


def test_many_rows():
    """Figures that are present, codes of any row, and rows that are not invalid."""
    rows = [ROW, Row({"valid": None, "reasons": "a;littles_law"}), Row({"valid": True, "median_ttft_ms": 1})]
    assert figures(rows, "median_ttft_ms") == [12.5, 1.0]
    assert listed(rows) == ["littles_law", "few_samples_p99", "a"]
    assert judged(rows) == rows[1:]


def test_a_percentile_needs_requests():
    """Completed ones, whatever its values count; a column that is not a percentile needs none."""
    assert [needed_samples(f"{p}_ttft_ms") for p in ("p99", "p95", "p90", "median")] == [368, 72, 36, None]
    assert [too_few("p95_e2el_ms", n) for n in (71, 72, None)] == [True, False, False]
    assert Row({"completed": 100, "itl_n": 9000}).few_samples("p99_itl_ms")
    assert Row({"completed": 400, "tpot_n": 300}).few_samples("p99_tpot_ms")
    assert not Row({"completed": 400}).few_samples("p99_ttft_by_clock_ms")
    assert not Row({"completed": 4}).few_samples("output_throughput")


@pytest.mark.parametrize("completed", [1, 367, 368, 1000])
def test_the_verdict_and_the_tables_hide_the_same_p99(completed):
    """The reason code fires exactly where a table leaves a p99 out."""
    fired = "few_samples_p99" in judge(Evidence(completed=completed)).reasons
    assert fired == Row({"completed": completed}).few_samples("p99_ttft_ms") == (completed < 368)
