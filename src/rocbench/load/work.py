"""Shared parts of both transports: control block, counters, tally, and the worker's own figures."""

from __future__ import annotations

import os
import platform
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rocbench.load.answer import Answer
from rocbench.load.clock import realtime_ns
from rocbench.load.control import Command, Control, Count, Head
from rocbench.load.requestfactory import Request
from rocbench.load.requestqueue import RequestQueue
from rocbench.load.spec import Open, WorkerSpec
from rocbench.load.tally import Counts, FinishedRequest, Tally
from rocbench.records import NONE, Failure, Int64Array, RequestArray, Resend, WorkerStats

RESEND_WITHIN_NS = 1_000_000_000
"""Maximum age of a resend: a stale connection fails within a round trip; later, the server gave up."""


@dataclass(slots=True)
class WorkerReport:
    """The report of a worker."""

    rows: RequestArray
    errors: dict[int, str]
    counts: Counts
    stats: WorkerStats
    stamps: dict[int, Int64Array] | None
    cut: int
    """Requests in flight that an abort cut."""
    never_sent: int
    """Open loop: due requests that were never sent."""


@dataclass(slots=True)
class _Usage:
    """CPU, waiting for a CPU, connections and reads at one moment."""

    at_ns: int
    cpu_s: float
    cpu_wait_s: float | None
    opened: int
    idle_closes: int
    reads: int


def cpu_wait_s() -> float | None:
    """Seconds in which this process was ready and waited for a CPU, since it began; None if unknown."""
    try:
        return int(Path("/proc/self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None


class Work:
    """The state of one worker that does not depend on its transport."""

    def __init__(self, spec: WorkerSpec, control: Control) -> None:
        self.spec = spec
        self.cells = control.cells
        self.counters = control.counters(spec.index)
        self.queue = RequestQueue(spec, wire=spec.transport == "wire")
        load = spec.load
        self.tally = Tally(
            spec.index,
            self.cells,
            self.counters,
            ignore_eos=load.requests.ignore_eos and spec.dialect.vllm_fields,
            keep_stamps=load.keep_stamps,
            secrets=load.secrets,
        )
        self.ended: deque[FinishedRequest] = deque()
        self.waiting: deque[Request] = deque()
        """Open loop: due requests that wait for room."""
        self.room = _room(load.shape, spec.index, spec.workers)
        self.in_flight = self.talking = self.opened = self.idle_closes = self.reads = 0
        self.longest_pause_ns = 0
        self.planned = 0
        """Sends that wait for their time (a ramp, a user that backs off)."""
        self.turned_over: set[int] = set()
        self.strikes: dict[int, int] = {}
        self.cuts = 0
        self._begin: _Usage | None = None
        self._end: _Usage | None = None

    def tick(self, now_ns: int) -> Command:
        """Publish the counters, note the window's edges, and read the command."""
        cells, counters = self.cells, self.counters
        counters[Count.BEAT] += 1
        counters[Count.IN_FLIGHT] = self.in_flight
        counters[Count.TALKING] = self.talking
        counters[Count.WAITING] = len(self.waiting)
        counters[Count.TURNED_OVER] = len(self.turned_over)
        counters[Count.EXHAUSTED] = int(self.queue.finished and not self.planned)
        if self._begin is None and now_ns >= cells[Head.START_NS]:
            self._begin = self._usage()
            self.longest_pause_ns = 0
        if self._end is None and now_ns >= cells[Head.END_NS]:
            self._end = self._usage()
        if self.spec.parent_pid and os.getppid() != self.spec.parent_pid:
            return Command.ABORT
        return Command(cells[Head.COMMAND])

    def pause(self, began_ns: int, ended_ns: int) -> None:
        """Record a stretch in which nothing was received or sent."""
        if ended_ns - began_ns > self.longest_pause_ns and self._end is None:
            self.longest_pause_ns = ended_ns - began_ns

    def _usage(self) -> _Usage:
        return _Usage(
            realtime_ns(), time.process_time(), cpu_wait_s(), self.opened, self.idle_closes, self.reads
        )

    def sent(self, request: Request, at_ns: int, *, clocked: bool) -> None:
        """Count a request that is sent, or could not be sent; a resent request was counted the first time.

        Args:
            request: the request.
            at_ns: time of the send.
            clocked: True if requests are sent by the clock, so that this one was due at its own time.
        """
        if request.resent is not None:
            return
        request.sent_ns = at_ns
        if not clocked or request.turn:
            request.intended_ns = at_ns
        self.counters[Count.SENT] += 1
        if self.cells[Head.START_NS] <= request.intended_ns < self.cells[Head.END_NS]:
            self.counters[Count.BEGUN] += 1

    def may_resend(self, request: Request) -> bool:
        """True if a request that was lost on a kept connection, before a byte of its answer, may be sent again."""
        return request.resent is None and realtime_ns() - request.sent_ns < RESEND_WITHIN_NS

    def resend(self, request: Request, how: Resend) -> None:
        """Prepare a request to be sent again, on a new connection."""
        request.resent = how
        request.payload = request.payload or self.queue.factory.again(request)
        self.talking -= 1

    def cut(self, request: Request, answer: Answer) -> None:
        """Give up a request in flight. In a closed loop, one that waits for its connection was never due."""
        if request.intended_ns != NONE:
            self.cuts += request.sent_ns != NONE
            self.tally.cut(request, answer)

    def request_ended(self, ended: FinishedRequest) -> None:
        """Take in a finished request; its row is made in a pause."""
        self.talking -= ended.failure is not Failure.CONNECT
        self.ended.append(ended)
        self.turned_over.add(ended.request.user)

    def backoff_ns(self, user: int, failure: Failure | None) -> int:
        """Back-off of a user after a failure of any kind, so that no server is hammered: 0, 50 ms, ... 1 s.

        The first failure of an answer costs nothing; otherwise a share of failures would lower the load.
        """
        if failure is None:
            if self.strikes:
                self.strikes.pop(user, None)
            return 0
        strikes = self.strikes.get(user, int(failure is Failure.CONNECT)) + 1
        self.strikes[user] = strikes
        return 0 if strikes == 1 else min(1_000_000_000, 25_000_000 << min(strikes, 6))

    def in_tail(self, now_ns: int) -> bool:
        """True once the window's end has passed."""
        return now_ns >= self.cells[Head.END_NS]

    def outstanding(self, in_flight: Iterable[Request]) -> None:
        """Publish the number of unfinished requests of the window; only in the tail."""
        start, end = self.cells[Head.START_NS], self.cells[Head.END_NS]
        left = sum(start <= request.intended_ns < end for request in chain(in_flight, self.waiting))
        self.counters[Count.OUTSTANDING] = left
        self.counters[Count.TAIL_SEEN] = 1

    def settle(self) -> None:
        """Process all finished requests."""
        while self.ended:
            self.tally.add(self.ended.popleft())

    def report(self) -> WorkerReport:
        """Build the worker's report."""
        self.settle()
        for request in self.waiting:
            self.tally.cut(request, Answer())
        rows = self.tally.rows()
        begin, end = self._begin, self._end or self._usage()
        if begin is None:
            begin = end
        delay = None
        if begin.cpu_wait_s is not None and end.cpu_wait_s is not None:
            delay = end.cpu_wait_s - begin.cpu_wait_s
        stats = WorkerStats(
            worker=self.spec.index,
            host=platform.node(),
            cpu_s=end.cpu_s - begin.cpu_s,
            wall_s=(end.at_ns - begin.at_ns) / 1e9,
            longest_pause_ms=self.longest_pause_ns / 1e6,
            connections_opened=end.opened - begin.opened,
            reads=end.reads - begin.reads,
            coalesced_reads=self.tally.counts.coalesced_reads,
            tokens=self.tally.counts.output_tokens,
            cpu_wait_s=delay,
            idle_closes=end.idle_closes - begin.idle_closes,
        )
        return WorkerReport(
            rows=rows,
            errors=self.tally.errors,
            counts=self.tally.counts,
            stats=stats,
            stamps=self.tally.stamps,
            cut=self.cuts,
            never_sent=len(self.waiting),
        )


def _room(shape: object, index: int, workers: int) -> int:
    """Maximum requests in flight for this worker."""
    if isinstance(shape, Open) and shape.max_in_flight is not None:
        return max(1, (shape.max_in_flight + workers - 1 - index) // workers)
    return 1 << 40
