"""Watches the server's process and health during a cell, without an effect on the measurement.

Behind a gateway `/health` may run the models (LiteLLM sends a completion to every deployment), so the watch
requests a path that is known to be cheap. Tokens that arrive prove that the server works: a check without an
answer is then counted, but is not a failure.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

from rocbench.probe.fetch import fetch
from rocbench.probe.monitor import Monitor

PERIOD_S = 1.0
_FLOW_S = 1.5
"""Maximum age of tokens that prove at a failed check that the server works."""
_PAUSE_FACTOR = 10.0
"""Pause after a check, as a multiple of its duration."""
_MAX_PAUSE_S = 30.0
_TOO_MANY = 429
_GIVE_UP_AFTER = 10
"""Number of consecutive failed checks, without a completed answer, after which the load ends."""


@dataclass(slots=True)
class HealthWatch(Monitor):
    """Checks the server's process and one of its paths each second while the context is open.

    Args:
        path: path that reports the server's health; empty watches only the process.
        exit_code: returns None while the process runs (always for an attached server).
        stop: set as soon as the server is dead or does not answer, so that the load ends instead of failing
            request by request.
    """

    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False
    exit_code: Callable[[], int | None] = lambda: None
    stop: threading.Event = field(default_factory=threading.Event)
    period_s: float = PERIOD_S
    timeout_s: float = 10.0
    """Long, because an API server that streams to 1,000 users answers late, but is healthy."""
    path: str = "/health"
    requests: list[tuple[int, float]] = field(default_factory=list)
    """(ns of CLOCK_REALTIME, duration in seconds) of each request to the server."""
    unanswered: list[int] = field(default_factory=list)
    """ns of each check without an answer while tokens arrived."""
    failures: list[int] = field(default_factory=list)
    """ns of each failed check."""
    died: bool = False
    """True if the server's process ended; False if it is not visible."""
    unresponsive: bool = False
    """True if the server may still run, but does not answer and makes no progress."""
    _consecutive: int = 0
    _pause_s: float = 0.0
    _progress: int = 0
    _progress_at_s: float = -1e9
    """Time of the load's last progress (monotonic)."""
    _JOIN_S: ClassVar[float] = 15.0

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        Monitor.__exit__(self, kind)
        if kind is None and not self.died and not (self._thread is not None and self._thread.is_alive()):
            self.check()

    def view(self, start_ns: int, end_ns: int) -> dict[str, int | float | bool | None]:
        """Columns of `cells`: the checks in the window, and the end of the server's process in the cell."""

        def inside(at_ns: int) -> bool:
            return start_ns <= at_ns < end_ns

        took_s = [seconds for at_ns, seconds in self.requests if inside(at_ns)]
        return {
            "health_failures": sum(map(inside, self.failures)) if self.path else None,
            "health_checks": len(took_s),
            "health_unanswered": sum(map(inside, self.unanswered)) if self.path else None,
            "health_check_ms": statistics.median(took_s) * 1e3 if took_s else None,
            "server_restarted": self.died,
        }

    def answered(self, progress: int) -> None:
        """Take the load's progress, in completed requests plus tokens: a server that makes progress works."""
        if progress > self._progress:
            self._progress, self._consecutive = progress, 0
            self._progress_at_s = time.monotonic()

    def check(self) -> None:
        """Check the process and the path once."""
        if self.exit_code() is not None:
            self.failures.append(time.time_ns())
            self.died = True
            self.stop.set()
            return
        if not self.path:
            return
        at_ns, start_s = time.time_ns(), time.monotonic()
        status = 0
        with suppress(OSError):
            status = fetch(
                self.base_url,
                self.path,
                headers=self.headers,
                timeout_s=self.timeout_s,
                insecure=self.insecure,
            ).status
        took_s = time.monotonic() - start_s
        self.requests.append((at_ns, took_s))
        self._pause_s = min(_PAUSE_FACTOR * took_s, _MAX_PAUSE_S) if status == 200 else 0.0
        if status == 200:
            return
        # A server that works and does not answer is busy; one that reports an error is unhealthy.
        busy = status in (0, _TOO_MANY) and self._progress_at_s >= start_s - _FLOW_S
        (self.unanswered if busy else self.failures).append(time.time_ns())

    def _run(self) -> None:
        while not self._closing.is_set() and not self.stop.is_set():
            before = len(self.failures)
            self.check()
            self._consecutive = self._consecutive + 1 if len(self.failures) > before else 0
            if self._consecutive >= _GIVE_UP_AFTER and not self.died:
                self.unresponsive = True
                self.stop.set()
            self._closing.wait(max(self.period_s, self._pause_s))
