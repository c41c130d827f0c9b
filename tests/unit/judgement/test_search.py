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


def test_doubling_then_bisection():
    """1, 2, 4, ... until a level fails, then halves of the bracket, down to 5 %."""
    levels, _, step = run()

    assert levels[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert 190 <= step.best <= 200
    assert step.failed / step.best - 1 <= 0.05
    assert "a limit is not met" in step.why


def test_the_whole_range_can_pass():
    """A server that takes everything is not doubled beyond the highest level."""
    levels, _, step = run(answer=lambda level: row(level, p99_ttft_ms=1.0))

    assert (levels[-1], step.best, step.failed) == (1024, 1024, None)


def test_no_level_can_pass():
    """A limit that the lowest level misses has no answer, and says so after one measurement."""
    levels, _, step = run(answer=lambda level: row(level, median_tpot_ms=80.0))

    assert (levels, step.best) == ([1], None)
    assert "lowest level" in step.why


def test_measurements_are_bounded():
    """max_measurements ends it, with what is known so far."""
    levels, _, step = run(WANTED.model_copy(update={"max_measurements": 5}))

    assert (len(levels), step.best) == (5, 16)
    assert step.why == "stopped after 5 measurements, the maximum of the search"


def test_levels_are_repeated_as_asked():
    """`repeats: 3` measures each level three times before the next."""
    levels, _, _ = run(WANTED.model_copy(update={"repeats": 3, "max_measurements": 100}))

    assert levels[:9] == [1, 1, 1, 2, 2, 2, 4, 4, 4]


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
    assert levels[:6] == [1, 2, 4, 4, 8, 16]
    assert 190 <= step.best <= 200


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
                "cell_id": "x",
            }
        )

    levels, _, step = run(wanted, answer, whole=False)
    assert levels[:5] == [0.5, 1, 2, 4, 8]
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
