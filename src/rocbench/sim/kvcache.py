"""Blocks of the paged KV cache with prefix caching, as vLLM V1 manages them (`vllm/v1/core/block_pool.py`). Pure.

A block is free, or held by one or more sequences. A full block is identified by its hash, which covers everything
before it. It can be found after its last holder ends, until its memory is needed (least recently used first).
Blocks without a hash are only counted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """A pool of `total` blocks. `free` of them can be taken now, even those with a known prefix."""

    __slots__ = ("_blank", "_idle", "_refs", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self._blank = total
        self._refs: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Number of blocks that can be taken now."""
        return self._blank + len(self._idle)

    @property
    def used(self) -> int:
        """Blocks held by sequences."""
        return self.total - self._blank - len(self._idle)

    def match(self, hashes: Sequence[int]) -> int:
        """Number of leading hashes that are in the cache."""
        refs, idle = self._refs, self._idle
        for position, block in enumerate(hashes):
            if block not in refs and block not in idle:
                return position
        return len(hashes)

    def idle_among(self, hashes: Sequence[int]) -> int:
        """Number of these known hashes without a holder; holding them lowers `free` by as many."""
        return sum(block in self._idle for block in hashes)

    def hold(self, hashes: Sequence[int]) -> None:
        """Hold blocks that `match` found."""
        refs, idle = self._refs, self._idle
        for block in hashes:
            if block in refs:
                refs[block] += 1
            else:
                del idle[block]
                refs[block] = 1

    def take(self, count: int) -> None:
        """Take nameless blocks, evicting the least recently used prefixes. Raises ValueError beyond `free`."""
        if count > self.free:
            raise ValueError(f"{count} blocks asked, {self.free} free")
        while self._blank < count:
            self._idle.popitem(last=False)
            self._blank += 1
        self._blank -= count

    def name(self, hashes: Iterable[int]) -> list[int]:
        """Give taken blocks their hashes once they are full; returns those that were new to the cache."""
        refs, idle = self._refs, self._idle
        new = [block for block in hashes if block not in refs and block not in idle]
        refs.update(dict.fromkeys(new, 1))
        return new

    def release(self, held: Sequence[int], nameless: int) -> None:
        """Release held hashes and nameless blocks. Later blocks are evicted first, as in vLLM."""
        refs, idle = self._refs, self._idle
        self._blank += nameless
        for block in reversed(held):
            count = refs[block]
            if count == 1:
                del refs[block]
                idle[block] = None
            else:
                refs[block] = count - 1

    def forget(self) -> bool:
        """Drop all known prefixes. Return False and drop nothing while a sequence holds a block."""
        if self.used:
            return False
        self._blank += len(self._idle)
        self._idle.clear()
        return True


class OffloadTier:
    """Blocks kept in host memory (`--kv-offloading-size`); the least recently used is dropped first."""

    __slots__ = ("_blocks", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def match(self, hashes: Sequence[int]) -> int:
        """Number of leading hashes held here; they become the most recently used."""
        for position, block in enumerate(hashes):
            if block not in self._blocks:
                return position
            self._blocks.move_to_end(block)
        return len(hashes)

    def store(self, hashes: Iterable[int]) -> None:
        """Keep blocks, dropping the oldest beyond the capacity."""
        for block in hashes:
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self.capacity:
            self._blocks.popitem(last=False)
