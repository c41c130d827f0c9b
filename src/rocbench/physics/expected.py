"""The throughput to expect of a closed loop in its steady state, for plans. Pure.

A mean-value estimate in a few microseconds; the simulated server's scheduler does the same in full.
"""

from __future__ import annotations

from dataclasses import dataclass

from rocbench.physics.roofline import RequestShape
from rocbench.physics.steps import StepModel

ROUNDS = 40
DAMPING = 0.5


@dataclass(frozen=True, slots=True)
class Expected:
    """A closed loop's steady state, over all data-parallel ranks."""

    output_throughput: float
    """Output tokens/s."""
    requests_per_s: float
    request_s: float
    """From sending to the last token (E2EL)."""
    step_s: float
    decoding: float
    """Sequences that decode, per data-parallel rank."""


def expected(
    model: StepModel,
    concurrency: int,
    shape: RequestShape,
    *,
    max_num_batched_tokens: int = 8192,
    max_num_seqs: int = 1024,
    users: int | None = None,
) -> Expected:
    """What `concurrency` users get if every step takes as long as `model` says.

    Of n users in flight on an engine, D decode and the others prefill: a request takes its decode steps and at
    least uncached / budget steps of prefill, so D = n x steps / (both). A share of the steps carries prompt
    tokens, D / steps x uncached a step on average; the others only decode. No user is served faster than alone.
    """
    dp = model.layout.dp
    n = max(1.0, min(concurrency / dp, float(max_num_seqs), (users or concurrency) / dp))
    context = shape.isl + shape.osl / 2
    per_token = shape.pairs / shape.uncached if shape.uncached else 0.0
    images = shape.image_tokens / shape.uncached if shape.uncached else 0.0
    if shape.steps == 0:
        chunk = min(float(max_num_batched_tokens), n * max(1.0, shape.uncached))
        step = model.cost(chunk, chunk * per_token, 0, 0, chunk * images)
        rate = chunk / max(1.0, shape.uncached) / step
        return Expected(rate * dp * shape.osl, rate * dp, concurrency / (rate * dp), step, 0.0)
    decoding, waiting = n, 1.0
    for _ in range(ROUNDS):
        budget = max(1.0, max_num_batched_tokens - decoding * model.queries)
        waiting = max(1.0, shape.uncached / budget)
        fits = n * shape.steps / (shape.steps + waiting)
        if shape.uncached:
            fits = min(fits, budget * shape.steps / shape.uncached)
        decoding += DAMPING * (fits - decoding)
    arriving = decoding / shape.steps  # requests that begin, per step
    share = min(1.0, arriving * waiting) if shape.uncached else 0.0
    step = model.cost(0, 0, decoding, decoding * context)
    if share:
        prompt = arriving * shape.uncached / share
        mixed = model.cost(prompt, prompt * per_token, decoding, decoding * context, prompt * images)
        step += share * (mixed - step)
    alone = model.cost(shape.uncached, shape.pairs, 0, 0, shape.image_tokens)
    alone += shape.steps * model.cost(0, 0, 1, context)
    rate = min(decoding / (shape.steps * step), n / alone) * dp
    return Expected(rate * shape.osl, rate, concurrency / rate, step, decoding)
