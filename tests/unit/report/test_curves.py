"""Rows as curves: what is drawn together, and what never counts."""

from __future__ import annotations

from rocbench import stats
from rocbench.judgement import until
from rocbench.report import endtable
from rocbench.report.chart import colour, symbol
from rocbench.report.curves import POOLED_FROM, RunInfo, curves, drawn, labels, level_words, reasons
from rocbench.tables.row import Row


def row(**more):
    """A row of one cell."""
    return Row(
        {
            "run_id": "a",
            "key": "m/w/c64",
            "model": "m",
            "workload": "w",
            "concurrency": 64,
            "load_shape": "closed",
            "hardware": "mi325x",
            "valid": True,
            "simulated": False,
            "output_throughput": 100.0,
        }
        | more
    )


def info(label="a"):
    """A run."""
    return RunInfo(label, label, "2026-01-01")


def test_simulated_and_measured_rows_never_share_a_curve():
    """The same cell, simulated and measured, is two curves, and the name of one says so."""
    found = curves([(info(), [row(), row(simulated=True, output_throughput=900.0)])])
    assert [curve.name for curve in found] == ["m", "m (simulated)"]
    assert [curve.points[0].mean("output_throughput") for curve in found] == [100.0, 900.0]


def test_repeats_that_ended_early_show_the_interval_that_holds():
    """`until`: the spread of all cells, in reports as in the summary; other runs keep Student's interval."""
    figures = {64: [100.0, 101.0, 99.0], 128: [150.0, 151.0, 150.5]}
    rows = [
        row(concurrency=level, cell_id=str(level), repeat=n, output_throughput=figure)
        for level, each in figures.items()
        for n, figure in enumerate(each, 1)
    ]
    (fixed,) = curves([(info(), rows)])
    (early,) = curves([(info(), [each | {"until_max": 10} for each in rows])])
    expected = until.intervals(list(figures.values()))
    assert [point.interval("output_throughput") for point in early.points] == expected
    assert [point.interval("output_throughput") for point in fixed.points] == [
        stats.mean_interval(each) for each in figures.values()
    ]


def test_rows_of_unlike_hardware_never_share_a_curve():
    """Two GPUs are two curves, named by the hardware."""
    found = curves([(info(), [row(), row(hardware="mi355x")])])
    assert [curve.name for curve in found] == ["m · mi325x", "m · mi355x"]


def test_invalid_rows_count_in_no_mean_and_are_never_best():
    """The highest figure of all is invalid: it is kept apart."""
    rows = [
        row(),
        row(output_throughput=5000.0, valid=False, concurrency=128, key="m/w/c128"),
        row(output_throughput=9e9, valid=False),
    ]
    (curve,) = curves([(info(), rows)])
    assert [point.mark for point in curve.points] == ["valid", "invalid"]
    best = curve.best()
    assert best is not None
    assert best.level == 64
    assert best.mean("output_throughput") == 100.0


def test_unknown_rows_are_best_only_where_no_row_is_valid():
    """A valid figure stands before a higher one of unknown validity."""
    rows = [row(), row(concurrency=128, key="m/w/c128", valid=None, output_throughput=900.0)]
    (curve,) = curves([(info(), rows)])
    assert curve.best().level == 64
    (curve,) = curves([(info(), rows[1:])])
    assert curve.best().level == 128


def test_few_runs_are_told_apart_and_many_are_pooled():
    """Two runs are two curves; from POOLED_FROM on equal configurations are one."""
    two = curves([(info("a"), [row()]), (info("b"), [row(run_id="b")])])
    assert [curve.name for curve in two] == ["m · a", "m · b"]
    many = curves([(info(str(n)), [row(run_id=str(n))]) for n in range(POOLED_FROM)])
    assert [(curve.name, len(curve.points[0].rows)) for curve in many] == [("m", POOLED_FROM)]


def test_each_configuration_has_its_own_colour_and_mark():
    """Neither colour nor shape alone has to tell two curves apart."""
    found = curves([(info(), [row(key=f"m@block_size={n}/w/c64") for n in (1, 16, 64)])])
    assert len({curve.colour for curve in found}) == 3
    assert len({curve.symbol for curve in found}) == 3


def test_a_chart_of_many_configurations_draws_the_best_apart():
    """27 are too many for one chart: the best stay, none looks like another, and the caption says so."""
    rows = [row(key=f"m@x={n}/w/c64", output_throughput=float(n)) for n in range(27)]
    found = curves([(info(), rows)])
    kept, left = drawn(found)
    assert [curve.name for curve in kept] == [f"m@x={n}" for n in range(15, 27)]
    assert len({(colour(curve.colour), symbol(curve.symbol)) for curve in kept}) == len(kept) == 12
    assert left == (
        " Only the 12 configurations with the highest throughput, of 27, are drawn; the tables have all."
    )
    assert drawn(found[:12]) == (found[:12], "")


def test_a_p99_of_too_few_requests_is_no_figure():
    """It is absent wherever a level is shown, while other figures of the level stay."""
    rows = [
        row(p99_ttft_ms=9.0, p99_e2el_ms=9.0, p95_e2el_ms=8.0, completed=completed)
        for completed in (400, 300)
    ]
    (curve,) = curves([(info(), rows)])
    (point,) = curve.points
    assert (point.mean("p99_e2el_ms"), point.mean("p95_e2el_ms")) == (None, 8.0)
    line = endtable.lines([curve], 160)[-1].plain
    assert line.split()[1:9] == ["100", "0.0%", "-", "-", "-", "-", "-", "-"]


def test_codes_that_inform_stand_apart_from_those_that_void():
    """`INVALID: littles_law, few_samples_p99` would read as if both voided."""
    rows = [row(reasons=text) for text in ("few_samples_p99;littles_law", "littles_law")]
    assert reasons(rows) == "littles_law; also few_samples_p99"
    assert [reasons([row(reasons=text)]) for text in ("", "few_samples_p99", "a;b")] == [
        "",
        "few_samples_p99",
        "a, b",
    ]


def test_open_loop_levels_are_rates():
    """Without users the level is the rate."""
    (curve,) = curves(
        [(info(), [row(concurrency=None, request_rate=2.5, load_shape="open", key="m/w/r2.5")])]
    )
    assert (curve.shape, curve.points[0].level) == ("open", 2.5)
    assert level_words("open", 2.5) == "2.5 requests/s"
    assert [level_words("closed", n) for n in (1, 1000)] == ["1 user", "1,000 users"]


def test_runs_are_named_by_what_tells_them_apart():
    """The folder's name where a user gave it, else the version where it does, the sweep, the day, the time, the id."""
    one = {"sweep": "s", "begun_at": "2026-01-01T10:00:00", "run_id": "x"}
    two = one | {"run_id": "y"}
    assert labels([one], ["0.14.1"], ["x"]) == ["s"]
    assert labels([one, two], ["0.14.1", "0.16.0"], ["base", "tuned"]) == ["base", "tuned"]
    assert labels([one, two], ["0.14.1", "0.16.0"], ["x", "y"]) == ["vLLM 0.14.1", "vLLM 0.16.0"]
    day = two | {"begun_at": "2026-01-02T10:00:00"}
    assert labels([one, day], ["0.14.1", "0.14.1"], ["x", "y"]) == ["2026-01-01", "2026-01-02"]
    assert labels([one, two], ["0.14.1", "0.14.1"], ["x", "y"]) == ["x", "y"]
    assert labels([one, one], ["", ""], ["x", "x"]) == ["run 1", "run 2"]


def test_each_origin_is_named():
    """A predicted row says that nothing ran, an imported one that another tool measured."""
    rows = [row(), row(simulated=True), row(simulated=True, predicted=True), row(imported=True)]
    found = curves([(info(), rows)])
    assert [curve.name for curve in found] == ["m", "m (simulated)", "m (predicted)", "m (imported)"]
    assert [curve.origin for curve in found] == ["", "simulated", "predicted", "imported"]
