"""What a cell can do at best and how long it will take, before it runs. Pure; the formulas are in `physics/`."""

from __future__ import annotations

from dataclasses import dataclass

from rocbench.architecture import from_config
from rocbench.physics import kv, layout, weights
from rocbench.rules.resolve import Resolution
from rocbench.settings.schema import Hardware, Load, ModelProfile, Workload

LOAD_BYTES_PER_S = 2e9
"""Weights read from local storage by all ranks together; an assumption until a node's own starts are known."""
START_S = 120.0
"""Engine start, compilation and graph capture beside the weights; an assumption likewise."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of a cell beforehand; None where the hardware or the model says nothing."""

    kv_capacity_tokens: int | None = None
    users_that_fit: int | None = None
    """Users whose ISL + OSL fit into the KV cache at once; more are queued or preempted."""
    roofline_output_throughput: float | None = None
    """Upper bound of output tokens/s: no server on this hardware can exceed it."""
    expected_output_throughput: float | None = None
    ttft_bound_ms: float | None = None
    duration_s: float | None = None
    server_load_s: float | None = None
    cannot_fit: str | None = None
    """Why the cell cannot run at all."""


NOTHING_KNOWN = Estimate()


def estimate(
    profile: ModelProfile,
    hardware: Hardware,
    resolution: Resolution,
    workload: Workload,
    load: Load,
    *,
    concurrency: int | None,
    rate: float | None,
) -> Estimate:
    """Capacity, bound and time of one cell on hardware whose physics are known."""
    if hardware.gpu is None:
        return Estimate(duration_s=load.duration_s * 2, server_load_s=60.0)
    arch = from_config(profile.config)
    args = {entry.name.lstrip("-"): entry.value for entry in resolution.args}
    plan = layout.from_args(args)
    capacity = kv.kv_capacity_tokens(
        arch,
        profile.checkpoint,
        hardware,
        plan,
        float(args.get("gpu-memory-utilization") or 0.9),
        max_model_len=_int(args.get("max-model-len")),
        max_num_batched_tokens=_int(args.get("max-num-batched-tokens")) or 8192,
        max_num_seqs=_int(args.get("max-num-seqs")) or 1024,
        block_size=resolution.facts.block_size or 16,
    )
    bytes_ = weights.checkpoint_bytes(arch, profile.checkpoint)
    server_load_s = START_S + bytes_ / LOAD_BYTES_PER_S
    tokens = workload.isl.mean + workload.osl.mean
    if capacity is None:
        return Estimate(server_load_s=server_load_s)
    if capacity.tokens < tokens:
        return Estimate(cannot_fit=f"the KV cache holds {capacity.tokens:,} tokens, one request needs {tokens:,}")
    return Estimate(
        kv_capacity_tokens=capacity.tokens,
        users_that_fit=kv.users_that_fit(capacity, arch, plan, tokens),
        server_load_s=server_load_s,
    )


def _int(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None
