"""Handling of Ctrl-C and other signals that end a run: raise, or set an event while other nodes drain."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from rocbench.errors import Interrupted

INTERRUPTED = "interrupted; all measured cells are on disk"
STOPS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,  # a closed terminal
    signal.SIGQUIT,  # Ctrl-\\
    signal.SIGUSR1,  # Slurm, LSF and Grid Engine can send these before the time limit
    signal.SIGUSR2,
    signal.SIGXCPU,
)
"""Signals that end this process or announce its end, and would leave its server running."""


def catch(handler: Callable[[int, FrameType | None], object]) -> dict[int, Any]:
    """Set a handler for every signal that ends a run; return the previous handlers.

    An ignored SIGHUP stays ignored: with nohup a run continues after its terminal is closed.
    """
    stops = [n for n in STOPS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in stops}


class SignalGuard:
    """Context in which a signal raises Interrupted at once, during a server's start or a load too.

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
            if handler is not None:  # a handler set outside Python cannot be restored
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.event.is_set()
        self.event.set()
        if again or not self._draining:
            raise Interrupted(INTERRUPTED)

    @contextmanager
    def draining(self) -> Iterator[threading.Event]:
        """Context in which the caller watches the event and ends in its own time."""
        self._draining = True
        try:
            yield self.event
        finally:
            self._draining = False

    def check(self) -> None:
        """Raise Interrupted if a signal was received."""
        if self.event.is_set():
            raise Interrupted(INTERRUPTED)
