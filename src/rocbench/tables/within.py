"""Intervals from within one window: of p99 latencies and of output tokens/s. Pure; absent is None, never zero.

One window has requests, not repeats. Its interval holds only what varied within it: a server start, a night or a
clock state that lasted for the whole window is not in it, and repeats differ by at least as much.

Requests that overlap in time depend on each other, so n requests are worth fewer. `inflation` estimates how many
times: the variance of a mean over the window, from its slowest cosine waves, over the variance if the values were
independent (equal-weighted cosines: Lazarus, Lewis, Stock and Watson, JBES 36, 2018). Exceedances of a high latency
come in clusters that its bulk does not show, so several latencies around the p99 are asked, and the largest answer
counts.

The p99's ends are the order statistics of n / inflation independent requests (David and Nagaraja, Order Statistics,
7.1; on dependent data: Heidelberger and Lewis, Operations Research 32, 1984). The lower end always exists. The
upper end needs as many independent requests as a p99 needs requests (`stats.min_samples`, 368): with fewer, the
window may have missed the p99 altogether, and has no upper end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy  # loads scipy.stats at its first use

from rocbench import stats
from rocbench.column import Values
from rocbench.records import FloatArray, Int64Array, RequestArray
from rocbench.tables.latencies import e2el_ms, tpot_ms, ttft_ms

Ends = tuple[float | None, float | None]
"""Lower and upper end; an end that the data do not support is None."""

P99 = 0.99
_LEVELS = ((0.9, 16), (0.95, 16), (0.99, 32), (0.995, 32))
"""Latencies, as shares of the requests below them, with the number of cosines that measure their exceedances.

Clusters of the highest latencies are short, so more cosines fit them.
"""
_BINS = 1024
"""Sums of neighbouring requests: the slowest waves need no finer ones."""
_COSINES = (4, 8, 16)
"""Numbers of cosines of throughput; the widest of their intervals counts, because few see slower changes."""
_RESOLVED = 2.5
"""Maximum power of the 4 slowest cosines over the others: above it, changes are as slow as the window is long."""
_INDEPENDENT = 30.0
"""Minimum independent seconds for an interval of throughput."""


def ends_of(column: str) -> tuple[str, str]:
    """The names of a column's ends within the window: `p99_ttft_low_ms` and `p99_ttft_high_ms` of `p99_ttft_ms`."""
    name, unit = (column.removesuffix("_ms"), "_ms") if column.endswith("_ms") else (column, "")
    return f"{name}_low{unit}", f"{name}_high{unit}"


def columns(rows: RequestArray, per_second: Int64Array | Sequence[int], output_throughput: object) -> Values:
    """The ends of the p99 latencies and of output_throughput.

    Args:
        rows: completed requests that began in the window, in the order in which they were sent.
        per_second: output tokens of each whole second of the window.
        output_throughput: tokens/s; None if unknown.
    """
    row: Values = {}
    for name, values in (("ttft", ttft_ms(rows)), ("tpot", tpot_ms(rows)), ("e2el", e2el_ms(rows))):
        row |= dict(zip(ends_of(f"p99_{name}_ms"), p99(values), strict=True))
    known = isinstance(output_throughput, float)
    share = relative_error(per_second) if known else None
    around: Ends = (None, None)
    if share is not None and isinstance(output_throughput, float):
        around = output_throughput * (1 - share), output_throughput * (1 + share)
    return row | dict(zip(ends_of("output_throughput"), around, strict=True))


def p99(values: FloatArray) -> Ends:
    """The 95 % interval of the 99th percentile of values (n,) in the order of their time, in their unit.

    Both ends are None for fewer values than `stats.min_samples(99)`, the upper end if they depend on each other so
    much that they are worth fewer.
    """
    n, needed = len(values), stats.min_samples(100 * P99)
    if n < needed:
        return None, None
    inflated = inflation(values)
    # the inflation is itself an estimate, too low where the window missed slow requests: its excess counts twice
    careful = 2 * inflated - 1
    bounded = n / inflated >= needed
    below, above = math.floor(_rank(n, inflated, low=True)), math.ceil(_rank(n, careful, low=False)) - 1
    below, above = max(0, below), min(above, n - 1)
    ordered = np.partition(values, (below, above))
    return float(ordered[below]), float(ordered[above]) if bounded else None


def _rank(n: int, inflated: float, *, low: bool) -> float:
    """The rank of an end of the p99 among n values that are worth n / inflated independent ones.

    The binomial limits of n / inflated requests, as shares of n, one independent request further up.
    """
    below, above, tail = n / inflated * P99, n / inflated * (1 - P99), (1 - stats.CONFIDENCE) / 2
    limits = scipy.stats.beta
    share = limits.ppf(tail, below, above + 1) if low else limits.isf(tail, below + 1, above)
    return float(n * share + inflated)


def inflation(values: FloatArray) -> float:
    """Requests of values (n,), in the order of their time, that are worth one independent request; at least 1."""
    n = len(values)
    largest = 1.0
    latencies = np.quantile(values, [share for share, _ in _LEVELS])
    for (_, cosines), latency in zip(_LEVELS, latencies, strict=True):
        exceeds = values > latency
        share = float(exceeds.mean())
        if 0 < share < 1:
            power = _power(exceeds - share, cosines)
            largest = max(largest, float(power.mean()) / (share * (1 - share)))
    return min(largest, float(n))


def _power(centred: FloatArray, cosines: int) -> FloatArray:
    """Squares (cosines,) of the slowest cosine waves of values (n,) whose mean is 0.

    Each estimates n times the variance of the values' mean, if dependence is far shorter than the window.
    """
    n = len(centred)
    edges = np.arange(0, n, max(1, n // _BINS))
    sums = np.add.reduceat(centred, edges)
    middles = (edges + np.append(edges[1:], n)) / (2 * n)
    waves = np.cos(np.pi * np.outer(np.arange(1, cosines + 1), middles))
    squares: FloatArray = (waves @ sums) ** 2 * (2 / n)
    return squares


def relative_error(per_second: Int64Array | Sequence[int]) -> float | None:
    """Half the 95 % interval of the mean of values per second (n,), as a share of the mean.

    Student's t with as many degrees of freedom as cosines. None if the window is short for its correlation time:
    fewer than 30 independent seconds, or slow changes with more than 2.5 times the power of faster ones.
    """
    seconds = np.asarray(per_second, dtype=float)
    n, mean = len(seconds), float(seconds.mean()) if len(seconds) else 0.0
    if n < _INDEPENDENT or mean <= 0 or not np.ptp(seconds):
        return None
    power = _power(seconds - mean, max(_COSINES))
    slow, fast = float(power[: _COSINES[0]].mean()), float(power[_COSINES[0] :].mean())
    long_run = float(power[: _COSINES[1]].mean())
    if slow > _RESOLVED * fast or n * float(seconds.var()) < _INDEPENDENT * long_run:
        return None
    tail = (1 - stats.CONFIDENCE) / 2
    errors = [
        math.sqrt(float(power[:count].mean()) / n) * float(scipy.stats.t.isf(tail, count))
        for count in _COSINES
    ]
    return max(errors) / mean
