"""Ctrl-C and other signals that end a run: raised where it stands, or, while other nodes drain, told to who waits for them."""

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
    signal.SIGUSR1,  # schedulers warn by these before the time is up: Slurm, LSF and Grid Engine, as they are told
    signal.SIGUSR2,
    signal.SIGXCPU,
)
"""Signals that would end this process, or that a scheduler sends before it does, and leave its server behind."""


def catch(handler: Callable[[int, FrameType | None], object]) -> dict[int, Any]:
    """Lets a handler take every signal that ends a run; gives the handlers before it.

    A SIGHUP that is ignored stays ignored: nohup was asked for a run that outlives its terminal.
    """
    stops = [n for n in STOPS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in stops}


class SignalGuard:
    """A signal raises, so that a start, a wait for a server and a load all end at once, whoever is stuck in them.

    Inside `draining` the first one only sets the event.
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
            if handler is not None:  # one that is not Python's cannot be put back
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.event.is_set()
        self.event.set()
        if again or not self._draining:
            raise Interrupted(SAID)

    @contextmanager
    def draining(self) -> Iterator[threading.Event]:
        """A stretch in which the caller sees the event and ends by itself."""
        self._draining = True
        try:
            yield self.event
        finally:
            self._draining = False

    def check(self) -> None:
        """Raise if a stop was asked for.

        Raises:
            Interrupted: it was.
        """
        if self.event.is_set():
            raise Interrupted(SAID)
