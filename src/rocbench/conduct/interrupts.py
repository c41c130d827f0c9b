"""Ctrl-C and other signals that end a run: they raise, or set an event while other nodes drain."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from rocbench.errors import Interrupted

SAID = "interrupted; what was measured is on disk"
STOPS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,  # a closed terminal
    signal.SIGQUIT,  # Ctrl-\\
    signal.SIGUSR1,  # Slurm, LSF and Grid Engine can be set to warn with these before the time is up
    signal.SIGUSR2,
    signal.SIGXCPU,
)
"""Signals that end this process, or warn of its end by a scheduler, and would leave its server behind."""


def catch(handler: Callable[[int, FrameType | None], object]) -> dict[int, Any]:
    """Set a handler for every signal that ends a run; return the previous handlers.

    A SIGHUP that is ignored stays ignored: nohup lets a run outlive its terminal.
    """
    stops = [n for n in STOPS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in stops}


class SignalGuard:
    """Context in which a signal raises, so that a start, a wait for a server or a load ends at once.

    Inside `draining`, the first signal only sets the event.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._draining = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._old = catch(self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            if handler is not None:  # a handler that is not Python's cannot be restored
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.event.is_set()
        self.event.set()
        if again or not self._draining:
            raise Interrupted(SAID)

    @contextmanager
    def draining(self) -> Iterator[threading.Event]:
        """Context in which the caller watches the event and ends by itself."""
        self._draining = True
        try:
            yield self.event
        finally:
            self._draining = False

    def check(self) -> None:
        """Raise if a stop was requested.

        Raises:
            Interrupted: a stop was requested.
        """
        if self.event.is_set():
            raise Interrupted(SAID)
