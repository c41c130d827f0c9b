"""Why a comparison cannot tell, and what would help most."""

from __future__ import annotations

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
