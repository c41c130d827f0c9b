"""What people see while a sweep runs and when it ends: live lines, plain lines, the end table at any width."""

from __future__ import annotations

import io
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from rocbench import console
from rocbench.judgement import repeats
from rocbench.load.spec import Progress
from rocbench.report import endtable, live
from rocbench.report.curves import RunInfo, curves
from rocbench.report.live import (
    LiveScreen,
    PlainScreen,
    bar,
    fitted,
    progress_line,
    row_line,
    sparkline,
    time_left,
)
from rocbench.report.plots import throughput
from rocbench.tables.row import Row, records
from synthetic_runs import FOUR_MODELS, plan_of

PROGRESS = Progress("measure", 12.3, 1000, 4210, 3, 99_999, 12_345.6, 120.04, 52.1)
ROW = Row(
    {
        "key": "m/w/c64",
        "output_throughput": 1234.5,
        "median_ttft_ms": 10.0,
        "median_tpot_ms": 5.0,
        "valid": True,
    }
)


@pytest.fixture(scope="module")
def plan():
    """The plan of four models."""
    return plan_of({**FOUR_MODELS, "repeats": 1})


def shown(screen, width):
    """What a live screen draws, as lines."""
    out = Console(file=io.StringIO(), width=width, force_terminal=False)
    screen._console = out
    out.print(screen._render())
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_live_view_fits_any_width(plan, width):
    """Everything that happens is on it, no line is wider than the terminal, and nothing is cut but paths."""
    screen = LiveScreen()
    screen.begin(plan, "results/20260101-000000-made-up-0001")
    launch = plan.launches[0]
    screen.server(launch, "loading weights 5/11", 0.45)
    assert any("loading weights 5/11" in line for line in shown(screen, width))
    screen.cell(launch.runs[0], 3, 16)
    for _ in range(4):
        screen.load(PROGRESS)
    screen.readings({"running": 1000.0, "waiting": 12.0, "KV": 0.123, "power": 4960.0})
    lines = shown(screen, width)
    assert all(len(line) <= width for line in lines)
    text = " ".join(" ".join(lines).split())
    for part in (
        "SIMULATED",
        "cell 3 of 16",
        "deepseek-v3.2/text-2048-512/c1",
        "in flight 1,000",
        "12,346 tok/s",
        "TTFT 120.0 ms",
        "TPOT 52.1 ms",
        "done 4,210",
        "failed 3",
        "running 1,000",
        "KV 12.3%",
        "power 4,960 W",
    ):
        assert part in text


def test_finished_rows_and_warnings_scroll_by(plan):
    """Rows and notes are printed above the live lines, with their verdict."""
    screen = LiveScreen()
    screen._console = Console(file=io.StringIO(), width=160)
    screen.row(ROW | {"valid": False, "reasons": "prefix_cache_hits"})
    screen.note("the server differs from its plan")
    assert screen._console.file.getvalue().splitlines() == [
        "m/w/c64: 1,234 output tok/s, TTFT p50 10.0 ms, TPOT p50 5.0 ms, INVALID (prefix_cache_hits)",
        "! the server differs from its plan",
    ]


def test_a_row_without_figures_has_only_its_verdict():
    """A failed server has no throughput to show."""
    failed = Row({"key": "m/w/c64", "valid": False, "reasons": "server_failed"})
    assert row_line(failed) == "m/w/c64: INVALID (server_failed)"


def test_the_live_view_can_be_opened_and_closed(plan, capsys):
    """It draws from the first moment on, before anything is known."""
    with LiveScreen() as screen:
        screen.begin(plan, "results/x")
    assert "Traceback" not in capsys.readouterr().err


def test_plain_lines_without_a_terminal(plan, capsys, monkeypatch):
    """One line an event on standard error, and a heartbeat only now and then."""
    clock = iter([0.0, 1.0, 11.0, 11.0, 12.0])
    monkeypatch.setattr(live.time, "monotonic", lambda: next(clock))
    launch = plan.launches[0]
    with PlainScreen() as screen:
        screen.begin(plan, "results/x")
        screen.server(launch, "ready", None)
        screen.server(launch, "ready", None)
        screen.cell(launch.runs[0], 1, 16)
        screen.load(PROGRESS)
        screen.load(PROGRESS)
        screen.readings({"KV": 0.5})
        screen.row(ROW)
        screen.note("careful")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("made-up (SIMULATED): 16 measurements on 4 launches -> results/x")
    assert lines[1:3] == ["[01-deepseek-v3.2] ready", "[1/16] deepseek-v3.2/text-2048-512/c1 repeat 1"]
    assert lines[3] == f"    {progress_line(PROGRESS)}"
    assert lines[4:] == [f"    {row_line(ROW)}", "! careful"]


def test_no_name_begins_a_line_of_its_own(plan, capsys):
    """A line break in a model's name or in a server's words is shown, on either screen."""
    launch = plan.launches[0]
    run = launch.runs[0]
    run = replace(run, cell=replace(run.cell, key="x\nbench: fine/w/c1"))
    for screen in (PlainScreen(), LiveScreen()):
        screen.begin(plan, "results/x")
        screen.server(launch, "ready\nbench: fine", None)
        screen.cell(run, 1, 1)
        text = "\n".join(shown(screen, 160)) if isinstance(screen, LiveScreen) else capsys.readouterr().err
        assert "x<U+000A>bench: fine" in text
        assert not any(line.startswith("bench: fine") for line in text.splitlines())


def test_time_left_follows_the_estimates():
    """After one cell of an estimated minute, four minutes estimated take four times as long."""
    assert time_left([60.0, 120.0, 120.0], 1, 90.0) == pytest.approx(360.0)
    assert time_left([0.0, 120.0, 120.0], 1, 90.0) == pytest.approx(180.0)
    assert time_left([60.0, 60.0], 0, 5.0) is None
    assert time_left([60.0], 1, 5.0) is None


def test_bars_and_sparklines():
    """Shares and rates as blocks; nothing at all is no fault."""
    assert bar(0.5, 10) == "━━━━━     "
    assert bar(2.0, 4) == "━━━━"
    assert sparkline([0.0, 5.0, 10.0]) == "▁▅█"
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert fitted(["aaa", "bbb", "ccc"], 14, "  x: ") == ["  x: aaa", "     bbb", "     ccc"]


# --- the end table


@pytest.fixture(scope="module")
def rows(small_run):
    """Rows of the small run."""
    return records(small_run.cells())


@pytest.mark.parametrize("width", [60, 80, 109, 110, 160])
def test_the_end_table_fits_any_width(rows, width):
    """No line is wider than the terminal, and what decides is there at every width."""
    found = curves([(RunInfo("", "", ""), rows)])
    lines = [line.plain for line in endtable.lines(found, width)]
    assert all(len(line) <= width for line in lines)
    assert "out tok/s" in lines[0]
    assert "TTFT p50" in lines[0]
    assert ("/GPU" in lines[0]) == (width >= endtable.NARROW)
    assert len(lines) == 1 + 2 + 6


def test_the_end_table_says_what_is_invalid(rows):
    """The voided level shows its figure and why it does not count; below stands what the code means."""
    out = Console(file=io.StringIO(), width=120)
    endtable.show(rows, out)
    text = out.file.getvalue()
    (line,) = [line for line in text.splitlines() if "INVALID" in line]
    assert line.split()[0] == "256"
    assert "prefix_cache_hits" in line
    assert "prefix_cache_hits: prompts were found in the prefix cache" in text
    assert text.startswith("SIMULATED")


def test_one_repeat_has_the_interval_of_its_window_in_the_end_table():
    """Marked as a minimum, with a line that says so; several repeats have the interval between them instead."""
    ends = {"output_throughput_low": 980.0, "output_throughput_high": 1020.0, "p99_ttft_low_ms": 90.0}
    row = {"key": "m/w/c1", "model": "m", "workload": "w", "concurrency": 1, "valid": True, "completed": 500}
    row |= {"output_throughput": 1000.0, "p99_ttft_ms": 100.0, "repeat": 1} | ends
    for width, shown in ((80, ["1,000", "≥2.0%"]), (140, ["1,000", "≥2.0%", "100.0", "≥?"])):
        out = Console(file=io.StringIO(), width=width)
        endtable.show([Row(row)], out)
        lines = out.file.getvalue().splitlines()
        assert [word for word in lines[2].split() if word in shown] == shown
        assert "repeats differ by at least this much" in lines[3]
    out = Console(file=io.StringIO(), width=140)
    endtable.show([Row(row), Row(row | {"repeat": 2, "output_throughput": 1001.0})], out)
    assert "≥" not in out.file.getvalue()


def test_one_bad_repeat_is_told_apart():
    """Of three repeats one is invalid: the mean is of the other two, and the line says so."""
    rows = [
        Row(
            {
                "key": "m/w/c1",
                "model": "m",
                "workload": "w",
                "concurrency": 1,
                "output_throughput": v,
                "valid": ok,
                "reasons": "" if ok else "jit_in_window",
            }
        )
        for v, ok in ((10.0, True), (12.0, True), (900.0, False))
    ]
    (curve,) = curves([(RunInfo("", "", ""), rows)])
    line = endtable.lines([curve], 160)[-1].plain
    assert line.split()[1] == "11"
    assert "1 of 3 INVALID: jit_in_window" in line


def test_a_sweep_without_any_figure_has_a_table():
    """A server that failed: dashes and the reason."""
    rows = [
        Row(
            {
                "key": "m/w/c1",
                "model": "m",
                "concurrency": 1,
                "valid": False,
                "reasons": "server_failed;gpu_out_of_memory",
            }
        )
    ]
    out = Console(file=io.StringIO(), width=100)
    endtable.show(rows, out)
    assert "INVALID server_failed, gpu_out_of_memory" in out.file.getvalue()
    assert "gpu_out_of_memory: a GPU ran out of memory" in out.file.getvalue()


def test_each_shape_of_load_has_its_own_heading():
    """A rate does not stand under `users`."""
    rows = [
        Row({"key": f"m/w/{level}", "model": "m", "workload": "w", "valid": True, column: value})
        | {"load_shape": shape}
        for level, column, value, shape in (
            ("c8", "concurrency", 8, "closed"),
            ("r2", "request_rate", 2.5, "open"),
        )
    ]
    lines = [line.plain.split() for line in endtable.lines(curves([(RunInfo("", "", ""), rows)]), 80)]
    assert [line[0] for line in lines] == ["users", "m,", "8", "requests/s", "m,", "2.5"]
    assert lines[4] == ["m,", "w,", "open", "loop"]


def test_figures_are_named_by_where_they_come_from():
    """Predicted rows are marked simulated too, and are called neither that nor measured."""
    rows = [
        Row(
            {
                "key": "m/w/c8",
                "model": "m",
                "concurrency": 8,
                "output_throughput": 9.0,
                "simulated": True,
                "predicted": True,
                "valid": True,
            }
        )
    ]
    assert endtable.warnings(row.origin for row in rows) == [endtable.NOTICES["predicted"]]
    (chart,) = throughput(curves([(RunInfo("", "", ""), rows)]))
    assert chart.synthetic == "predicted"


def test_a_summary_of_both_loops_has_neither_nan_nor_decimals(capsys, monkeypatch):
    """A level that a row has not is absent, and users are whole; at 60 columns no word is broken."""
    rows = [
        {
            "key": "m/w/x",
            "model": "m",
            "workload": "w",
            "valid": True,
            "output_throughput": 9.0,
            "cell_id": column,
        }
        | {column: 16.0}
        for column in ("concurrency", "request_rate")
    ]
    monkeypatch.setenv("COLUMNS", "60")
    console.show_summary(repeats.summary(pd.DataFrame(rows), ["output_throughput"]), [])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines if "output_throughput" in line] == [
        ["16", "-", "output_throughput"],
        ["-", "16", "output_throughput"],
    ]


@pytest.mark.parametrize(("predicted", "shown"), [(False, True), (True, False)])
def test_the_repeats_of_a_prediction_have_no_interval(predicted, shown):
    """How they differ says nothing of the distance to a measurement; that has prediction intervals of its own."""
    rows = [
        Row(
            {"run_id": "r", "cell_id": "c", "repeat": n, "key": "m/w/c4", "model": "m", "workload": "w"}
            | {"concurrency": 4, "load_shape": "closed", "valid": True, "output_throughput": 100.0 + n}
            | {"simulated": True, "predicted": predicted}
        )
        for n in (1, 2, 3)
    ]
    out = io.StringIO()
    endtable.show(rows, Console(file=out, width=100))
    assert ("±" in out.getvalue()) == shown
