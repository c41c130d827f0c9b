"""Latencies of requests, and their columns. Pure; absent is None, never zero.

Formulas, per completed request, as in `vllm bench serve` (vllm/benchmarks/serve.py `calculate_metrics` and
vllm/benchmarks/lib/endpoint_request_func.py):

    TTFT = first token - sent            E2EL = last token - sent (not the last byte)
    TPOT = (E2EL - TTFT) / (n - 1)       for n > 1 output tokens, else absent
    ITL  = gaps between tokens, weighted by tokens: the gap before a chunk of several tokens is divided among them
    ICL  = gaps between chunks           TTFC = first chunk of any kind - sent

Percentiles interpolate linearly (numpy's and vLLM's default); those of ITL and ICL are the middle of a bin 0.1 %
wide.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rocbench.column import Values
from rocbench.records import NONE, BoolArray, FloatArray, Histogram, Int64Array, RequestArray
from rocbench.stats import ratio

LATE_MS = 10.0
"""Delay in ms after the intended time above which a send is late."""

_PERCENTILES = {"median": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}


def between_ms(later: Int64Array, earlier: Int64Array) -> FloatArray:
    """later - earlier in ms, for rows with both timestamps."""
    known = (later != NONE) & (earlier != NONE)
    return np.asarray((later[known] - earlier[known]) / 1e6, dtype=float)


def ttft_ms(rows: RequestArray) -> FloatArray:
    """First token - sent, in ms, of the rows that have both."""
    return between_ms(rows["first_token_ns"], rows["sent_ns"])


def e2el_ms(rows: RequestArray) -> FloatArray:
    """Last token - sent, in ms, of the rows that have both."""
    return between_ms(rows["last_token_ns"], rows["sent_ns"])


def tpot_ms(rows: RequestArray) -> FloatArray:
    """(E2EL - TTFT) / (n - 1) = (last token - first token) / (n - 1), of rows with n > 1."""
    known = (rows["output_tokens"] > 1) & (rows["first_token_ns"] != NONE) & (rows["last_token_ns"] != NONE)
    rows = rows[known]
    spans = (rows["last_token_ns"] - rows["first_token_ns"]) / 1e6
    return np.asarray(spans / (rows["output_tokens"] - 1), dtype=float)


def _describe(name: str, values: FloatArray, percentiles: Iterable[str] = _PERCENTILES) -> Values:
    """Mean, percentiles and number of values in ms; None if there are no values."""
    row: Values = {f"mean_{name}_ms": float(values.mean()) if len(values) else None}
    for p in percentiles:
        row[f"{p}_{name}_ms"] = float(np.percentile(values, _PERCENTILES[p])) if len(values) else None
    return row | {f"{name}_n": len(values)}


def _describe_histogram(name: str, histogram: Histogram, percentiles: Iterable[str] = _PERCENTILES) -> Values:
    row: Values = {f"mean_{name}_ms": histogram.mean_ns() / 1e6 if histogram.total else None}
    for p in percentiles:
        row[f"{p}_{name}_ms"] = histogram.percentile_ns(_PERCENTILES[p]) / 1e6 if histogram.total else None
    return row | {f"{name}_n": histogram.total}


def columns(rows: RequestArray, itl: Histogram, icl: Histogram) -> Values:
    """Latency columns of completed requests that began in the window, and the quality of their timestamps."""
    gaps = int((np.maximum(rows["chunks"], 1) - 1).sum())
    chunks = int(np.maximum(rows["chunks"], 0).sum())
    return (
        _describe("ttft", ttft_ms(rows))
        | _describe("tpot", tpot_ms(rows))
        | _describe_histogram("itl", itl)
        | _describe("e2el", e2el_ms(rows))
        | _describe_histogram("icl", icl, ("median", "p99"))
        | _describe("ttfc", between_ms(rows["first_chunk_ns"], rows["sent_ns"]), ("median", "p99"))
        | {
            "zero_gap_share": ratio(np.maximum(rows["zero_gaps"], 0).sum(), gaps),
            "coalesced_share": ratio(np.maximum(rows["coalesced"], 0).sum(), chunks),
        }
    )


def open_loop_columns(rows: RequestArray, good: BoolArray, began: BoolArray) -> Values:
    """Latency from the intended send, and lateness; None under closed loop, which has no schedule.

    Latency from the intended time is free of coordinated omission (Tene, wrk2).
    """
    names = ("median_ttft_intended_ms", "p99_ttft_intended_ms", "mean_lateness_ms", "p99_lateness_ms")
    scheduled = rows[began & (rows["user"] == NONE)]
    if not len(scheduled):
        return dict.fromkeys((*names, "late_sends", "dropped_sends"))
    ttft = between_ms(rows["first_token_ns"][good], rows["intended_ns"][good])
    lateness = between_ms(scheduled["sent_ns"], scheduled["intended_ns"])
    row: Values = dict.fromkeys(names)
    if len(ttft):
        row |= {names[0]: float(np.median(ttft)), names[1]: float(np.percentile(ttft, 99))}
    if len(lateness):
        row |= {names[2]: float(lateness.mean()), names[3]: float(np.percentile(lateness, 99))}
    return row | {
        "late_sends": int((lateness > LATE_MS).sum()),
        "dropped_sends": int((scheduled["sent_ns"] == NONE).sum()),
    }
