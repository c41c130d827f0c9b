"""When a load's window opens and ends, and how long the load continues after it. Pure.

`WindowRule` decides for real loads (`load.watch`) and for loads in virtual time (`sim.predict`).

An open loop above the server's capacity has a queue that grows while the load is sent, so every phase that
waits for the queue has a limit: warm-up, tail and drain. Each limit is a share of the window, but at least
the time of a few requests, so that a load of long requests is not cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rocbench.load.spec import Closed, LoadSpec, Open, RequestPlan, Shape, Trace, WindowPlan

ROUNDING_S = 1e-9
"""Rounding error of a sum of times, in seconds: virtual time jumps exactly to the end of a window."""
HALF = 0.5
"""Share of a window that limits the warm-up and the tail of an open loop."""
WARM_TIMES = 2.0
TAIL_TIMES = 1.5
DRAIN_TIMES = 6.0
LEAST_S = 2.0
"""Minimum limit of tail and drain, in seconds."""
MANY_TIMES = 12.0
"""Longer than the longest of a few hundred requests with lognormal lengths of sigma 1, in mean times."""
LAST_CALL_S = 10.0
"""Time that the drain of a closed loop may outlast the requests' own timeout."""


@dataclass(frozen=True, slots=True)
class LoadCounts:
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
    sent: int = 0
    all_ended: bool = False
    """True if every request of a fixed number has ended."""
    outstanding: int | None = None
    """Requests of the window that have not ended; None until all workers have counted them in the tail."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the load after the window: time and number of requests of the tail, and time of the drain."""

    tail_s: float
    tail_requests: int
    drain_s: float


class WindowRule:
    """The phases of one load. All times are seconds since its start.

    Args:
        spec: the load.
        ahead_s: time between the announcement of an edge of the window and the edge.
    """

    def __init__(self, spec: LoadSpec, ahead_s: float) -> None:
        self.spec = spec
        self.ahead_s = ahead_s
        self.counted = spec.window.max_requests is not None or isinstance(spec.shape, Trace)
        """Limited by count: all requests are measured."""
        self.phase: Literal["warm-up", "measure", "tail", "drain", "over"] = (
            "measure" if self.counted else "warm-up"
        )
        self.start_s = 0.0 if self.counted else math.inf
        self.end_s = math.inf
        self.drain_s = math.inf
        """Start of the drain."""
        self.ended_by = "never_began"
        self.notes: list[str] = []
        self._limits = Limits(0.0, 0, 0.0)
        self._sent_at_end = 0

    def update(self, now_s: float, counts: LoadCounts) -> None:
        """Enter the next phase if it is time."""
        match self.phase:
            case "warm-up":
                self._warm_up(now_s, counts)
            case "measure":
                self._measure(now_s, counts)
            case "tail":
                self._tail(now_s, counts)
            case "drain" if now_s > self.drain_s + self._limits.drain_s:
                self.phase = "over"

    def next_change_s(self, now_s: float) -> float:
        """Earliest time after `now_s` at which the clock alone may end a phase; infinite if there is none."""
        plan = self.spec.window
        match self.phase:
            case "warm-up":
                times: tuple[float, ...] = (plan.max_duration_s,)
            case "measure":
                begin_s = self.start_s - self.ahead_s
                times = (begin_s + plan.duration_s, begin_s + plan.max_duration_s)
            case _:
                times = (self.end_s, self.end_s + self._limits.tail_s)
        return min((at for at in times if at > now_s), default=math.inf)

    def _warm_up(self, now_s: float, counts: LoadCounts) -> None:
        shape, request_s = self.spec.shape, estimated_request_s(self.spec.requests, counts)
        state = warm_up(shape, self.spec.window, counts, now_s, request_s)
        if state == "running":
            return
        if state == "cut":
            progress = (
                f"{counts.turned_over} of {shape.users} users had finished a request"
                if isinstance(shape, Closed)
                else f"{counts.ended} requests had ended, and up to {counts.peak_in_flight} were in flight"
            )
            self.notes.append(f"the warm-up reached its limit after {now_s:.3g} s: {progress}")
        self.phase, self.start_s = "measure", now_s + self.ahead_s

    def _measure(self, now_s: float, counts: LoadCounts) -> None:
        spec, since_s = self.spec, now_s - self.start_s
        if self.counted:
            end = counted_end(spec.window, counts, since_s, self.ahead_s)
        else:
            end = timed_end(spec.shape, spec.window, counts, since_s, self.ahead_s)
        if end is None:
            return
        self.phase, self.end_s, self.ended_by = "tail", self.start_s + end[0], end[1]
        self._limits = limits(spec, counts, self.end_s - self.start_s)
        self._sent_at_end = counts.sent

    def _tail(self, now_s: float, counts: LoadCounts) -> None:
        """Keep the load up until the window's last request has ended, within the limits."""
        if now_s < self.end_s:
            return
        if counts.outstanding != 0:
            sent = counts.sent - self._sent_at_end
            if now_s <= self.end_s + self._limits.tail_s and sent <= self._limits.tail_requests:
                return
            self.notes.append(
                f"the tail reached its limit after {now_s - self.end_s:.3g} s and {sent} more requests: "
                f"{counts.outstanding or 0} requests of the window were still running when sending stopped"
            )
        self.phase, self.drain_s = "drain", now_s


def estimated_request_s(requests: RequestPlan, counts: LoadCounts) -> float | None:
    """Estimated time of a request that does not queue; None if none has ended."""
    if counts.first_end_s is None:
        return None
    return counts.first_end_s + (counts.tpot_s or 0.0) * requests.osl.mean


def warm_up(
    shape: Shape, plan: WindowPlan, counts: LoadCounts, since_s: float, request_s: float | None
) -> Literal["running", "complete", "cut"]:
    """The state of the warm-up `since_s` after the start; `cut` if its limit ends it.

    Closed loop: it is complete when every user has ended a request. Open loop: when the ended requests reach
    the maximum in flight, which never happens in a load of twice the capacity.
    """
    if since_s > plan.max_duration_s:
        return "cut"
    if isinstance(shape, Closed):
        return "complete" if counts.turned_over >= shape.users else "running"
    if since_s < (plan.ramp_s or 0.0) or not counts.ended:
        return "running"
    if counts.ended >= counts.peak_in_flight:
        return "complete"
    limit_s = max(HALF * plan.duration_s, WARM_TIMES * (request_s or 0.0))
    return "cut" if request_s is not None and since_s > limit_s else "running"


def counted_end(
    plan: WindowPlan, counts: LoadCounts, since_s: float, ahead_s: float
) -> tuple[float, str] | None:
    """(end since the window's start, reason) of a window that is limited by count; None before."""
    end_s = since_s + ahead_s
    if counts.all_ended:
        return end_s, "count"
    return (end_s, "max_duration") if end_s >= max(plan.max_duration_s, 0.001) - ROUNDING_S else None


def timed_end(
    shape: Shape, plan: WindowPlan, counts: LoadCounts, since_s: float, ahead_s: float
) -> tuple[float, str] | None:
    """(end since the window's start, reason), announced `ahead_s` before the end; None before."""
    soon_s, most_s = since_s + ahead_s, max(plan.max_duration_s, 0.001)
    few = isinstance(shape, Closed) and counts.begun < plan.min_requests_per_user * shape.users
    if soon_s >= most_s - ROUNDING_S:
        return soon_s, "max_duration" if few else "duration"
    if soon_s >= plan.duration_s - ROUNDING_S and not few:
        return soon_s, "requests" if soon_s > plan.duration_s + 2 * ahead_s else "duration"
    return None


def limits(spec: LoadSpec, counts: LoadCounts, window_s: float) -> Limits:
    """The limits of tail and drain. The queue of a closed loop does not grow, so its limits are longer."""
    shape, plan = spec.shape, spec.window
    request_s = estimated_request_s(spec.requests, counts) or 0.0
    closed = isinstance(shape, Closed)
    share, times = (1.0, MANY_TIMES) if closed else (HALF, TAIL_TIMES)
    tail_s = max(share * window_s, times * request_s, LEAST_S)
    drain_s = max(window_s, DRAIN_TIMES * request_s, LEAST_S)
    if closed:
        drain_s = spec.request_timeout_s + LAST_CALL_S
    number = float(counts.begun)  # open loop: due requests may still wait for room
    if isinstance(shape, Closed):
        number = max(number, shape.users)
    elif isinstance(shape, Open):
        number = max(number, shape.rate * max(window_s, tail_s))
    return Limits(
        tail_s if plan.max_tail_s is None else plan.max_tail_s,
        math.ceil(number) if plan.max_tail_requests is None else plan.max_tail_requests,
        drain_s if plan.max_drain_s is None else plan.max_drain_s,
    )
