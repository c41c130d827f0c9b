"""What stands first in a report: never an invalid row, and what could not be said is not said."""

from __future__ import annotations

import pytest

from rocbench.errors import InputError
from rocbench.judgement.slo import Limit
from rocbench.report import document, material, summary
from rocbench.report.curves import RunInfo, curves
from rocbench.tables.row import Row

INFO = RunInfo("a", "a", "2026-01-01")


def row(users, tokens, **more):
    """A valid row."""
    return Row(
        {
            "key": f"m/w/c{users}",
            "model": "m",
            "workload": "w",
            "concurrency": users,
            "valid": True,
            "reasons": "",
            "output_throughput": float(tokens),
            "output_throughput_per_gpu": tokens / 8,
            "p99_ttft_ms": users * 10.0,
            "goodput_share": 1.0 if users < 100 else 0.5,
        }
        | more
    )


def of(*rows):
    """Curves of rows."""
    return curves([(INFO, list(rows))])


def test_an_invalid_row_is_never_best():
    """The highest throughput is invalid; the best is the highest valid one."""
    table = summary.best(of(row(64, 900), row(128, 90_000, valid=False, reasons="prefix_cache_hits")))
    (best,) = table.rows
    assert best[:4] == ("w", "m", "64 users", "900")
    assert best[-1] == "valid"


def test_valid_configurations_stand_before_unknown_ones():
    """A higher figure of unknown validity comes second."""
    table = summary.best(
        of(row(64, 900), row(64, 9000, key="n/w/c64", model="n", valid=None, reasons="metrics_gone"))
    )
    assert [(r[1], r[-1]) for r in table.rows] == [("m", "valid"), ("n", "unknown")]


def test_levels_whose_users_were_not_delivered_are_no_saturation():
    """A plateau of 100 requests at 1,000 users is not the server's: the levels are left out by name."""
    short = [
        row(users, 5000, valid=False, reasons="concurrency_not_delivered;too_few_requests")
        for users in (500, 1000)
    ]
    (found,) = summary.saturation(of(row(50, 3000), row(100, 5000), *short)).rows
    assert found[2] == "-"
    assert "the requested load was not reached at 500, 1000" in found[-1]
    assert "throughput still rose by enough at the last doubling of the load" in found[-1]


def test_levels_invalid_for_other_reasons_are_named_too():
    """A level without a valid row says nothing of saturation, and is not called undelivered."""
    rows = [row(50, 3000), row(100, 3010), row(200, 9000, valid=False, reasons="prefix_cache_hits")]
    (found,) = summary.saturation(of(*rows)).rows
    assert found[2] == "50 users"
    assert "no valid row at 200" in found[-1]
    assert "not delivered" not in found[-1]


@pytest.mark.parametrize(
    ("limit", "capacity", "why"),
    [
        (Limit("p99_ttft_ms", "<=", 700), "64 users", "128 users: p99_ttft_ms 1,280"),
        (Limit("goodput_share", ">=", 0.99), "64 users", "128 users: goodput_share 50.0%"),
        (Limit("p99_ttft_ms", "<=", 5), "none of the levels", "1 user: p99_ttft_ms 10.0"),
        (Limit("p99_ttft_ms", "<=", 9000), "128 users", "no higher level was measured"),
    ],
)
def test_slo_capacity(limit, capacity, why):
    """The highest level up to which every level met the limit, and what broke it above; repeats show it."""
    found = of(*[row(*point) for point in ((1, 100), (64, 900), (128, 1000)) for _ in range(3)])
    (line,) = summary.capacity(found, [limit], str(limit)).rows
    assert (line[2], line[-1]) == (capacity, why)


def test_a_level_that_cannot_be_told_ends_no_search():
    """Its repeats lie on both sides of the limit: it is no failure, and is never said to break the limit."""
    unclear = [row(40, 300, p99_ttft_ms=ms) for ms in (300.0, 600.0, 310.0, 590.0)]
    limit = Limit("p99_ttft_ms", "<=", 500)
    (line,) = summary.capacity(of(*[row(1, 100)] * 3, *unclear), [limit], "").rows
    assert (line[2], line[-1]) == ("1 user", "40 users: cannot tell: p99_ttft_ms 450 ± 267")
    (line,) = summary.capacity(of(*unclear, row(80, 1, p99_ttft_ms=None)), [limit], "").rows
    assert (line[2], line[3]) == ("cannot tell", "-")
    (line,) = summary.capacity(of(*[row(1, 100)] * 3, row(8, 1, p99_ttft_ms=None)), [limit], "").rows
    assert line[-1] == "8 users: cannot tell: p99_ttft_ms not measured"


def test_single_repeats_are_read_and_called_not_shown():
    """One figure of each level says where the limit seems to be met, and that this is not shown."""
    limit = Limit("p99_ttft_ms", "<=", 700)
    (line,) = summary.capacity(of(row(1, 100), row(64, 900), row(128, 1000)), [limit], "").rows
    assert line[2] == "64 users"
    assert line[-1] == "128 users: p99_ttft_ms 1,280; not shown: one repeat of each level"


def test_what_a_search_found_is_told():
    """The answer with its unit, what did not meet it, and under which name; without a search there is no table."""
    found = {
        "server": "01-m",
        "model": "m",
        "workload": "w",
        "unit": "requests/s",
        "best": 2.5,
        "failed": None,
    }
    found |= {"limits": ["p99_ttft_ms <= 50"], "ended": True, "why": "bracketed", "measurements": 4}
    rows = [row(1, 1, server_id="01-m.2", key="m@tp=4/w/r2.5")]
    none = found | {"server": "02-m", "unit": "users", "best": None, "failed": 1.0}
    assert summary.searched([(INFO, rows, [found, none])]).rows == (
        ("w, open loop", "m@tp=4", "p99_ttft_ms <= 50", "2.5 requests/s", "-", "4", "bracketed"),
        ("w", "m", "p99_ttft_ms <= 50", "no level was shown to meet the limits", "1 user", "4", "bracketed"),
    )
    assert summary.searched([(INFO, rows, [])]).rows == ()


@pytest.mark.parametrize("column", ["model", "valid"])
def test_a_limit_on_what_is_no_number_is_bad_input(column):
    """One message, and no traceback."""
    with pytest.raises(InputError, match="is not a number"):
        summary.capacity(of(row(1, 100)), [Limit(column, "<=", 3)], "")


def test_without_an_slo_the_table_says_how_to_set_one():
    """No capacity is made up."""
    table = summary.capacity(of(row(1, 100)), [], "")
    assert table.rows == ()
    assert "--slo" in table.notes[0]


def test_the_sweeps_own_slo_is_taken_when_all_runs_have_the_same():
    """Per-request limits are judged by the share of requests that met them."""
    sweep = {"slo": {"ttft_ms": 2000, "tpot_ms": None, "e2el_ms": None}}
    limits, words = summary.sweep_limits([sweep, sweep])
    assert limits == [Limit("goodput_share", ">=", summary.GOOD_SHARE)]
    assert "TTFT ≤ 2000 ms" in words
    assert summary.sweep_limits([sweep, {"slo": {"ttft_ms": 1000}}]) == ([], "")


def test_doubts_list_what_voids_first():
    """Each code with its rows, its meaning and what to do; a failed server's cause too."""
    rows = [
        row(1, 1, reasons="few_samples_p99"),
        row(2, 1, valid=False, reasons="server_failed;gpu_out_of_memory"),
        row(3, 1, valid=None, reasons="metrics_gone"),
    ]
    table = summary.doubts(rows)
    assert [line[0] for line in table.rows] == [
        "server_failed",
        "metrics_gone",
        "few_samples_p99",
        "gpu_out_of_memory",
    ]
    assert table.rows[3][4] == "a GPU ran out of memory"
    assert "--gpu-memory-utilization" in table.rows[3][5]
    assert "3 rows: 1 valid, 1 invalid, 1 unknown" in table.notes[0]


def test_notes_of_the_load_stand_once_with_their_cells():
    """A note that differs from row to row by its numbers alone is one; rows without any give no table."""
    rows = [
        {
            "key": "m/w/c1",
            "load_notes": '["12 requests were cut", "the server refused ignore_eos: \\"no\\""]',
        },
        {"key": "m/w/c2", "load_notes": '["7 requests were cut"]'},
        {"key": "m/w/c4", "load_notes": None},
    ]
    assert summary.notes(rows).rows == (
        ("m/w/c1, m/w/c2", "2", "12 requests were cut"),
        ("m/w/c1", "1", 'the server refused ignore_eos: "no"'),
    )
    assert summary.notes(rows[2:]).rows == ()


def test_a_document_of_simulated_runs_says_so(small_run):
    """The mark is on the document, on its curves and on its tables."""
    made = document.build(material.read_runs([small_run]))
    assert made.banner == (
        "SIMULATED",
        "Every figure here comes from the simulated server. No GPU was measured.",
    )
    assert all(chart.synthetic == "simulated" for chart in made.charts())
    assert all("(simulated)" in line[0] for line in made.summary[0].rows)


def test_runs_of_a_failed_server_still_give_a_report(tmp_path):
    """No figure of a model at all: the report tells why, and draws the others."""
    from synthetic_runs import FOUR_MODELS, World, write_run

    sweep = {**FOUR_MODELS, "models": ["deepseek-v3.2", "qwen3-vl-235b"], "concurrency": [64], "repeats": 1}
    run = write_run(tmp_path / "r", sweep, World(failing=frozenset({"qwen3-vl-235b"})))
    made = document.build(material.read_runs([run]))
    assert made.summary[3].rows[0][0] == "server_failed"
    assert len(made.summary[0].rows) == 1
