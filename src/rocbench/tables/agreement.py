"""Latencies of the same requests from the client and from the server. Pure; absent is None, never zero.

The server's histograms have a sum and a count. Their growth between two readings covers the first tokens and
the ends of requests in that time, and the client has timestamps of the same events. So both means cover the
same requests, except those within the duration of a reading at an edge. If the counts differ by more, the
server also answered other clients, or reported only a part of the load (one replica of several), and the
means cannot be compared.

Names by vLLM version: `request_time_per_output_token_seconds` is the mean of a request, like bench's TPOT.
`inter_token_latency_seconds` (before 0.11 `time_per_output_token_seconds`) has one gap per engine step: it is
between the client's time per token and its time per chunk, which are equal if a step makes one token. The
server's clock begins after it has read the request and ends before it writes the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rocbench.column import Values
from rocbench.records import FAILURES, NONE, BoolArray, Failure, RequestArray, ServerSample, Window

MIN_REQUESTS = 20
"""Minimum requests for a comparison."""
COUNTS_OFF = 0.02
"""Maximum difference between the two counts, as a share."""
_TTFT = "time_to_first_token_seconds"
_E2EL = "e2e_request_latency_seconds"
_TPOT = "request_time_per_output_token_seconds"
_GAPS = ("inter_token_latency_seconds", "time_per_output_token_seconds")
_FINISHED = (NONE, FAILURES.index(Failure.EARLY_STOP), FAILURES.index(Failure.ABORTED))
COLUMNS = (
    "matched_requests",
    "matched_ttft_ms",
    "matched_server_ttft_ms",
    "matched_tpot_ms",
    "matched_server_tpot_ms",
    "matched_e2el_ms",
    "matched_server_e2el_ms",
)

Pair = tuple[float, float]
"""Means of the client and of the server, in ms."""


def matched(rows: RequestArray, samples: Sequence[ServerSample], window: Window) -> Values:
    """Mean TTFT, TPOT and E2EL of the same requests, from both sides.

    Args:
        rows: requests of all phases.
        samples: readings of the server's metrics, from before the load to after it.
        window: the measured window; readings inside it are used if they hold enough requests, else all.
    """
    row: Values = dict.fromkeys(COLUMNS)
    spans = list(_spans(samples, window))
    ttft = _first(spans, lambda span: span.ttft(rows))
    e2el = _first(spans, lambda span: span.e2el(rows))
    tpot = _first(spans, lambda span: span.tpot(rows))
    if tpot is None and ttft is not None:
        tpot = _first(spans, lambda span: span.gap(rows))
    for name, pair in (("ttft", ttft), ("tpot", tpot), ("e2el", e2el)):
        if pair is not None:
            row[f"matched_{name}_ms"], row[f"matched_server_{name}_ms"] = pair
    row["matched_requests"] = next((n for span in spans if (n := span.requests(rows)) is not None), None)
    return row


def _first(spans: Sequence[_Span], means: Callable[[_Span], Pair | None]) -> Pair | None:
    return next((pair for span in spans if (pair := means(span)) is not None), None)


def _spans(samples: Sequence[ServerSample], window: Window) -> Iterator[_Span]:
    """The span between the first and last readings inside the window, then between those of the whole load."""
    ordered = sorted(samples, key=lambda sample: sample.at_ns)
    inside = [s for s in ordered if window.start_ns <= s.at_ns < window.end_ns]
    for readings in (inside, ordered):
        if len(readings) > 1:
            yield _Span(readings[0], readings[-1])


class _Span:
    """The time between two readings."""

    def __init__(self, before: ServerSample, after: ServerSample) -> None:
        self.before, self.after = before, after

    def requests(self, rows: RequestArray) -> int | None:
        """Number of requests whose first token is in the span; None if the server's count does not agree."""
        count = int(self._inside(rows, "first_token_ns").sum())
        return count if self._agree(_TTFT, count) else None

    def ttft(self, rows: RequestArray) -> Pair | None:
        """Mean TTFT."""
        begun = rows[self._inside(rows, "first_token_ns")]
        if not self._agree(_TTFT, len(begun)):
            return None
        return _mean_ms(begun["first_token_ns"] - begun["sent_ns"]), self._mean_ms(_TTFT)

    def e2el(self, rows: RequestArray) -> Pair | None:
        """Mean E2EL."""
        ended = self._ended(rows)
        if not self._agree(_E2EL, len(ended)):
            return None
        return _mean_ms(ended["last_token_ns"] - ended["sent_ns"]), self._mean_ms(_E2EL)

    def tpot(self, rows: RequestArray) -> Pair | None:
        """Mean TPOT. vLLM reports zero for an answer of one token, which has no TPOT."""
        ended = self._ended(rows)
        several = ended[ended["output_tokens"] > 1]
        if not len(several):
            return None
        times = (several["last_token_ns"] - several["first_token_ns"]) / (several["output_tokens"] - 1)
        if self._agree(_TPOT, len(several)):
            return _mean_ms(times), self._mean_ms(_TPOT)
        if self._agree(_TPOT, len(ended)):
            return _mean_ms(times), self._mean_ms(_TPOT) * len(ended) / len(several)
        return None

    def gap(self, rows: RequestArray) -> Pair | None:
        """Mean gap per engine step of the server, and the client's nearest value: per token, per chunk or between."""
        ended = self._ended(rows)
        several = ended[(ended["output_tokens"] > 1) & (ended["chunks"] > 1)]
        name = next((name for name in _GAPS if self._growth(f"{name}_count") > 0), None)
        if name is None or len(several) < MIN_REQUESTS:
            return None
        total_ms = float((several["last_token_ns"] - several["first_token_ns"]).sum()) / 1e6
        server = self._mean_ms(name)
        per_token = total_ms / float((several["output_tokens"] - 1).sum())
        per_chunk = total_ms / float((several["chunks"] - 1).sum())
        return min(max(server, min(per_token, per_chunk)), max(per_token, per_chunk)), server

    def _inside(self, rows: RequestArray, stamp: str) -> BoolArray:
        inside: BoolArray = (rows[stamp] >= self.before.at_ns) & (rows[stamp] < self.after.at_ns)
        return inside

    def _ended(self, rows: RequestArray) -> RequestArray:
        return rows[self._inside(rows, "last_token_ns") & np.isin(rows["failure"], _FINISHED)]

    def _growth(self, name: str) -> float:
        return self.after.values.get(name, 0.0) - self.before.values.get(name, 0.0)

    def _agree(self, name: str, client: int) -> bool:
        server = self._growth(f"{name}_count")
        return min(client, server) >= MIN_REQUESTS and abs(server - client) <= max(1.0, COUNTS_OFF * client)

    def _mean_ms(self, name: str) -> float:
        return self._growth(f"{name}_sum") / self._growth(f"{name}_count") * 1e3


def _mean_ms(values: np.ndarray[tuple[int], np.dtype[np.generic]]) -> float:
    return float(values.mean()) / 1e6
