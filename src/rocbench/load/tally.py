"""A worker's record of ended requests: rows, histograms and counts in the window. The bytes are dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from rocbench.load.answer import Answer
from rocbench.load.control import UNSET, Count, Head
from rocbench.load.requestfactory import Request
from rocbench.load.silence import TokenTimes
from rocbench.records import (
    FAILURES,
    NONE,
    REQUEST_DTYPE,
    RESENDS,
    BoolArray,
    Failure,
    Histogram,
    Int64Array,
    Phase,
    RequestArray,
)
from rocbench.redact import cut

ERROR_CHARS = 500
"""Characters kept of a failed request's text."""
_ZERO_GAP_NS = 100_000
_FLUSH_TOKENS = 20_000
_FLUSH_ROWS = 4096


@dataclass(slots=True)
class FinishedRequest:
    """One request that is over."""

    request: Request
    answer: Answer
    sent_ns: int
    end_ns: int
    complete: bool
    failure: Failure | None = None
    """A failure of the connection; failures of the answer are found later."""
    error: str = ""


@dataclass(slots=True)
class Counts:
    """Counts of one worker inside the window."""

    itl: Histogram = field(default_factory=Histogram)
    icl: Histogram = field(default_factory=Histogram)
    output_tokens: int = 0
    input_tokens: int = 0
    image_tokens: int = 0
    coalesced_reads: int = 0
    per_second: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    token_times: TokenTimes = field(default_factory=TokenTimes)


@lru_cache(maxsize=256)
def _kept(text: str, secrets: tuple[str, ...]) -> str:
    """The kept part of an error's text; cached, because many requests fail with the same text."""
    return cut(text, ERROR_CHARS, secrets)


class Tally:
    """Rows and counts. `add` takes an ended request; `flush` processes all added requests at once."""

    def __init__(
        self,
        worker: int,
        cells: memoryview[int],
        counters: memoryview[int],
        *,
        ignore_eos: bool,
        keep_stamps: bool,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.worker = worker
        self.secrets = secrets
        self.cells = cells
        self.counters = counters
        self.ignore_eos = ignore_eos
        self.counts = Counts()
        self.errors: dict[int, str] = {}
        self.stamps: dict[int, Int64Array] | None = {} if keep_stamps else None
        self._rows: list[tuple[int, ...]] = []
        self._pending: list[tuple[FinishedRequest, bool]] = []
        self._pending_tokens = 0
        self._chunks: list[RequestArray] = []

    def judge(self, ended: FinishedRequest) -> Failure | None:
        """The failure of a request; None if it completed."""
        if ended.failure is not None:
            return ended.failure
        asked = ended.request.osl_asked
        return ended.answer.verdict(complete=ended.complete, osl_asked=asked, ignore_eos=self.ignore_eos)

    def add(self, ended: FinishedRequest) -> None:
        """Judge a request and keep its row."""
        failure = self.judge(ended)
        if failure is not None:
            self.errors[ended.request.request_id] = _kept(ended.error or ended.answer.error, self.secrets)
        self._count_live(ended, failure)
        self._keep(ended, failure, good=failure is None)

    def cut(self, request: Request, answer: Answer) -> None:
        """Record a request that we gave up, sent or not: it neither failed nor ended; its tokens count."""
        self._keep(FinishedRequest(request, answer, request.sent_ns, NONE, complete=False), None, good=False)

    def _keep(self, ended: FinishedRequest, failure: Failure | None, *, good: bool) -> None:
        self._rows.append(self._row(ended, failure))
        self._pending.append((ended, good))
        self._pending_tokens += len(ended.answer.stamps)
        if self._pending_tokens > _FLUSH_TOKENS or len(self._pending) > _FLUSH_ROWS:
            self.flush()

    def rows(self) -> RequestArray:
        """All rows so far, in order of their ends."""
        self.flush()
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, dtype=REQUEST_DTYPE)

    def _count_live(self, ended: FinishedRequest, failure: Failure | None) -> None:
        counters, answer = self.counters, ended.answer
        if failure is None:
            counters[Count.COMPLETED] += 1
            counters[Count.TTFT_SUM_NS] += answer.first_token_ns - ended.sent_ns
            counters[Count.TTFT_COUNT] += 1
            tokens = answer.output_tokens()
            if tokens > 1:
                counters[Count.TPOT_SUM_NS] += (answer.last_token_ns - answer.first_token_ns) // (tokens - 1)
                counters[Count.TPOT_COUNT] += 1
        else:
            counters[Count.FAILED] += 1
            if failure is Failure.CONNECT:
                counters[Count.CONNECT_FAILED] += 1
        counters[Count.OUTPUT_TOKENS] += max(0, answer.output_tokens())

    def _row(self, ended: FinishedRequest, failure: Failure | None) -> tuple[int, ...]:
        answer, request = ended.answer, ended.request
        doubts, output_tokens = int(answer.doubts(request.osl_asked)), answer.output_tokens()
        counts = answer.token_counts()
        image_tokens = answer.image_tokens
        if not request.images:
            image_tokens = NONE
        elif image_tokens < 0 and answer.prompt_tokens >= 0 and request.text_tokens >= 0:
            image_tokens = max(0, answer.prompt_tokens - request.text_tokens)
        return (
            request.request_id,
            self.worker,
            request.user,
            request.turn,
            Phase.WARMUP,
            request.intended_ns,
            ended.sent_ns,
            answer.first_chunk_ns,
            answer.first_token_ns,
            answer.last_token_ns,
            ended.end_ns,
            request.isl_asked,
            request.osl_asked,
            answer.prompt_tokens,
            output_tokens,
            image_tokens,
            answer.cached_tokens,
            request.images,
            len(answer.stamps),
            0,
            0,
            answer.status,
            NONE if failure is None else FAILURES.index(failure),
            NONE if request.resent is None else RESENDS.index(request.resent),
            counts[0] if counts else 0,
            doubts,
        )

    # --- in batches

    def flush(self) -> None:
        """Process the added requests: gaps into histograms, tokens into the window.

        The window's edges are read here, after every stamp that is counted here was taken: an edge that is
        not yet announced is later than all of them.
        """
        if not self._rows:
            return
        rows = np.array(self._rows, dtype=REQUEST_DTYPE)
        self._rows = []
        pending, self._pending, self._pending_tokens = self._pending, [], 0
        lengths = np.array([len(ended.answer.stamps) for ended, _ in pending], dtype=np.int64)
        stamps = np.concatenate([np.frombuffer(ended.answer.stamps, dtype=np.int64) for ended, _ in pending])
        tokens = np.concatenate(
            [np.frombuffer(ended.answer.token_counts(), dtype=np.int32) for ended, _ in pending]
        )
        start_ns, end_ns = self.cells[Head.START_NS], self.cells[Head.END_NS]
        began = rows["intended_ns"]
        measured = (began >= start_ns) & (began < end_ns)
        good = measured & np.array([success for _, success in pending])
        self._gaps(rows, stamps, tokens, lengths, good)
        self._count_window(stamps, tokens)
        self._count_prompts(rows, start_ns, end_ns)
        self._chunks.append(rows)
        if self.stamps is not None:
            for ended, _ in pending:
                kept = np.frombuffer(ended.answer.stamps, dtype=np.int64)
                self.stamps[ended.request.request_id] = np.repeat(kept, ended.answer.token_counts())

    def _gaps(
        self,
        rows: RequestArray,
        stamps: Int64Array,
        tokens: np.ndarray[tuple[int], np.dtype[np.int32]],
        lengths: Int64Array,
        good: BoolArray,
    ) -> None:
        """Count the gaps of `good` requests; note each row's zero gaps and events that share a stamp.

        A gap before a chunk of n tokens counts once between chunks, and n times gap / n between tokens.
        """
        owner = np.repeat(np.arange(len(lengths)), lengths)
        inside = owner[1:] == owner[:-1]
        gaps = np.diff(stamps)
        same = np.zeros(len(stamps) + 1, dtype=np.bool_)  # event i and the one before it share a stamp
        same[1:-1] = inside & (gaps == 0)
        shares = same[:-1] | same[1:]
        rows["coalesced"] = np.bincount(owner[shares], minlength=len(lengths))
        first_of_read = same[1:] & ~same[:-1]
        self.counts.coalesced_reads += int((first_of_read & good[owner]).sum())
        owner, gaps, sizes = owner[1:][inside], gaps[inside], tokens[1:][inside].astype(np.int64)
        rows["zero_gaps"] = np.bincount(owner[gaps < _ZERO_GAP_NS], minlength=len(lengths))
        chosen = good[owner]
        gaps, sizes = gaps[chosen], sizes[chosen]
        self.counts.icl.add(gaps)
        known = sizes > 0
        self.counts.itl.add(gaps[known] // sizes[known], sizes[known])

    def _count_window(self, stamps: Int64Array, tokens: np.ndarray[tuple[int], np.dtype[np.int32]]) -> None:
        start_ns, end_ns = self.cells[Head.START_NS], self.cells[Head.END_NS]
        if start_ns == UNSET:
            return
        inside = (stamps >= start_ns) & (stamps < end_ns)
        counts, chosen = self.counts, tokens[inside]
        counts.token_times.add(stamps[inside] - start_ns)
        counts.output_tokens += int(chosen.sum())
        if len(chosen):
            seconds = (stamps[inside] - start_ns) // 1_000_000_000
            added = np.bincount(seconds, weights=chosen).astype(np.int64)
            if len(added) > len(counts.per_second):
                counts.per_second = np.concatenate(
                    [counts.per_second, np.zeros(len(added) - len(counts.per_second), dtype=np.int64)]
                )
            counts.per_second[: len(added)] += added

    def _count_prompts(self, rows: RequestArray, start_ns: int, end_ns: int) -> None:
        inside = rows[(rows["first_token_ns"] >= start_ns) & (rows["first_token_ns"] < end_ns)]
        images = int(np.maximum(inside["image_tokens"], 0).sum())
        known = np.where(inside["prompt_tokens"] >= 0, inside["prompt_tokens"], inside["isl_asked"])
        self.counts.image_tokens += images
        self.counts.input_tokens += int(np.maximum(known, 0).sum()) - images
