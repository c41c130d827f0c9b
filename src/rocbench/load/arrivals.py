"""Send times: the first requests of a closed loop's users, and the arrivals of an open loop. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Literal

import numpy as np

from rocbench.load.prompts import Key
from rocbench.load.spec import WindowPlan

_BLOCK = 4096
_LEAST_SHARE = 0.02
"""Minimum share of its full length for a staggered first answer."""


def user_starts(users: int, plan: WindowPlan, key: Key) -> list[tuple[float, float]]:
    """(time after the start in s, share of its full length for the first answer) of each user.

    A fixed length in lockstep would keep all users in one wave. The users of a stationary load are spread
    evenly over their requests, so without a ramp the first answers are cut to evenly spaced shares, in a
    shuffled order. They are warm-up, so they are not measured.
    """
    ramp_s = 0.0 if plan.wave else plan.ramp_s or 0.0
    shares = [1.0] * users
    if plan.ramp_s is None and not plan.wave and plan.max_requests is None:
        order = key.generator("stagger", 0).permutation(users)
        shares = [max((place + 1) / users, _LEAST_SHARE) for place in order.tolist()]
    return [(ramp_s * user / users, share) for user, share in enumerate(shares)]


def intended_ns(
    rate: float, arrival: Literal["constant", "poisson", "gamma"], burstiness: float, seed: int
) -> Iterator[int]:
    """Endless send times in ns after the start, never decreasing; their mean gap is 1 / rate.

    constant: k / rate, k = 0, 1, ...; the others are sums of gaps drawn from a gamma distribution with shape
    `burstiness` and mean 1 / rate (shape 1, exponential gaps, is Poisson), as vLLM's `--burstiness`.
    """
    if arrival == "constant":
        yield from (round(index * 1e9 / rate) for index in count())
    shape = 1.0 if arrival == "poisson" else burstiness
    source = np.random.Generator(np.random.PCG64(seed))
    last_s = 0.0
    while True:
        times_s = last_s + np.cumsum(source.gamma(shape, 1 / (rate * shape), _BLOCK))
        last_s = float(times_s[-1])
        yield from np.round(times_s * 1e9).astype(np.int64).tolist()
