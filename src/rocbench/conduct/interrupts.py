"""Ctrl-C, SIGTERM and SIGHUP: raised where the run stands, or, while other nodes drain, told to who waits for them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from rocbench.errors import Interrupted

SAID = "interrupted; what was measured is on disk"


class Stopper:
    """A signal raises, so that a start, a wait for a server and a load all end at once, whoever is stuck in them.

    Inside `draining` the first one only sets the event.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._draining = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
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
