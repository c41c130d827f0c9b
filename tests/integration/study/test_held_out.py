"""The study's calibration against its tables: what it was fitted to, and what it never saw."""

from __future__ import annotations

import statistics

import pytest

from rocbench.predict import predicting
from rocbench.sim import calibration
from rocbench.study import agreement, fitting
from rocbench.study.agreement import PredictedLevel
from rocbench.tables.row import Row
from studycases import plan_of, study

MODELS = ("llama-3.1-405b", "qwen3-vl-235b")


SWEEPS = ("replay-thorough", "replay-quick", "replay-runs")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Every published level of the two models with held-out tables, predicted under the study's method."""
    return [
        found.row
        for name in SWEEPS
        for model in MODELS
        for found in predicting.predictions(plan_of(name, model))
        if found.run.repeat == 1
    ]


@pytest.fixture(scope="module")
def lines(rows) -> list[PredictedLevel]:
    """The same, beside the published figures."""
    tables = study().tables
    assert tables is not None
    return agreement.predicted_levels(tables, {name: plan_of(name) for name in SWEEPS}, rows)


def test_intervals_hold_the_held_out_figures(rows):
    """At least 85 % of total tokens/s and p99 E2EL. Loads above those that were fitted are named, and wider."""
    tables, by_cell = study().tables, {row["cell_id"]: row for row in rows}
    assert tables is not None
    held, widths = [], {True: [], False: []}
    for curve in tables.curves:
        if not curve.held_out or curve.peak or curve.model not in MODELS:
            continue
        for place, (_, total, _, p99_s) in zip(
            agreement.places(curve, plan_of(curve.sweep)), curve.rows, strict=True
        ):
            row = by_cell[place.cell.cell_id]
            for name, measured in (("total_token_throughput", total), ("p99_e2el_ms", 1e3 * p99_s)):
                low, high = row[f"predicted_{name}_low"], row[f"predicted_{name}_high"]
                held.append(low <= measured <= high)
                if curve.model == MODELS[0]:
                    widths[bool(row["predicted_extrapolation"])].append(high / low)
            if row["achieved_concurrency"] > 110:
                assert "the highest fitted" in row["predicted_extrapolation"]
    assert len(held) == 104
    assert sum(held) >= 0.85 * len(held)
    assert statistics.median(widths[False]) < 1.2 < statistics.median(widths[True])


def test_the_held_out_tables_are_predicted(lines):
    """Median error of total throughput on curves that the fit never saw: at most 25 %, in fact far less."""
    held_out = [abs(line.error) for line in lines if line.curve.held_out and not line.curve.peak]
    assert len(held_out) == 52
    assert statistics.median(held_out) <= 0.25
    assert statistics.median(held_out) <= 0.08
    for model in MODELS:
        mine = [
            abs(x.error) for x in lines if x.curve.held_out and x.curve.model == model and not x.curve.peak
        ]
        assert statistics.median(mine) <= 0.25


def test_what_was_fitted_is_met(lines):
    """Within a few percent."""
    fitted = [abs(line.error) for line in lines if not line.curve.held_out]
    assert statistics.median(fitted) <= 0.03


def test_levels_have_in_flight_what_the_study_had(lines):
    """No more than the requests of the level."""
    for line in lines:
        assert line.in_flight <= min(line.users, line.curve.requests) + 1e-6


def test_the_fit_never_sees_held_out_tables(monkeypatch):
    """Only the other curves reach it."""
    tables = study().tables
    assert tables is not None
    seen, real = [], fitting.observations

    def watched(curves, *more):
        seen.extend(curves)
        return real(curves, *more)

    monkeypatch.setattr(fitting, "observations", watched)
    monkeypatch.setattr(fitting, "fit", lambda *_: None)
    plans = {name: plan_of(name) for name in study().sweeps if name.startswith("replay")}
    fits = list(fitting.fit_tables(tables, plans, calibration.read_calibration("default")))
    assert {each.model for each in fits} == {curve.model for curve in tables.curves}
    assert len(seen) == sum(not curve.held_out for curve in tables.curves)
    assert not any(curve.held_out for curve in seen)
