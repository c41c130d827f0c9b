"""Differences of two sides by what varied between them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rocbench.judgement.compare import Comparison, compare
from rocbench.judgement.verdicts import Settings

ONE = Settings(metrics=("output_throughput",))


def nights(orders: str, *, repeats: int, fall: float, cells: int = 4) -> Comparison:
    """Both sides in every night, one run each: the side that `orders` names runs first. The node slows down in each night."""
    rng = np.random.default_rng(1)
    rows = []
    for night, first in enumerate(orders):
        for place, side in enumerate((first, "b" if first == "a" else "a")):
            for repeat in range(repeats):
                for cell in range(cells):
                    hours = (place * repeats + repeat) * 0.5 + cell * 0.1
                    start = pd.Timestamp("2026-11-01T20:00:00Z") + pd.Timedelta(days=night, hours=hours)
                    rows.append(
                        {
                            "run_id": f"{side}{night}",
                            "side": side,
                            "cell_id": f"{side}{cell}",
                            "repeat": repeat + 1,
                            "model": "m",
                            "concurrency": 2**cell,
                            "server_id": f"01-m.{side}{night}",
                            "started_at": start.isoformat(),
                            "valid": True,
                            "output_throughput": 1000 * np.exp(rng.normal(0, 0.003) - fall * hours),
                        }
                    )
    frame = pd.DataFrame(rows)
    return compare(*(frame[frame["side"] == side].drop(columns="side") for side in "ab"), ONE)


@pytest.mark.parametrize("orders", ["aaaaa", "ababa"])
def test_a_drift_within_nights_is_not_an_effect(orders):
    """The base first in every night of a node that slows down: without the drift, 97 of 100 intervals missed the truth."""
    found = nights(orders, repeats=3, fall=0.012)
    assert found.design.unit == "night"
    assert (found.table["low"] <= 0).all()
    assert (found.table["high"] >= 0).all()


def test_an_order_that_alternates_costs_nothing():
    """The drift cancels: only the spread that it causes is left."""
    width = {
        orders: float((each.table["high"] - each.table["low"]).max())
        for orders in ("aaaaaa", "ababab")
        for each in [nights(orders, repeats=3, fall=0.012)]
    }
    assert width["ababab"] < 0.7 * width["aaaaaa"]


def test_single_repeats_of_the_same_order_cannot_tell():
    """One repeat a night shows no drift, and the base ran first in every night."""
    found = nights("aaaaa", repeats=1, fall=0.05)
    assert set(found.table["verdict"]) == {"cannot tell"}
    assert "alternate the order" in found.table["note"].iloc[0]
    assert nights("ababab", repeats=1, fall=0.0).table["low"].notna().all()


def test_a_night_with_fewer_repeats_than_the_past_scatters_more():
    """Ten repeats in each past night and one tonight: nights that differ as means of ten do say too little.

    Taken alike, 88 of 100 families of equal sides had a false verdict.
    """
    rng = np.random.default_rng(3)
    rows = [
        {
            "run_id": f"r{night}",
            "cell_id": f"{cell}",
            "repeat": repeat + 1,
            "model": "m",
            "concurrency": 2**cell,
            "started_at": f"2026-11-{1 + night:02d}T20:{repeat:02d}:{cell:02d}+00:00",
            "valid": True,
            "output_throughput": 1000 * np.exp(rng.normal(0, 0.02)),
        }
        for night in range(9)
        for repeat in range(10 if night < 7 else 1)
        for cell in range(6)
    ]
    frame = pd.DataFrame(rows)
    past, a, b = (frame[frame["run_id"].isin(runs)] for runs in ([f"r{i}" for i in range(7)], ["r7"], ["r8"]))
    few = compare(a, b, ONE, history=past).table
    alike = compare(a, b, ONE, history=past[past["repeat"] == 1]).table
    width, known = ((each["high"] - each["low"]).mean() / 2 for each in (few, alike))
    assert 0.04 < width < 0.12  # 2 standard deviations of a difference of two repeats are 5.7 %
    assert 0.5 < width / known < 2


def blocks(rho: float, seed: int) -> Comparison:
    """Five nights of one side, then five of the other; each cell wanders from night to night by itself."""
    rng = np.random.default_rng(seed)
    noise = [rng.normal(0, 0.015, 12)]
    for _ in range(9):
        noise.append(rho * noise[-1] + np.sqrt(1 - rho**2) * rng.normal(0, 0.015, 12))
    frame = pd.DataFrame(
        {
            "run_id": f"r{night}",
            "cell_id": f"{night // 5}-{cell}",
            "repeat": 1,
            "model": "m",
            "concurrency": 2**cell,
            "started_at": f"2026-11-{1 + night:02d}T20:{cell:02d}:00+00:00",
            "valid": True,
            "output_throughput": 1000 * np.exp(noise[night][cell]),
        }
        for night in range(10)
        for cell in range(12)
    )
    first = frame["run_id"].isin([f"r{night}" for night in range(5)])
    return compare(frame[first], frame[~first], ONE)


def test_nights_that_are_alike_count_as_fewer():
    """With AR(1) 0.9 from night to night most intervals hold, and the cause is named; nights that differ freely cost nothing."""
    alike, free = ([blocks(rho, seed) for seed in range(8)] for rho in (0.9, 0.0))
    held = [(each.table["low"] <= 0) & (each.table["high"] >= 0) for each in alike]
    assert np.mean(held) > 0.85
    assert any("successive nights are alike" in note for each in alike for note in each.notes)
    assert np.median([each.table["effective_units"].min() for each in free]) > 4.5
    assert np.median([each.table["effective_units"].max() for each in alike]) < 2


def test_a_cell_with_two_pairs_cannot_tell():
    """Its other rows are void. Three pairs are needed in each cell, not in the run alone."""
    rng = np.random.default_rng(1)
    rows = [
        {
            "run_id": "r",
            "side": side,
            "cell_id": f"{side}{cell}",
            "repeat": repeat + 1,
            "model": "m",
            "concurrency": 2**cell,
            "server_id": f"0{side}-m.{repeat}",
            "valid": not (cell == 0 and side == "b" and repeat > 1),
            "output_throughput": 1000 * np.exp(rng.normal(0, 0.003)),
        }
        for repeat in range(4)
        for side in "ab"
        for cell in range(4)
    ]
    frame = pd.DataFrame(rows)
    found = compare(*(frame[frame["side"] == side].drop(columns="side") for side in "ab"), ONE).table
    assert (found["verdict"].iloc[0], found["note"].iloc[0]) == (
        "cannot tell",
        "too few repeats in this cell",
    )
    assert found["low"].iloc[1:].notna().all()
