"""Watches the workers' counters, announces the window's edges and gives the commands. Sends and receives nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from rocbench.errors import LoadFault
from rocbench.load.clock import StepWatch
from rocbench.load.control import UNSET, Command, Control, Count, Head
from rocbench.load.hosts import HostsCrew
from rocbench.load.pulse import Pulse
from rocbench.load.spec import LoadSpec, Progress
from rocbench.load.window import LoadCounts, WindowRule
from rocbench.load.workerpool import WorkerPool
from rocbench.records import Window

PhaseName = Literal["connect", "warm-up", "measure", "tail", "drain"]

AHEAD_NS = 100_000_000
"""Time between the announcement of an edge and the edge: longer than a pause between clock read and write."""
_WATCH_S = 0.01
_PROGRESS_NS = 250_000_000
_SILENT_NS = 5_000_000_000
"""Time without a connection or a completion, and with failed connections only, after which the load ends."""


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
        self.rule = WindowRule(spec, ahead_ns / 1e9)
        self.control = control
        self.cells = control.cells
        self.pool = pool
        self.on_progress = on_progress
        self.stop = stop
        self.phase: PhaseName = "connect"
        self.phase_since_ns = time.time_ns()
        self.peak_in_flight = 0
        self._go_ns = 0
        self._first_end_s: float | None = None
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
                if self.stop is not None and self.stop.is_set() and not interrupted:
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
        return Window(start, max(start, now if end == UNSET else end), self.rule.ended_by)

    # --- phases

    def _step(self, now: int) -> None:
        self.pool.check()
        if hanging := self.pulse.check(time.monotonic()):
            raise LoadFault(
                hanging,
                fix="check whether the worker was stopped, or was killed because memory ran out (dmesg)",
            )
        self.clock.check()
        self._show(now)
        if self.phase == "connect":
            if self.pool.ready:
                self._go(now)
        elif self.cells[Head.COMMAND] != Command.ABORT:
            self._follow_rule((now - self._go_ns) / 1e9)
            if self.phase != "drain" and self._unresponsive():
                self._interrupt("server_unresponsive")

    def _go(self, now: int) -> None:
        go = self._go_ns = now + self.ahead_ns // 2
        self.cells[Head.GO_NS] = go
        if self.rule.counted:
            self.cells[Head.START_NS] = go
        self.cells[Head.COMMAND] = Command.RUN
        self._enter("measure" if self.rule.counted else "warm-up", go)

    def _follow_rule(self, now_s: float) -> None:
        """Update the rule; announce the edge or give the command of a phase that it enters."""
        rule, before = self.rule, self.rule.phase
        counts = self._counts(now_s)
        rule.update(now_s, counts)
        if rule.phase == before:
            return
        match rule.phase:
            case "measure":
                self._enter("measure", self._announce(Head.START_NS, rule.start_s))
            case "tail":
                self._enter("tail", self._announce(Head.END_NS, rule.end_s))
            case "drain":
                self.cells[Head.COMMAND] = Command.DRAIN
                self._enter("drain", self._go_ns + round(now_s * 1e9))
            case "over":
                self._cut(now_s, counts.outstanding or 0)

    def _announce(self, edge: Head, at_s: float) -> int:
        """Write an edge of the window for the workers; return it."""
        at = self.cells[edge] = self._go_ns + round(at_s * 1e9)
        return at

    def _counts(self, now_s: float) -> LoadCounts:
        total = self.control.total
        self.peak_in_flight = max(self.peak_in_flight, total(Count.IN_FLIGHT))
        completed, ended = total(Count.COMPLETED), total(Count.COMPLETED) + total(Count.FAILED)
        if self._first_end_s is None and completed:
            self._first_end_s = max(0.0, now_s)
        tpots = total(Count.TPOT_COUNT)
        tail_seen = total(Count.TAIL_SEEN) == len(self.pool.specs)
        return LoadCounts(
            ended=ended,
            turned_over=total(Count.TURNED_OVER),
            peak_in_flight=self.peak_in_flight,
            begun=total(Count.BEGUN),
            first_end_s=self._first_end_s,
            tpot_s=total(Count.TPOT_SUM_NS) / tpots / 1e9 if tpots else None,
            sent=total(Count.SENT),
            all_ended=self._all_ended(ended),
            outstanding=total(Count.OUTSTANDING) if tail_seen else None,
        )

    def _all_ended(self, ended: int) -> bool:
        total = self.control.total
        exhausted = total(Count.EXHAUSTED) == len(self.pool.specs)
        # All requests may be handed out before the first counts as in flight: sent ones must have ended.
        answered = 0 < total(Count.SENT) <= ended
        return exhausted and answered and total(Count.IN_FLIGHT) == 0 and total(Count.WAITING) == 0

    def _cut(self, now_s: float, outstanding: int) -> None:
        """Cut the requests in flight when the drain reaches its limit; each keeps a row without an end."""
        if outstanding:
            self.rule.notes.append(
                f"the drain reached its limit after {now_s - self.rule.drain_s:.3g} s: "
                f"{outstanding} requests of the window had not ended (`unfinished`)"
            )
        self.cells[Head.COMMAND] = Command.ABORT

    def _interrupt(self, ended_by: str) -> None:
        """End the load now, and keep the measurements."""
        if self.cells[Head.END_NS] == UNSET:
            if self.cells[Head.START_NS] != UNSET:
                self.cells[Head.END_NS] = time.time_ns() + self.ahead_ns
                time.sleep(self.ahead_ns / 1e9)
            self.rule.ended_by = ended_by
        elif self.phase == "tail":
            self.rule.notes.append(
                f"{ended_by} during the tail: requests of the window that were still running were cut off"
            )
        self.cells[Head.COMMAND] = Command.ABORT
        self._enter("drain", time.time_ns())

    # --- observations

    def _enter(self, phase: PhaseName, now: int) -> None:
        self.phase, self.phase_since_ns = phase, now

    def _unresponsive(self) -> bool:
        """True if no server answers. The end of its process is not visible here, and not reported."""
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
