"""An alarm for an asyncio loop, exact to about 50 us: uvloop's own timers have a resolution of 1 ms."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

_CLOCK_MONOTONIC, _ABSOLUTE, _NONBLOCK_CLOEXEC = 1, 1, 0o2004000


class _Spec(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """Calls `ring` once at the set time (seconds of `time.monotonic`), by a Linux timerfd."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop, self._ring = loop, ring
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _Spec(0, 0, 0, 0)
        self._pointer = ctypes.byref(self._spec)
        loop.add_reader(self._fd, self._fired)

    def set(self, at_s: float) -> None:
        """Ring at `at_s`, or at once if that is past. Replaces an earlier time."""
        ns = max(1, int(at_s * 1e9))
        self._spec.value_s, self._spec.value_ns = divmod(ns, 1_000_000_000)
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, self._pointer, None)

    def _fired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # set anew in the meantime
            return
        self._ring()


def now_s() -> float:
    """Seconds of the clock that alarms use."""
    return time.monotonic()
