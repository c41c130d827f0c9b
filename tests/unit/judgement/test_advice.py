"""Why a comparison cannot tell, and what would help most."""

from __future__ import annotations

import re

import pytest

from cellrows import cells, table
from rocbench.judgement import advice
from rocbench.judgement.compare import compare
from rocbench.judgement.verdicts import Settings

ONE = Settings(metrics=("output_throughput",))


def lines(a, b):
    """The advice of a comparison."""
    result = compare(a, b, ONE)
    return advice.lines(result.table, result.design, ONE)


def test_one_night_against_one_is_told_to_interleave_or_to_add_nights():
    """With what three interleaved repeats would tell, by the spread of the repeats that there are."""
    found = lines(table(cells(run_id="a")), table(cells(run_id="b", seed=1)))
    assert found[0] == "judged by 1 night against 1"
    assert found[1] == "cannot tell (1 of 1): 1 night against 1 cannot show how far nights differ"
    assert "both sides in one run" in found[2]
    assert "3 repeats would tell about" in found[2]
    assert "5 more nights of either side" in found[2]


def test_noise_is_told_how_many_pairs_would_decide():
    """The unit is named: pairs, not rows."""
    found = lines(table(cells(cov=0.03)), table(cells(cov=0.03, seed=4)))
    assert found[0] == "judged by 5 pairs of repeats"
    assert "pairs of repeats instead of 5 would decide most of them" in found[1]


def test_a_verdict_needs_no_advice():
    """Only the unit is stated."""
    assert lines(table(cells()), table(cells(2000, seed=1))) == ["judged by 5 pairs of repeats"]


def nights(days, **fields):
    """One run of two cells on each of these days, as the base or the other side of a comparison."""
    return table(
        *(
            cells(1000, n=3, run_id=f"{fields.get('side')}{day}", seed=100 * day + c, concurrency=c)
            .assign(cell_id=f"c{c}", started_at=f"2026-03-{day:02d}T{fields.get('hour', 1):02d}:00:00+00:00")
            .assign(output_throughput=lambda each, day=day: each["output_throughput"] * fields["level"](day))
            for day in days
            for c in (8, 64)
        )
    )


def test_a_drift_between_the_sides_is_not_the_spread_of_interleaved_repeats():
    """What three pairs would tell follows from the repeats, not from the interval that carries the drift."""
    a, b = (nights([1], side=side, hour=hour, level=lambda _: 1.0) for side, hour in (("a", 1), ("b", 3)))
    for side in (a, b):
        side["started_at"] = [
            each.replace(":00:00", f":0{i % 3 * 2}:00") for i, each in enumerate(side["started_at"])
        ]
        side["output_throughput"] *= [1 + 0.01 * (i % 3) for i in range(len(side))]
    result = compare(a, b, ONE)
    told = re.search(r"3 repeats would tell about ([0-9.]+)%", "\n".join(lines(a, b)))
    assert result.design.in_sequence
    assert float(result.table["high_within"].max()) > 0.3
    assert told is not None
    assert float(told[1]) < 20


def test_nights_that_differ_too_much_are_told_to_interleave():
    """With numbers for both: the nights that would decide, and what three interleaved repeats would tell."""
    past = nights(range(1, 9), side="p", level=lambda day: 1 + 0.05 * (day % 3))
    a, b = (nights([day], side=side, level=lambda _: 1.0) for side, day in (("a", 20), ("b", 21)))
    result = compare(a, b, ONE, history=past)
    said = advice.lines(result.table, result.design, ONE)
    assert "past nights" in said[0]
    assert "nights of each side" in said[1]
    assert (
        "in one run (a sweep with `factors`), so that what differs between nights cancels: 3 repeats would tell about"
        in said[1]
    )
    single = a.groupby("cell_id").head(1)
    result = compare(single, b, ONE, history=past)
    said = advice.lines(result.table, result.design, ONE)
    assert (
        "so that what differs between nights cancels: 3 repeats would tell about" in said[1]
    )  # by the other side's repeats


def test_pairs_that_would_never_decide_are_told_what_ten_show():
    """More than a night's worth of pairs is no advice; the change that ten would tell is."""
    found = lines(table(cells(cov=0.2)), table(cells(cov=0.2, seed=4)))
    assert "more than 100 pairs of repeats would be needed, and 10 would tell about" in found[1]


@pytest.mark.parametrize(
    ("least", "words"), [(0.005, "a change of 0.5% matters"), (0.0, "any change matters")]
)
def test_the_minimum_effect_is_not_rounded_away(least, words):
    """Half a per cent is not 0 %."""
    settings = Settings(metrics=("output_throughput",), min_effect=least)
    result = compare(table(cells(cov=0.03)), table(cells(cov=0.03, seed=4)), settings)
    assert words in "\n".join(advice.lines(result.table, result.design, settings))


def test_a_metric_that_was_not_measured_is_no_lack_of_nights():
    """More nights would not measure it."""
    settings = Settings(metrics=("goodput",))
    a, b = (table(cells(run_id=run, goodput=None)) for run in ("a", "b"))
    result = compare(a, b, settings)
    said = advice.lines(result.table, result.design, settings)
    assert said[1:] == ["cannot tell (1 of 1): not measured"]


def test_a_second_night_is_not_talked_out_of():
    """Where two or three nights decide, interleaving is no cheaper, and is not named."""
    past = nights(range(1, 9), side="p", level=lambda day: 1 + 0.005 * (day % 3))
    a, b = (nights([day], side=side, level=lambda _: 1.0) for side, day in (("a", 20), ("b", 21)))
    result = compare(a, b, ONE, history=past)
    for n, named in ((2, False), (20, True)):
        undecided = result.table.assign(verdict="cannot tell", note="", n_needed=n)
        said = "\n".join(advice.lines(undecided, result.design, ONE))
        assert ("both sides in one run" in said) == named
