"""Growth of an open loop's queue: slope of the requests in flight, and served against offered requests. Pure.

Above capacity, rate, latency and concurrency alone show nothing: they agree for the requests that end,
however many wait. Two figures show it. The slope of the requests in flight (least squares over the window) is
the number of arrivals per second minus the number of ends; and served requests fall short of the requested
rate. Chance moves each figure alone, because arrivals are uneven: a burst causes a slope, few arrivals a
shortfall. Above capacity both occur, because the output of a full server does not follow the arrivals.

The effect of chance: over T seconds the sum of arrivals minus services is a random walk with the variance
rate x T x (ca2 + cs2), squared coefficients of variation of the gaps between arrivals and of the work of a
request (the diffusion limit of a queue: Whitt, Stochastic-Process Limits, 2002, ch. 9). In a load without a
queue the number in flight is also random and adds up to twice its mean (variance, Poisson).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rocbench.column import Values
from rocbench.records import NONE, FloatArray, Int64Array, LoadResult, RequestArray, completed

NAMES = (
    "arrival_rate",
    "backlog_slope_per_s",
    "backlog_slope_low_per_s",
    "backlog_slope_high_per_s",
    "unserved_share",
    "arrival_noise_share",
    "idle_share",
    "latency_slope",
)
Z95 = 1.96
_FEW_GAPS = 5
"""Arrivals up to which the spread of their gaps is unknown, and taken as Poisson's."""
_FEW_REQUESTS = 10
_CENSORED = 0.05
"""Minimum ended requests, and maximum share of unended ones, for a slope of latency."""
_REQUEST_TIMES = 5
"""Minimum span of a count of requests, in request times: a shorter one from an empty server has no level."""


def columns(result: LoadResult, mean_in_flight: object) -> Values:
    """The columns on the growth of the queue; all are absent under closed loop, or if unknown."""
    row: Values = dict.fromkeys(NAMES)
    rows = _scheduled(result)
    span = _span(result, rows)
    if result.concurrency_asked is not None or span is None or not isinstance(mean_in_flight, float):
        return row
    start, end = span
    seconds = (end - start) / 1e9
    due = rows[(rows["intended_ns"] >= start) & (rows["intended_ns"] < end)]
    rate = result.rate_asked or len(due) / seconds
    offered = rate * seconds
    if not offered or len(due) < 2:
        return row
    begin = np.clip(rows["intended_ns"], start, end)
    stop = np.clip(np.where(rows["end_ns"] == NONE, end, rows["end_ns"]), start, end)
    slope = _slope(begin, stop, start, end)
    variation = _cv2(np.diff(np.sort(due["intended_ns"]))) if len(due) > _FEW_GAPS else 1.0
    variance = offered * (variation + _cv2(due["osl_asked"])) + min(
        2 * mean_in_flight * variation, 2 * offered
    )
    noise = math.sqrt(variance) * (1 if result.rate_asked else 2)  # an estimated rate follows the arrivals
    half = Z95 * noise / seconds
    return row | {
        "arrival_rate": rate,
        "backlog_slope_per_s": slope,
        "backlog_slope_low_per_s": slope - half,
        "backlog_slope_high_per_s": slope + half,
        "unserved_share": 1 - _served(result, rows, start, end) / offered,
        "arrival_noise_share": noise / offered,
        "idle_share": _idle(begin, stop, (start + end) // 2, end),
        "latency_slope": _latency_slope(due),
    }


def _scheduled(result: LoadResult) -> RequestArray:
    """The requests of an open loop's schedule."""
    rows = result.requests
    scheduled: RequestArray = rows[(rows["user"] == NONE) & (rows["intended_ns"] != NONE)]
    return scheduled


def _span(result: LoadResult, rows: RequestArray) -> tuple[int, int] | None:
    """The span that is judged: the window; for a count of requests, from the first end to the last arrival."""
    window = result.window
    if not len(rows) or window.seconds <= 0:
        return None
    if window.ended_by != "count" and result.rate_asked is not None:
        return window.start_ns, window.end_ns
    rows = rows[rows["intended_ns"] >= window.start_ns]  # without the probes before it
    ended = rows[rows["end_ns"] != NONE]
    if not len(ended):
        return None
    start, end = int(ended["end_ns"].min()), min(int(rows["intended_ns"].max()), window.end_ns)
    times = ended["end_ns"] - ended["intended_ns"]
    # In a growing queue the median grows too: the first requests show the time without a queue.
    first = times[: max(1, len(ended) // 10)]
    request_time = min(float(np.median(times)), float(np.median(first)))
    return (start, end) if end - start > _REQUEST_TIMES * request_time else None


def _slope(begin: Int64Array, stop: Int64Array, start: int, end: int) -> float:
    """Least-squares slope of requests in flight, in requests/s: 12 / T^3 x integral of (t - T/2) N(t) dt."""
    length = (end - start) / 1e9
    a, b = (begin - start) / 1e9 - length / 2, (stop - start) / 1e9 - length / 2
    return float(12 / length**3 * np.where(b > a, b**2 - a**2, 0.0).sum() / 2)


def _latency_slope(due: RequestArray) -> float | None:
    """Least-squares slope of the time of a request of mean length over its intended send, in s/s.

    The time starts at the intended send. If more requests in flight do not make requests slower, their number
    grows for another reason than capacity: long requests have not yet begun to end. Absent if too few
    requests ended, or too many never did.
    """
    done = due[completed(due) & (due["first_token_ns"] != NONE)]
    if len(done) < max(_FEW_REQUESTS, (1 - _CENSORED) * len(due)):
        return None
    gaps = np.maximum(done["output_tokens"] - 1, 0).astype(float)
    spans = (done["last_token_ns"] - done["first_token_ns"]) / 1e9
    times = (done["first_token_ns"] - done["intended_ns"]) / 1e9 + gaps.mean() * spans / np.maximum(gaps, 1)
    at = (done["intended_ns"] - done["intended_ns"][0]) / 1e9
    spread = float(at.var())
    return float(np.cov(at, times, bias=True)[0, 1]) / spread if spread > 0 else None


def _cv2(values: npt.NDArray[np.generic]) -> float:
    """Squared coefficient of variation."""
    known = np.asarray(values, dtype=float)
    mean = float(known.mean()) if len(known) else 0.0
    return float(known.var()) / mean**2 if mean > 0 else 0.0


def _served(result: LoadResult, rows: RequestArray, start: int, end: int) -> float:
    """Served work in requests: output tokens / mean requested length if both are known, else ended requests."""
    whole = (start, end) == (result.window.start_ns, result.window.end_ns)
    tokens = result.output_tokens_in_window if whole else 0
    mean = result.osl_mean
    if mean is None:
        lengths = np.where(rows["output_tokens"] > 0, rows["output_tokens"], rows["osl_asked"])
        known = lengths[completed(rows) & (lengths > 0)]
        mean = float(known.mean()) if len(known) else None
    if tokens and mean:
        return tokens / mean
    return float(((rows["end_ns"] >= start) & (rows["end_ns"] < end)).sum())


def _idle(begin: Int64Array, stop: Int64Array, start: int, end: int) -> float:
    """Share of [start, end) without requests in flight."""
    order = np.argsort(begin, kind="stable")
    begin, stop = np.maximum(begin[order], start), np.maximum(stop[order], start)
    covered = np.maximum.accumulate(stop)
    gaps = (
        np.maximum(begin[1:] - covered[:-1], 0).sum()
        + max(0, int(begin[0]) - start)
        + max(0, end - int(covered[-1]))
    )
    return float(gaps) / (end - start)


def explained(result: LoadResult) -> FloatArray:
    """Output tokens expected in each whole second of the window if each request took the usual time.

    An open loop's throughput follows its arrivals: changes that they explain are not drift. Each request's
    tokens begin at its intended send + the median TTFT, and follow at the median TPOT.
    """
    rows, seconds = _scheduled(result), len(result.tokens_per_second)
    done = rows[completed(rows) & (rows["output_tokens"] > 1)]
    if not len(done):
        return np.zeros(seconds)
    ttft = float(np.median(done["first_token_ns"] - done["intended_ns"]))
    tpot = float(np.median((done["last_token_ns"] - done["first_token_ns"]) / (done["output_tokens"] - 1)))
    tokens = np.where(
        rows["output_tokens"] > 0, rows["output_tokens"], np.maximum(rows["osl_asked"], 0)
    ).astype(float)
    begin = (rows["intended_ns"] - result.window.start_ns + ttft) / 1e9
    length = np.maximum((tokens - 1) * tpot / 1e9, 1e-3)
    edges = np.arange(seconds + 1, dtype=float)
    speed = tokens / length
    return np.diff(_ramp(edges, begin, speed) - _ramp(edges, begin + length, speed))


def _ramp(at: FloatArray, begin: FloatArray, speed: FloatArray) -> FloatArray:
    """Sum of speed x (t - begin) over all requests that have begun, at each time."""
    order = np.argsort(begin)
    begin, speed = begin[order], speed[order]
    speeds = np.concatenate([[0.0], np.cumsum(speed)])
    offsets = np.concatenate([[0.0], np.cumsum(speed * begin)])
    begun = np.searchsorted(begin, at)
    ramp: FloatArray = at * speeds[begun] - offsets[begun]
    return ramp
