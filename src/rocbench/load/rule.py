"""When a window begins and ends, and how long a load goes on after it. Pure: `watch` and `sim.predict` ask the same.

An open loop above the server's capacity has a queue that grows for as long as the load is sent, so nothing that
waits for the queue may be without a bound: neither the warm-up nor the tail nor the drain. Each bound is a share of
the window, and never less than a few requests' time, so that a load of long requests is not cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rocbench.load.spec import Closed, Open, RequestPlan, Shape, WindowPlan

HALF = 0.5
"""An open loop warms up and keeps its load up after the window for at most half a window each."""
WARM_TIMES = 2.0
TAIL_TIMES = 1.5
DRAIN_TIMES = 6.0
LEAST_S = 2.0
"""No tail and no drain is cut before."""
MANY_TIMES = 12.0
"""Longer than the longest of a few hundred requests with lognormal lengths of sigma 1, in mean times."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the load has counted so far."""

    ended: int = 0
    turned_over: int = 0
    """Closed loop: users that have ended a request."""
    peak_in_flight: int = 0
    begun: int = 0
    """Requests that began in the window."""
    first_end_s: float | None = None
    """From the start to the first end of a request: at least what an idle server takes to the first token."""
    tpot_s: float | None = None
    """Mean time per output token of the requests that have ended."""


def request_s(requests: RequestPlan, seen: Seen) -> float | None:
    """About how long a request takes that does not queue; None while none has ended."""
    if seen.first_end_s is None:
        return None
    return seen.first_end_s + (seen.tpot_s or 0.0) * requests.osl.mean


def warm(
    shape: Shape, plan: WindowPlan, seen: Seen, since_s: float, request: float | None
) -> Literal["no", "yes", "cut"]:
    """Whether the warm-up is over, `since_s` after the start; `cut` where it ends for its bound.

    Closed loop: when every user has ended a request. Open loop: when as many have ended as were ever in flight,
    which a load of twice the capacity never reaches.
    """
    if since_s > plan.max_duration_s:
        return "cut"
    if isinstance(shape, Closed):
        return "yes" if seen.turned_over >= shape.users else "no"
    if since_s < (plan.ramp_s or 0.0) or not seen.ended:
        return "no"
    if seen.ended >= seen.peak_in_flight:
        return "yes"
    bound = max(HALF * plan.duration_s, WARM_TIMES * (request or 0.0))
    return "cut" if request is not None and since_s > bound else "no"


def warmup_cut(shape: Shape, seen: Seen, after_s: float) -> str:
    """The note of a warm-up that did not end by itself."""
    if isinstance(shape, Closed):
        return f"warm-up was cut after {after_s:.3g} s: {seen.turned_over} users had ended a request"
    return (
        f"warm-up was cut after {after_s:.3g} s: {seen.ended} requests had ended, as many as {seen.peak_in_flight} "
        "were in flight"
    )


def wanting(shape: Shape, plan: WindowPlan, seen: Seen) -> bool:
    """Fewer requests have begun in the window than a level needs."""
    return isinstance(shape, Closed) and seen.begun < plan.min_requests_per_user * shape.users


def end(
    shape: Shape, plan: WindowPlan, seen: Seen, since_s: float, ahead_s: float
) -> tuple[float, str] | None:
    """The window's end, announced `ahead_s` before it, and why; None while it goes on. Both since its start."""
    soon, most = since_s + ahead_s, max(plan.max_duration_s, 0.001)
    still = wanting(shape, plan, seen)
    if soon >= most:
        return max(most, soon), "max_duration" if still else "duration"
    if soon >= plan.duration_s and not still:
        extended = soon > plan.duration_s + 2 * ahead_s
        return max(plan.duration_s, soon), "requests" if extended else "duration"
    return None


@dataclass(frozen=True, slots=True)
class After:
    """How long and how much is sent after the window, and how long is then waited for what is in flight."""

    tail_s: float
    tail_requests: int
    drain_s: float | None
    """None: as long as a request may take."""


def after(shape: Shape, plan: WindowPlan, seen: Seen, window_s: float, request: float | None) -> After:
    """The bounds of tail and drain. A closed loop's queue does not grow: it is given more time, and drains whole."""
    closed = isinstance(shape, Closed)
    share, times = (1.0, MANY_TIMES) if closed else (HALF, TAIL_TIMES)
    tail_s = max(share * window_s, times * (request or 0.0), LEAST_S)
    drain_s = None if closed else max(window_s, DRAIN_TIMES * (request or 0.0), LEAST_S)
    number = float(seen.begun)  # open loop: what is due may not have found room to begin
    if isinstance(shape, Closed):
        number = max(number, shape.users)
    elif isinstance(shape, Open):
        number = max(number, shape.rate * max(window_s, tail_s))
    return After(
        tail_s if plan.max_tail_s is None else plan.max_tail_s,
        math.ceil(number) if plan.max_tail_requests is None else plan.max_tail_requests,
        drain_s if plan.max_drain_s is None else plan.max_drain_s,
    )
