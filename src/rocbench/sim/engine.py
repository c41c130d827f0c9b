"""vLLM V1's scheduler as a pure core that receives the time.

One step serves running sequences first, then admits waiting ones in order of arrival, within a budget of
`max_num_batched_tokens`. Prompts are computed in chunks; a sequence whose prompt is done emits one token
per step. When no block is free, the sequence admitted last is preempted and later recomputed
(`vllm/v1/core/sched/scheduler.py`, 0.14.1).

All decoding sequences advance together, one token per step. So there is no work per sequence and step: a
calendar keyed by step holds the ends, a ring of `block_size` counters the needs for new blocks, and one sum
the context they read. Only a sequence that joins or leaves costs work.
"""

from __future__ import annotations

import heapq
import math
from collections import deque

import numpy as np

from rocbench.sim.costs import Batch, Noise, StepTimes
from rocbench.sim.kvcache import BlockPool, OffloadTier
from rocbench.sim.steps import Counters, EngineConfig, Plan, Sequence, StepOutcome

LONGEST_RUN = 1024
"""Maximum steps that one call may run."""
IDLE_S = 0.5
"""Seconds without work after which a new run begins (see `Noise`)."""


class Engine:
    """The scheduler. `add` requests, then `step` with the time at which the step begins."""

    def __init__(self, config: EngineConfig, costs: StepTimes, noise: Noise | None = None) -> None:
        if not config.chunked_prefill and config.max_num_batched_tokens < config.max_model_len:
            raise ValueError("without chunked prefill a step must hold the longest prompt")
        self.config = config
        self.counters = Counters()
        self.keep_decoders = False
        self.waiting: deque[Sequence] = deque()
        self.decoding: dict[int, Sequence] = {}
        self.prefilling: Sequence | None = None
        self.pool = BlockPool(config.num_blocks)
        self._costs = costs
        self._noise = noise
        self._tier = OffloadTier(config.offload_blocks) if config.offload_blocks else None
        self._step = 0
        self._context = 0
        self._grow = [0] * config.block_size
        self._ends: dict[int, dict[int, Sequence]] = {}
        self._end_steps: list[int] = []
        self._ended_s = -math.inf

    # --- requests

    def add(self, sequence: Sequence, now: float) -> None:
        """Queue a request. Raises ValueError if it can never fit."""
        last = sequence.prompt_tokens + sequence.output_tokens - 1
        if self._blocks(last) > self.config.num_blocks:
            raise ValueError(f"{last} tokens do not fit in the KV cache of {self.config.num_blocks} blocks")
        sequence.arrived_s = now
        if self._noise is not None and not self.busy and now - self._ended_s > IDLE_S:
            self._noise.restart()
        self.waiting.append(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Drop a request in any state; a finished one stays as it is."""
        if sequence is self.prefilling:
            self.prefilling = None
            self._free(sequence, sequence.computed)
        elif self.decoding.get(sequence.id) is sequence:
            self._leave(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    @property
    def running(self) -> int:
        """Number of requests that hold KV blocks."""
        return len(self.decoding) + (self.prefilling is not None)

    @property
    def busy(self) -> bool:
        """True if there is work to do."""
        return bool(self.decoding or self.waiting or self.prefilling)

    @property
    def kv_usage(self) -> float:
        """Share of the KV blocks that sequences hold, 0 to 1."""
        return self.pool.used / self.pool.total

    def reset_prefix_cache(self) -> bool:
        """Drop cached prefixes; False while blocks are held."""
        return self.pool.forget()

    # --- steps

    def step(self, now: float, until: float | None = None) -> StepOutcome | None:
        """Run the step that begins at `now` (seconds); None if there is nothing to do.

        With `until`, one call runs all steps that begin before it and differ only in the context they read.
        """
        if not self.busy:
            return None
        plan = Plan()
        self._make_room(plan)
        budget = self.config.max_num_batched_tokens - len(self.decoding)
        if self.prefilling is not None:
            self._continue_prefill(self.prefilling, budget, now, plan)
        elif not plan.preempted:
            self._admit(budget, now, plan)
        if until is not None and self.decoding and not (plan.chunks or plan.preempted or self._hit_waits()):
            return self._run(now, until, plan)
        return self._one(now, plan)

    def _hit_waits(self) -> bool:
        """True if the next sequence to admit finds cached blocks and a seat.

        Decoding may evict them, and then the sequence needs fewer blocks: check it before every step.
        """
        seat = len(self.decoding) < self.config.max_num_seqs
        return seat and bool(self.waiting) and self._cached(self.waiting[0])[0] > 0

    def _one(self, now: float, plan: Plan) -> StepOutcome:
        decoding = len(self.decoding)
        batch = Batch(
            prefill_tokens=sum(chunk for _, chunk in plan.chunks),
            prefill_pairs=sum(chunk * (s.computed + (chunk + 1) / 2) for s, chunk in plan.chunks),
            decode_seqs=decoding,
            decode_context=self._context + decoding,
            image_tokens=plan.image_tokens,
            loaded_tokens=plan.loaded_tokens,
        )
        duration = self._costs.step_s(batch)
        if self._noise is not None:
            duration *= self._noise.one()
        outcome = StepOutcome(
            now, duration, self._step, decoding, plan.preempted, prefill_tokens=batch.prefill_tokens
        )
        self._advance(1, outcome)
        for sequence, chunk in plan.chunks:
            self._computed(sequence, chunk, outcome)
        self.counters.generation_tokens += decoding + len(outcome.prefilled)
        return outcome

    def _run(self, now: float, until: float, plan: Plan) -> StepOutcome:
        """Decode until a sequence ends, blocks run short or `until` is reached."""
        decoding = len(self.decoding)
        steps = self._uneventful_steps()
        context = self._context + decoding * np.arange(1, steps + 1, dtype=np.float64)
        durations = self._costs.decode_s(decoding, context)
        if self._noise is not None:
            durations = durations * self._noise.peek(steps)
        starts = now + np.cumsum(durations) - durations
        steps = max(1, int(np.searchsorted(starts, until, side="left")))
        if self._noise is not None:
            self._noise.skip(steps)
        durations = durations[:steps]
        outcome = StepOutcome(
            now,
            float(durations.sum()),
            self._step,
            decoding,
            plan.preempted,
            steps=steps,
            durations_s=durations,
        )
        self._advance(steps, outcome)
        self.counters.generation_tokens += decoding * steps
        return outcome

    def _uneventful_steps(self) -> int:
        while self._end_steps[0] not in self._ends:
            heapq.heappop(self._end_steps)
        steps = min(self._end_steps[0] - self._step + 1, LONGEST_RUN)
        size, free = self.config.block_size, self.pool.free
        if -(-steps // size) * len(self.decoding) <= free:
            return steps
        needs = np.array(self._grow, dtype=np.int64)[np.arange(self._step, self._step + steps) % size]
        return max(1, int(np.searchsorted(np.cumsum(needs), free, side="right")))

    def _advance(self, steps: int, outcome: StepOutcome) -> None:
        """Let all decoding sequences emit `steps` tokens; only the last step may end a sequence."""
        size = self.config.block_size
        if steps == 1:
            self.pool.take(self._grow[self._step % size])
        else:
            full, rest = divmod(steps, size)
            self.pool.take(
                full * len(self.decoding)
                + sum(self._grow[(self._step + offset) % size] for offset in range(rest))
            )
        self._ended_s = outcome.ends_s
        self._context += len(self.decoding) * steps
        last = self._step + steps - 1
        self._step += steps
        self.counters.steps += steps
        if self.keep_decoders:
            outcome.decoders = list(self.decoding.values())
        ended = self._ends.pop(last, None)
        if ended:
            for sequence in ended.values():
                self._leave(sequence, calendar=False)
                sequence.emitted = sequence.output_tokens
                outcome.finished.append(sequence)

    # --- prompts

    def _continue_prefill(self, sequence: Sequence, budget: int, now: float, plan: Plan) -> None:
        """Plan the next chunk of the unfinished prompt of the last step, then the prompts that still fit."""
        chunk = min(sequence.needed() - sequence.computed, budget)
        more = self._blocks(sequence.computed + chunk) - self._blocks(sequence.computed)
        if more > self.pool.free - self._growth():
            self._preempt(sequence, plan)
            return
        self.pool.take(more)
        plan.chunks.append((sequence, chunk))
        self._admit(budget - chunk, now, plan)

    def _admit(self, budget: int, now: float, plan: Plan) -> None:
        """Admit waiting sequences within budget, seats and blocks."""
        size = self.config.block_size
        seats = self.config.max_num_seqs - len(self.decoding) - len(plan.chunks)
        while self.waiting and budget > 0 and seats > 0:
            sequence = self.waiting[0]
            local, external = self._cached(sequence)
            hit = (local + external) * size
            left = sequence.needed() - hit
            if left > budget and not self.config.chunked_prefill:
                break
            chunk = min(left, budget)
            held = sequence.hashes[:local]
            new = self._blocks(hit + chunk) - local
            if new + self.pool.idle_among(held) + self._growth() > self.pool.free:
                break
            self.waiting.popleft()
            self.pool.hold(held)
            self.pool.take(new)
            sequence.held, sequence.named, sequence.computed = list(held), local, hit
            if sequence.scheduled_s is None:
                self._count_admission(sequence, local, external, now)
                plan.image_tokens += max(0, sequence.image_tokens - hit)  # images come first
            plan.loaded_tokens += external * size
            plan.chunks.append((sequence, chunk))
            budget -= chunk
            seats -= 1
            self._name(sequence, hit + chunk)

    def _cached(self, sequence: Sequence) -> tuple[int, int]:
        """Full blocks found on the GPU, then in host memory. The last token is always computed."""
        if not (self.config.prefix_caching and sequence.hashes):
            return 0, 0
        findable = sequence.hashes[: (sequence.needed() - 1) // self.config.block_size]
        local = self.pool.match(findable)
        return local, self._tier.match(findable[local:]) if self._tier else 0

    def _count_admission(self, sequence: Sequence, local: int, external: int, now: float) -> None:
        counters, size = self.counters, self.config.block_size
        sequence.scheduled_s = now
        sequence.cached_tokens = (local + external) * size
        if self.config.prefix_caching:
            counters.prefix_queries += sequence.prompt_tokens
            counters.prefix_hits += local * size
            if self._tier:
                counters.external_queries += sequence.prompt_tokens - local * size
                counters.external_hits += external * size

    def _computed(self, sequence: Sequence, chunk: int, outcome: StepOutcome) -> None:
        """Finish a chunk: the sequence emits a token, or its prompt continues in the next step."""
        sequence.computed += chunk
        if self._tier and sequence.hashes:
            self._tier.store(sequence.hashes[: sequence.computed // self.config.block_size])
        if sequence.computed < sequence.needed():
            self.prefilling = sequence
            self._name(sequence, sequence.computed)
            return
        if sequence is self.prefilling:
            self.prefilling = None
        if not sequence.emitted:
            self.counters.prompt_tokens += sequence.prompt_tokens
        sequence.emitted += 1
        outcome.prefilled.append(sequence)
        if sequence.emitted == sequence.output_tokens:
            self._free(sequence, sequence.computed)
            outcome.finished.append(sequence)
        else:
            self._join(sequence)

    def _name(self, sequence: Sequence, tokens: int) -> None:
        """Register the hashes of the full blocks of the first `tokens`, so that they can be found."""
        if not (self.config.prefix_caching and sequence.hashes):
            return
        full = sequence.hashes[sequence.named : tokens // self.config.block_size]
        sequence.held += self.pool.name(full)
        sequence.named += len(full)

    # --- joining and leaving the decoding sequences

    def _join(self, sequence: Sequence) -> None:
        sequence.joined_step = self._step
        self.decoding[sequence.id] = sequence
        self._context += sequence.computed
        self._grow[(self._step - sequence.computed) % self.config.block_size] += 1
        last = self._step + sequence.output_tokens - sequence.emitted - 1
        if last not in self._ends:
            self._ends[last] = {}
            heapq.heappush(self._end_steps, last)
        self._ends[last][sequence.id] = sequence

    def _leave(self, sequence: Sequence, *, calendar: bool = True) -> None:
        """Remove a sequence from the decoding ones and free its blocks."""
        del self.decoding[sequence.id]
        self._grow[(sequence.joined_step - sequence.computed) % self.config.block_size] -= 1
        done = self._step - sequence.joined_step
        if calendar:
            last = sequence.joined_step + sequence.output_tokens - sequence.emitted - 1
            self._ends[last].pop(sequence.id)
            if not self._ends[last]:
                del self._ends[last]
        sequence.emitted += done
        sequence.computed += done
        self._context -= sequence.computed
        self._free(sequence, sequence.computed)

    def _free(self, sequence: Sequence, tokens: int) -> None:
        self._name(sequence, tokens)
        self.pool.release(sequence.held, self._blocks(tokens) - len(sequence.held))
        sequence.held, sequence.named, sequence.computed = [], 0, 0

    def _growth(self) -> int:
        """Blocks that the decoding sequences need in the coming step."""
        return self._grow[self._step % self.config.block_size]

    def _make_room(self, plan: Plan) -> None:
        """Preempt the sequences admitted last until the coming step's new blocks fit."""
        while self._growth() > self.pool.free:
            self._preempt(self.prefilling or next(reversed(self.decoding.values())), plan)

    def _preempt(self, sequence: Sequence, plan: Plan) -> None:
        if sequence is self.prefilling:
            self.prefilling = None
            self._free(sequence, sequence.computed)
        else:
            self._leave(sequence)
        sequence.preemptions += 1
        plan.preempted.append(sequence)
        self.counters.preemptions += 1
        self.waiting.appendleft(sequence)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.config.block_size)
