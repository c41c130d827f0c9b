"""The engine in real time: steps on a schedule, tokens written when their step ends, lateness counted.

A step begins at the end of the last one, not when this process woke up, so that delays of this process
do not add up. If it falls behind by more than 10 ms and a tenth of the step, the delay is counted and the
schedule continues from there: the alternative would be a burst of steps that no real server shows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from rocbench.sim.clock import Alarm, now_s
from rocbench.sim.engine import Engine
from rocbench.sim.histograms import Histograms
from rocbench.sim.steps import StepOutcome
from rocbench.sim.streams import Stream

LATE_S = 0.010
LATE_SHARE = 0.1
"""A step is late if it is behind by more than `LATE_S` and by more than this share of its length."""


@dataclass(slots=True)
class Lateness:
    """Delay of this process behind its own schedule."""

    steps: int = 0
    late_steps: int = 0
    late_s: float = 0.0
    max_late_s: float = 0.0
    emit_s: float = 0.0
    """Seconds spent writing tokens."""


class LiveEngine:
    """Drives an engine by the clock and its streams by the engine."""

    def __init__(
        self, engine: Engine, loop: asyncio.AbstractEventLoop, histograms: Histograms, api_s: float
    ) -> None:
        self.engine = engine
        self.counters = engine.counters
        self.lateness = Lateness()
        self.finished: dict[str, int] = dict.fromkeys(("stop", "length", "abort", "error"), 0)
        self.histograms = histograms
        self.extra_hits = 0
        """Hits that a fault adds to the prefix cache's counter."""
        self._api_s = api_s
        self._streams: dict[int, Stream] = {}
        self._arrivals: deque[Stream] = deque()
        self._outcome: StepOutcome | None = None
        self._alarm = Alarm(loop, self._ring)
        engine.keep_decoders = True

    def submit(self, stream: Stream, received_s: float) -> None:
        """Accept a request received at `received_s`; the engine sees it after the API server's time."""
        stream.arrived_s = received_s
        self._streams[stream.sequence.id] = stream
        self._arrivals.append(stream)
        if self._outcome is None and len(self._arrivals) == 1:
            self._alarm.set(received_s + self._api_s)

    def abort(self, stream: Stream, reason: str = "abort") -> None:
        """Drop a request whose client is gone."""
        if self._streams.pop(stream.sequence.id, None) is not None:
            self.engine.abort(stream.sequence)
            self.finished[reason] += 1

    @property
    def load(self) -> int:
        """Number of running requests."""
        return len(self._streams)

    def streams(self) -> list[Stream]:
        """All running requests."""
        return list(self._streams.values())

    @property
    def waiting(self) -> int:
        """Number of received requests without KV blocks yet."""
        return len(self.engine.waiting) + len(self._arrivals)

    def _ring(self) -> None:
        now, outcome = now_s(), self._outcome
        if outcome is None:
            self._plan(now)
            return
        behind = now - outcome.ends_s
        lateness = self.lateness
        lateness.steps += 1
        lateness.max_late_s = max(lateness.max_late_s, behind)
        late = behind > max(LATE_S, LATE_SHARE * outcome.duration_s)
        if late:
            lateness.late_steps += 1
            lateness.late_s += behind
        self._plan(now if late else outcome.ends_s)
        self._emit(outcome)
        lateness.emit_s += now_s() - now

    def _plan(self, at_s: float) -> None:
        """Plan the step that begins at `at_s`, or wait for the next arrival."""
        arrivals = self._arrivals
        while arrivals and arrivals[0].arrived_s + self._api_s <= at_s:
            stream = arrivals.popleft()
            if stream.sequence.id in self._streams:
                self.engine.add(stream.sequence, at_s)
        self._outcome = self.engine.step(at_s)
        if self._outcome is not None:
            self._alarm.set(self._outcome.ends_s)
        elif arrivals:
            self._alarm.set(arrivals[0].arrived_s + self._api_s)

    def _emit(self, outcome: StepOutcome) -> None:
        """Write the step's tokens. A stream whose client has gone is no longer in the table."""
        at_s, get = outcome.ends_s, self._streams.get
        ended = [self._streams.pop(sequence.id, None) for sequence in outcome.finished]
        for sequence in outcome.decoders:
            stream = get(sequence.id)
            if stream is not None:
                stream.token()
        for sequence in outcome.prefilled:
            stream = get(sequence.id)
            if stream is None:
                continue
            if stream.emitted:
                stream.token()
            else:
                self._first(stream, at_s)
                stream.first()
        for stream in ended:
            if stream is not None:
                self._end(stream, at_s)
        histograms = self.histograms
        if outcome.decoding:
            histograms.inter_token_latency_seconds.observe(outcome.duration_s, outcome.decoding)
        histograms.iteration_tokens_total.observe(outcome.prefill_tokens + outcome.decoding)

    def _first(self, stream: Stream, at_s: float) -> None:
        stream.first_s = at_s
        self.histograms.time_to_first_token_seconds.observe(at_s - stream.arrived_s)

    def _end(self, stream: Stream, at_s: float) -> None:
        if not stream.emitted:
            self._first(stream, at_s)
        stream.finish(stream.reason)
        self.finished[stream.reason] += 1
        histograms, sequence = self.histograms, stream.sequence
        scheduled_s = sequence.scheduled_s or sequence.arrived_s
        histograms.e2e_request_latency_seconds.observe(at_s - stream.arrived_s)
        histograms.request_queue_time_seconds.observe(scheduled_s - sequence.arrived_s)
        histograms.request_prefill_time_seconds.observe(stream.first_s - scheduled_s)
        histograms.request_decode_time_seconds.observe(at_s - stream.first_s)
        histograms.request_inference_time_seconds.observe(at_s - scheduled_s)
        histograms.request_prompt_tokens.observe(sequence.prompt_tokens)
        histograms.request_generation_tokens.observe(sequence.output_tokens)
        histograms.request_params_max_tokens.observe(stream.request.max_tokens)
        if sequence.output_tokens > 1:
            each = (at_s - stream.first_s) / (sequence.output_tokens - 1)
            histograms.request_time_per_output_token_seconds.observe(each)
