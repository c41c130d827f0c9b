"""Watches during a cell whether the server lives and says that it is well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from rocbench.probe.fetch import fetch

PERIOD_S = 1.0
_GIVE_UP_AFTER = 10
"""Failed checks in a row, while no answer completes, after which the load is ended: nothing comes any more."""


@dataclass(slots=True)
class HealthWatch:
    """Asks each second for the process and for /health, while it is open.

    Args:
        exit_code: None while the process runs (always None for an attached server).
        stop: set as soon as the server is dead or answers nothing, so that the load ends instead of failing request by
            request.
    """

    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False
    exit_code: Callable[[], int | None] = lambda: None
    stop: threading.Event = field(default_factory=threading.Event)
    period_s: float = PERIOD_S
    timeout_s: float = 10.0
    """Generous: an API server that streams to 1,000 users answers late without being ill."""
    has_health: bool = True
    """False for an attached server without /health: only its process could be watched, and there is none."""
    checks: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    """(ns of CLOCK_REALTIME, what was wrong), each failed check."""
    died: str = ""
    """How the server's process ended; empty while it lives, and for one that is not ours to see."""
    unresponsive: str = ""
    """Why nothing was to be waited for any more from a server that may live."""
    _in_a_row: int = 0
    _completed: int = 0
    _end: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True, name="health")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join(timeout=self.timeout_s + 5.0)
        if not self.died:
            self.check()

    def view(self, start_ns: int, end_ns: int) -> dict[str, int | bool | None]:
        """Columns of `cells`: checks that failed inside the window, and whether the server's process ended in the cell."""
        failed = sum(start_ns <= at_ns < end_ns for at_ns, _ in self.failures)
        return {
            "health_failures": failed if self.has_health else None,
            "server_restarted": bool(self.died),
        }

    def answered(self, completed: int) -> None:
        """Told how many requests of the load are complete: a server that completes some is alive, whatever it says."""
        if completed > self._completed:
            self._completed, self._in_a_row = completed, 0

    def check(self) -> None:
        """One look at process and /health."""
        self.checks += 1
        code = self.exit_code()
        if code is not None:
            self._fail(f"the process ended (code {code})")
            self.died = f"the server's process ended with code {code}"
            self.stop.set()
            return
        if not self.has_health:
            return
        try:
            status = fetch(
                self.base_url,
                "/health",
                headers=self.headers,
                timeout_s=self.timeout_s,
                insecure=self.insecure,
            ).status
        except OSError as error:
            self._fail(f"/health does not answer: {error}")
            return
        if status != 200:
            self._fail(f"/health says HTTP {status}")

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
            self._end.wait(self.period_s)

    def _fail(self, what: str) -> None:
        self.failures.append((time.time_ns(), what))
