"""The documented columns and the pages made from them."""

from __future__ import annotations

import pytest

from rocbench import columns
from rocbench.column import Column, defined
from rocbench.records import REQUEST_DTYPE


def test_column_names_are_unique():
    """No two columns of a table share a name."""
    for table in (columns.CELLS, columns.REQUESTS):
        names = [column.name for column in table]
        assert len(names) == len(set(names))


def test_cells_begin_with_the_promised_columns():
    """The first columns and their order are what scripts of users rely on."""
    promised = (
        "run_id cell_id repeat model family precision tp aiter vllm_version hardware server_kind simulated workload isl "
        "osl images concurrency achieved_concurrency duration_s completed failed success_rate request_throughput "
        "output_throughput input_throughput total_token_throughput output_throughput_per_gpu"
    ).split()
    latencies = [
        f"{s}_{m}_ms"
        for m in ("ttft", "tpot", "itl", "e2el")
        for s in ("mean", "median", "p90", "p95", "p99")
    ]
    names = [column.name for column in columns.CELLS]
    assert names[: len(promised) + len(latencies) + 3] == [
        *promised,
        *latencies,
        "valid",
        "reasons",
        "failures",
    ]


def test_every_field_of_a_request_is_documented():
    """The requests table explains each field of the records, in their order."""
    documented = [column.name for column in columns.REQUESTS if column.name in REQUEST_DTYPE.names]
    assert documented == list(REQUEST_DTYPE.names)


def test_a_column_is_defined_on_a_line():
    """A unit means a number, a type stands for itself, and an indented line continues the meaning."""
    assert defined("""
isl      tokens          text tokens
goodput  requests/s higher  request_throughput x share
                         of completed requests

valid    bool            true, false or absent
""") == (
        Column("isl", "number", "tokens", "text tokens"),
        Column(
            "goodput", "number", "requests/s", "request_throughput x share of completed requests", "higher"
        ),
        Column("valid", "bool", "", "true, false or absent"),
    )


def test_a_line_that_is_not_a_definition_is_refused():
    """One space between name and unit would leave the column out of every table."""
    with pytest.raises(ValueError, match="isl tokens"):
        defined("isl tokens  text tokens\nvalid  bool  true or false")
