"""Requests per second under closed loop, without the bias of a count. Pure.

A window begins when the last user has ended a request and ends when enough have begun, so it has too many
short requests and too many ends: with one user and lengths of lognormal spread (sigma 1), a count over the
window is up to 29 % too high. By Little's law, the rate is users / time in flight. The time is that of
requests that *began* in the window, which does not depend on the position of its edges (Wald's identity: a
request begins before its length is known). If the mean of the drawn lengths is known, the time is adjusted to
it along the line of time over length (a control variate). Otherwise a window of short requests would look
like a fast server.
"""

from __future__ import annotations

import numpy as np

from rocbench.column import Values
from rocbench.records import NONE, BoolArray, FloatArray, LoadResult, RequestArray

DELIVERED = 0.1
"""Maximum deviation of the concurrency from the users, as a share, for which Little's law is used."""


def columns(result: LoadResult, began: BoolArray, in_flight: object, counted: object) -> Values:
    """`request_throughput`, counted or by Little's law, and its remaining bias."""
    row: Values = {
        "request_throughput": counted if isinstance(counted, float) else None,
        "rate_bias_share": None,
        "token_rate_gap_share": None,
    }
    users, rows, window = result.concurrency_asked, result.requests, result.window
    if not users or not isinstance(in_flight, float) or window.ended_by == "count":
        return row
    if abs(in_flight / users - 1) > DELIVERED:
        return row
    last_sent = int(rows["sent_ns"].max())
    rows = rows[began & (rows["sent_ns"] != NONE) & (rows["end_ns"] != NONE)]
    good = rows["failure"] == NONE
    if len(rows) < began.sum() or good.sum() < 2:
        return row
    times = _under_full_load(rows, last_sent)
    lengths = rows["osl_asked"].astype(float)
    mean, residuals = float(times.mean()), times[good]
    spread = float(lengths[good].var())
    if result.osl_mean is not None and spread > 0:
        per_token = float(np.cov(lengths[good], times[good], bias=True)[0, 1]) / spread
        mean += per_token * (result.osl_mean - float(lengths.mean()))
        residuals = times[good] - per_token * lengths[good]
    if mean <= 0:
        return row
    rate = in_flight / mean * float(good.mean())
    length = result.osl_mean or float(rows["output_tokens"][good].mean())
    tokens = result.output_tokens_in_window / window.seconds
    return {
        "request_throughput": rate,
        "token_rate_gap_share": tokens / (rate * length) - 1 if tokens and length > 0 else None,
        "rate_bias_share": _bias(
            float(residuals.var()) / mean**2, len(rows), len(rows) / users, window.ended_by
        ),
    }


def _under_full_load(rows: RequestArray, last_sent: int) -> FloatArray:
    """Seconds from send to end; for requests that outlived the tail, as if the load had continued.

    If the tail reached its limit, the longest requests end on an emptying server, which is many times faster:
    their tokens are counted at the time per token of the others. A tail that was not cut leaves at most one
    such request.
    """
    times: FloatArray = (rows["end_ns"] - rows["sent_ns"]) / 1e9
    long = (rows["failure"] == NONE) & (rows["output_tokens"] > 1) & (rows["first_token_ns"] != NONE)
    cut, whole = long & (rows["end_ns"] > last_sent), long & (rows["end_ns"] <= last_sent)
    if cut.sum() < 2 or not whole.any():
        return times
    gaps = rows["output_tokens"] - 1.0
    spans = (rows["last_token_ns"] - rows["first_token_ns"]) / 1e9
    per_token = spans[whole].sum() / gaps[whole].sum()
    full = (rows["first_token_ns"] - rows["sent_ns"]) / 1e9 + gaps * per_token
    return np.where(cut, np.maximum(times, full), times)


def _bias(cv2: float, requests: int, per_user: float, ended_by: str) -> float:
    """Approximate relative bias of 1 / (mean of `requests` times), which is too high.

    cv2 / n if the number of requests ended the window (Jensen's inequality). If its duration did, only the
    cut of each user's last request depends on its length, which is an effect of second order: the variance of
    a residual time, for a lognormal time (1 + cv2)^3 / 3 - (1 + cv2)^2 / 4, over n x requests per user.
    """
    by_count = cv2 / requests
    if ended_by != "duration":
        return by_count
    residual = (1 + cv2) ** 3 / 3 - (1 + cv2) ** 2 / 4 - 1 / 12
    return min(by_count, residual / (requests * per_user))
