"""Token times over all streams in little memory: the first and last stamp of each tenth of a second. Pure.

A stall of the server does not show in percentiles: each stream has one long gap among thousands. It shows as
a stretch without a token on any stream. Times are ns since the window's start, so that the times of load
hosts with different clocks agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from rocbench.records import Int64Array

SLOT_NS = 100_000_000
_NEVER = np.iinfo(np.int64).max


def _none() -> Int64Array:
    return np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class TokenTimes:
    """The first and last token of each slot; an empty slot has first > last."""

    first: Int64Array = field(default_factory=_none)
    last: Int64Array = field(default_factory=_none)

    def add(self, times: Int64Array) -> None:
        """Add token times, in any order."""
        if not len(times):
            return
        slots = times // SLOT_NS
        self._reach(int(slots.max()) + 1)
        np.minimum.at(self.first, slots, times)
        np.maximum.at(self.last, slots, times)

    def merge(self, other: TokenTimes) -> None:
        """Merge another worker's times."""
        self._reach(len(other.first))
        size = len(other.first)
        self.first[:size] = np.minimum(self.first[:size], other.first)
        self.last[:size] = np.maximum(self.last[:size], other.last)

    def _reach(self, slots: int) -> None:
        more = max(slots - len(self.first), len(self.first) // 8) if slots > len(self.first) else 0
        if more:
            self.first = np.concatenate([self.first, np.full(more, _NEVER, dtype=np.int64)])
            self.last = np.concatenate([self.last, np.full(more, -1, dtype=np.int64)])

    def silences(self, length_ns: int) -> Int64Array:
        """(n, 2): start and end of each stretch of [0, length) without a token that is longer than a slot."""
        some = np.flatnonzero((self.last >= 0) & (self.first < length_ns))
        begins = np.concatenate([[0], self.last[some]])
        ends = np.concatenate([self.first[some], [length_ns]])
        pairs = np.stack([begins, np.minimum(ends, length_ns)], axis=1).astype(np.int64)
        return pairs[pairs[:, 1] - pairs[:, 0] > SLOT_NS]


def over(workers: Iterable[TokenTimes], start_ns: int, length_ns: int) -> Int64Array:
    """The silences of a window, over all workers, as stamps."""
    whole = TokenTimes()
    for times in workers:
        whole.merge(times)
    return whole.silences(max(0, length_ns)) + start_ns
