"""The client's and the server's latencies of the same requests. Pure; absent is None, never zero.

The server's histograms give sum and count. Between two readings they hold the first tokens and the ends of
requests in that time, and the client has stamps of the same events. So both means cover the same requests,
except those within a reading's own length of an edge. If the counts differ by more, the server also answered
other clients, or reported only a part of the load (one replica of several), and there is nothing to compare.

Names by vLLM version: `request_time_per_output_token_seconds` is the mean of a request, like bench's TPOT.
`inter_token_latency_seconds` (before 0.11 `time_per_output_token_seconds`) holds one gap for each engine
step: it is between the client's time per token and its time per chunk, which are equal if a step makes one
token. The server's clock begins after it has read the request and ends before it writes the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rocbench.records import FAILURES, NONE, BoolArray, Failure, RequestArray, ServerSample, Window

Row = dict[str, float | int | None]

LEAST_REQUESTS = 20
COUNTS_OFF = 0.02
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
"""A mean by the client and by the server, in ms."""


def matched(rows: RequestArray, samples: Sequence[ServerSample], window: Window) -> Row:
    """Mean TTFT, TPOT and E2EL of the same requests, by both sides.

    Args:
        rows: requests of all phases.
        samples: readings of the server's metrics, from before the load to after it.
        window: the measured window; readings inside it are used if they hold enough requests, else all.
    """
    row: Row = dict.fromkeys(COLUMNS)
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


def _first(spans: Sequence[_Span], ask: Callable[[_Span], Pair | None]) -> Pair | None:
    return next((found for span in spans if (found := ask(span)) is not None), None)


def _spans(samples: Sequence[ServerSample], window: Window) -> Iterator[_Span]:
    """The span between the outermost readings inside the window, then between the outermost of all."""
    ordered = sorted(samples, key=lambda sample: sample.at_ns)
    for some in ([s for s in ordered if window.start_ns <= s.at_ns < window.end_ns], ordered):
        if len(some) > 1:
            yield _Span(some[0], some[-1])


class _Span:
    """The time between two readings."""

    def __init__(self, before: ServerSample, after: ServerSample) -> None:
        self.before, self.after = before, after

    def requests(self, rows: RequestArray) -> int | None:
        """Requests whose first token is in the span; None if the server's count does not agree."""
        mine = int(self._inside(rows, "first_token_ns").sum())
        return mine if self._agree(_TTFT, mine) else None

    def ttft(self, rows: RequestArray) -> Pair | None:
        """Mean TTFT."""
        mine = rows[self._inside(rows, "first_token_ns")]
        if not self._agree(_TTFT, len(mine)):
            return None
        return _mean_ms(mine["first_token_ns"] - mine["sent_ns"]), self._mean_ms(_TTFT)

    def e2el(self, rows: RequestArray) -> Pair | None:
        """Mean E2EL."""
        mine = self._ended(rows)
        if not self._agree(_E2EL, len(mine)):
            return None
        return _mean_ms(mine["last_token_ns"] - mine["sent_ns"]), self._mean_ms(_E2EL)

    def tpot(self, rows: RequestArray) -> Pair | None:
        """Mean TPOT. vLLM reports zero for an answer of one token, which has no TPOT."""
        ended = self._ended(rows)
        mine = ended[ended["output_tokens"] > 1]
        if not len(mine):
            return None
        times = (mine["last_token_ns"] - mine["first_token_ns"]) / (mine["output_tokens"] - 1)
        if self._agree(_TPOT, len(mine)):
            return _mean_ms(times), self._mean_ms(_TPOT)
        if self._agree(_TPOT, len(ended)):
            return _mean_ms(times), self._mean_ms(_TPOT) * len(ended) / len(mine)
        return None

    def gap(self, rows: RequestArray) -> Pair | None:
        """Mean time between tokens, if the server reports it for each step: the client's nearest value."""
        mine = self._ended(rows)
        mine = mine[(mine["output_tokens"] > 1) & (mine["chunks"] > 1)]
        name = next((name for name in _GAPS if self._gained(f"{name}_count") > 0), None)
        if name is None or len(mine) < LEAST_REQUESTS:
            return None
        spent = float((mine["last_token_ns"] - mine["first_token_ns"]).sum()) / 1e6
        server = self._mean_ms(name)
        per_token = spent / float((mine["output_tokens"] - 1).sum())
        per_chunk = spent / float((mine["chunks"] - 1).sum())
        return min(max(server, min(per_token, per_chunk)), max(per_token, per_chunk)), server

    def _inside(self, rows: RequestArray, stamp: str) -> BoolArray:
        inside: BoolArray = (rows[stamp] >= self.before.at_ns) & (rows[stamp] < self.after.at_ns)
        return inside

    def _ended(self, rows: RequestArray) -> RequestArray:
        return rows[self._inside(rows, "last_token_ns") & np.isin(rows["failure"], _FINISHED)]

    def _gained(self, name: str) -> float:
        return self.after.values.get(name, 0.0) - self.before.values.get(name, 0.0)

    def _agree(self, name: str, mine: int) -> bool:
        told = self._gained(f"{name}_count")
        return min(mine, told) >= LEAST_REQUESTS and abs(told - mine) <= max(1.0, COUNTS_OFF * mine)

    def _mean_ms(self, name: str) -> float:
        return self._gained(f"{name}_sum") / self._gained(f"{name}_count") * 1e3


def _mean_ms(values: np.ndarray[tuple[int], np.dtype[np.generic]]) -> float:
    return float(values.mean()) / 1e6
