"""The simulated server under load in virtual time: no HTTP, no clock, the same scheduler. Pure.

`drive` is to the engine what `load.drive` is to a server: the same warm-up, window and tail, the same lengths
from the same keys, and the same kind of result. What a client and a network add is a constant turnaround.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rocbench.errors import InputError
from rocbench.load import arrivals, prompts
from rocbench.load.merge import phases, warmup_cut
from rocbench.load.prompts import Key
from rocbench.load.spec import Closed, LoadSpec, Open
from rocbench.records import NONE, REQUEST_DTYPE, LoadResult, Phase, RequestArray, Window
from rocbench.sim.engine import Engine
from rocbench.sim.node import Node
from rocbench.sim.steps import Counters, Sequence, StepOutcome
from rocbench.sim.tokenlog import TokenLog, Tokens

EPOCH_NS = 1_000_000_000 * 10**9
"""Where virtual time begins."""
AHEAD_S = 0.1
"""How long before it comes the load generator announces an edge of its window."""
_LEAST_STAGGER = 0.02


@dataclass(frozen=True, slots=True)
class Client:
    """What a request and its answer meet outside the engine."""

    turnaround_s: float = 0.001
    """From an answer's last byte to the same user's next request."""
    sends_per_s: float = math.inf
    """So many requests a client can send at most; more wait for their turn, unsent."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a load would give, and what the server would have counted."""

    load: LoadResult
    server: Counters
    kv_peak: float
    """Greatest share of the KV blocks in use, 0 to 1."""
    running_peak: int
    waiting_peak: int
    """Most requests that the scheduler ran, and queued, at once in the window."""
    waiting_median: int
    """Requests queued in half of the window's time."""


@dataclass(slots=True, eq=False)
class _Request:
    number: int
    user: int
    sent_s: float
    intended_s: float
    isl: int
    osl_asked: int
    sequence: Sequence
    images: int
    end_s: float = math.nan


@dataclass(slots=True)
class _Edges:
    start_s: float = math.inf
    end_s: float = math.inf
    ended_by: str = "never_began"


def drive(spec: LoadSpec, node: Node, *, client: Client = Client(), seed: int = 0) -> Prediction:
    """Run a load against the engine of `node`.

    Args:
        spec: the load, as `load.drive` takes it; datasets and traces are refused.
        node: the server; its noise goes on from where it stands.
        client: the world outside the engine.
        seed: draws answer lengths where the end of text counts.

    Raises InputError for a load that needs real prompts.
    """
    if spec.requests.dataset is not None or not isinstance(spec.shape, (Closed, Open)):
        raise InputError(
            "a prediction takes synthetic prompts under closed or open loop", fix="run it instead"
        )
    if len(node.noises) > 1:
        raise InputError("a prediction knows one engine, not data parallelism", fix="run it instead")
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
    """The value below and above which half of the time was spent; 0 without any."""
    left = sum(seconds.values()) / 2
    for value in sorted(seconds):
        left -= seconds[value]
        if left <= 0:
            return value
    return 0


@dataclass(slots=True)
class _Run:
    """One load under way."""

    spec: LoadSpec
    node: Node
    client: Client
    seed: int
    now: float = 0.0
    kv_peak: float = 0.0
    running_peak: int = 0
    waiting_s: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of the window for which so many requests were queued."""
    edges: _Edges = field(default_factory=_Edges)
    ended: list[_Request] = field(default_factory=list)
    running: dict[int, _Request] = field(default_factory=dict)
    engine: Engine = field(init=False)
    log: TokenLog = field(default_factory=TokenLog)
    turned_over: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    begun: int = 0
    outstanding: int = 0
    sent: int = 0
    peak_in_flight: int = 0
    _due: list[tuple[float, int, _Request]] = field(default_factory=list)
    _key: Key = field(init=False)
    _random: random.Random = field(init=False)
    _clock: Iterator[float] = field(default_factory=lambda: iter(()))
    _next_s: float = math.inf
    _free_s: float = 0.0

    def __post_init__(self) -> None:
        spec = self.spec
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
        """Run to the end of the tail (bound by count: to the last answer)."""
        if self._counted:
            self.edges.start_s = 0.0
        if isinstance(self.spec.shape, Closed):
            self._start_users(self.spec.shape.users)
        else:
            self._next_s = next(self._clock)
        while not self._over():
            self._send_due()
            while self._due and self._due[0][0] <= self.now:
                self.engine.add(heapq.heappop(self._due)[2].sequence, self.now)
            until = min(self._due[0][0] if self._due else math.inf, self._next_s, self._next_edge())
            outcome = self.engine.step(self.now, until)
            if outcome is not None:
                self._take(outcome)
            elif until < math.inf:
                self.now = until
            self._move_edges()

    def _take(self, outcome: StepOutcome) -> None:
        if self.edges.start_s <= outcome.ends_s < self.edges.end_s:
            self.kv_peak = max(self.kv_peak, self.engine.kv_usage)
            self.running_peak = max(self.running_peak, self.engine.running + len(outcome.finished))
            self.waiting_s[len(self.engine.waiting)] += outcome.ends_s - self.now
        self.log.step(outcome)
        self.now = outcome.ends_s
        for sequence in outcome.finished:
            request = self.running.pop(sequence.id)
            request.end_s = self.now
            self.ended.append(request)
            if self._measured(request):
                self.outstanding -= 1
            if request.user >= 0:
                self.turned_over.add(request.user)
                self._send(request.user, self.now + self.client.turnaround_s)

    # --- the window, as load.watch has it

    @property
    def _counted(self) -> bool:
        return self.spec.window.max_requests is not None

    def _measured(self, request: _Request) -> bool:
        return self.edges.start_s <= request.intended_s < self.edges.end_s

    def _wanting(self) -> bool:
        """Fewer requests have begun in the window than a level needs."""
        if not isinstance(self.spec.shape, Closed):
            return False
        return self.begun < self.spec.window.min_requests_per_user * self.spec.shape.users

    def _over(self) -> bool:
        if self.edges.end_s == math.inf:
            return False
        return self._counted or (self.now >= self.edges.end_s and not self.outstanding)

    def _next_edge(self) -> float:
        """When the window's end may have to be announced; never while nothing waits for the clock."""
        edges, window = self.edges, self.spec.window
        if edges.end_s < math.inf:
            return edges.end_s if self.now < edges.end_s else math.inf
        if edges.start_s == math.inf:
            return window.max_duration_s if self.now < window.max_duration_s else math.inf
        times = (edges.start_s + window.duration_s - AHEAD_S, edges.start_s + window.max_duration_s - AHEAD_S)
        return min((at for at in times if at > self.now), default=math.inf)

    def _move_edges(self) -> None:
        edges, window = self.edges, self.spec.window
        if edges.start_s == math.inf:
            if self._warm() or self.now >= window.max_duration_s:
                if not self._warm():
                    self.notes.append(warmup_cut(window.max_duration_s, len(self.turned_over)))
                edges.start_s = self.now + AHEAD_S
        elif edges.end_s == math.inf:
            least, soon = edges.start_s + window.duration_s, self.now + AHEAD_S
            most = edges.start_s + window.max_duration_s
            if self._counted:
                if (not self.running and not self._may_send()) or soon >= most:
                    edges.end_s, edges.ended_by = self.now + 1e-9, "max_duration" if self.running else "count"
            elif soon >= most:
                edges.end_s = max(most, soon)
                edges.ended_by = "max_duration" if self._wanting() else "duration"
            elif soon >= least and not self._wanting():
                edges.end_s = max(least, soon)
                edges.ended_by = "requests" if soon > least + 2 * AHEAD_S else "duration"

    def _warm(self) -> bool:
        if isinstance(self.spec.shape, Closed):
            return len(self.turned_over) >= self.spec.shape.users
        ramped = self.now >= (self.spec.window.ramp_s or 0.0)
        return ramped and len(self.ended) >= max(1, self.peak_in_flight)

    # --- sending

    def _may_send(self) -> bool:
        most = self.spec.window.max_requests
        return most is None or self.sent < most

    def _start_users(self, users: int) -> None:
        window = self.spec.window
        ramp_s = 0.0 if window.wave else window.ramp_s or 0.0
        shares = [1.0] * users
        if window.ramp_s is None and not window.wave and not self._counted:
            order = self._key.generator("stagger", 0).permutation(users)
            shares = [max((place + 1) / users, _LEAST_STAGGER) for place in order.tolist()]
        for user in range(users):
            self._send(user, ramp_s * user / users, shares[user])

    def _send(self, user: int, at_s: float, share: float = 1.0) -> None:
        """A user sends its next request, unless all of a count have been sent."""
        if self._may_send():
            at_s = max(at_s, self._free_s)
            self._free_s = at_s + 1 / self.client.sends_per_s
            self._queue(self._make(self.sent, user, at_s, at_s, share))

    def _send_due(self) -> None:
        """Send what the clock says; an arrival that finds no room in flight waits."""
        shape = self.spec.shape
        while isinstance(shape, Open) and self._next_s <= self.now and self._may_send():
            if shape.max_in_flight is not None and len(self.running) >= shape.max_in_flight:
                return
            late = self._next_s < self.now - 1e-9 and shape.max_in_flight is not None
            sent_s = self.now if late else self._next_s
            self._queue(self._make(self.sent, -1, sent_s, self._next_s))
            self._next_s = next(self._clock) if self._may_send() else math.inf

    def _queue(self, request: _Request) -> None:
        self.sent += 1
        self.running[request.number] = request
        self.peak_in_flight = max(self.peak_in_flight, len(self.running))
        if self._measured(request):
            self.begun += 1
            self.outstanding += 1
        heapq.heappush(self._due, (request.sent_s + self.node.api_request_s, request.number, request))

    def _make(self, number: int, user: int, sent_s: float, intended_s: float, share: float = 1.0) -> _Request:
        plan = self.spec.requests
        isl = prompts.length(plan.isl, self._key, "isl", number)
        osl = max(1, round(prompts.length(plan.osl, self._key, "osl", number) * share))
        count = osl if plan.ignore_eos else min(osl, self._drawn())
        images = plan.images.count if plan.images else 0
        image_tokens = 0
        if plan.images and self.node.limits.image:
            image_tokens = images * self.node.limits.image.tokens(plan.images.width, plan.images.height)
        sequence = Sequence(
            number, isl + image_tokens, count, self._hashes(number, isl, isl + image_tokens), image_tokens
        )
        return _Request(number, user, sent_s, intended_s, isl, osl, sequence, images)

    def _drawn(self) -> int:
        efficiency = self.node.efficiency
        mean = math.log(efficiency.answer_median)
        return max(1, round(self._random.lognormvariate(mean, efficiency.answer_sigma)))

    def _hashes(self, number: int, isl: int, tokens: int) -> tuple[int, ...]:
        """Block hashes where prompts have something in common; a prompt of its own needs none."""
        size = self.node.engine.block_size
        if self.spec.requests.prompt_pool:
            first = (number % self.spec.requests.prompt_pool + 1) << 32
            return tuple(range(first, first + tokens // size))
        return tuple(range(prompts.shared_length(self.spec.requests.shared_prefix_ratio, isl) // size))

    # --- the result

    def result(self) -> LoadResult:
        """What the load generator would report."""
        tokens, edges = self.log.close(), self.edges
        window = Window(_ns(edges.start_s), _ns(edges.end_s), edges.ended_by)
        rows = self._rows(tokens, window)
        measured = rows["request_id"][rows["phase"] == Phase.MEASURED].astype(np.int64)
        gaps = tokens.gaps(measured)
        inside = (tokens.ends_s >= edges.start_s) & (tokens.ends_s < edges.end_s)
        counts = tokens.per_step()[inside]
        seconds = (tokens.ends_s[inside] - edges.start_s).astype(np.int64)
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
            notes=tuple(self.notes),
        )

    def _rows(self, tokens: Tokens, window: Window) -> RequestArray:
        rows = np.zeros(len(self.ended), dtype=REQUEST_DTYPE)
        numbers, first_s, last_s = tokens.first_last()
        place = np.searchsorted(numbers, [request.number for request in self.ended])
        ended = self.ended
        for name, value in {
            "worker": 0,
            "turn": 0,
            "zero_gaps": 0,
            "coalesced": 0,
            "http_status": 200,
            "first_tokens": 1,
        }.items():
            rows[name] = value
        rows["failure"] = rows["resent"] = NONE
        rows["request_id"] = [request.number for request in ended]
        rows["user"] = [request.user for request in ended]
        rows["intended_ns"] = _ns(np.array([request.intended_s for request in ended]))
        rows["sent_ns"] = _ns(np.array([request.sent_s for request in ended]))
        rows["first_token_ns"] = rows["first_chunk_ns"] = _ns(first_s[place])
        rows["last_token_ns"] = _ns(last_s[place])
        rows["end_ns"] = _ns(np.array([request.end_s for request in ended]))
        rows["isl_asked"] = [request.isl for request in ended]
        rows["osl_asked"] = [request.osl_asked for request in ended]
        rows["prompt_tokens"] = [request.sequence.prompt_tokens for request in ended]
        rows["output_tokens"] = rows["chunks"] = [request.sequence.output_tokens for request in ended]
        rows["images"] = [request.images for request in ended]
        rows["image_tokens"] = [r.sequence.image_tokens if r.images else NONE for r in ended]
        details = self.node.dialect.prompt_details
        rows["cached_tokens"] = [r.sequence.cached_tokens if details else NONE for r in ended]
        rows["phase"] = phases(rows["intended_ns"], window)
        return rows[np.argsort(rows["sent_ns"], kind="stable")]


def _ns(seconds: Any) -> Any:
    """Virtual seconds as the records' nanoseconds."""
    if isinstance(seconds, np.ndarray):
        return EPOCH_NS + np.round(seconds * 1e9).astype(np.int64)
    return EPOCH_NS + round(seconds * 1e9)
