"""The eight checks on made-up rows: each speaks of its own artefact and keeps silent without it."""

from __future__ import annotations

import pytest

from rocbench.study import faults
from rocbench.tables.row import Row

TOTAL, OUTPUT = "total_token_throughput", "output_throughput"


def row(users, in_flight=None, output=None, **more):
    """A row that nothing is wrong with."""
    return Row(
        {
            "key": f"m/w/c{users}",
            "model": "m",
            "workload": "w",
            "concurrency": users,
            "achieved_concurrency": in_flight if in_flight is not None else users,
            "peak_concurrency": in_flight if in_flight is not None else users,
            "output_throughput": output if output is not None else 10.0 * users,
            "total_token_throughput": 1.2 * (output if output is not None else 10.0 * users),
            "completed": 10 * users,
            "requests_per_user": 10.0,
            "window_ended_by": "duration",
            "server_prompt_tokens": 1000,
            "prefix_cache_hits": 0,
            "reasons": "",
            **more,
        }
    )


def names(rows, headline=OUTPUT):
    """The faults found."""
    return [artefact.check for artefact in faults.examine(rows, headline)]


GOOD = [row(users) for users in (1, 10, 100, 1000)]


def test_good_rows_have_no_finding():
    """Whatever is called throughput."""
    assert names(GOOD) == []
    assert names(GOOD, TOTAL) == []


@pytest.mark.parametrize(
    ("fault", "rows", "headline"),
    [
        ("plateau", [row(50), row(100), row(200, 100, 1000), row(500, 100, 1000)], OUTPUT),
        (
            "wave",
            [
                row(150, completed=300, window_ended_by="count"),
                row(200, 159, 1450, completed=300, window_ended_by="count"),
            ],
            OUTPUT,
        ),
        ("knee", [row(75), row(150, 75, 755)], OUTPUT),
        ("headline", [row(10, total_token_throughput=500.0)], TOTAL),
        ("cached", [row(10, prefix_cache_hits=900)], OUTPUT),
        (
            "lengths",
            [row(10, reasons="natural_lengths", osl_had=100 + n, osl_asked=512) for n in (0, 30)],
            OUTPUT,
        ),
        (
            "condition",
            [row(n, 100, 1000, aiter=arm) for arm in ("on", "off") for n in (100, 200, 500)],
            OUTPUT,
        ),
        ("client", [row(2000, 10, 900, mean_e2el_ms=11.0, request_throughput=900.0)], OUTPUT),
    ],
)
def test_each_check_sees_its_artefact(fault, rows, headline):
    """With the place and the figures that show it."""
    artefacts = [artefact for artefact in faults.examine(rows, headline) if artefact.check == fault]
    assert len(artefacts) == 1
    assert artefacts[0].evidence


def test_codes_are_those_that_all_rows_of_a_finding_carry():
    """The verdict's own words for it."""
    undelivered = {"reasons": "concurrency_not_delivered;too_few_requests"}
    rows = [row(100), row(200, 100, 1000, **undelivered), row(500, 100, 1000, **undelivered)]
    (plateau,) = [f for f in faults.examine(rows, OUTPUT) if f.check == "plateau"]
    assert plateau.codes == ("concurrency_not_delivered", "too_few_requests")


def test_saturation_of_a_server_is_no_fault():
    """A curve that flattens while its users are there."""
    assert names([row(10, 10, 900), row(100, 100, 1000), row(1000, 1000, 1005)]) == []


def test_natural_lengths_without_spread_of_users_are_no_client_fault():
    """Users that were all there once and then went are no fault of the client."""
    early = row(
        100, 30, 1000, peak_concurrency=100, window_ended_by="count", completed=100, requests_per_user=1.0
    )
    assert "client" not in names([early])


def test_answers_that_hardly_differ_explain_no_spread():
    """Repeats 8 % apart with answers of one length vary by something else."""
    rows = [
        row(10, output=output, reasons="natural_lengths", osl_had=100 + 0.1 * output, osl_asked=512)
        for output in (95.0, 105.0)
    ]
    assert "lengths" not in names(rows)
    assert "lengths" not in names([row(10, reasons="natural_lengths", osl_had=100, osl_asked=512)] * 2)


def test_failed_and_discarded_rows_are_left_out():
    """They have no figures, or none that count."""
    assert names([Row({"key": "m/w/c10", "concurrency": 10, "reasons": "server_failed"})]) == []
    assert names([row(10, prefix_cache_hits=900, discarded=True)]) == []
