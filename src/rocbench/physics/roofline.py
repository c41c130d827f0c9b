"""Upper bounds of a node: throughput at each concurrency, TTFT, and a measured row's share of them. Pure.

There are two answers. The bound is a limit that no server can exceed, and it may void a row: the fewest
distinct experts, no latency, every read and computation overlapped. The expectation is the expected time of a
step (`steps.StepModel`); planning and the simulated server use it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rocbench.model.architecture import Architecture
from rocbench.physics.layout import Layout
from rocbench.physics.steps import StepModel
from rocbench.settings.schema import Checkpoint, Hardware


@dataclass(frozen=True, slots=True)
class RequestShape:
    """The mean request, in tokens."""

    isl: float
    """Prompt tokens, image tokens included."""
    osl: float
    cached: float = 0.0
    """Prompt tokens whose KV is already cached: not computed, so not bounded."""
    image_tokens: float = 0.0
    accepted_per_step: float = 1.0
    """Tokens that a decode step gives one sequence: above 1 with speculation."""
    longest: int | None = None
    """The maximum ISL + OSL, where known. None uses the model's own limit, which loosens the bound of layers
    that attend to a limited number of tokens.
    """

    @property
    def uncached(self) -> float:
        """Prompt tokens that must be computed."""
        return max(0.0, self.isl - self.cached)

    @property
    def pairs(self) -> float:
        """Tokens attended to, summed over the uncached prompt tokens: (isl^2 - cached^2 + isl - cached) / 2."""
        return (self.isl * (self.isl + 1) - self.cached * (self.cached + 1)) / 2 if self.uncached else 0.0

    @property
    def steps(self) -> float:
        """Decode steps of a request; the first token comes from the prefill."""
        return max(0.0, self.osl - 1) / max(1.0, self.accepted_per_step)


@dataclass(frozen=True, slots=True)
class Bound:
    """The limits that no server exceeds, over all data-parallel ranks."""

    output_throughput: float
    """Output tokens/s."""
    ttft_s: float
    """Prefill of one request's uncached tokens, without other load."""
    limiter: str
    """memory, compute, collectives, or latency (too few users to fill the node)."""


def bound(
    arch: Architecture,
    checkpoint: Checkpoint,
    hardware: Hardware,
    layout: Layout,
    concurrency: int | None,
    shape: RequestShape,
    *,
    users: int | None = None,
) -> Bound | None:
    """Return the upper bound of a closed loop's steady state; None if the hardware profile has no GPU.

    Each request needs `uncached` prompt tokens, `steps` decode steps and their attention. Of one engine with
    at most B sequences in flight, with times as `StepModel` bounds them:

        memory      = steps / B x (weights + k/E of the experts - last-level cache)
                      + steps x KV read at the mean context + KV written
        compute     = (uncached + steps x queries) x matrices + attention + sampling + vision
        collectives = (uncached + steps x queries) x all-reduce bytes
        requests/s <= 1 / max(memory, compute, collectives)
        requests/s <= B / (prefill alone + steps x a step alone)

    Prefill shares the weights read by decode steps, so no reading is charged for it.

    Args:
        concurrency: users of the closed loop; None for an open loop, which is bounded by `users` alone.
        users: sequences that fit or are allowed at once, over all data-parallel ranks.
    """
    if hardware.gpu is None:
        return None
    model = StepModel(arch, checkpoint, hardware, layout, bound=True, max_context=shape.longest)
    in_flight = min(concurrency or math.inf, users or math.inf)
    batch = max(1.0, in_flight / layout.dp)
    mean_context = shape.isl + shape.osl / 2
    demands = _demands(model, shape, batch, mean_context)
    limiter = max(demands, key=lambda name: demands[name])
    ttft = model.cost(shape.uncached, shape.pairs, 0, 0, shape.image_tokens)
    alone = ttft + shape.steps * model.cost(0, 0, 1, mean_context)
    rate = 1 / demands[limiter] if demands[limiter] else math.inf
    if alone and batch / alone < rate:
        rate, limiter = batch / alone, "latency"
    return Bound(
        output_throughput=rate * layout.dp * shape.osl,
        ttft_s=ttft,
        limiter=limiter,
    )


def _demands(model: StepModel, shape: RequestShape, batch: float, context: float) -> dict[str, float]:
    """Return the seconds of each resource that one request needs."""
    steps, queries = shape.steps, shape.steps * model.queries
    computed = shape.uncached * model.prompt_share + queries
    weights_s = model.weights_s + model.head_s + model.least_experts_s
    spare = max(0.0, model.cached_s - weights_s)
    # Weights that fit the last-level cache leave room for KV: a step of B sequences then reads B kv - spare,
    # but takes at least as long as a step of a single sequence, t; B / max(t, B kv - spare) is at most (1 +
    # spare / t) / kv.
    kept = 1 + spare / model.cost(0, 0, 1, context) if spare else 1.0
    read = steps / batch * max(0.0, weights_s - model.cached_s)
    read += steps * (model.kv_terms[0] * context + model.state_s) / kept
    read += model.kv_write_s * (shape.uncached + steps)
    compute = computed * (model.linear_s + model.expert_compute_s) + queries * model.sample_s
    compute += model.prefill_terms[0] * shape.pairs + model.decode_terms[0] * context * queries
    compute += model.vision_s * shape.image_tokens
    return {"memory": read, "compute": compute, "collectives": computed * model.collective_s}


@dataclass(frozen=True, slots=True)
class Share:
    """The share of a hardware limit that a measured figure takes."""

    value: float
    """1 is the limit."""
    what: str
    """The figure and the limit."""


def output_limit(
    arch: Architecture,
    checkpoint: Checkpoint,
    hardware: Hardware,
    layout: Layout,
    concurrency: int | None,
    shape: RequestShape | None,
    *,
    accepted_per_step: float = 1.0,
) -> tuple[float, str] | None:
    """Return the maximum output tokens/s and what limits them; None without a GPU.

    For requests of known shape it is `bound`. For unknown shapes it uses only facts that need no lengths:
    each token passes all matrices once, and a step, which reads all weights, gives each sequence at most
    `accepted_per_step` tokens.
    """
    if hardware.gpu is None:
        return None
    if shape is not None and shape.osl >= 1:
        limit = bound(arch, checkpoint, hardware, layout, concurrency, shape)
        return (limit.output_throughput, limit.limiter) if limit is not None else None
    model = StepModel(arch, checkpoint, hardware, layout, bound=True)
    compute = layout.dp / _computed_s(model)
    reads = (concurrency or math.inf) * accepted_per_step / model.cost(0, 0, 1, 1)
    return (compute, "compute") if compute <= reads else (reads, "latency")


def roofline_share(
    arch: Architecture,
    checkpoint: Checkpoint,
    hardware: Hardware,
    layout: Layout,
    *,
    output_throughput: float | None = None,
    total_throughput: float | None = None,
    concurrency: int | None = None,
    shape: RequestShape | None = None,
    accepted_per_step: float = 1.0,
    tpot_s: float | None = None,
) -> Share | None:
    """Return the maximum share of a limit that a row's figures take; None if nothing can be checked.

    Output tokens/s are compared with `output_limit`. Total tokens/s are compared with the peak FLOP/s: each
    computed token passes all matrices once (2 x active parameters without embedding and head). Cached prompt
    tokens are subtracted if `shape` says how many; otherwise the total counts as computed tokens. A TPOT is
    compared with a decode step of one sequence alone.

    Args:
        accepted_per_step: tokens that a decode step gives one sequence; above 1 with speculation.
        tpot_s: the TPOT of most requests, s; 0 is none (no request of two tokens).
    """
    if hardware.gpu is None:
        return None
    shares = []
    limit = output_limit(
        arch, checkpoint, hardware, layout, concurrency, shape, accepted_per_step=accepted_per_step
    )
    if output_throughput is not None and limit is not None and limit[0] > 0:
        what = f"{output_throughput:,.0f} output tokens/s; the GPUs allow at most {limit[0]:,.0f} (limit: {limit[1]})"
        shares.append(Share(output_throughput / limit[0], what))
    if total_throughput is not None:
        shares.append(_compute_share(arch, checkpoint, hardware, layout, total_throughput, shape))
    if tpot_s:
        model = StepModel(arch, checkpoint, hardware, layout, bound=True)
        context = shape.isl + shape.osl / 2 if shape else 1
        minimum_s = model.cost(0, 0, 1, context) / accepted_per_step
        what = f"TPOT of {tpot_s * 1e3:.2f} ms; even for a single user, TPOT is at least {minimum_s * 1e3:.2f} ms"
        shares.append(Share(minimum_s / tpot_s, what))
    return max(shares, key=lambda share: share.value, default=None)


def _compute_share(
    arch: Architecture,
    checkpoint: Checkpoint,
    hardware: Hardware,
    layout: Layout,
    total_throughput: float,
    shape: RequestShape | None,
) -> Share:
    model = StepModel(arch, checkpoint, hardware, layout, bound=True)
    computed = model.prompt_share
    if shape is not None and shape.isl + shape.osl > 0:
        computed = (shape.uncached * model.prompt_share + shape.osl) / (shape.isl + shape.osl)
    per_token = _computed_s(model) / layout.dp
    what = f"{total_throughput * computed:,.0f} computed tokens/s; peak FLOP/s allow at most {1 / per_token:,.0f}"
    return Share(total_throughput * computed * per_token, what)


def _computed_s(model: StepModel) -> float:
    """Return the seconds that one engine's matrices take for a token."""
    return model.linear_s + model.expert_compute_s
