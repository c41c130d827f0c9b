"""The time of an engine step: the minimum (bound), and the expected time by physics. Pure; seconds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rocbench.model.architecture import Architecture
from rocbench.physics import demand, kv, weights
from rocbench.physics.demand import Term
from rocbench.physics.layout import Layout
from rocbench.records import FloatArray
from rocbench.settings.schema import Checkpoint, Hardware


class StepParts(NamedTuple):
    """The parts of one step's time, in seconds. Reads and compute overlap: the parts do not add up to the time."""

    weights: float
    """Reading all weights except routed experts."""
    experts: float
    """Reading the routed experts that are visited."""
    kv: float
    """Reading and writing the KV cache, and linear layers' state."""
    linear: float
    expert_compute: float
    decode_attention: float
    prefill_attention: float
    collectives: float
    vision: float
    loading: float
    """Copying offloaded KV back from the host."""
    overhead: float


class StepModel:
    """Step times of one engine (one data-parallel rank) on given hardware.

    Args:
        arch, checkpoint, hardware, layout: the model, its weights, the node, and the distribution over GPUs.
        bound: True for the minimum time (it may void a measurement), False for the expected time.
        max_context: the longest sequence; only the bound needs it, for layers that attend to a limited
            number of tokens: the sum of min(c, k) over sequences is at least sum(c) x min(1, k / longest).
            None is the model's own limit.
        collective_latency_s: seconds of each all-reduce in addition to its bytes; expectation only.
        overhead_s: additional seconds of each step; expectation only.

    Raises:
        ValueError: the hardware profile has no GPU.
    """

    def __init__(
        self,
        arch: Architecture,
        checkpoint: Checkpoint,
        hardware: Hardware,
        layout: Layout,
        *,
        bound: bool = False,
        max_context: int | None = None,
        collective_latency_s: float = 0.0,
        overhead_s: float = 0.0,
    ) -> None:
        gpu = hardware.gpu
        if gpu is None:
            raise ValueError(f"hardware {hardware.name!r} has no GPU, so step times cannot be derived")
        self.arch, self.layout, self.bound = arch, layout, bound
        held = weights.items(arch, checkpoint, layout)
        rates = demand.rates(arch, gpu, checkpoint, layout, bound=bound)
        memory = gpu.hbm_bytes_per_s
        self.cached_s = gpu.cache_bytes / memory if bound else 0.0
        self.weights_s = (held.attention + held.replicated + held.mlp) / memory
        self.head_s = (held.head or (held.embedding if arch.tied_embeddings else 0.0)) / memory
        self.experts_s = held.experts / memory
        share = demand.active_share(arch)
        self.least_experts_s = share * self.experts_s
        self._log_missed = math.log1p(-share) * layout.dp if 0 < share < 1 else 0.0
        self._all_experts = share >= 1
        longest = max_context or arch.max_position_embeddings or math.inf
        self.kv_terms = self._terms(demand.read_terms(arch, layout), memory, longest)
        self.kv_write_s = kv.kv_bytes_per_token_per_rank(arch, layout) / memory
        self.state_s = demand.state_bytes(arch, layout, bound=bound) / memory
        self.linear_s = demand.linear_flops(arch, layout) / rates.linear
        self.expert_compute_s = demand.expert_flops(arch, layout) / rates.experts
        self.sample_s = demand.head_flops(arch, layout) / rates.linear
        index = Term(demand.indexer_flops(arch, layout) / rates.indexer)
        absorbed = demand.attention_terms(arch, layout, absorbed=True)
        expanded = demand.attention_terms(arch, layout, absorbed=False)
        self.decode_terms = self._terms(absorbed, rates.attention, longest, index)
        self.prefill_terms = self._terms(expanded, rates.attention, longest, index)
        self.prompt_share = demand.prompt_share(arch)
        self.collective_s = demand.collective_seconds(arch, gpu, layout, bound=bound)
        waits = arch.sublayers / layout.pp if layout.tp > 1 else 0.0
        self.fixed_s = 0.0 if bound else overhead_s + collective_latency_s * waits
        self.vision_s = demand.vision_flops(arch, layout) / rates.vision
        per_token = kv.kv_bytes_per_token_per_rank(arch, layout)
        self.load_s = per_token / gpu.host_bytes_per_s if gpu.host_bytes_per_s else 0.0
        self.queries = 1 + layout.speculative_tokens
        drafted = layout.speculative_tokens * (held.mtp / memory + self.head_s) if layout.mtp else 0.0
        self._draft_s = 0.0 if bound else drafted
        self._stages = 1 if bound else layout.pp

    def _terms(
        self, terms: tuple[Term, ...], rate: float, longest: float, extra: Term | None = None
    ) -> tuple[float, tuple[tuple[float, float], ...]]:
        """Return (seconds per attended token, (seconds per attended token, limit) for the limited ones)."""
        everything = [Term(t.each / rate, t.limit) for t in terms] + ([extra] if extra else [])
        if self.bound:
            return sum(t.each * min(1.0, t.limit / longest) for t in everything), ()
        plain = sum(t.each for t in everything if t.limit == demand.ALL)
        return plain, tuple((t.each, t.limit) for t in everything if t.limit != demand.ALL)

    def expert_share(self, tokens: float) -> float:
        """Return the share of the routed experts that `tokens` visit.

        Bound: k / E, all tokens choose the same experts. Expectation: 1 - (1 - k/E)^tokens, each token
        chooses at random; data-parallel ranks share the experts, so tokens of all ranks count.
        """
        if tokens <= 0 or not self.experts_s:
            return 0.0
        if self._all_experts:
            return 1.0
        if self.bound:
            return self.least_experts_s / self.experts_s
        return -math.expm1(tokens * self._log_missed)

    def cost(
        self,
        prefill_tokens: float,
        prefill_pairs: float,
        decode_seqs: float,
        decode_context: float,
        image_tokens: float = 0.0,
        loaded_tokens: float = 0.0,
    ) -> float:
        """Return the seconds of one step.

        Args:
            prefill_tokens: prompt tokens computed.
            prefill_pairs: tokens attended to, summed over these; n (n + 1) / 2 for a whole prompt of n.
            decode_seqs: sequences that decode.
            decode_context: tokens in their KV, summed.
            image_tokens: tokens that the vision tower produces.
            loaded_tokens: tokens whose KV comes back from the host.
        """
        stages = self._stages
        if stages > 1:  # stages work on as many batches at a time, each a part of the load
            prefill_tokens, prefill_pairs = prefill_tokens / stages, prefill_pairs / stages
            decode_seqs, decode_context = decode_seqs / stages, decode_context / stages
        return stages * self._total(
            self.parts(
                prefill_tokens, prefill_pairs, decode_seqs, decode_context, image_tokens, loaded_tokens
            )
        )

    def parts(
        self,
        prefill: float,
        pairs: float,
        seqs: float,
        context: float,
        images: float = 0.0,
        loaded: float = 0.0,
    ) -> StepParts:
        """Return the parts of a step of one pipeline stage; arguments as of `cost`."""
        tokens, passing = prefill + seqs * self.queries, prefill * self.prompt_share + seqs * self.queries
        plain, limited = self.kv_terms
        kv_s = plain * context + self.kv_write_s * tokens + self.state_s * seqs
        decode, decode_limited = self.decode_terms
        attention = decode * context
        if seqs and (limited or decode_limited):
            mean = context / seqs
            for each, limit in limited:
                kv_s += each * seqs * min(limit, mean)
            for each, limit in decode_limited:
                attention += each * seqs * min(limit, mean)
        per_pair, prefill_limited = self.prefill_terms
        prefill_attention = per_pair * pairs
        if prefill and prefill_limited:
            mean = pairs / prefill
            for each, limit in prefill_limited:
                prefill_attention += each * prefill * min(limit, mean)
        sampled = seqs * self.queries if self.bound or not prefill else seqs * self.queries + 1
        return StepParts(
            weights=self._read_s(tokens, seqs, sampled),
            experts=self.experts_s * self.expert_share(tokens),
            kv=kv_s,
            linear=self.linear_s * passing + self.sample_s * sampled,
            expert_compute=self.expert_compute_s * passing,
            decode_attention=attention * self.queries,
            prefill_attention=prefill_attention,
            collectives=self.collective_s * passing,
            vision=self.vision_s * images,
            loading=self.load_s * loaded,
            overhead=self.fixed_s,
        )

    def _read_s(self, tokens: float, seqs: float, sampled: float) -> float:
        """Reading the weights: all layers, the head where a token is sampled, drafting layers per draft."""
        if not tokens:
            return 0.0
        return self.weights_s + (self.head_s if sampled else 0.0) + (self._draft_s if seqs else 0.0)

    def _total(self, p: StepParts) -> float:
        """Return the time of a step.

        bound: max(weights + experts + kv - what the last-level cache may keep, all compute, collectives, loading).
        expectation: max(weights, linear) + max(experts, expert_compute) + max(kv, decode attention)
        + prefill attention + collectives + vision + overhead, and at least loading.
        """
        if self.bound:
            read = p.weights + p.experts + p.kv - self.cached_s
            compute = p.linear + p.expert_compute + p.decode_attention + p.prefill_attention + p.vision
            return max(read, compute, p.collectives, p.loading, 0.0)
        total = max(p.linear, p.weights)
        total += max(p.expert_compute, p.experts)
        total += max(p.decode_attention, p.kv)
        total += p.prefill_attention + p.collectives + p.vision + p.overhead
        return max(p.loading, total)

    def decode_s(self, seqs: int, context: FloatArray) -> FloatArray:
        """Return the seconds of steps that only decode `seqs` sequences, for each total context in tokens."""
        stages = self._stages
        share = context / stages
        n = seqs / stages
        base = self.parts(0.0, 0.0, n, 0.0)
        kv_s = base.kv + self.kv_terms[0] * share
        attention = self.decode_terms[0] * share
        mean = share / n
        for each, limit in self.kv_terms[1]:
            kv_s = kv_s + each * n * np.minimum(mean, limit)
        for each, limit in self.decode_terms[1]:
            attention = attention + each * n * np.minimum(mean, limit)
        attention = attention * self.queries
        if self.bound:
            read = base.weights + base.experts + kv_s - self.cached_s
            return np.maximum(
                np.maximum(read, base.linear + base.expert_compute + attention), base.collectives
            )
        fixed = max(base.weights, base.linear) + max(base.experts, base.expert_compute)
        fixed += base.collectives + base.overhead
        return stages * (fixed + np.maximum(kv_s, attention))
