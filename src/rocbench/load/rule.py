"""Begin and end of a window, and the length of the load after it. Pure: `watch` and `sim.predict` use it.

An open loop above the server's capacity has a queue that grows while the load is sent, so every phase that
waits for the queue has a bound: warm-up, tail and drain. Each bound is a share of the window, but at least
the time of a few requests, so that a load of long requests is not cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rocbench.load.spec import Closed, Open, RequestPlan, Shape, WindowPlan

HALF = 0.5
"""Share of a window that bounds the warm-up and the tail of an open loop."""
WARM_TIMES = 2.0
TAIL_TIMES = 1.5
DRAIN_TIMES = 6.0
LEAST_S = 2.0
"""Minimum bound of tail and drain, in seconds."""
MANY_TIMES = 12.0
"""Longer than the longest of a few hundred requests with lognormal lengths of sigma 1, in mean times."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Counts of the load so far."""

    ended: int = 0
    turned_over: int = 0
    """Closed loop: users that have ended a request."""
    peak_in_flight: int = 0
    begun: int = 0
    """Requests that began in the window."""
    first_end_s: float | None = None
    """Time from the start to the first end of a request: at least the TTFT of an idle server."""
    tpot_s: float | None = None
    """Mean time per output token of the ended requests."""


def request_s(requests: RequestPlan, seen: Seen) -> float | None:
    """Estimated time of a request that does not queue; None if none has ended."""
    if seen.first_end_s is None:
        return None
    return seen.first_end_s + (seen.tpot_s or 0.0) * requests.osl.mean


def warm(
    shape: Shape, plan: WindowPlan, seen: Seen, since_s: float, request: float | None
) -> Literal["no", "yes", "cut"]:
    """Return whether the warm-up is over, `since_s` after the start; `cut` if its bound ends it.

    Closed loop: it is over when every user has ended a request. Open loop: when the ended requests reach the
    maximum in flight, which never happens in a load of twice the capacity.
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
    """The note for a warm-up that was cut."""
    if isinstance(shape, Closed):
        return f"warm-up was cut after {after_s:.3g} s: {seen.turned_over} users had ended a request"
    return (
        f"warm-up was cut after {after_s:.3g} s: {seen.ended} requests had ended, as many as {seen.peak_in_flight} "
        "were in flight"
    )


def wanting(shape: Shape, plan: WindowPlan, seen: Seen) -> bool:
    """Return whether fewer requests have begun in the window than a level needs."""
    return isinstance(shape, Closed) and seen.begun < plan.min_requests_per_user * shape.users


def end(
    shape: Shape, plan: WindowPlan, seen: Seen, since_s: float, ahead_s: float
) -> tuple[float, str] | None:
    """The window's end, announced `ahead_s` before it, and its reason; None before. Both since its start."""
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
    """Bounds of the load after the window: time and number of requests sent, and time of the drain."""

    tail_s: float
    tail_requests: int
    drain_s: float | None
    """None: the maximum time of a request."""


def after(shape: Shape, plan: WindowPlan, seen: Seen, window_s: float, request: float | None) -> After:
    """The bounds of tail and drain. The queue of a closed loop does not grow, so it gets longer bounds."""
    closed = isinstance(shape, Closed)
    share, times = (1.0, MANY_TIMES) if closed else (HALF, TAIL_TIMES)
    tail_s = max(share * window_s, times * (request or 0.0), LEAST_S)
    drain_s = None if closed else max(window_s, DRAIN_TIMES * (request or 0.0), LEAST_S)
    number = float(seen.begun)  # open loop: due requests may still wait for room
    if isinstance(shape, Closed):
        number = max(number, shape.users)
    elif isinstance(shape, Open):
        number = max(number, shape.rate * max(window_s, tail_s))
    return After(
        tail_s if plan.max_tail_s is None else plan.max_tail_s,
        math.ceil(number) if plan.max_tail_requests is None else plan.max_tail_requests,
        drain_s if plan.max_drain_s is None else plan.max_drain_s,
    )
