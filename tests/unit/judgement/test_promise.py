"""The change that repeats can tell: promised from earlier runs or a stated CoV, and held against the spread that came."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import scipy.special

from rocbench.judgement.moderated import moderate
from rocbench.judgement.promise import Design, Spread, detectable, held, needed, needed_cov, promised
from rocbench.judgement.verdicts import RESERVE
from rocbench.tables.row import Row

DESIGN = Design(repeats=3, measured=24, cells=12, tests=48, paired=True)


def rows(spread, *, runs=1, n=3, cells=12, seed=0, metric="output_throughput", **more):
    """Rows of runs whose levels differ from run to run, and whose repeats scatter by `spread` (one, or one a cell)."""
    rng = np.random.default_rng(seed)
    each = np.broadcast_to(spread, cells)
    return [
        Row(
            {"key": f"m/w/c{cell}", "cell_id": str(cell), "run_id": f"r{run}", "repeat": n_, "valid": True}
            | {metric: float(1000 * (1 + run / 10) * np.exp(each[cell] * rng.standard_normal()))}
            | more
        )
        for run in range(runs)
        for cell in range(cells)
        for n_ in range(1, n + 1)
    ]


def test_the_spread_is_that_within_runs():
    """Runs at different levels (another version, another night) do not widen it; cells and runs are pooled."""
    found = Spread.of(rows(0.01, runs=4), "output_throughput")
    assert found is not None
    assert found.cov == pytest.approx(0.01, rel=0.15)
    assert (len(found.sd), found.runs) == (12, 4)
    assert min(found.df) > 8


def test_cells_that_differ_are_promised_each_by_its_own():
    """The median cell's change, and the noisiest cell by name."""
    found = Spread.of(rows(np.geomspace(0.002, 0.05, 12), runs=6), "output_throughput")
    told = promised("output_throughput", DESIGN, found)
    assert told.noisiest is not None
    assert told.noisiest[0] == "m/w/c11"
    assert told.change is not None
    assert told.noisiest[1] > 3 * told.change
    assert any("noisiest cell, m/w/c11" in line for line in told.lines())


def test_without_repeats_nothing_is_known():
    """One repeat, invalid rows, another metric: no spread."""
    assert Spread.of(rows(0.01, n=1), "output_throughput") is None
    assert Spread.of(rows(0.01, valid=False), "output_throughput") is None
    assert Spread.of(rows(0.01), "median_ttft_ms") is None


def test_a_stated_cov_gives_a_change_and_back():
    """At the CoV that a change needs, the repeats tell just that change."""
    cov = needed_cov(DESIGN, 0.05)
    (change,) = detectable(DESIGN, Spread.stated(cov))
    assert change == pytest.approx(0.05, rel=0.01)
    assert needed(DESIGN, Spread.stated(cov * 0.999), 0.05) == 3


def test_few_earlier_repeats_promise_less_than_a_stated_cov():
    """What two repeats of one cell show may be luck: the promise allows for it."""
    design = Design(repeats=4, measured=2, cells=1, tests=4)
    sure = Spread.stated(0.01)
    unsure = Spread((0.01,), (1.0,), math.inf, ("m",), 1)
    assert detectable(design, unsure)[0] > 1.5 * detectable(design, sure)[0]


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_a_promise_is_what_is_counted(paired):
    """80 % promised from one earlier run of 12 cells: 75 to 90 % of t tests with shrunk variances tell that change."""
    design = Design(repeats=3, measured=24, cells=12, tests=48, paired=paired, min_effect=0.02)
    rng, told = np.random.default_rng(5), []
    for seed in range(60):
        spread = Spread.of(rows(0.012, seed=seed), "output_throughput")
        assert spread is not None
        change = math.log1p(float(np.median(detectable(design, spread))))
        sides = 0.012 * rng.standard_normal((2, 12, 3)) + np.array([0, change])[:, None, None]
        pairs = sides[1] - sides[0]
        parts = [pairs] if paired else [sides[0], sides[1]]
        own = sum(part.var(axis=1, ddof=1) for part in parts)
        shared = moderate(own, np.full(12, 2.0 if paired else 4.0))
        critical = scipy.special.stdtrit(shared.df, 1 - 0.05 * RESERVE / 48 / 2)
        estimate = pairs.mean(axis=1)
        told += list((estimate > critical * np.sqrt(shared.variance / 3)) & (estimate > math.log1p(0.02)))
    assert 0.74 < np.mean(told) < 0.9


def test_words_of_a_plan():
    """What is known, what is asked, and what is not known."""
    known = promised("output_throughput", DESIGN, Spread.stated(0.01), 0.03)
    first, second = known.lines()
    assert first.startswith("power: 3 repeats of 24 cells can tell a change of ")
    assert first.endswith("between arms of this run, at the stated CoV of 1.0%")
    assert (
        second
        == "  A change of 3.0% needs 5 repeats. With 3 repeats, a change of 3.0% needs a CoV of at most 0.77%."
    )
    (unknown,) = promised("output_throughput", DESIGN, None).lines()
    assert "no earlier run shows the spread" in unknown
    assert "a change of 5.0% needs a CoV of at most" in unknown
    single = promised("output_throughput", Design(1, 24, 12, 48, paired=True), Spread.stated(0.01), 0.03)
    assert single.change is None
    assert single.lines() == [
        (
            "power: 1 repeat of each cell can tell no change in output_throughput: at least 3 are needed."
            " A change of 3.0% needs 5 repeats."
        )
    ]


def test_no_promise_for_fewer_repeats_than_a_verdict_needs():
    """Two pairs are "cannot tell" in every comparison, so no plan promises anything of them, or asks for them."""
    quiet = Spread.stated(0.0001)
    two = promised("output_throughput", Design(2, 24, 12, 48, paired=True), quiet, 0.05)
    assert (two.change, two.needed, two.needed_cov) == (None, 3, None)


def test_a_run_without_arms_is_not_promised_what_only_arms_tell():
    """Two such runs are two nights, which differ by more than repeats do: the plan says so."""
    (line,) = promised("output_throughput", Design(3, 24, 24, 96), Spread.stated(0.01)).lines()
    assert "as far as repeats differ (runs of different nights differ by more)" in line
    (line,) = promised("output_throughput", Design(3, 24, 12, 48), Spread.stated(0.01)).lines()
    assert "between arms of this run" in line


def test_a_promise_is_held_against_the_spread_that_came():
    """Planned at 1 %, found 1.6 %: the change that can be told is larger, and the sentence has both."""
    stored = [asdict(promised("output_throughput", DESIGN, Spread.stated(0.01)))]
    (sentence,) = held(stored, rows(0.016, cells=12))
    planned = stored[0]["change"]
    assert sentence.startswith(
        f"planned to tell {100 * planned:.1f}% in output_throughput with 3 repeats at CoV 1.0%;"
    )
    assert float(sentence.rpartition("enough to tell ")[2].rstrip("%")) > 100 * planned
    assert held(stored, rows(0.01, n=1)) == []
    assert held([asdict(promised("output_throughput", DESIGN, None))], rows(0.01)) == []
