"""When windows begin and end, and what bounds a load after them."""

from __future__ import annotations

from rocbench.load import rule
from rocbench.load.rule import Seen
from rocbench.load.spec import Closed, Lengths, Open, RequestPlan, WindowPlan

PLAN = WindowPlan(duration_s=30.0)
OPEN = Open(10.0)


def test_a_closed_loop_is_warm_when_every_user_has_turned_over():
    """Not before, however long it takes, but for the bound that the user set."""
    assert rule.warm(Closed(8), PLAN, Seen(turned_over=7), 500.0, 1.0) == "no"
    assert rule.warm(Closed(8), PLAN, Seen(turned_over=8), 1.0, 1.0) == "yes"
    assert rule.warm(Closed(8), PLAN, Seen(turned_over=7), 1801.0, 1.0) == "cut"


def test_an_open_loop_that_never_catches_up_is_measured_all_the_same():
    """At ten times capacity as many never end as are in flight: half a window, or two requests' time, is enough."""
    behind = Seen(ended=20, peak_in_flight=180, first_end_s=1.0)
    assert rule.warm(OPEN, PLAN, behind, 14.0, 2.0) == "no"
    assert rule.warm(OPEN, PLAN, behind, 15.1, 2.0) == "cut"
    assert rule.warm(OPEN, PLAN, behind, 15.1, 20.0) == "no", (
        "requests of 20 s are not in flight for long yet"
    )
    assert rule.warm(OPEN, PLAN, Seen(ended=180, peak_in_flight=180), 3.0, 2.0) == "yes"


def test_what_follows_the_window_is_bounded():
    """Open loop: half a window of tail, a window of drain, as many requests as began; settings come first."""
    seen = Seen(begun=300, first_end_s=1.0)
    assert rule.after(OPEN, PLAN, seen, 30.0, 1.0) == rule.After(15.0, 300, 30.0)
    assert rule.after(OPEN, PLAN, seen, 30.0, 40.0) == rule.After(60.0, 600, 240.0)
    closed = rule.after(Closed(8), PLAN, seen, 30.0, 1.0)
    assert closed == rule.After(30.0, 300, None), (
        "a request of a closed loop is waited for as long as it may take"
    )
    own = WindowPlan(max_tail_s=3.0, max_tail_requests=5, max_drain_s=7.0)
    assert rule.after(OPEN, own, seen, 30.0, 40.0) == rule.After(3.0, 5, 7.0)


def test_a_request_s_time_is_told_by_the_first_that_ended_and_the_tokens_pace():
    """First end, and the mean length at the mean time per token; unknown before."""
    plan = RequestPlan(Lengths(64), Lengths(100))
    assert rule.request_s(plan, Seen()) is None
    assert rule.request_s(plan, Seen(first_end_s=0.5, tpot_s=0.02)) == 2.5
