"""Columns of one cell from its LoadResult. Pure; absent is None, never zero.

Two populations, never mixed:

* Throughput counts events *in the window*, whenever their request began: tokens by their timestamps, requests
  by their end. Under closed loop the rate of requests is not counted, because a window that begins and ends
  with requests has too many of them. It follows from Little's law: achieved concurrency / mean time in flight
  (`request_rate`).
* Latencies, completed, failed and goodput are those of requests that *began in the window* (Phase.MEASURED).

`latencies` and `goodput` have the formulas of requests. Little's law: L = lambda W (Little, Operations Research 9,
1961).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from rocbench import stats
from rocbench.column import Values
from rocbench.records import (
    BURST_EVENTS,
    BURST_TOKENS,
    FAILURES,
    NONE,
    RESENDS,
    BoolArray,
    Doubt,
    Failure,
    FloatArray,
    Int64Array,
    LoadResult,
    Phase,
    RequestArray,
    Resend,
    Window,
    completed,
    in_flight_spans,
)
from rocbench.stats import ratio
from rocbench.tables import backlog, goodput, latencies, request_rate, stalls, within
from rocbench.units import one_line

UNCOUNTED = 0.01
"""Maximum share of answers without a token count; above it, output tokens/s is absent."""

_DIFFERS = re.compile(r"\b(?:[0-9a-f]{8,}|[0-9a-f-]{32,}|\w*-[0-9a-f]{6,}\w*)\b|\d+", re.IGNORECASE)
"""Parts of errors that differ between requests: numbers and ids."""


def summarise(result: LoadResult, *, gpus: int | None, slo: Mapping[str, float] | None = None) -> Values:
    """The columns of one cell and repeat that depend on its load.

    Args:
        result: result of the load.
        gpus: GPUs that the server uses; None if unknown.
        slo: limits of one request for goodput, in ms: `ttft_ms`, `tpot_ms`, `e2el_ms`.
    """
    rows, window = result.requests, result.window
    began = rows["phase"] == Phase.MEASURED
    good = began & completed(rows)
    failed = began & (rows["failure"] != NONE)
    row: Values = {
        "duration_s": window.seconds,
        "window_ended_by": window.ended_by,
        "completed": int(good.sum()),
        "failed": int(failed.sum()),
        "unfinished": int((began & ~good & ~failed & (rows["sent_ns"] != NONE)).sum()),
        "success_rate": ratio(good.sum(), good.sum() + failed.sum()),
        "failures": _failures(rows["failure"][failed]),
        "load_notes": json.dumps(result.notes, ensure_ascii=False) if result.notes else None,
        "concurrency": result.concurrency_asked,
        "requests_per_user": ratio((began & (rows["sent_ns"] != NONE)).sum(), result.concurrency_asked),
        "transport": result.transport,
    }
    row |= _errors(result, failed)
    row |= _resent(rows, began)
    row |= _throughput(result, gpus, counted=_counted(rows[good | failed]))
    row |= _in_flight_columns(rows, window, result.concurrency_asked)
    row |= request_rate.columns(result, began, row["achieved_concurrency"], row["request_throughput"])
    row |= backlog.columns(result, row["achieved_concurrency"])
    row |= latencies.columns(rows[good], result.itl, result.icl)
    row |= within.columns(rows[good], result.tokens_per_second, row["output_throughput"])
    row |= stalls.columns(result, good, row["median_icl_ms"])
    row |= latencies.open_loop_columns(rows, good, began)
    row |= _lengths(rows, good)
    row |= _doubts(rows[good])
    row |= goodput.columns(rows[good], int(failed.sum()), row["request_throughput"], slo)
    explained = None if result.concurrency_asked else backlog.explained(result)
    row |= _steadiness(result.tokens_per_second if row["output_throughput"] is not None else [], explained)
    return row | _client(result)


def _failures(indices: npt.NDArray[np.int8]) -> str:
    """JSON of failure class to count, in the order of FAILURES."""
    counts = np.bincount(indices.astype(np.int64), minlength=len(FAILURES))
    return json.dumps({name.value: int(n) for name, n in zip(FAILURES, counts, strict=True) if n})


def _errors(result: LoadResult, failed: BoolArray) -> Values:
    """Most frequent error of failed requests and its count; of the whole load if none failed in the window."""
    rows = failed if failed.any() else result.requests["failure"] != NONE
    errors = [text for i in result.requests["request_id"][rows].tolist() if (text := result.errors.get(i))]
    if not errors:
        return {"common_error": None, "common_error_count": None}
    (kind, count), *_ = Counter(map(kind_of, errors)).most_common(1)
    first = next(text for text in errors if kind_of(text) == kind)
    return {"common_error": one_line(first), "common_error_count": count}


def kind_of(text: str) -> str:
    """An error without the parts that differ between requests: numbers and ids."""
    return _DIFFERS.sub("#", text)


def _resent(rows: RequestArray, began: BoolArray) -> Values:
    """Requests sent again, by cause, and the number of sends that the server should have read."""
    counts = {cause: int((began & (rows["resent"] == i)).sum()) for i, cause in enumerate(RESENDS)}
    reached = (rows["sent_ns"] != NONE) & (rows["failure"] != FAILURES.index(Failure.CONNECT))
    again = (rows["resent"] != NONE) & (rows["resent"] != RESENDS.index(Resend.UNREAD))
    return {
        "resent_after_reset": counts[Resend.RESET],
        "resent_after_close": counts[Resend.CLOSED],
        "resent_unread": counts[Resend.UNREAD],
        "requests_sent": int(reached.sum() + again.sum()),
    }


# --- throughput and concurrency


def _counted(rows: RequestArray) -> bool:
    """True if nearly every answer has a token count: answers without one add nothing to the sums."""
    uncounted = (rows["output_tokens"] == NONE) & (rows["chunks"] > 0)
    return bool(uncounted.sum() <= UNCOUNTED * len(rows))


def _throughput(result: LoadResult, gpus: int | None, *, counted: bool) -> Values:
    """Tokens and requests in the window, per second; if tokens were not counted, token rates are absent."""
    rows, window = result.requests, result.window
    seconds = window.seconds if window.seconds > 0 else None
    ended_here = (rows["end_ns"] >= window.start_ns) & (rows["end_ns"] < window.end_ns)
    completed_here = ended_here & (rows["failure"] == NONE)
    images = bool((rows["images"] > 0).any())
    output = ratio(result.output_tokens_in_window, seconds) if counted else None
    total = result.output_tokens_in_window + result.input_tokens_in_window + result.image_tokens_in_window
    return {
        "request_throughput": ratio(completed_here.sum(), seconds),
        "output_throughput": output,
        "input_throughput": ratio(result.input_tokens_in_window, seconds),
        "image_token_throughput": ratio(result.image_tokens_in_window, seconds) if images else None,
        "total_token_throughput": ratio(total, seconds) if counted else None,
        "output_throughput_per_gpu": None if output is None else ratio(output, gpus),
    }


def in_flight(sent_ns: Int64Array, end_ns: Int64Array, window: Window) -> tuple[float, int]:
    """Time-weighted mean and peak of requests in flight inside the window, exact from events.

    mean = sum of each request's overlap with the window / window. At one instant, ends count before starts.
    """
    start, stop = in_flight_spans(sent_ns, end_ns, window.start_ns, window.end_ns)
    if not len(start):
        return 0.0, 0
    mean = float((stop - start).sum()) / (window.end_ns - window.start_ns)
    steps = np.concatenate([np.ones(len(start), np.int64), -np.ones(len(stop), np.int64)])
    order = np.lexsort((steps, np.concatenate([start, stop])))
    return mean, int(np.cumsum(steps[order]).max())


def _in_flight_columns(rows: RequestArray, window: Window, users: int | None) -> Values:
    """Achieved and peak concurrency, and Little's law: rate x mean time in flight / achieved concurrency.

    The rate is that of ended requests; under open loop that of arrivals, because above capacity the rate of
    ends always fits the requests that end.
    """
    if window.seconds <= 0:
        return {"achieved_concurrency": None, "peak_concurrency": None, "littles_law_ratio": None}
    mean, peak = in_flight(rows["sent_ns"], rows["end_ns"], window)
    ended_here = (
        (rows["end_ns"] >= window.start_ns) & (rows["end_ns"] < window.end_ns) & (rows["sent_ns"] != NONE)
    )
    began = rows["phase"] == Phase.MEASURED
    ended = rows[began & (rows["end_ns"] != NONE) & (rows["sent_ns"] != NONE)]
    ratio = None
    if len(ended) and mean:
        time_in_flight = float((ended["end_ns"] - ended["sent_ns"]).mean()) / 1e9
        number = float(ended_here.sum() if users is not None else began.sum())
        ratio = number / window.seconds * time_in_flight / mean
    return {"achieved_concurrency": mean, "peak_concurrency": peak, "littles_law_ratio": ratio}


# --- lengths


def _lengths(rows: RequestArray, good: BoolArray) -> Values:
    """Requested and actual lengths; the client's token totals over all phases (for the server's counters)."""
    isl_asked, osl_asked, osl = (rows[name][good] for name in ("isl_asked", "osl_asked", "output_tokens"))
    isl = _text_tokens(rows[good])
    return {
        "isl_asked": _mean(isl_asked),
        "osl_asked": _mean(osl_asked),
        "isl_had": _mean(isl),
        "osl_had": _mean(osl),
        "isl_off_share": _off_share(isl_asked, isl),
        "osl_off_share": _off_share(osl_asked, osl),
        "cached_tokens": _total(rows["cached_tokens"]),
        "client_output_tokens": _total(rows["output_tokens"]),
        "client_prompt_tokens": _total(rows["prompt_tokens"]),
        "client_unsure_tokens": int(np.maximum(rows["osl_asked"][~completed(rows)], 0).sum(dtype=np.int64)),
    }


def _text_tokens(rows: RequestArray) -> npt.NDArray[np.int32]:
    """Prompt tokens minus image tokens; NONE if images were sent and their tokens are not known."""
    text = rows["prompt_tokens"] - np.maximum(rows["image_tokens"], 0)
    unknown = (rows["prompt_tokens"] == NONE) | ((rows["images"] > 0) & (rows["image_tokens"] == NONE))
    return np.where(unknown, NONE, text).astype(np.int32)


def _mean(values: npt.NDArray[np.int32]) -> float | None:
    known = values[values != NONE]
    return float(known.mean()) if len(known) else None


def _total(values: npt.NDArray[np.int32]) -> int | None:
    known = values[values != NONE]
    return int(known.sum(dtype=np.int64)) if len(known) else None


def _off_share(requested: npt.NDArray[np.int32], actual: npt.NDArray[np.int32]) -> float | None:
    known = (requested != NONE) & (actual != NONE)
    return ratio((requested[known] != actual[known]).sum(), known.sum())


# --- contradictions


def _doubts(rows: RequestArray) -> Values:
    """Shares of completed requests whose answers contradict themselves, and the tokens of their first chunks."""
    doubts = np.maximum(rows["doubts"], 0)

    def share(doubt: Doubt, among: BoolArray) -> float | None:
        return ratio(((doubts & doubt) != 0)[among].sum(), among.sum())

    every = np.ones(len(rows), dtype=np.bool_)
    one_piece = (doubts & Doubt.ONE_PIECE) != 0
    long_enough = (rows["chunks"] >= BURST_EVENTS) | (rows["output_tokens"] >= BURST_TOKENS) | one_piece
    first = rows["first_tokens"]
    return {
        "usage_disagrees_share": share(Doubt.USAGE, every),
        "one_piece_share": share(Doubt.ONE_PIECE, long_enough),
        "unknown_text_share": share(Doubt.UNKNOWN_TEXT, every),
        "unknown_end_share": share(Doubt.END, every),
        "first_chunk_tokens": _mean(first[first > 0]),
    }


# --- steadiness and the client


def _steadiness(tokens_per_second: Int64Array | Sequence[int], explained: FloatArray | None) -> Values:
    """Drift between the window's halves with its interval, and the spread over whole seconds.

    Under open loop, the tokens that the arrivals explain (`explained`) are subtracted first.

    drift = (mean of the second half - mean of the first) / mean of all. Each half is cut into up to 5 batches, because
    neighbouring seconds are not independent (batch means; Law, Simulation Modeling and Analysis, 9.5.3), and the
    batches are compared by Welch. Absent for fewer than 4 whole seconds.
    """
    seconds = np.asarray(tokens_per_second, dtype=float)
    row: Values = dict.fromkeys(("drift", "drift_low", "drift_high", "tokens_per_second_cov"))
    if len(seconds) < 4 or not seconds.any():
        return row
    half = len(seconds) // 2
    judged = seconds if explained is None else seconds - explained
    first, second = (
        [float(batch.mean()) for batch in np.array_split(part, min(5, half))]
        for part in (judged[:half], judged[-half:])
    )
    effect, mean = stats.welch(first, second), float(seconds.mean())
    return {
        "drift": effect.estimate / mean,
        "drift_low": effect.low / mean,
        "drift_high": effect.high / mean,
        "tokens_per_second_cov": stats.cov(seconds),
    }


def _client(result: LoadResult) -> Values:
    """The client's figures about itself."""
    workers = result.workers
    tokens = sum(w.tokens for w in workers)
    cpu = sum(w.cpu_s for w in workers)
    timed = [w for w in workers if w.wall_s > 0]
    busy = [(w.cpu_s + w.cpu_wait_s) / w.wall_s for w in timed if w.cpu_wait_s is not None]
    return {
        "client_workers": len(workers) or None,
        "load_hosts": ";".join(host.name for host in result.hosts) or None,
        "load_hosts_clock_ms": ";".join(f"{host.clock_offset_ms:+.3f}" for host in result.hosts) or None,
        "load_hosts_clock_bound_ms": max((host.clock_bound_ms for host in result.hosts), default=None),
        "client_cpu_share_max": max((w.cpu_s / w.wall_s for w in timed), default=None),
        "client_busy_share_max": max(busy, default=None),
        "client_cpu_us_per_token": ratio(cpu * 1e6, tokens),
        "client_longest_pause_ms": max((w.longest_pause_ms for w in workers), default=None),
        "connections_opened": sum(w.connections_opened for w in workers) if workers else None,
        "idle_closes": sum(w.idle_closes for w in workers) if workers else None,
        "clock_step_ms": result.clock_step_ns / 1e6,
        "open_file_limit": result.open_file_limit,
    }
