"""The order and times of requests: users, arrivals, trace. One queue per worker; it reads no clock.

A worker makes the requests whose number, divided by the number of workers, leaves the worker's index. So all
workers together send each request of the schedule once, without communication.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count, islice, takewhile

from rocbench.load import arrivals, prompts
from rocbench.load.requestfactory import Request, RequestFactory
from rocbench.load.spec import Closed, Open, Trace, WorkerSpec
from rocbench.records import NONE

_STOCK_BYTES = 64 << 20


class RequestQueue:
    """The requests of one worker, made in advance and handed out in order."""

    def __init__(self, spec: WorkerSpec, *, wire: bool) -> None:
        load = spec.load
        self.factory = RequestFactory(load, spec.dialect, spec.text_cost, wire=wire)
        self.shape = load.shape
        self.plan = load.window
        self.index, self.workers = spec.index, spec.workers
        self._numbers = self._scheduled()
        self._ready: deque[Request] = deque()
        self._ready_bytes = 0
        self.exhausted = False
        """True if no request is left to make."""
        users = self.shape.users if isinstance(self.shape, Closed) else 0
        self.users = range(self.index, users, self.workers)
        self.firsts: list[tuple[int, Request]] = []
        """Closed loop: (time after the start in ns, first request) of each user, once `prepare` has run."""

    def _scheduled(self) -> Iterator[tuple[int, int]]:
        """(number, time after the start in ns) of this worker's requests; time 0 in a closed loop."""
        pairs: Iterator[tuple[int, int]]
        match self.shape:
            case Closed():
                pairs = ((number, 0) for number in count(self.index, self.workers))
            case Open(rate, arrival, burstiness):
                seed = prompts.block_seed(self.factory.key)
                pairs = enumerate(arrivals.intended_ns(rate, arrival, burstiness, seed))
                pairs = islice(pairs, self.index, None, self.workers)
            case Trace(speed=speed):
                pairs = enumerate(round(at_ns / speed) for at_ns in self.factory.times_ns)
                pairs = islice(pairs, self.index, None, self.workers)
            case _:
                raise TypeError(f"unknown load shape: {self.shape!r}")
        most = self.plan.max_requests
        return pairs if most is None else takewhile(lambda pair: pair[0] < most, pairs)

    def prepare(self) -> None:
        """Make the requests for the start: every user's first request, and a stock for later."""
        if isinstance(self.shape, Closed):
            starts = arrivals.user_starts(self.shape.users, self.plan, self.factory.key)
            for user in self.users:
                pair = next(self._numbers, None)
                if pair is None:
                    self.exhausted = True
                    break
                at_s, share = starts[user]
                self.firsts.append((round(at_s * 1e9), self.factory.make(pair[0], user, share)))
        while self.stock():
            pass

    def stock(self) -> bool:
        """Make one request in advance; return False if the stock is full."""
        enough = max(64, len(self.users))
        if self.exhausted or len(self._ready) >= enough or self._ready_bytes > _STOCK_BYTES:
            return False
        request = self._make()
        if request is None:
            return False
        self._ready.append(request)
        self._ready_bytes += len(request.payload)
        return True

    def take(self, user: int = NONE) -> Request | None:
        """The next request, for `user`; None if all were handed out."""
        if self._ready:
            request: Request | None = self._ready.popleft()
            assert request is not None
            self._ready_bytes -= len(request.payload)
        else:
            request = self._make()
        if request is not None:
            request.user = user
        return request

    @property
    def finished(self) -> bool:
        """True if every request has been handed out."""
        return self.exhausted and not self._ready

    def next_at_ns(self) -> int | None:
        """Open loop and trace: time of the next due request, after the start; None if there is none."""
        if not self._ready and not self.stock():
            return None
        return self._ready[0].intended_ns

    def after(self, before: Request) -> Request | None:
        """The user's request after `before`: the next turn, or a new request; None in an open loop."""
        if before.rest:
            pair = next(self._numbers, None) if isinstance(self.shape, Closed) else None
            number = pair[0] if pair else before.request_id + (before.turn + 1) * 2**32
            if pair is None and isinstance(self.shape, Closed):
                self.exhausted = True
                return None
            return self.factory.next_turn(number, before)
        return self.take(before.user) if isinstance(self.shape, Closed) else None

    def _make(self) -> Request | None:
        pair = next(self._numbers, None)
        if pair is None:
            self.exhausted = True
            return None
        request = self.factory.make(pair[0], NONE)
        request.intended_ns = pair[1]
        return request
