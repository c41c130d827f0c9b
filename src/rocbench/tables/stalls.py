"""Stalls: periods with requests in flight and no token in any stream, and their effect on users by the clock.

A closed loop hides a stall: users without an answer send nothing, so few requests meet it (coordinated
omission; Tene, "How NOT to Measure Latency"). The stamps show the waits of arrivals at the same rate: an
arrival during a stall of s seconds waits for the rest of it. Pure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rocbench.records import NONE, BoolArray, Int64Array, LoadResult, RequestArray

Row = dict[str, float | int | str | bool | None]
FloatArray = npt.NDArray[np.float64]

STALL_MS = 1000.0
TTFTS = 3.0
GAPS = 5.0


def columns(result: LoadResult, completed: BoolArray, median_icl_ms: object) -> Row:
    """The longest silence, the minimum length of a stall here, and the share of the window in stalls."""
    names = ("longest_silence_ms", "stall_limit_ms", "stalled_share", "p99_ttft_by_clock_ms")
    row: Row = dict.fromkeys(names)
    window = result.window
    if result.silences is None or window.seconds <= 0:
        return row
    heard = _with_something_in_flight(result.silences, result.requests, window.start_ns, window.end_ns)
    lengths = (heard[:, 1] - heard[:, 0]) / 1e6
    mine = result.requests[completed]
    limit = _limit_ms(mine, median_icl_ms if isinstance(median_icl_ms, float) else 0.0)
    stalls = lengths[lengths > limit] if limit is not None else lengths[:0]
    share = float(stalls.sum()) / 1e3 / window.seconds
    row |= {
        names[0]: float(lengths.max(initial=0.0)),
        names[1]: limit,
        names[2]: share if limit is not None else None,
    }
    if result.concurrency_asked is not None and limit is not None:
        row[names[3]] = _p99_by_clock(mine, stalls, window.seconds)
    return row


def _limit_ms(mine: RequestArray, median_icl_ms: float) -> float | None:
    """Maximum silence of a sound server: while it computes the longest prompt alone, or between chunks.

    Three times the median TTFT, scaled to the longest prompt, five times the median gap between chunks, and at
    least a second.
    """
    known = (mine["first_token_ns"] != NONE) & (mine["sent_ns"] != NONE)
    if not known.any():
        return None
    mine = mine[known]
    ttft = float(np.median(mine["first_token_ns"] - mine["sent_ns"])) / 1e6
    prompts = np.maximum(mine["prompt_tokens"], mine["isl_asked"])
    middle = float(np.median(prompts))
    scale = float(prompts.max()) / middle if middle > 0 else 1.0
    return max(STALL_MS, TTFTS * ttft * max(1.0, scale), GAPS * median_icl_ms)


def _with_something_in_flight(silences: Int64Array, rows: RequestArray, start: int, end: int) -> Int64Array:
    """The parts of silences in which at least one request was in flight."""
    sent = rows["sent_ns"] != NONE
    begin = np.clip(rows["sent_ns"][sent], start, end)
    stop = np.clip(np.where(rows["end_ns"][sent] == NONE, end, rows["end_ns"][sent]), start, end)
    inside = stop > begin
    begin, stop = begin[inside], stop[inside]
    if not len(begin) or not len(silences):
        return np.zeros((0, 2), dtype=np.int64)
    order = np.argsort(begin, kind="stable")
    begin, stop = begin[order], np.maximum.accumulate(stop[order])
    fresh = np.concatenate([[True], begin[1:] > stop[:-1]])
    firsts, lasts = begin[fresh], stop[np.concatenate([fresh[1:], [True]])]
    found = []
    for quiet_from, quiet_to in silences.tolist():
        low, high = np.searchsorted(lasts, quiet_from, "right"), np.searchsorted(firsts, quiet_to, "left")
        busy = np.stack(
            [np.maximum(firsts[low:high], quiet_from), np.minimum(lasts[low:high], quiet_to)], axis=1
        )
        found.append(busy[busy[:, 1] > busy[:, 0]])
    return np.concatenate(found)


def _p99_by_clock(mine: RequestArray, stalls_ms: FloatArray, seconds: float) -> float | None:
    """p99 of TTFT for arrivals by the clock at the same rate: arrivals in a stall wait for its rest."""
    known = (mine["first_token_ns"] != NONE) & (mine["sent_ns"] != NONE)
    ttft = (mine["first_token_ns"] - mine["sent_ns"])[known] / 1e6
    if not len(ttft):
        return None
    free_s = seconds - float(stalls_ms.sum()) / 1e3
    rate = len(ttft) / max(free_s, 1e-9)
    late = [float(np.median(ttft)) + stall * (np.arange(n) + 0.5) / n for stall, n in _due(stalls_ms, rate)]
    return float(np.percentile(np.concatenate([ttft, *late]), 99))


def _due(stalls_ms: FloatArray, rate: float) -> list[tuple[float, int]]:
    """Each stall with the number of requests that would have arrived in it."""
    return [(stall, max(1, round(rate * stall / 1e3))) for stall in stalls_ms.tolist()]
