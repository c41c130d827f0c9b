"""Blocks with prefix caching."""

from __future__ import annotations

import pytest

from rocbench.sim.kvcache import BlockPool, OffloadTier


def test_blocks_taken_are_no_longer_free():
    """Taking and releasing nameless blocks keeps the count."""
    pool = BlockPool(10)
    pool.take(4)
    assert (pool.free, pool.used) == (6, 4)
    pool.release([], 4)
    assert (pool.free, pool.used) == (10, 0)


def test_more_than_free_is_refused():
    """A pool never goes below zero."""
    pool = BlockPool(2)
    with pytest.raises(ValueError, match="3 blocks asked, 2 free"):
        pool.take(3)


def test_a_released_prefix_is_found_until_its_memory_is_needed():
    """A prefix stays findable while its blocks are free, and the later blocks are evicted first."""
    pool = BlockPool(4)
    pool.take(3)
    pool.name([1, 2, 3])
    pool.release([1, 2, 3], 0)
    assert pool.match([1, 2, 3, 4]) == 3
    pool.take(2)
    assert pool.match([1, 2, 3]) == 2


def test_the_least_recently_used_prefix_goes_first():
    """Holding a prefix again makes it younger."""
    pool = BlockPool(2)
    for block in (1, 2):
        pool.take(1)
        pool.name([block])
        pool.release([block], 0)
    pool.hold([1])
    pool.release([1], 0)
    pool.take(1)
    assert pool.match([1]) == 1
    assert pool.match([2]) == 0


def test_a_prefix_held_twice_is_one_block():
    """Two holders share a block; it is free when both have gone."""
    pool = BlockPool(3)
    pool.take(1)
    pool.name([7])
    pool.hold([7])
    assert pool.used == 1
    pool.release([7], 0)
    assert pool.free == 2
    pool.release([7], 0)
    assert pool.free == 3
    assert pool.idle_among([7, 8]) == 1


def test_a_hash_known_already_is_not_named_again():
    """A second copy of known content stays nameless: each hash is one block."""
    pool = BlockPool(4)
    pool.take(2)
    assert pool.name([1]) == [1]
    assert pool.name([1, 2]) == [2]


def test_forgetting_needs_an_idle_cache():
    """A reset while blocks are held does nothing and says so."""
    pool = BlockPool(4)
    pool.take(2)
    pool.name([1])
    assert not pool.forget()
    pool.release([1], 1)
    assert pool.forget()
    assert pool.match([1]) == 0
    assert pool.free == 4


def test_the_host_tier_keeps_the_newest():
    """Beyond its capacity the oldest blocks go; a match makes blocks young."""
    tier = OffloadTier(3)
    tier.store([1, 2, 3])
    assert tier.match([1, 9]) == 1
    tier.store([4])
    assert tier.match([2]) == 0
    assert tier.match([1, 3, 4]) == 3
