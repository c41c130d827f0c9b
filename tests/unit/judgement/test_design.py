"""What varied between two sides, by the runs, servers and times of their rows."""

from __future__ import annotations

import pytest

from rocbench.judgement.design import design, nights
from rocbench.tables.row import Row

HOUR = 3600.0


def row(run, repeat, hour, server="01-m", **more):
    """A row whose window began so many hours after midnight of the first day."""
    day, hour = divmod(hour, 24)
    minutes = round(hour * 60)
    started = f"2026-11-{1 + int(day):02d}T{minutes // 60:02d}:{minutes % 60:02d}:00+00:00"
    return Row({"run_id": run, "repeat": repeat, "server_id": server, "started_at": started} | more)


def arms(order, *, server):
    """Both sides of one cell in one run, measured in this order (`abba`), each on the server that `server` names."""
    sides = {"a": [], "b": []}
    for place, arm in enumerate(order):
        repeat = len(sides[arm]) + 1
        sides[arm].append(row("r", repeat, place * 0.1, server(arm, repeat)))
    return [sides["a"]], [sides["b"]]


def test_arms_with_a_server_start_in_every_repeat_are_pairs():
    """The night is shared, so it cancels; the unit is the start."""
    found = design(*arms("abbaab", server=lambda arm, repeat: f"01-{arm}.{repeat}"))
    assert (found.unit, found.pairs, found.missing) == ("pair of server starts", 3, "")


def test_arms_on_the_same_server_are_pairs_of_repeats():
    """A setting of the client alone: the start cancels too."""
    found = design(*arms("abbaab", server=lambda _arm, _repeat: "01-m"))
    assert (found.unit, found.missing) == ("pair of repeats", "")


def test_one_start_each_shows_no_variation():
    """Three repeats on one server are one start."""
    found = design(*arms("ababab", server=lambda arm, _repeat: f"01-{arm}"))
    assert found.missing == "each side ran on one server start"
    assert found.describe() == "1 server start against 1"


def test_a_server_that_starts_in_every_repeat_may_keep_its_name():
    """Rows of earlier versions name the server only: `restart` says that each repeat started it."""
    sides = arms("ababab", server=lambda arm, _repeat: f"01-{arm}")
    fresh = [[[Row({**each, "restart": "per_repeat"}) for each in cell] for cell in side] for side in sides]
    found = design(*fresh)
    assert (found.unit, found.pairs, found.missing) == ("pair of server starts", 3, "")


def test_blocks_are_told():
    """All of A, then all of B: a drift looks like an effect."""
    found = design(*arms("aaabbb", server=lambda arm, repeat: f"01-{arm}.{repeat}"))
    assert found.in_sequence
    assert "one ran after the other" in found.missing


@pytest.mark.parametrize(
    ("a", "b", "unit", "paired", "counts", "in_sequence"),
    [
        ([0], [24], "night", False, (1, 1), False),
        ([0], [2], "run", False, (1, 1), True),
        ([0, 48, 96], [24, 72, 120], "pair of nights", True, (3, 3), False),  # A B A B A B
        ([0, 72, 96], [24, 48, 120], "pair of nights", True, (3, 3), False),  # A B B A A B
        ([0, 24, 48], [72, 96, 120], "night", False, (3, 3), False),  # one block after the other
        ([0, 24, 48], [1, 25, 49], "night", True, (3, 3), True),  # both in every night
        ([0, 2, 4], [1, 3, 5], "pair of runs", True, (3, 3), True),  # in turn within one night
        ([0, 1, 2], [3, 4, 5], "run", False, (3, 3), True),
    ],
)
def test_runs_of_their_own(a, b, unit, paired, counts, in_sequence):
    """The times of runs say which nights they belong to, and whether they alternate."""
    sides = [
        [[row(f"{name}{hour}", 1, hour), row(f"{name}{hour}", 2, hour + 0.1)] for hour in [hours[0]]]
        for name, hours in (("a", a), ("b", b))
    ]
    for side, (name, hours) in zip(sides, (("a", a), ("b", b)), strict=True):
        side[0] += [row(f"{name}{hour}", 1, hour) for hour in hours[1:]]
    found = design(*sides)
    assert (found.unit, found.paired, tuple(map(len, found.units))) == (unit, paired, counts)
    assert found.in_sequence == in_sequence
    for s, side in enumerate(sides):
        assert {found.of(each, s) for each in side[0]} == set(found.units[s])


def test_a_run_on_both_sides_is_told():
    """Runs that hold both sides, and others that hold one, are not one design."""
    shared, alone = row("r", 1, 0), row("s", 1, 24)
    assert "some runs have both sides" in design([[shared, alone]], [[shared]]).missing


def test_predicted_rows_have_no_nights():
    """No server runs: each repeat is a unit."""
    sides = [[[row(f"{s}", n, 0, predicted=True) for n in (1, 2)]] for s in "ab"]
    found = design(*sides)
    assert (found.unit, tuple(map(len, found.units))) == ("repeat", (2, 2))


def test_nights_begin_after_six_hours_without_a_run():
    """Runs without a time are nights of their own."""
    found = nights([("a", 0.0), ("b", 5 * HOUR), ("c", 12 * HOUR), ("d", None), ("a", 1.0)])
    assert found["a"] == found["b"] != found["c"]
    assert len(set(found.values())) == 3


def test_pairs_are_in_the_order_of_their_repeats():
    """Repeat 10 comes after repeat 2: serial correlation looks at neighbours."""
    found = design(*arms("abba" * 6, server=lambda arm, repeat: f"01-{arm}.{repeat}"))
    assert [repeat for _, repeat in found.units[0]] == list(range(1, 13))
