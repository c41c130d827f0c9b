"""Watches the workers' counters and decides the begin and end of the window. Sends and receives nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from rocbench.errors import LoadFault
from rocbench.load import rule
from rocbench.load.clock import StepWatch
from rocbench.load.control import UNSET, Command, Control, Count, Head
from rocbench.load.hosts import HostsCrew
from rocbench.load.pulse import Pulse
from rocbench.load.spec import Closed, LoadSpec, Open, Progress, Trace
from rocbench.load.workerpool import WorkerPool
from rocbench.records import Window

PhaseName = Literal["connect", "warm-up", "measure", "tail", "drain"]

AHEAD_NS = 100_000_000
"""Time between the announcement of an edge and the edge: longer than a pause between clock read and write."""
_WATCH_S = 0.01
_PROGRESS_NS = 250_000_000
_SILENT_NS = 5_000_000_000
"""Time without a connection or a completion, and with failed connections only, after which the load ends."""
_LAST_CALL_NS = 10_000_000_000
"""Time that a drain may outlast the requests' own timeout."""


class Watch:
    """The phases of one load."""

    def __init__(
        self,
        spec: LoadSpec,
        control: Control,
        pool: WorkerPool | HostsCrew,
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event | None,
        ahead_ns: int = AHEAD_NS,
    ) -> None:
        self.ahead_ns = ahead_ns
        self.plan = spec.window
        self.shape = spec.shape
        self.requests = spec.requests
        self.timeout_ns = round(spec.request_timeout_s * 1e9)
        self.control = control
        self.cells = control.cells
        self.pool = pool
        self.on_progress = on_progress
        self.stop = stop
        self.phase: PhaseName = "connect"
        self.phase_since_ns = time.time_ns()
        self.ended_by = "never_began"
        self.notes: list[str] = []
        self.counted = self.plan.max_requests is not None or isinstance(self.shape, Trace)
        """Bound by count: all requests are measured."""
        self.peak_in_flight = 0
        self._go_ns = 0
        self._first_end_s: float | None = None
        self._after = rule.After(0.0, 0, None)
        self._sent_at_end = 0
        self.clock = StepWatch()
        self.pulse = Pulse(control)
        self._alive_ns = time.monotonic_ns()
        self._alive_mark = (0, 0)
        self._shown_ns = 0
        self._shown = [0] * len(Count)

    def run(self) -> Window:
        """Take the workers through all phases and return the window; an edge that never came is set to now.

        Raises LoadFault if a worker hangs.
        """
        interrupted = False
        while True:
            try:
                if self._stopped() and not interrupted:
                    interrupted = True
                    self._interrupt("interrupted")
                if self.pool.done:
                    break
                self._step(time.time_ns())
                time.sleep(_WATCH_S)
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = self.pulse.hurry = True
                self._interrupt("interrupted")
        self.pool.check()
        start, end = self.cells[Head.START_NS], self.cells[Head.END_NS]
        now = time.time_ns()
        start = now if start == UNSET else start
        return Window(start, max(start, now if end == UNSET else end), self.ended_by)

    # --- phases

    def _step(self, now: int) -> None:
        self.pool.check()
        if standing := self.pulse.look(time.monotonic()):
            raise LoadFault(
                standing, fix="see whether this machine stopped it, or its memory ran out (dmesg)"
            )
        self.clock.look()
        self._show(now)
        match self.phase:
            case "connect":
                if self.pool.ready:
                    self._go(now)
            case "warm-up":
                self._warm_up(now)
            case "measure":
                self._measure(now)
            case "tail":
                self._tail(now)
            case "drain":
                if now > self.phase_since_ns + self._drain_ns():
                    self._cut()
        if self.phase in {"warm-up", "measure", "tail"} and self._unresponsive():
            self._interrupt("server_unresponsive")

    def _go(self, now: int) -> None:
        go = self._go_ns = now + self.ahead_ns // 2
        self.cells[Head.GO_NS] = go
        if self.counted:
            self.cells[Head.START_NS] = go
        self._command(Command.RUN)
        self._enter("measure" if self.counted else "warm-up", go)

    def _seen(self, now: int) -> rule.Seen:
        """The workers' counters in the form of the rule."""
        total = self.control.total
        self.peak_in_flight = max(self.peak_in_flight, total(Count.IN_FLIGHT))
        ended = total(Count.COMPLETED) + total(Count.FAILED)
        if self._first_end_s is None and total(Count.COMPLETED):
            self._first_end_s = max(0.0, (now - self._go_ns) / 1e9)
        tpots = total(Count.TPOT_COUNT)
        return rule.Seen(
            ended=ended,
            turned_over=total(Count.TURNED_OVER),
            peak_in_flight=self.peak_in_flight,
            begun=total(Count.BEGUN),
            first_end_s=self._first_end_s,
            tpot_s=total(Count.TPOT_SUM_NS) / tpots / 1e9 if tpots else None,
        )

    def _warm_up(self, now: int) -> None:
        seen, since_s = self._seen(now), (now - self.phase_since_ns) / 1e9
        warm = rule.warm(self.shape, self.plan, seen, since_s, rule.request_s(self.requests, seen))
        if warm == "no":
            return
        if warm == "cut":
            self.notes.append(rule.warmup_cut(self.shape, seen, since_s))
        self.cells[Head.START_NS] = now + self.ahead_ns
        self._enter("measure", now + self.ahead_ns)

    def _measure(self, now: int) -> None:
        start = self.cells[Head.START_NS]
        seen = self._seen(now)
        if self.counted:
            most = start + round(max(self.plan.max_duration_s, 0.001) * 1e9)
            if self._all_over():
                self._end(now + self.ahead_ns, "count", now, seen)
            elif now + self.ahead_ns >= most:
                self._end(now + self.ahead_ns, "max_duration", now, seen)
            return
        ends = rule.end(self.shape, self.plan, seen, (now - start) / 1e9, self.ahead_ns / 1e9)
        if ends is not None:
            self._end(max(start + round(ends[0] * 1e9), now + self.ahead_ns), ends[1], now, seen)

    def _all_over(self) -> bool:
        total = self.control.total
        exhausted = total(Count.EXHAUSTED) == len(self.pool.members)
        # All requests may be handed out before the first counts as in flight: sent ones must have ended.
        answered = 0 < total(Count.SENT) <= total(Count.COMPLETED) + total(Count.FAILED)
        return exhausted and answered and total(Count.IN_FLIGHT) == 0 and total(Count.WAITING) == 0

    def _end(self, end_ns: int, ended_by: str, now: int, seen: rule.Seen) -> None:
        self.cells[Head.END_NS] = end_ns
        self.ended_by = ended_by
        window_s = (end_ns - self.cells[Head.START_NS]) / 1e9
        request_s = rule.request_s(self.requests, seen)
        self._after = rule.after(self.shape, self.plan, seen, window_s, request_s)
        self._sent_at_end = self.control.total(Count.SENT)
        self._enter("tail", max(now, end_ns))

    def _tail(self, now: int) -> None:
        """Keep the load up until the window's last request is over, within bounds."""
        if not self._tail_over():
            since_s = (now - self.phase_since_ns) / 1e9
            sent = self.control.total(Count.SENT) - self._sent_at_end
            if since_s < 0 or (since_s <= self._after.tail_s and sent <= self._after.tail_requests):
                return
            self.notes.append(
                f"the tail was ended by its bound, {since_s:.3g} s and {sent} requests after the window: "
                f"{self.control.total(Count.OUTSTANDING)} requests of the window went on while nothing new was sent"
            )
        self._command(Command.DRAIN)
        self._enter("drain", now)

    def _drain_ns(self) -> int:
        if self._after.drain_s is not None:
            return round(self._after.drain_s * 1e9)
        return self.timeout_ns + _LAST_CALL_NS

    def _cut(self) -> None:
        """Cut the requests in flight when the drain reaches its bound; each keeps a row without an end."""
        if self.cells[Head.COMMAND] == Command.ABORT:
            return
        left = self.control.total(Count.OUTSTANDING)
        if left:
            self.notes.append(
                f"the drain was ended by its bound, after {(time.time_ns() - self.phase_since_ns) / 1e9:.3g} s: "
                f"{left} requests of the window never ended (`unfinished`)"
            )
        self._command(Command.ABORT)

    def _tail_over(self) -> bool:
        total = self.control.total
        return total(Count.TAIL_SEEN) == len(self.pool.members) and total(Count.OUTSTANDING) == 0

    def _interrupt(self, ended_by: str) -> None:
        """End the load now, and keep the measurements."""
        if self.cells[Head.END_NS] == UNSET:
            if self.cells[Head.START_NS] != UNSET:
                self.cells[Head.END_NS] = time.time_ns() + self.ahead_ns
                time.sleep(self.ahead_ns / 1e9)
            self.ended_by = ended_by
        elif self.phase == "tail":
            self.notes.append(f"{ended_by} while the last requests of the window ran; they were cut")
        self._command(Command.ABORT)
        self._after = rule.After(0.0, 0, None)
        self._enter("drain", time.time_ns())

    # --- observations

    def _stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    def _command(self, command: Command) -> None:
        self.cells[Head.COMMAND] = command

    def _enter(self, phase: PhaseName, now: int) -> None:
        self.phase, self.phase_since_ns = phase, now

    def _unresponsive(self) -> bool:
        """Return whether no server answers. The end of its process is not visible here, and not reported."""
        total = self.control.total
        completed, refused = total(Count.COMPLETED), total(Count.CONNECT_FAILED)
        now = time.monotonic_ns()
        if total(Count.TALKING) or completed != self._alive_mark[0] or refused == self._alive_mark[1]:
            self._alive_ns = now
            self._alive_mark = (completed, refused)
            return False
        return now - self._alive_ns > _SILENT_NS

    def _show(self, now: int) -> None:
        """Report the state of the load to the caller."""
        if self.on_progress is None or now - self._shown_ns < _PROGRESS_NS:
            return
        totals = [self.control.total(count) for count in Count]
        elapsed_s = (now - self._shown_ns) / 1e9 if self._shown_ns else None
        gained = [new - old for new, old in zip(totals, self._shown, strict=True)]
        self._shown, self._shown_ns = totals, now
        ttfts, tpots = gained[Count.TTFT_COUNT], gained[Count.TPOT_COUNT]
        self.on_progress(
            Progress(
                phase=self.phase,
                elapsed_s=max(0.0, (now - self.phase_since_ns) / 1e9),
                in_flight=totals[Count.IN_FLIGHT],
                completed=totals[Count.COMPLETED],
                failed=totals[Count.FAILED],
                output_tokens=totals[Count.OUTPUT_TOKENS],
                output_tokens_per_s=gained[Count.OUTPUT_TOKENS] / elapsed_s if elapsed_s else None,
                ttft_ms=gained[Count.TTFT_SUM_NS] / ttfts / 1e6 if ttfts else None,
                tpot_ms=gained[Count.TPOT_SUM_NS] / tpots / 1e6 if tpots else None,
            )
        )


def users_asked(spec: LoadSpec) -> int | None:
    """Maximum requests that the load can have in flight; None if nothing bounds them."""
    match spec.shape:
        case Closed(users):
            return users
        case Open(max_in_flight=cap):
            return cap
        case _:
            return None
