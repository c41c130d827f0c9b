"""The longest stretches without a token, from the first and last stamp of each tenth of a second."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rocbench.load.silence import SLOT_NS, TokenTimes, over

MS = 1_000_000
LENGTH_MS = 3000
stamps = st.lists(st.integers(0, LENGTH_MS - 1), max_size=40)


@given(st.lists(st.lists(stamps, max_size=4), min_size=1, max_size=3))
def test_silences_equal_those_between_all_stamps(workers):
    """However tokens are dealt over workers and batches, every gap longer than a slot is found, to the nanosecond."""
    heard = []
    for batches in workers:
        heard.append(TokenTimes())
        for batch in batches:
            heard[-1].add(np.array(batch, dtype=np.int64) * MS)
    found = over(heard, 7, LENGTH_MS * MS)
    every = sorted({0, LENGTH_MS, *(at for batches in workers for batch in batches for at in batch)})
    wanted = [(a * MS + 7, b * MS + 7) for a, b in pairwise(every) if (b - a) * MS > SLOT_NS]
    assert [tuple(pair) for pair in found.tolist()] == wanted
