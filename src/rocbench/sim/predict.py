"""The simulated server under load in virtual time: no HTTP, no clock, the same scheduler. Pure.

`drive` loads the engine as `load.drive` loads a server: the same warm-up, window and tail, the same lengths
from the same keys, and the same kind of result. Client and network add a constant turnaround.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rocbench.errors import InputError
from rocbench.load import arrivals, prompts
from rocbench.load.merge import phases
from rocbench.load.prompts import Key
from rocbench.load.silence import SLOT_NS
from rocbench.load.spec import Closed, LoadSpec, Open
from rocbench.load.window import LoadCounts, WindowRule
from rocbench.records import NONE, REQUEST_DTYPE, LoadResult, Phase, RequestArray, Window
from rocbench.sim.engine import Engine
from rocbench.sim.node import Node
from rocbench.sim.steps import Counters, Sequence, StepOutcome
from rocbench.sim.tokenlog import TokenLog, Tokens

EPOCH_NS = 1_000_000_000 * 10**9
"""Start of virtual time, in ns since the epoch."""
AHEAD_S = 0.1
"""Time between the announcement of a window edge and the edge, as in a load over HTTP."""


@dataclass(frozen=True, slots=True)
class Client:
    """The delays and limits of a request outside the engine."""

    turnaround_s: float = 0.001
    """Seconds from an answer's last byte to the same user's next request."""
    sends_per_s: float = math.inf
    """Maximum requests per second that a client can send; further ones wait, unsent."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The predicted result of a load, and the counters of the server."""

    load: LoadResult
    server: Counters
    kv_peak: float
    """Maximum share of the KV blocks in use, 0 to 1."""
    running_peak: int
    waiting_peak: int
    """Maximum number of requests that the scheduler ran, and queued, at once in the window."""
    waiting_median: int
    """Median over the window's time of the queued requests."""


@dataclass(slots=True, eq=False)
class _Request:
    user: int
    sent_s: float
    intended_s: float
    isl: int
    osl_asked: int
    sequence: Sequence
    first_s: float = math.nan
    end_s: float = math.nan


def drive(spec: LoadSpec, node: Node, *, client: Client = Client(), seed: int = 0) -> Prediction:
    """Run a load against the engine of `node`.

    Args:
        spec: the load, as `load.drive` takes it; datasets and traces are refused.
        node: the server; its noise continues from its current state.
        client: delays and limits of client and network.
        seed: for answer lengths if the end of text counts.

    Raises InputError for a load that needs real prompts.
    """
    if spec.requests.dataset is not None or not isinstance(spec.shape, (Closed, Open)):
        raise InputError(
            "a prediction needs synthetic prompts and a closed or open loop", fix="measure this load instead"
        )
    if len(node.noises) > 1:
        raise InputError("a prediction does not support data parallelism", fix="measure this server instead")
    run = _Run(spec, node, client, seed)
    run.drive()
    return Prediction(
        run.result(),
        run.engine.counters,
        run.kv_peak,
        run.running_peak,
        max(run.waiting_s, default=0),
        _median(run.waiting_s),
    )


def _median(seconds: Mapping[int, float]) -> int:
    """The median value, weighted by time; 0 without any."""
    left = sum(seconds.values()) / 2
    for value in sorted(seconds):
        left -= seconds[value]
        if left <= 0:
            return value
    return 0


@dataclass(slots=True)
class _Run:
    """One running load."""

    spec: LoadSpec
    node: Node
    client: Client
    seed: int
    now: float = 0.0
    kv_peak: float = 0.0
    running_peak: int = 0
    waiting_s: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    """Number of queued requests to the seconds of the window with that many."""
    window: WindowRule = field(init=False)
    ended: list[_Request] = field(default_factory=list)
    running: dict[int, _Request] = field(default_factory=dict)
    engine: Engine = field(init=False)
    log: TokenLog = field(default_factory=TokenLog)
    never_sent: list[_Request] = field(default_factory=list)
    turned_over: set[int] = field(default_factory=set)
    begun: int = 0
    sent: int = 0
    peak_in_flight: int = 0
    _tpots: tuple[float, int] = (0.0, 0)
    _due: list[tuple[float, int, _Request]] = field(default_factory=list)
    _key: Key = field(init=False)
    _random: random.Random = field(init=False)
    _clock: Iterator[float] = field(default_factory=lambda: iter(()))
    _next_s: float = math.inf
    _waiting: deque[float] = field(default_factory=deque)
    """Open loop: times of due requests that wait for room in flight."""
    _free_s: float = 0.0
    _open: int | None = None
    """`_outstanding`, kept up to date from its first call on: counting each step took a quarter of an overload."""

    def __post_init__(self) -> None:
        spec = self.spec
        self.window = WindowRule(spec, AHEAD_S)
        self.engine = Engine(self.node.engine, self.node.times, self.node.noises[0])
        self._key = Key(spec.run_id, spec.cell_id, spec.repeat, spec.seed)
        self._random = random.Random(self.seed)
        if isinstance(spec.shape, Open):
            shape = spec.shape
            times = arrivals.intended_ns(
                shape.rate, shape.arrival, shape.burstiness, prompts.block_seed(self._key)
            )
            self._clock = (at / 1e9 for at in times)

    # --- the loop

    def drive(self) -> None:
        """Run until the last answer of the window's requests, or the limit of tail and drain."""
        self._start_users()
        self._next_s = next(self._clock, math.inf)
        while not self._over():
            self._send_due()
            while self._due and self._due[0][0] <= self.now:
                self.engine.add(heapq.heappop(self._due)[2].sequence, self.now)
            until = min(
                self._due[0][0] if self._due else math.inf, self._next_s, self.window.next_change_s(self.now)
            )
            outcome = self.engine.step(self.now, until)
            if outcome is not None:
                self._take(outcome)
            elif until < math.inf:
                self.now = until
            self._update_window()

    def _take(self, outcome: StepOutcome) -> None:
        if self.window.start_s <= outcome.ends_s < self.window.end_s:
            self.kv_peak = max(self.kv_peak, self.engine.kv_usage)
            self.running_peak = max(self.running_peak, self.engine.running + len(outcome.finished))
            self.waiting_s[len(self.engine.waiting)] += outcome.ends_s - self.now
        self.log.step(outcome)
        self.now = outcome.ends_s
        for sequence in outcome.prefilled:
            if math.isnan(self.running[sequence.id].first_s):
                self.running[sequence.id].first_s = self.now
        for sequence in outcome.finished:
            request = self.running.pop(sequence.id)
            request.end_s = self.now
            self.ended.append(request)
            if self._open is not None:
                self._open -= self._inside(request.intended_s)
            if sequence.output_tokens > 1:
                tpot_s = (self.now - request.first_s) / (sequence.output_tokens - 1)
                self._tpots = (self._tpots[0] + tpot_s, self._tpots[1] + 1)
            if request.user >= 0:
                self.turned_over.add(request.user)
                self._send(request.user, self.now + self.client.turnaround_s)

    # --- the window

    def _inside(self, intended_s: float) -> bool:
        return self.window.start_s <= intended_s < self.window.end_s

    def _counts(self) -> LoadCounts:
        total_s, count = self._tpots
        return LoadCounts(
            ended=len(self.ended),
            turned_over=len(self.turned_over),
            peak_in_flight=self.peak_in_flight,
            begun=self.begun,
            first_end_s=self.ended[0].end_s if self.ended else None,
            tpot_s=total_s / count if count else None,
            sent=self.sent,
            all_ended=not (self.running or self._waiting or self._may_send()),
            outstanding=self._outstanding() if self.now >= self.window.end_s else None,
        )

    def _outstanding(self) -> int:
        """Requests of the window that have not ended, or wait for room in flight; asked only after the window's end."""
        if self._open is None:
            running = (request.intended_s for request in self.running.values())
            self._open = sum(map(self._inside, itertools.chain(running, self._waiting)))
        return self._open

    def _over(self) -> bool:
        return self.window.phase == "over" or (self.window.phase == "drain" and not self._outstanding())

    def _update_window(self) -> None:
        before = self.window.phase
        self.window.update(self.now, self._counts())
        if before == "tail" and self.window.phase == "drain":
            self._drain()

    def _drain(self) -> None:
        """Stop sending: due requests that found no room stay unsent."""
        self._collect_due()
        due = [at for at in self._waiting if at < self.window.end_s]
        self.never_sent = [self._make(self.sent + i, -1, math.nan, at) for i, at in enumerate(due)]
        self._waiting.clear()
        self._open = None
        self._next_s = math.inf

    # --- sending

    def _may_send(self) -> bool:
        if self.window.drain_s < math.inf:
            return False
        max_requests = self.spec.window.max_requests
        return max_requests is None or self.sent < max_requests

    def _start_users(self) -> None:
        if isinstance(self.spec.shape, Closed):
            starts = arrivals.user_starts(self.spec.shape.users, self.spec.window, self._key)
            for user, (at_s, share) in enumerate(starts):
                self._send(user, at_s, share)

    def _send(self, user: int, at_s: float, share: float = 1.0) -> None:
        """Send the next request of a user, unless a fixed count is exhausted."""
        if self._may_send():
            at_s = max(at_s, self._free_s)
            self._free_s = at_s + 1 / self.client.sends_per_s
            self._queue(self._make(self.sent, user, at_s, at_s, share))

    def _collect_due(self) -> None:
        """Move the arrivals that are due to the waiting ones."""
        max_requests = self.spec.window.max_requests or math.inf
        while self._next_s <= self.now:
            self._waiting.append(self._next_s)
            if self._open is not None:
                self._open += self._inside(self._next_s)
            self._next_s = next(self._clock) if self.sent + len(self._waiting) < max_requests else math.inf

    def _send_due(self) -> None:
        """Send the requests that are due; an arrival waits if the in-flight limit is reached."""
        self._collect_due()
        room = self.spec.shape.max_in_flight if isinstance(self.spec.shape, Open) else None
        while self._waiting and (room is None or len(self.running) < room):
            due_s = self._waiting.popleft()
            late = due_s < self.now - 1e-9 and room is not None
            self._queue(self._make(self.sent, -1, self.now if late else due_s, due_s))

    def _queue(self, request: _Request) -> None:
        self.sent += 1
        self.running[request.sequence.id] = request
        self.peak_in_flight = max(self.peak_in_flight, len(self.running))
        if self._inside(request.intended_s):
            self.begun += 1
        heapq.heappush(self._due, (request.sent_s + self.node.api_request_s, request.sequence.id, request))

    def _make(self, number: int, user: int, sent_s: float, intended_s: float, share: float = 1.0) -> _Request:
        plan = self.spec.requests
        isl = prompts.length(plan.isl, self._key, "isl", number)
        osl = max(1, round(prompts.length(plan.osl, self._key, "osl", number) * share))
        count = osl if plan.ignore_eos else min(osl, self.node.efficiency.draw_answer(self._random))
        images, image_tokens = plan.images, 0
        if images and self.node.limits.image:
            image_tokens = images.count * self.node.limits.image.tokens(images.width, images.height)
        sequence = Sequence(
            number, isl + image_tokens, count, self._hashes(number, isl, isl + image_tokens), image_tokens
        )
        return _Request(user, sent_s, intended_s, isl, osl, sequence)

    def _hashes(self, number: int, isl: int, tokens: int) -> tuple[int, ...]:
        """Block hashes if prompts share a prefix; a unique prompt needs none."""
        size = self.node.engine.block_size
        if self.spec.requests.prompt_pool:
            first = (number % self.spec.requests.prompt_pool + 1) << 32
            return tuple(range(first, first + tokens // size))
        return tuple(range(prompts.shared_length(self.spec.requests.shared_prefix_ratio, isl) // size))

    # --- the result

    def result(self) -> LoadResult:
        """The result that the load generator would report."""
        tokens, start_s, end_s = self.log.close(), self.window.start_s, self.window.end_s
        if self.window.ended_by == "count":
            end_s = self.ended[-1].end_s + 1e-9  # ends with the last answer
        window = Window(_ns(start_s), _ns(end_s), self.window.ended_by)
        rows = self._rows(tokens, window)
        measured = rows["request_id"][rows["phase"] == Phase.MEASURED].astype(np.int64)
        gaps = tokens.gaps(measured)
        inside = (tokens.ends_s >= start_s) & (tokens.ends_s < end_s)
        counts = tokens.per_step()[inside]
        seconds = (tokens.ends_s[inside] - start_s).astype(np.int64)
        per_second = np.bincount(seconds, weights=counts, minlength=int(window.seconds)).astype(np.int64)
        prompts_in = rows[
            (rows["first_token_ns"] >= window.start_ns) & (rows["first_token_ns"] < window.end_ns)
        ]
        images = int(np.maximum(prompts_in["image_tokens"], 0).sum())
        return LoadResult(
            requests=rows,
            errors={},
            window=window,
            itl=gaps,
            icl=gaps,
            output_tokens_in_window=int(counts.sum()),
            input_tokens_in_window=int(prompts_in["prompt_tokens"].sum()) - images,
            image_tokens_in_window=images,
            tokens_per_second=per_second[: int(window.seconds)],
            concurrency_asked=self.spec.shape.users if isinstance(self.spec.shape, Closed) else None,
            transport="virtual",
            workers=(),
            clock_step_ns=0,
            open_file_limit=0,
            notes=tuple(self.window.notes),
            rate_asked=self.spec.shape.rate if isinstance(self.spec.shape, Open) else None,
            osl_mean=prompts.expected_osl(self.spec.requests),
            silences=_ns(tokens.silences(start_s, end_s, SLOT_NS / 1e9)),
        )

    def _rows(self, tokens: Tokens, window: Window) -> RequestArray:
        unfinished = [r for r in self.running.values() if r.intended_s < self.window.end_s]
        requests = [*self.ended, *unfinished, *self.never_sent]
        images = self.spec.requests.images
        rows = np.zeros(len(requests), dtype=REQUEST_DTYPE)
        numbers = np.array([request.sequence.id for request in requests], dtype=np.int64)
        first_s, last_s, emitted = tokens.of(numbers)
        rows["http_status"], rows["first_tokens"] = 200, 1
        rows["failure"] = rows["resent"] = NONE
        rows["request_id"] = numbers
        rows["user"] = [request.user for request in requests]
        rows["intended_ns"] = _ns(np.array([request.intended_s for request in requests]))
        rows["sent_ns"] = _ns(np.array([request.sent_s for request in requests]))
        rows["first_token_ns"] = rows["first_chunk_ns"] = _ns(first_s)
        rows["last_token_ns"] = _ns(last_s)
        rows["end_ns"] = _ns(np.array([request.end_s for request in requests]))
        rows["isl_asked"] = [request.isl for request in requests]
        rows["osl_asked"] = [request.osl_asked for request in requests]
        rows["prompt_tokens"] = [request.sequence.prompt_tokens for request in requests]
        rows["output_tokens"] = rows["chunks"] = emitted
        rows["images"] = images.count if images else 0
        rows["image_tokens"] = [r.sequence.image_tokens if images else NONE for r in requests]
        details = self.node.dialect.prompt_details
        rows["cached_tokens"] = [r.sequence.cached_tokens if details else NONE for r in requests]
        rows["phase"] = phases(rows["intended_ns"], window)
        return rows[np.argsort(rows["sent_ns"], kind="stable")]


def _ns(seconds: Any) -> Any:
    """Virtual seconds in nanoseconds, as in the records; NaN means absent."""
    if isinstance(seconds, np.ndarray):
        known = np.nan_to_num(seconds)
        return np.where(np.isnan(seconds), NONE, EPOCH_NS + np.round(known * 1e9).astype(np.int64))
    return EPOCH_NS + round(seconds * 1e9)
