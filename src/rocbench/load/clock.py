"""Steps of the wall clock during a load: realtime against monotonic, read so that a pause is not a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], int]


def realtime_ns() -> int:
    """CLOCK_REALTIME: the clock of the kernel's receive stamps."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


TIGHT_NS = 2_000
"""A pair of readings this close together is good enough; usually the first pair is."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first of two clocks minus the second, in ns, and its error bound."""

    ns: int
    bound_ns: int

    def moved_from(self, base: Difference) -> int:
        """The change of the difference, less the part that the readings' own pauses may explain."""
        return max(0, abs(self.ns - base.ns) - self.bound_ns - base.bound_ns)


def difference(clock: Clock = time.time_ns, base: Clock = time.monotonic_ns, tries: int = 5) -> Difference:
    """The tightest of a few readings of `clock` between two readings of `base`.

    The process may be stopped for any time between two readings. `clock` was read between the two readings
    of `base`, so half the time between them bounds the error, for any length of the stop.
    """
    best: Difference | None = None
    for _ in range(tries):
        before = base()
        now = clock()
        width = base() - before
        if best is None or width < 2 * best.bound_ns:
            best = Difference(now - before - width // 2, (width + 1) // 2)
        if width <= TIGHT_NS:
            break
    assert best is not None
    return best


class StepWatch:
    """The largest step of the wall clock since this object was made."""

    def __init__(self, realtime: Clock = time.time_ns, monotonic: Clock = time.monotonic_ns) -> None:
        self._clocks = (realtime, monotonic)
        self._base = difference(realtime, monotonic)
        self.step_ns = 0

    def check(self) -> None:
        """Compare the clocks now."""
        self.step_ns = max(self.step_ns, difference(*self._clocks).moved_from(self._base))
