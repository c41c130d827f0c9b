"""When windows begin and end, and what bounds a load after them."""

from __future__ import annotations

from rocbench.load import window
from rocbench.load.spec import Closed, Lengths, LoadSpec, Open, RequestPlan, Target, WindowPlan
from rocbench.load.window import Limits, LoadCounts

PLAN = WindowPlan(duration_s=30.0)
OPEN = Open(10.0)


def test_a_closed_loop_is_warm_when_every_user_has_turned_over():
    """Not before, however long it takes, but for the bound that the user set."""
    assert window.warm_up(Closed(8), PLAN, LoadCounts(turned_over=7), 500.0, 1.0) == "running"
    assert window.warm_up(Closed(8), PLAN, LoadCounts(turned_over=8), 1.0, 1.0) == "complete"
    assert window.warm_up(Closed(8), PLAN, LoadCounts(turned_over=7), 1801.0, 1.0) == "cut"


def test_an_open_loop_that_never_catches_up_is_measured_all_the_same():
    """At ten times capacity as many never end as are in flight: half a window, or two requests' time, is enough."""
    behind = LoadCounts(ended=20, peak_in_flight=180, first_end_s=1.0)
    assert window.warm_up(OPEN, PLAN, behind, 14.0, 2.0) == "running"
    assert window.warm_up(OPEN, PLAN, behind, 15.1, 2.0) == "cut"
    assert window.warm_up(OPEN, PLAN, behind, 15.1, 20.0) == "running", (
        "requests of 20 s are not in flight for long yet"
    )
    assert window.warm_up(OPEN, PLAN, LoadCounts(ended=180, peak_in_flight=180), 3.0, 2.0) == "complete"


def test_a_rounding_error_does_not_delay_the_end():
    """Virtual time jumps to the end of a window; the sum of the parts may be 1e-15 short of it."""
    start_s, ahead_s = 0.1 + 0.2, 0.1
    ends = [
        window.timed_end(
            OPEN, PLAN, LoadCounts(begun=9), (start_s * i + 30.0 - ahead_s) - start_s * i, ahead_s
        )
        for i in range(1, 1000)
    ]
    assert {end[1] if end else None for end in ends} == {"duration"}


def limits(shape, counts, **plan):
    """The limits after a window of 30 s."""
    requests = RequestPlan(Lengths(8), Lengths(1))
    spec = LoadSpec(Target("http://h", "m"), requests, shape, WindowPlan(**plan), request_timeout_s=60.0)
    return window.limits(spec, counts, 30.0)


def test_tail_and_drain_have_limits():
    """Open loop: half a window of tail, a window of drain, as many requests as began; settings come first."""
    counts = LoadCounts(begun=300, first_end_s=1.0)
    long = LoadCounts(begun=300, first_end_s=40.0)
    assert limits(OPEN, counts) == Limits(15.0, 300, 30.0)
    assert limits(OPEN, long) == Limits(60.0, 600, 240.0)
    assert limits(Closed(8), counts) == Limits(30.0, 300, 70.0), (
        "a closed loop waits for a request until its timeout"
    )
    assert limits(OPEN, long, max_tail_s=3.0, max_tail_requests=5, max_drain_s=7.0) == Limits(3.0, 5, 7.0)


def test_the_estimate_of_a_request_needs_one_that_ended():
    """First end, and the mean length at the mean time per token; unknown before."""
    plan = RequestPlan(Lengths(64), Lengths(100))
    assert window.estimated_request_s(plan, LoadCounts()) is None
    assert window.estimated_request_s(plan, LoadCounts(first_end_s=0.5, tpot_s=0.02)) == 2.5
