"""Stalls: periods with requests in flight and no token in any stream, and their effect on arrivals by the clock.

A closed loop hides a stall: users without an answer send nothing, so few requests meet it (coordinated
omission; Tene, "How NOT to Measure Latency"). The timestamps show how long arrivals at the same rate would
wait: an arrival during a stall waits for the rest of it. Pure.
"""

from __future__ import annotations

import numpy as np

from rocbench.column import Values
from rocbench.records import (
    NONE,
    BoolArray,
    FloatArray,
    Int64Array,
    LoadResult,
    RequestArray,
    in_flight_spans,
)
from rocbench.tables.latencies import ttft_ms

STALL_MS = 1000.0
"""Minimum length of a stall in ms."""
TTFTS = 3.0
GAPS = 5.0
"""Minimum length of a stall in median TTFTs (of the longest prompt), and in median gaps between chunks."""


def columns(result: LoadResult, completed: BoolArray, median_icl_ms: object) -> Values:
    """The longest silence, the minimum length of a stall in this load, and the share of the window in stalls."""
    names = ("longest_silence_ms", "stall_limit_ms", "stalled_share", "p99_ttft_by_clock_ms")
    row: Values = dict.fromkeys(names)
    window = result.window
    if result.silences is None or window.seconds <= 0:
        return row
    silences = _in_flight(result.silences, result.requests, window.start_ns, window.end_ns)
    lengths = (silences[:, 1] - silences[:, 0]) / 1e6
    rows = result.requests[completed]
    limit = _limit_ms(rows, median_icl_ms if isinstance(median_icl_ms, float) else 0.0)
    stalls = lengths[lengths > limit] if limit is not None else lengths[:0]
    share = float(stalls.sum()) / 1e3 / window.seconds
    row |= {
        names[0]: float(lengths.max(initial=0.0)),
        names[1]: limit,
        names[2]: share if limit is not None else None,
    }
    if result.concurrency_asked is not None and limit is not None:
        row[names[3]] = _p99_by_clock(rows, stalls, window.seconds)
    return row


def _limit_ms(rows: RequestArray, median_icl_ms: float) -> float | None:
    """Maximum silence of a healthy server: while it computes the longest prompt alone, or between chunks.

    Three times the median TTFT, scaled to the longest prompt, five times the median gap between chunks, and at
    least a second.
    """
    rows = rows[(rows["first_token_ns"] != NONE) & (rows["sent_ns"] != NONE)]
    if not len(rows):
        return None
    ttft = float(np.median(rows["first_token_ns"] - rows["sent_ns"])) / 1e6
    prompts = np.maximum(rows["prompt_tokens"], rows["isl_asked"])
    median = float(np.median(prompts))
    scale = float(prompts.max()) / median if median > 0 else 1.0
    return max(STALL_MS, TTFTS * ttft * max(1.0, scale), GAPS * median_icl_ms)


def _in_flight(silences: Int64Array, rows: RequestArray, start: int, end: int) -> Int64Array:
    """The parts of silences in which at least one request was in flight."""
    begin, stop = in_flight_spans(rows["sent_ns"], rows["end_ns"], start, end)
    if not len(begin) or not len(silences):
        return np.zeros((0, 2), dtype=np.int64)
    order = np.argsort(begin, kind="stable")
    begin, stop = begin[order], np.maximum.accumulate(stop[order])
    separate = np.concatenate([[True], begin[1:] > stop[:-1]])
    firsts, lasts = begin[separate], stop[np.concatenate([separate[1:], [True]])]
    parts = []
    for quiet_from, quiet_to in silences.tolist():
        low, high = np.searchsorted(lasts, quiet_from, "right"), np.searchsorted(firsts, quiet_to, "left")
        busy = np.stack(
            [np.maximum(firsts[low:high], quiet_from), np.minimum(lasts[low:high], quiet_to)], axis=1
        )
        parts.append(busy[busy[:, 1] > busy[:, 0]])
    return np.concatenate(parts)


def _p99_by_clock(rows: RequestArray, stalls_ms: FloatArray, seconds: float) -> float | None:
    """p99 of TTFT for arrivals by the clock at the same rate: arrivals in a stall wait for its rest."""
    ttft = ttft_ms(rows)
    if not len(ttft):
        return None
    free_s = seconds - float(stalls_ms.sum()) / 1e3
    rate = len(ttft) / max(free_s, 1e-9)
    median, late = float(np.median(ttft)), []
    for stall in stalls_ms.tolist():
        arrivals = max(1, round(rate * stall / 1e3))
        late.append(median + stall * (np.arange(arrivals) + 0.5) / arrivals)
    return float(np.percentile(np.concatenate([ttft, *late]), 99))
