"""Intended send times of an open loop: a pure function of rate, arrival, burstiness and seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

_BLOCK = 4096


def intended_ns(
    rate: float, arrival: Literal["constant", "poisson", "gamma"], burstiness: float, seed: int
) -> Iterator[int]:
    """Endless send times in ns after the start, never decreasing; their mean gap is 1 / rate.

    constant: k / rate, k = 0, 1, ...; the others are sums of gaps drawn from a gamma distribution with shape
    `burstiness` and mean 1 / rate (shape 1, exponential gaps, is Poisson), as vLLM's `--burstiness`.
    """
    if arrival == "constant":
        index = 0
        while True:
            yield round(index * 1e9 / rate)
            index += 1
    shape = 1.0 if arrival == "poisson" else burstiness
    source = np.random.Generator(np.random.PCG64(seed))
    last_s = 0.0
    while True:
        times_s = last_s + np.cumsum(source.gamma(shape, 1 / (rate * shape), _BLOCK))
        last_s = float(times_s[-1])
        yield from np.round(times_s * 1e9).astype(np.int64).tolist()


def share(times: Iterator[int], worker: int, workers: int) -> Iterator[tuple[int, int]]:
    """(index, time) of every `workers`-th arrival; all workers together send the whole schedule."""
    for index, at in enumerate(times):
        if index % workers == worker:
            yield index, at
