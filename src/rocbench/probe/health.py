"""Watches the server's process and health during a cell, at no cost that a row would show.

Behind a gateway `/health` may run the models (LiteLLM asks every deployment for a completion), so the watch
requests a path that was found to cost nothing. Flowing tokens prove life themselves: a check without an
answer from a busy server is then counted, but is not a failure.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from rocbench.probe.fetch import fetch

PERIOD_S = 1.0
_FLOW_S = 1.5
"""Maximum age of tokens that prove, at a failed check, that the server worked."""
_SPARE = 10.0
"""Pause after a slow check, as a multiple of its time, at most `_REST_S`."""
_REST_S = 30.0
_TOO_MANY = 429
_GIVE_UP_AFTER = 10
"""Consecutive failed checks, without a completed answer, after which the load is ended."""


@dataclass(slots=True)
class HealthWatch:
    """Checks the process and a path of the server each second, while the context is open.

    Args:
        path: path that tells the server's health; empty watches the process only.
        exit_code: None while the process runs (always None for an attached server).
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
    """Generous: an API server that streams to 1,000 users answers late, but is healthy."""
    path: str = "/health"
    checks: int = 0
    """Number of looks at the process."""
    asked: list[tuple[int, float]] = field(default_factory=list)
    """(ns of CLOCK_REALTIME, duration in seconds) of each request to the server."""
    unanswered: list[tuple[int, str]] = field(default_factory=list)
    """(ns, reason) of each check without an answer while tokens flowed."""
    failures: list[tuple[int, str]] = field(default_factory=list)
    """(ns of CLOCK_REALTIME, fault) of each failed check."""
    died: str = ""
    """The end of the server's process; empty while it lives, and for a process that is not visible."""
    unresponsive: str = ""
    """The reason to stop waiting for a server that may still live."""
    _in_a_row: int = 0
    _rest_s: float = 0.0
    _seen: int = 0
    _flowed_s: float = -1e9
    """Time of the load's last progress (monotonic)."""
    _end: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True, name="health")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        self._end.set()
        if kind is not None:  # the cell was given up, and the watch's findings are unused
            return
        if self._thread is not None:
            self._thread.join(timeout=self.timeout_s + 5.0)
        if not self.died and not (self._thread is not None and self._thread.is_alive()):
            self.check()

    def view(self, start_ns: int, end_ns: int) -> dict[str, int | float | bool | None]:
        """Columns of `cells`: checks in the window, and True if the server's process ended in the cell."""

        def inside(at_ns: int) -> bool:
            return start_ns <= at_ns < end_ns

        took_s = [seconds for at_ns, seconds in self.asked if inside(at_ns)]
        return {
            "health_failures": sum(inside(at) for at, _ in self.failures) if self.path else None,
            "health_checks": len(took_s),
            "health_unanswered": sum(inside(at) for at, _ in self.unanswered) if self.path else None,
            "health_check_ms": statistics.median(took_s) * 1e3 if took_s else None,
            "server_restarted": bool(self.died),
        }

    def answered(self, progress: int) -> None:
        """Take the load's progress (requests complete, tokens): a server that makes progress is alive."""
        if progress > self._seen:
            self._seen, self._in_a_row = progress, 0
            self._flowed_s = time.monotonic()

    def check(self) -> None:
        """Check the process and the path once."""
        self.checks += 1
        code = self.exit_code()
        if code is not None:
            self._fail(f"the process ended (code {code})")
            self.died = f"the server's process ended with code {code}"
            self.stop.set()
            return
        if self.path:
            self._ask()

    def _ask(self) -> None:
        at_ns, began_s = time.time_ns(), time.monotonic()
        status, why = 0, ""
        try:
            status = fetch(
                self.base_url,
                self.path,
                headers=self.headers,
                timeout_s=self.timeout_s,
                insecure=self.insecure,
            ).status
        except OSError as error:
            why = f"{self.path} does not answer: {error}"
        took_s = time.monotonic() - began_s
        self.asked.append((at_ns, took_s))
        self._rest_s = min(_SPARE * took_s, _REST_S) if status == 200 else 0.0
        if status == 200:
            return
        why = why or f"{self.path} says HTTP {status}"
        # A server that works and does not answer is busy; one that reports itself unhealthy is unhealthy.
        if status in (0, _TOO_MANY) and self._flowed_s >= began_s - _FLOW_S:
            self.unanswered.append((time.time_ns(), why))
        else:
            self._fail(why)

    def _run(self) -> None:
        while not self._end.is_set() and not self.stop.is_set():
            before = len(self.failures)
            self.check()
            self._in_a_row = self._in_a_row + 1 if len(self.failures) > before else 0
            if self._in_a_row >= _GIVE_UP_AFTER and not self.died:
                self.unresponsive = (
                    f"{self._in_a_row} health checks in a row failed, and no request was completed meanwhile: "
                    f"{self.failures[-1][1]}"
                )
                self.stop.set()
            self._end.wait(max(self.period_s, self._rest_s))

    def _fail(self, what: str) -> None:
        self.failures.append((time.time_ns(), what))
