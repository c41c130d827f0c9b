"""Saturation of curves, and what a row says of its level."""

from __future__ import annotations

import pandas as pd
import pytest

from cellrows import cells, table
from rocbench.judgement import capacity
from rocbench.tables.row import Row

CURVE = {1: 100.0, 4: 390.0, 16: 1400.0, 64: 2000.0, 256: 2020.0, 1000: 2030.0}


def curve(n=5, **changed):
    """Repeats of CURVE; `c64={...}` changes the rows at 64 users."""
    parts = [
        cells(mean, concurrency=users, n=n, seed=users, **changed.get(f"c{users}", {}))
        for users, mean in CURVE.items()
    ]
    return table(*parts)


def test_the_point_and_its_interval():
    """The curve bends at 64 users, and repeats say so with an interval."""
    (found,) = capacity.curves(curve()).to_dict("records")

    assert found["saturation"] == 64
    assert found["low"] == 64
    assert found["peak"] == pytest.approx(2030, rel=0.02)
    assert found["levels"] == "1, 4, 16, 64, 256, 1000"


def test_undelivered_users_are_said_and_not_called_saturation():
    """Levels whose users never came are left out by name: the curve does not end there."""
    lost = {"valid": False, "reasons": "concurrency_not_delivered"}
    (found,) = capacity.curves(curve(c64=lost, c256=lost, c1000=lost)).to_dict("records")

    assert found["saturation"] is None
    assert "the requested load was not reached at 64, 256, 1000" in found["note"]
    assert "still rose by enough at the last doubling" in found["note"]


def test_invalid_levels_are_named_apart():
    """A level that is invalid for another reason is no matter of delivery."""
    (found,) = capacity.curves(curve(c256={"valid": False, "reasons": "jit_in_window"})).to_dict("records")

    assert "no valid row at 256" in found["note"]
    assert "delivered" not in found["note"]


def test_one_repeat_has_an_interval_too():
    """n=1 gives a point, and the deviations from the smooth curve an interval."""
    (found,) = capacity.curves(curve(n=1)).to_dict("records")

    assert (found["saturation"], found["low"]) == (64, 64)


def test_each_server_has_a_curve_of_its_own():
    """AITER on and off are two curves; a cell alone is none."""
    frame = table(
        curve(),
        curve().assign(aiter="off", cell_id=lambda f: f["cell_id"] + "off"),
        cells(5, workload="alone", concurrency=1),
    )
    found = capacity.curves(frame)

    assert sorted(found["aiter"]) == ["off", "on"]


def test_nothing_makes_no_curve():
    """An empty run has none."""
    assert capacity.curves(pd.DataFrame()).empty


@pytest.mark.parametrize(
    ("reasons", "shape", "said"),
    [
        ("error_rate;littles_law", "closed", "overloaded"),
        ("not_steady", "closed", "invalid"),
        ("not_steady", "open", "overloaded"),
        ("overloaded;littles_law", "open", "overloaded"),
        ("overloaded;unfinished_requests", "open", "overloaded"),
        ("client_saturated", "closed", "not delivered"),
        ("concurrency_not_delivered;error_rate", "closed", "overloaded"),
        ("simulator_late", "open", "invalid"),
    ],
)
def test_what_an_invalid_row_says(reasons, shape, said):
    """Requests that fail, or a queue that grows under open loop, are the server's answer; the rest is not."""
    row = Row({"valid": False, "reasons": reasons, "load_shape": shape})
    assert capacity.meaning(row) == said
    assert capacity.meaning(row | {"valid": None}) == "figures"
