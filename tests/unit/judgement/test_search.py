"""The SLO search over rows: what it measures next, and what it answers."""

from __future__ import annotations

import pytest

from rocbench.judgement import search
from rocbench.settings.goals import Search
from rocbench.tables.row import Row

WANTED = Search(slo={"p99_ttft_ms": 2000, "median_tpot_ms": 50}, high=1024)


def ttft(level):
    """A server whose p99 TTFT grows with its users: 2,000 ms at 200."""
    return 10.0 * level


def row(level, **more):
    """A row at a level, as ttft has it."""
    known = {
        "concurrency": level,
        "load_shape": "closed",
        "valid": True,
        "reasons": "",
        "cell_id": f"c{level}",
    }
    figures = {"p99_ttft_ms": ttft(level), "median_tpot_ms": 20.0, "output_throughput": 100.0}
    return Row(known | figures | more)


def run(settings=WANTED, answer=row, whole=True):
    """The search to its end: (levels in order, rows, last step)."""
    rows, levels = [], []
    while True:
        step = search.next_step(rows, settings, whole=whole, used=len(rows))
        if step.level is None:
            return levels, rows, step
        levels.append(step.level)
        rows.append(answer(step.level))
        assert len(levels) < 60


def test_raising_then_halving():
    """1, 4, 16, ... until a level is near its limit or misses it; then halves of the gap, down to 5 %."""
    levels, _, step = run()

    assert levels[:5] == [1, 4, 16, 64, 256]
    assert 185 <= step.best <= 200 < step.failed <= 212
    assert "a limit is not met" in step.why


def test_the_whole_range_can_pass():
    """A server that takes everything is not doubled beyond the highest level."""
    levels, _, step = run(answer=lambda level: row(level, p99_ttft_ms=1.0))

    assert (levels[-1], step.best, step.failed) == (1024, 1024, None)


def test_no_level_can_pass():
    """A limit that the lowest level misses has no answer; one figure alone does not show it."""
    levels, _, step = run(answer=lambda level: row(level, median_tpot_ms=80.0))

    assert (levels, step.best, step.failed) == ([1, 1], None, 1)
    assert "lowest level" in step.why


def test_measurements_are_bounded():
    """max_measurements ends it, with what is known so far."""
    levels, _, step = run(WANTED.model_copy(update={"max_measurements": 5}))

    assert (len(levels), step.best) == (5, None)  # no repeats, no spread: nothing is shown
    assert step.why == "stopped after 5 measurements, the maximum of the search"


def test_levels_are_repeated_as_asked():
    """`repeats: 3` measures each level at least three times."""
    levels, _, _ = run(WANTED.model_copy(update={"repeats": 3, "max_measurements": 100}))

    assert levels[:9] == [1, 1, 1, 4, 4, 4, 16, 16, 16]


def test_near_a_limit_is_measured_again():
    """A level whose figure lies within 5 % of a limit is not decided by one look."""
    levels, _, _ = run()

    assert any(levels.count(level) > 1 for level in levels if 190 <= level <= 210)


def test_failing_requests_are_an_answer():
    """A level at which requests fail does not meet the SLO, whatever the latency of the others."""

    def answer(level):
        broken = {"valid": False, "reasons": "error_rate", "p99_ttft_ms": 1.0} if level > 40 else {}
        return row(level, **broken)

    _, _, step = run(answer=answer)
    assert step.best <= 40 < step.failed


def test_undelivered_users_end_the_doubling_and_are_said():
    """The client could not deliver 128 users: the answer below is shown, and that it is the client's."""

    def answer(level):
        lost = {"valid": False, "reasons": "client_saturated"} if level >= 100 else {}
        return row(level, **lost)

    levels, rows, step = run(answer=answer)
    assert step.best < 100
    assert "load was not reached" in step.why
    found = search.report(rows, WANTED, step, whole=True, gain=0.05)
    outcomes = {level["level"]: level["outcome"] for level in found["levels"]}
    assert outcomes[128] == "not delivered"
    assert "the requested load was not reached at" in found["saturation"]["note"]
    assert levels.count(128) == 1


def test_an_invalid_measurement_is_made_once_more():
    """One that says nothing of the level (a late simulator, a kernel build) is repeated, once."""
    seen = []

    def answer(level):
        seen.append(level)
        first = seen.count(level) == 1 and level in {4, 64}
        return row(level, valid=False, reasons="jit_in_window") if first else row(level)

    levels, _, step = run(answer=answer)
    assert levels[:4] == [1, 4, 4, 16]
    assert 185 <= step.best <= 200


def test_a_level_without_a_valid_measurement_is_no_matter_of_delivery():
    """Two invalid measurements end it there, with their codes."""
    _, _, step = run(answer=lambda level: row(level, valid=False, reasons="jit_in_window;few_samples_p99"))

    assert step.why == "at 1 no measurement is valid: few_samples_p99, jit_in_window"


def test_a_cut_off_search_goes_on_where_it_was():
    """The rows are the state: any prefix of them leads to the same levels."""
    levels, rows, _ = run()

    for cut in range(len(rows)):
        step = search.next_step(rows[:cut], WANTED, whole=True, used=cut)
        assert step.level == levels[cut]


def test_rates_are_no_whole_numbers():
    """Requests/s are bisected to 5 % too, with four digits."""
    wanted = Search(slo={"goodput_share": 0.99}, low=0.5, high=64)

    def answer(rate):
        share = 1.0 if rate < 7.3 else 0.4
        return Row(
            {
                "request_rate": rate,
                "load_shape": "open",
                "valid": True,
                "goodput_share": share,
                "unserved_share": 0.01,
                "arrival_noise_share": 0.01,
                "cell_id": "x",
            }
        )

    levels, _, step = run(wanted, answer, whole=False)
    assert step.best < 7.3 < step.failed <= 1.05 * step.best
    assert all(level == float(f"{level:.4g}") for level in levels)


def test_limits_stand_on_the_side_that_is_worse():
    """Latency from above, throughput and shares from below."""
    wanted = Search(slo={"p99_ttft_ms": 2000, "output_throughput": 500})

    assert [str(limit) for limit in search.limits_of(wanted)] == [
        "p99_ttft_ms <= 2000",
        "output_throughput >= 500",
    ]


@pytest.mark.parametrize("absent", [None, float("nan")])
def test_a_figure_that_is_absent_never_passes(absent):
    """No p99, no proof: measured again, then taken as not met."""
    _, _, step = run(answer=lambda level: row(level, p99_ttft_ms=None if absent is None else absent))

    assert step.best is None


def rate_row(rate, capacity=10.0, **more):
    """A batching server: its TPOT is bounded, and above its capacity the rest of the rate waits."""
    lost = max(0.0, 1 - capacity / rate)
    known = {"request_rate": rate, "load_shape": "open", "valid": True, "reasons": "", "cell_id": f"r{rate}"}
    figures = {"median_tpot_ms": 20.0, "unserved_share": lost, "arrival_noise_share": 0.03}
    return Row(known | figures | more)


@pytest.mark.parametrize("flagged", [True, False])
def test_a_rate_above_the_capacity_is_no_answer(flagged):
    """TPOT meets its limit at 16 times the capacity; by the reason codes or by the unserved share, it is no answer."""

    def answer(rate):
        over = {"valid": False, "reasons": "overloaded;littles_law"} if flagged and rate > 11 else {}
        return rate_row(rate, **over)

    wanted = Search(slo={"median_tpot_ms": 50}, low=0.5, high=512)
    _, rows, step = run(wanted, answer, whole=False)
    assert 9 <= step.best <= 9.5
    found = search.report(rows, wanted, step, whole=False, gain=0.05)
    assert "overloaded, the server serves 10 requests/s" in found["notes"][0]


def test_requests_that_end_stand_for_the_unserved_share():
    """Rows without `unserved_share`: completed requests per second against the rate; without both, no answer."""
    wanted = Search(slo={"median_tpot_ms": 50}, low=0.5, high=512)

    def ends(rate):
        return rate_row(rate, unserved_share=None, request_throughput=min(rate, 10.0))

    assert 9 <= run(wanted, ends, whole=False)[2].best <= 9.5
    assert run(wanted, lambda rate: rate_row(rate, unserved_share=None), whole=False)[2].best is None


def test_the_interval_within_the_window_is_the_least_spread():
    """A p99 whose own interval is +-50 % is not shown by two equal figures."""
    wide = {"p99_ttft_low_ms": 1000.0, "p99_ttft_high_ms": 3000.0, "p99_ttft_ms": 1900.0}
    wanted = Search(slo={"p99_ttft_ms": 2000}, low=8, high=8)
    assert run(wanted, lambda level: row(level, **wide))[2].best is None
    assert run(wanted, lambda level: row(level, p99_ttft_ms=1900.0))[2].best == 8
