"""A thread that measures next to a load."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import ClassVar, Self


@dataclass(slots=True)
class Monitor:
    """Runs `_run` in a daemon thread while the context is open. Closing it sets `_closing`."""

    _closing: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _thread: threading.Thread | None = field(default=None, init=False, repr=False)
    _JOIN_S: ClassVar[float] = 10.0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True, name=type(self).__name__)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        self._closing.set()
        if self._thread is not None and kind is None:  # after an exception its results are not used
            self._thread.join(timeout=self._JOIN_S)

    def _run(self) -> None:
        raise NotImplementedError
