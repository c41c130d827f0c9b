"""Requests per second under closed loop, without the bias of a count. Pure.

A window begins when the last user has ended a request and ends when enough have begun, so it holds too many
short requests and too many ends: with one user and lengths of lognormal spread (sigma 1) a count over the
window is up to 29 % too high. By Little's law, users / time in flight is the rate. The time is that of
requests that *began* in the window, which does not depend on the position of its edges (Wald's identity:
whether a request begins is known before its length). If the mean of the drawn lengths is known, the time is
adjusted to it along the line of time over length (a control variate), so that a window of short requests does
not look like a fast server.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rocbench.records import NONE, BoolArray, LoadResult, RequestArray

Row = dict[str, float | int | str | bool | None]
FloatArray = npt.NDArray[np.float64]

DELIVERED = 0.1
"""Maximum deviation of the concurrency from the users, as a share, for which Little's law is used."""


def columns(result: LoadResult, began: BoolArray, in_flight: object, counted: object) -> Row:
    """`request_throughput`, counted or by Little's law, and the bias that it may still have."""
    row: Row = {
        "request_throughput": counted if isinstance(counted, float) else None,
        "rate_bias_share": None,
        "token_rate_gap_share": None,
    }
    users, rows, window = result.concurrency_asked, result.requests, result.window
    if not users or not isinstance(in_flight, float) or window.ended_by == "count":
        return row
    if abs(in_flight / users - 1) > DELIVERED:
        return row
    mine = rows[began & (rows["sent_ns"] != NONE) & (rows["end_ns"] != NONE)]
    good = mine["failure"] == NONE
    if len(mine) < began.sum() or good.sum() < 2:
        return row
    times = _under_full_load(mine, int(rows["sent_ns"].max()))
    lengths = mine["osl_asked"].astype(float)
    mean, left = float(times.mean()), times[good]
    spread = float(lengths[good].var())
    if result.osl_mean is not None and spread > 0:
        per_token = float(np.cov(lengths[good], times[good], bias=True)[0, 1]) / spread
        mean += per_token * (result.osl_mean - float(lengths.mean()))
        left = times[good] - per_token * lengths[good]
    if mean <= 0:
        return row
    rate = in_flight / mean * float(good.mean())
    length = result.osl_mean or float(mine["output_tokens"][good].mean())
    tokens = result.output_tokens_in_window / window.seconds
    return {
        "request_throughput": rate,
        "token_rate_gap_share": tokens / (rate * length) - 1 if tokens and length > 0 else None,
        "rate_bias_share": _bias(float(left.var()) / mean**2, len(mine), len(mine) / users, window.ended_by),
    }


def _under_full_load(mine: RequestArray, last_sent: int) -> FloatArray:
    """Seconds from send to end; for requests that outlived the tail, as if the load had continued.

    A tail that reached its limit leaves the longest requests to an emptying server, which ends them many
    times faster: their remaining tokens are counted at the time per token of the others. A tail that was not
    cut leaves at most one.
    """
    times: FloatArray = (mine["end_ns"] - mine["sent_ns"]) / 1e9
    long = (mine["failure"] == NONE) & (mine["output_tokens"] > 1) & (mine["first_token_ns"] != NONE)
    cut, whole = long & (mine["end_ns"] > last_sent), long & (mine["end_ns"] <= last_sent)
    if cut.sum() < 2 or not whole.any():
        return times
    gaps = mine["output_tokens"] - 1.0
    spans = (mine["last_token_ns"] - mine["first_token_ns"]) / 1e9
    lasting = (mine["first_token_ns"] - mine["sent_ns"]) / 1e9 + gaps * (
        spans[whole].sum() / gaps[whole].sum()
    )
    return np.where(cut, np.maximum(times, lasting), times)


def _bias(cv2: float, requests: int, per_user: float, ended_by: str) -> float:
    """Approximate relative bias of 1 / (mean of `requests` times), which is too high.

    cv2 / n if the number ended the window (Jensen's inequality). If its duration did, only the last request
    of each user is cut at a place that depends on its length, which is of second order: the variance of a
    residual time, for a lognormal time (1 + cv2)^3 / 3 - (1 + cv2)^2 / 4, over n x requests per user.
    """
    by_count = cv2 / requests
    if ended_by != "duration":
        return by_count
    residual = (1 + cv2) ** 3 / 3 - (1 + cv2) ** 2 / 4 - 1 / 12
    return min(by_count, residual / (requests * per_user))
