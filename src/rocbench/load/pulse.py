"""Detection of workers that hang, by a counter that each worker increments in its loop."""

from __future__ import annotations

from rocbench.load.control import Control, Count

PREPARE_S = 600.0
"""Maximum time for workers to make their first requests: a large dataset is read and tokenized first."""
STUCK_S = 30.0
"""Maximum silence of a loop; it normally runs a hundred times a second."""
REPORT_S = 120.0
"""Maximum time for the reports: rows of a million requests are 100 MB."""
HURRY_S = 3.0
"""Replaces all of these limits while somebody waits at a terminal for the end."""
_LOOK_S = 1.0
"""Maximum time counted per look, in case the driver itself was stopped."""


class Pulse:
    """Names the worker that hangs; call `look` repeatedly with the time."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._beats = [0] * control.workers
        self._silent_s = [0.0] * control.workers
        self._waited_s = 0.0
        """Time since the last common change: workers ready or over."""
        self._stage = (False, False)
        self._last_s: float | None = None
        self.hurry = False

    def check(self, now_s: float) -> str:
        """Describe what hangs; empty while everything runs."""
        passed = 0.0 if self._last_s is None else min(max(0.0, now_s - self._last_s), _LOOK_S)
        self._last_s = now_s
        counters = [self._control.counters(worker) for worker in range(self._control.workers)]
        ready = all(cells[Count.READY] for cells in counters)
        over = all(cells[Count.OVER] for cells in counters)
        self._waited_s = self._waited_s + passed if self._stage == (ready, over) else 0.0
        self._stage = (ready, over)
        if over:
            limit_s = self._limit(REPORT_S)
            return (
                f"the load workers have not reported within {limit_s:g} s" if self._waited_s > limit_s else ""
            )
        if not ready:
            limit_s = self._limit(PREPARE_S)
            late = [str(worker) for worker, cells in enumerate(counters) if not cells[Count.READY]]
            message = f"load worker {', '.join(late)} was not ready within {limit_s:g} s"
            return message if self._waited_s > limit_s else ""
        return self._hanging(counters, passed)

    def _hanging(self, counters: list[memoryview[int]], passed_s: float) -> str:
        limit_s = self._limit(STUCK_S)
        for worker, cells in enumerate(counters):
            beat = cells[Count.BEAT]
            moved = beat != self._beats[worker] or bool(cells[Count.OVER])
            self._beats[worker] = beat
            self._silent_s[worker] = 0.0 if moved else self._silent_s[worker] + passed_s
            if self._silent_s[worker] > limit_s:
                return f"load worker {worker} made no progress for {limit_s:g} s"
        return ""

    def _limit(self, usual_s: float) -> float:
        return min(usual_s, HURRY_S) if self.hurry else usual_s
