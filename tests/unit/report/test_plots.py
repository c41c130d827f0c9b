"""Which series each plot has, and what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.errors import InputError
from rocbench.report import distributions, effects, history, material, plotly_page, plots, timeseries
from rocbench.report.curves import RunInfo, curves
from rocbench.tables.row import Row, records


@pytest.fixture(scope="module")
def found(small_run):
    """The curves of the small run."""
    return material.curves_of(material.read_runs([small_run]))


def test_throughput_has_means_bounds_and_hollow_invalid_rows(found):
    """Each curve has its dashed bound above it; the invalid level is drawn hollow, apart and unjoined."""
    (chart,) = plots.throughput(found)
    (panel,) = chart.views[0].panels
    by_name = {series.name: series for series in panel.series}
    line, bound = by_name["deepseek-v3.2 (simulated)"], by_name["bound: deepseek-v3.2 (simulated)"]
    assert line.x == (1.0, 64.0, 256.0)
    assert all(y < limit for y, limit in zip(line.y, bound.y, strict=True))
    assert all(low < y < high for low, y, high in zip(line.low, line.y, line.high, strict=True))
    bad = by_name["qwen3-vl-235b (simulated), invalid"]
    assert set(bad.marks) == {"invalid"}
    assert (bad.line, bad.x) == ("none", (256.0,) * 3)
    assert "prefix_cache_hits" in bad.hover[0]
    assert 256.0 not in by_name["qwen3-vl-235b (simulated)"].x
    assert "tokens/s" in panel.y_title
    assert "users" in chart.views[0].x_title


def test_rows_without_a_figure_make_no_chart(small_run):
    """A node whose servers all failed has a report, with nothing to draw."""
    (run,) = material.read_runs([small_run])
    tags = ("key", "model", "workload", "concurrency", "load_shape", "run_id")
    failed = [Row({name: row[name] for name in tags} | {"valid": False}) for row in run.rows]
    assert plots.throughput(curves([(run.info, failed)])) == []


def test_pareto_axes_are_pace_and_throughput_per_gpu(found):
    """x is 1000 / median TPOT, y per GPU, and each mark has its level beside it."""
    (chart,) = plots.pareto(found)
    (panel,) = chart.views[0].panels
    curve, series = found[0], panel.series[0]
    point = curve.points[1]
    assert series.x[1] == pytest.approx(1000 / point.mean("median_tpot_ms"))
    assert series.y[1] == pytest.approx(point.mean("output_throughput") / 8)
    assert series.labels == ("1", "64", "256")
    assert panel.y_title.endswith("tokens/s/GPU")


@given(st.lists(st.tuples(st.floats(0.1, 1e6), st.floats(0.1, 1e6)), min_size=1, max_size=30))
def test_the_frontier_is_what_nothing_beats(points):
    """A point is on the frontier when no other is at least as good in both and better in one."""
    front = plots.frontier(points)
    for x, y in front:
        assert not any((a >= x and b > y) or (a > x and b >= y) for a, b in points)
    for x, y in points:
        assert any(a >= x and b >= y for a, b in front)


def test_distributions_are_those_of_the_columns(found, small_run):
    """The median read off the curve of TTFT is the row's column, and a share of 1 ends each curve."""
    readings = material.Readings(material.read_runs([small_run]))
    (chart,) = distributions.ttft(found, readings.ttft)
    assert [view.name for view in chart.views] == ["256 users", "64 users", "1 user"]
    series = chart.views[1].panels[0].series[0]
    point = next(p for p in found[0].points if p.level == 64)
    at_half = float(np.interp(0.5, series.y, series.x))
    assert at_half == pytest.approx(point.mean("median_ttft_ms"), rel=0.05)
    assert series.y[-1] == 1.0
    (chart,) = distributions.itl(found, readings.itl)
    series = chart.views[1].panels[0].series[0]
    assert float(np.interp(0.5, series.y, series.x)) == pytest.approx(point.mean("median_itl_ms"), rel=0.05)


def test_an_invalid_level_has_no_distribution(found, small_run):
    """At 256 users only the model with valid rows is drawn."""
    readings = material.Readings(material.read_runs([small_run]))
    (chart,) = distributions.ttft(found, readings.ttft)
    assert [series.name for series in chart.views[0].panels[0].series] == ["deepseek-v3.2 (simulated)"]


@given(st.lists(st.floats(0.01, 1e5), min_size=1, max_size=50), st.integers(1, 20))
def test_weights_are_repetitions(values, weight):
    """A value of weight n counts as n equal values."""
    shares = np.array([0.01, 0.25, 0.5, 0.99, 1.0])
    x = np.array(values)
    weighted = distributions.weighted_quantiles(x, np.full(len(x), float(weight)), shares)
    repeated = distributions.weighted_quantiles(np.repeat(x, weight), np.ones(len(x) * weight), shares)
    assert np.allclose(weighted, repeated)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 50)), min_size=1, max_size=40))
def test_in_flight_counts_what_was_sent_and_has_not_ended(requests):
    """At any time: sent at or before it, and not ended at or before it."""
    sent = np.array([s for s, _ in requests])
    end = sent + np.array([d for _, d in requests])
    times = np.linspace(-1, 160, 57)
    expected = [int(((sent <= t) & (end > t)).sum()) for t in times]
    assert timeseries.in_flight_at(times, sent, end).tolist() == expected


def test_a_request_without_an_end_stays_in_flight():
    """An unknown end never comes."""
    counts = timeseries.in_flight_at(np.array([0.0, 9.0]), np.array([0.0]), np.array([np.nan]))
    assert counts.tolist() == [1.0, 1.0]


def test_time_series_of_the_best_cells(found, small_run):
    """One view a configuration, the window marked, in flight as high as the users asked for."""
    readings = material.Readings(material.read_runs([small_run]))
    (chart,) = timeseries.charts(found, readings.course)
    assert len(chart.views) == 2
    view = chart.views[0]
    assert view.band is not None
    assert view.band[0] == 0
    assert [panel.y_title for panel in view.panels] == ["requests", "tokens/s", "KV cache, %", "power, W"]
    flight = view.panels[0].series[0]
    inside = [y for x, y in zip(flight.x, flight.y, strict=True) if 0 < x < view.band[1] * 0.9]
    users = float(view.name.partition("/c")[2].partition(",")[0])
    assert set(inside) == {users}
    power = view.panels[3].series[0]
    assert 8 * 400 < np.mean(power.y) < 8 * 800


def test_a_cell_of_which_nothing_was_recorded_has_no_view(found):
    """As one whose tables were edited: there is no panel to draw."""
    none = np.empty(0)
    nothing = timeseries.Course(58.0, none, none, none, {}, (none, none))
    assert timeseries.charts(found, lambda _: nothing) == []


def test_ablation_effects(ablation_run):
    """The factor that was made 6 % faster is better, with an interval around 6 %."""
    (run,) = material.read_runs([ablation_run])
    (chart,), (table,) = effects.ablation(run)
    view = next(view for view in chart.views if view.name == "output_throughput")
    (series,) = view.panels[0].series
    assert series.name == "better"
    assert series.low[0] < 6 < series.high[0]
    assert view.zero == 0.0
    assert "change of output_throughput" in view.x_title
    assert any("better" in row for row in table.rows)


def test_where_an_effect_was_measured_is_said_in_words():
    """No bare number but that of users: lengths follow from the workload, other settings have their names."""
    row = {"workload": "w", "concurrency": 64, "request_rate": None, "isl": 2048, "tp": 8, "axis.x": "on"}
    assert effects._place(row, list(row)) == "w, 64 users, tp 8, x on"
    assert effects._place(row, ["request_rate", "isl"]) == "isl 2048"


def test_comparison_of_two_runs(small_run, later_run):
    """One run against one run: points without a bar, and the table says why it cannot tell."""
    a, b = material.read_runs([small_run, later_run])
    (chart,), (table,) = effects.comparison(a, b)
    (series,) = chart.views[0].panels[0].series
    assert series.name == "cannot tell"
    assert sum(5 < x < 12 for x in series.x) >= len(series.x) - 1  # one cell has a void row on one side
    assert {row[-1] for row in table.rows} == {"cannot tell"}
    assert any("one run" in note or "cannot show how far" in note for note in table.notes)


def test_a_comparison_learns_from_the_runs_around_it(small_run, later_run):
    """As `bench compare` does: with past nights of the same cells the verdicts have intervals."""
    a, b = material.read_runs([small_run, later_run])
    past = [
        a.cells.assign(run_id=f"past-{day}", started_at=f"2025-12-0{day}T01:00:00+00:00")
        for day in range(1, 8)
    ]
    _, (table,) = effects.comparison(a, b, pd.concat(past, ignore_index=True))
    assert any("7 past nights" in note for note in table.notes)
    assert not any("cannot show how far" in note for note in table.notes)


def test_a_report_counts_the_looks_of_its_runs(ablation_run, monkeypatch):
    """Repeats that were looked at as they came are judged by as many looks, as `bench ablate` judges them."""
    (run,) = material.read_runs([ablation_run])
    seen = []

    def refuse(_cells, _factors, settings):
        seen.append(settings.looks)
        raise InputError("not judged here")

    monkeypatch.setattr(effects.ablate, "ablate", refuse)
    for until in (None, {"told": 0.02, "max": 8}):
        effects.ablation(replace(run, plan={"sweep": run.sweep | {"repeats": 3, "until": until}}))
    assert seen == [1, 4]


def test_runs_that_are_not_to_be_compared_say_why(small_run, later_run):
    """Simulated against measured: the reason stands in place of the plot."""
    a, b = material.read_runs([small_run, later_run])
    charts, (table,) = effects.comparison(a, replace(b, cells=b.cells.assign(simulated=False)))
    assert charts == []
    assert "simulated" in table.rows[0][0]


def test_differing_flags_are_named_one_by_one():
    """Of two servers' flags only those that differ are told."""
    told = effects._difference("serve_args", ("A", '{"--x": 1, "--y": 2}'), ("B", '{"--x": 1, "--y": 3}'))
    assert told == ["`--y`: 2 in A, 3 in B"]
    assert effects._difference("vllm_version", ("A", "0.14.1"), ("B", "0.16.0")) == [
        "`vllm_version`: 0.14.1 in A, 0.16.0 in B"
    ]


def test_the_history_finds_the_day_on_which_a_figure_moved(nights):
    """Fourteen runs, slower from the eighth on: a line by the day, and the change point."""
    runs = material.read_runs(nights)
    charts, (changes, sight) = history.changes(material.curves_of(runs), [run.info for run in runs])
    assert len(charts[0].views[0].panels[0].series[0].x) == 14
    assert charts[0].views[0].date_x
    row = next(row for row in changes.rows if "output_throughput" in row)
    assert row[3].startswith("2026-01-08")
    assert row[4].startswith("-")
    assert row[6].startswith("step of -")
    assert "at most 5 % probability in 100 mornings" in changes.notes[0]
    assert {row[3] for row in sight.rows} == {"14"}


def one_level(name):
    """A row of a configuration that was measured at one level."""
    return Row(
        {
            "run_id": "a",
            "key": f"{name}/w/c64",
            "model": name,
            "workload": "w",
            "concurrency": 64,
            "load_shape": "closed",
            "valid": True,
            "output_throughput": 100.0,
            "roofline_output_throughput": 200.0,
        }
    )


def test_the_bound_of_a_single_level_is_a_line_that_is_seen():
    """A dashed line of one point has no length: it is drawn around the level."""
    (chart,) = plots.throughput(curves([(RunInfo("a", "a", ""), [one_level("m")])]))
    bound = next(s for s in chart.views[0].panels[0].series if s.name == "bound: m")
    assert bound.x[0] < 64 < bound.x[1]
    assert bound.y == (200.0, 200.0)


def test_one_repeat_has_a_thin_bar_within_its_window():
    """It is a series of its own, drawn without caps and named in the caption; repeats have bars with caps."""
    row = {
        "key": "m/w/c1",
        "model": "m",
        "workload": "w",
        "concurrency": 64,
        "load_shape": "closed",
        "valid": True,
    }
    row |= {"completed": 500, "output_throughput": 100.0, "p99_ttft_ms": 80.0}
    row |= {"output_throughput_low": 97.0, "output_throughput_high": 103.0, "p99_ttft_low_ms": 70.0}
    info = RunInfo("a", "a", "2026-01-01")
    (chart,) = plots.throughput(curves([(info, [Row(row)])]))
    (bar,) = [s for s in chart.views[0].panels[0].series if s.within]
    assert (bar.low, bar.high, bar.symbol) == ((97.0,), (103.0,), None)
    assert "repeats differ by at least this much" in chart.caption
    main, thin = plotly_page.figures(chart)[0]["data"]
    assert "p99 80.0 [70.0, -] ms" in main["text"][0]
    assert (thin["error_y"]["width"], thin["mode"], thin["showlegend"]) == (0, "none", False)
    assert thin["error_y"]["array"] == [3.0]
    (chart,) = plots.throughput(curves([(info, [Row(row), Row(row | {"output_throughput": 101.0})])]))
    assert not any(s.within for s in chart.views[0].panels[0].series)


def test_a_history_of_many_configurations_is_thinned():
    """Twelve are drawn, and the caption says of how many."""
    info = RunInfo("a", "a", "2026-01-01T00:00:00+00:00")
    found = curves([(info, [one_level(f"m{n}") for n in range(15)])])
    ((chart,), _) = history.changes(found, [info])
    assert len(chart.views[0].panels[0].series) == 12
    assert "Only the 12 configurations with the highest throughput, of 15," in chart.caption


def test_records_of_the_report_are_those_of_compare(small_run):
    """Absent values are None, never NaN, so that they are not drawn."""
    rows = records(small_run.cells())
    assert all(value == value for row in rows for value in row.values())  # noqa: PLR0124 (NaN is not itself)
