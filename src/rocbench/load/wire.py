"""The wire transport: one epoll loop over plain sockets, with receive stamps by the kernel.

During a burst each read only keeps (bytes, stamp); framing, SSE and JSON are parsed in the pauses, and
only the possible end of an answer is examined at once, so that its user's next request leaves in time. A
late loop does not delay the stamps: SO_TIMESTAMPNS gives the time at which the kernel received the last
packet of a read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from rocbench.load.clock import realtime_ns
from rocbench.load.connection import Connection
from rocbench.load.control import Command
from rocbench.load.pacing import Pacing
from rocbench.load.sockets import Sockets
from rocbench.load.tally import FinishedRequest
from rocbench.load.work import Work

_TICK_NS = 10_000_000
_SCAN_NS = 100_000_000
_PARSE_FROM = 16
"""Minimum reads of a running answer for parsing in one go."""
_BACKLOG_BYTES = 64 << 20
"""Unparsed bytes beyond which parsing no longer waits for a pause."""
_GATHER_NS = 1_000_000


class WireLoop:
    """Drives one worker's requests until the driver says stop."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.sockets = Sockets(work, self.request_ended)
        self.pacing = Pacing(work, self.sockets.start)
        self.scan: Iterator[Connection] | None = None
        self.next_scan_ns = 0

    def request_ended(self, ended: FinishedRequest) -> None:
        """Handle the end of a request."""
        self.pacing.request_ended(ended)

    # --- the loop

    def run(self) -> None:
        """Send and receive until the drain is over or the load is aborted."""
        work, sockets, clock = self.work, self.sockets, time.monotonic_ns
        poll, receive, start_due = sockets.poller.poll, sockets.receive, self.pacing.start_due
        next_tick, busy = 0, True
        while True:
            wait_s = 0.0 if busy else self.wait_s(clock(), next_tick)
            called = clock()
            events = poll(wait_s)
            woke = clock()
            if woke - called > work.longest_pause_ns:
                work.pause(called + round(wait_s * 1e9), woke)
            if events:
                receive(events)
            now = clock()
            start_due(now)
            if now >= next_tick:
                next_tick = now + _TICK_NS
                if not self.tick(now):
                    return
            busy = self.use_pause(now)
            if events and len(events) < work.in_flight >> 3:
                busy = self.gather(woke)
            if sockets.backlog > _BACKLOG_BYTES:
                self.parse_all()
            ended = clock()
            if ended - woke > work.longest_pause_ns:
                work.pause(woke, ended)

    def gather(self, woke: int) -> bool:
        """Gather a slow burst: work or sleep for a moment and read many at once, as each poll costs 5 us.

        The kernel stamps the input meanwhile.
        """
        until = woke + _GATHER_NS
        while (left := until - time.monotonic_ns()) > 0:
            if not self.use_pause(woke):
                time.sleep(left / 1e9)
                break
        return True

    def wait_s(self, now: int, next_tick: int) -> float:
        """Maximum time for the poll to block: to the next tick, or just short of the next send.

        epoll counts in whole milliseconds; the last part before a send is slept exactly.
        """
        due = self.pacing.next_due()
        left = min(due, next_tick) - now
        if left <= 0:
            return 0.0
        if left >= 1_000_000:
            return left // 1_000_000 / 1e3
        if due < next_tick:
            time.sleep(left / 1e9)
            return 0.0
        return 0.001

    def tick(self, now: int) -> bool:
        """Talk to the driver and check timeouts; return False when the work is done."""
        at = realtime_ns()
        self.work.planned = self.pacing.planned
        command = self.work.tick(at)
        self.sockets.expire(now)
        if self.work.in_tail(at):
            self.work.outstanding(self.sockets.running())
        if command is Command.ABORT:
            self.sockets.abort()
            return False
        if command is Command.DRAIN:
            self.pacing.stop()
            return self.work.in_flight > 0
        return True

    # --- deferred work

    def use_pause(self, now: int) -> bool:
        """Do one piece of deferred work; return False if there is none."""
        work = self.work
        if work.ended:
            work.tally.add(work.ended.popleft())
            return True
        if self.pacing.sending and work.queue.stock():
            return True
        if self.scan is None:
            if now < self.next_scan_ns:
                return False
            self.next_scan_ns = now + _SCAN_NS
            self.scan = self.sockets.connections()
        for connection in self.scan:
            if len(connection.reads) >= _PARSE_FROM:
                if not connection.parse():
                    self.sockets.check(connection)
                return True
        self.scan = None
        self.sockets.measure_backlog()
        return False

    def parse_all(self) -> None:
        """Parse without waiting for a pause, to bound memory."""
        for connection in self.sockets.connections():
            if not connection.parse():
                self.sockets.check(connection)
        self.work.settle()
        self.sockets.backlog = 0
