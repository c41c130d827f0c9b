"""Timing of requests in both transports: users' starts, refill, back-off, arrivals by the clock, room."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count

from rocbench.load.clock import difference
from rocbench.load.control import Head
from rocbench.load.requestfactory import Request
from rocbench.load.spec import Closed, Open
from rocbench.load.tally import FinishedRequest
from rocbench.load.work import Work

NEVER = 2**63 - 1
_GAP_NS = 50_000_000
"""Gap between requests of a trace that waited for room, while requests fail."""


class Pacing:
    """Calls `start` with each request at its time. Times are ns of CLOCK_MONOTONIC."""

    def __init__(self, work: Work, start: Callable[[Request], None]) -> None:
        self.work = work
        self.queue = work.queue
        self._start = start
        self._timers: list[tuple[int, int, Request]] = []
        self._order = count()
        self.sending = True
        self._held_ns = 0
        """Open loop: requests waiting for room are held until then, as requests fail; 0 while none fail."""
        shape, workers = self.queue.shape, self.queue.workers
        self._gap_ns = round(1e9 * workers / shape.rate) if isinstance(shape, Open) else _GAP_NS
        self._closed_loop = isinstance(self.queue.shape, Closed)
        self._go_ns = work.cells[Head.GO_NS]
        clocks = difference()
        self._go_mono_ns = self._go_ns - clocks.ns + clocks.bound_ns  # late by the bound at most, never early
        for offset, request in self.queue.firsts:
            self._at(self._go_mono_ns + offset, request)
        self.queue.firsts = []

    def stop(self) -> None:
        """Send nothing new."""
        self.sending = False

    @property
    def planned(self) -> int:
        """Number of requests that wait for their time."""
        return len(self._timers)

    def next_due(self) -> int:
        """Time of the next due request; NEVER if none is planned."""
        if not self.sending:
            return NEVER
        due = self._timers[0][0] if self._timers else NEVER
        if self.work.waiting and self.work.in_flight < self.work.room:
            due = min(due, self._held_ns)
        arrival = self._next_arrival()
        return due if arrival is None else min(due, arrival)

    def start_due(self, now: int) -> None:
        """Send the due requests."""
        if not self.sending:
            return
        while self._timers and self._timers[0][0] <= now:
            self._begin(heapq.heappop(self._timers)[2])
        if self._closed_loop:
            return
        work = self.work
        self._start_waiting(now)
        while (at := self._next_arrival()) is not None and at <= now:
            due = self.queue.take()
            assert due is not None
            due.intended_ns += self._go_ns
            if work.in_flight < work.room and not work.waiting:
                self._begin(due)
            else:
                # The bytes of waiting requests could fill the memory: they are made again at their turn.
                due.payload = b""
                work.waiting.append(due)

    def request_ended(self, ended: FinishedRequest) -> None:
        """Handle the end of a request: refill first, then the bookkeeping."""
        work, before = self.work, ended.request
        work.in_flight -= 1
        ended.failure = work.tally.judge(ended)
        delay = work.backoff_ns(before.user, ended.failure)
        work.request_ended(ended)
        if not self.sending:
            return
        request = self.queue.after(before)
        if request is None:
            now = time.monotonic_ns()
            self._held_ns = max(self._held_ns, now + self._gap_ns) if delay else 0
            self._start_waiting(now)
        elif delay:
            self._at(time.monotonic_ns() + delay, request)
        else:
            self._begin(request)

    def _start_waiting(self, now: int) -> None:
        """Send requests that wait for room: at once, or at the clock's pace while requests fail."""
        work = self.work
        while work.waiting and work.in_flight < work.room and now >= self._held_ns:
            request = work.waiting.popleft()
            request.payload = self.queue.factory.again(request)
            if self._held_ns:
                self._held_ns = now + self._gap_ns
            self._begin(request)

    def _at(self, due: int, request: Request) -> None:
        heapq.heappush(self._timers, (due, next(self._order), request))

    def _next_arrival(self) -> int | None:
        if self._closed_loop:
            return None
        at = self.queue.next_at_ns()
        return None if at is None else self._go_mono_ns + at

    def _begin(self, request: Request) -> None:
        self.work.in_flight += 1
        self._start(request)
