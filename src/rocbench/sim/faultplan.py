"""Execution of the faults in `Faults`: the failure of each request, and the timed events."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable

from rocbench.httpd import Exchange
from rocbench.records import Failure
from rocbench.settings.faults import Faults
from rocbench.sim.streams import DONE, Stream, chunk

BROKEN = b'data: {"id":"cmpl-broken","choices":[{"index":0,"text":" bro\n\n'


class FaultPlan:
    """Draws each request's fault from a separate seed."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self.faults = faults
        self._random = random.Random(seed ^ 0x5EED)

    def draw(self) -> Failure | None:
        """The failure of the next request; None if it succeeds."""
        if not self.faults.fail:
            return None
        mark = self._random.random()
        for failure, share in self.faults.fail.items():
            if mark < share:
                return failure
            mark -= share
        return None

    def stops_early(self) -> bool:
        """True if the next request ends at half its length."""
        return self._chance(self.faults.early_stop_share)

    def repeats_token(self) -> bool:
        """True if a token event is sent twice."""
        return self._chance(self.faults.duplicate_tokens)

    def _chance(self, share: float) -> bool:
        return share > 0 and self._random.random() < share


class FaultyStream(Stream):
    """A stream that breaks off midway, or repeats tokens."""

    __slots__ = ("break_at", "dropped", "exchange", "failure", "plan")

    failure: Failure | None
    break_at: int
    exchange: Exchange
    plan: FaultPlan
    dropped: Callable[[], None]

    def token(self) -> None:
        """Send the next token, or break off."""
        if self.failure is not None and self.emitted >= self.break_at:
            self._break(self.failure)
            return
        if self.plan.repeats_token():
            super().token()
            self.emitted -= 1
        super().token()

    def finish(self, reason: str) -> None:
        """End properly, unless it must break off."""
        if self.failure is None:
            super().finish(reason)
        else:
            self._break(self.failure)

    def _break(self, failure: Failure) -> None:
        match failure:
            case Failure.IN_BAND_ERROR:
                self.fail()
            case Failure.TRUNCATED:
                self.exchange.close()
            case Failure.RESET:
                self.exchange.reset()
            case Failure.CONNECT:
                self.exchange.abort()
            case Failure.BAD_JSON:
                self.write(chunk(BROKEN + DONE))
                self.exchange.end()
            case _:
                pass  # Failure.TIMEOUT: nothing more is sent
        self.dropped()


def leave_orphan() -> int:
    """Start a child in this process's group that does not end with it; returns its pid."""
    code = "import signal, time\nfor s in (15, 2, 1): signal.signal(s, signal.SIG_IGN)\ntime.sleep(3600)"
    child = subprocess.Popen([sys.executable, "-S", "-c", code, "VLLM::Worker_TP0"])
    return child.pid


def die() -> None:
    """End like a crash: at once, with code 1."""
    os._exit(1)
