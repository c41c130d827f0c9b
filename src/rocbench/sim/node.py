"""Resolution of an argv by a vLLM version on a node: memory, blocks, limits, step times. Pure.

The result determines the simulated server; `Refusal` is its error instead of a start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from packaging.version import Version

from rocbench.model.architecture import Architecture, from_config
from rocbench.model.images import image_rule
from rocbench.physics.kv import (
    KvCapacity,
    kv_bytes_per_token_per_rank,
    kv_capacity_tokens,
    sequence_bytes_per_rank,
)
from rocbench.physics.layout import Layout, from_args
from rocbench.physics.steps import StepModel
from rocbench.physics.weights import doubts
from rocbench.rules.facts import Facts
from rocbench.rules.table import RuleTable
from rocbench.settings.faults import Faults
from rocbench.settings.schema import Checkpoint, Hardware, ModelProfile, Simulation, Strict
from rocbench.sim.argv import ServeArgv, UsageError
from rocbench.sim.calibration import Calibration, Efficiency, When
from rocbench.sim.costs import Noise, PhysicsTimes, StepTimes
from rocbench.sim.prompts import Limits, Wording
from rocbench.sim.refusals import Start, check_lengths, check_memory, check_rules, facts_of
from rocbench.sim.steps import EngineConfig
from rocbench.sim.streams import Dialect
from rocbench.units import GIB


class Context(Strict):
    """The JSON file named by ROCBENCH_SIM: the simulated server's inputs in addition to its argv."""

    profile: ModelProfile
    hardware: Hardware
    vllm: str = "0.14.1"
    simulation: Simulation = Simulation()
    seed: int = 0
    faults: Faults = Faults()


@dataclass(frozen=True, slots=True)
class Node:
    """A started server's resolved settings."""

    version: str
    argv: ServeArgv
    arch: Architecture
    facts: Facts
    layout: Layout
    engine: EngineConfig
    times: StepTimes
    noises: tuple[Noise | None, ...]
    """Noise of each data-parallel rank; None without noise."""
    efficiency: Efficiency
    limits: Limits
    dialect: Dialect
    kv_cache_dtype: str
    gpu_memory_utilization: float
    weights_gib: float
    """Weights per rank in GiB."""
    kv_gib: float
    """Memory for the KV cache per rank in GiB."""
    kv_tokens: int
    backend: str
    runner: str | None
    """The model runner, v1 or v2; None if unknown."""
    picked_block_size: bool
    """True if vLLM chose the block size itself and logs it (from 0.19)."""
    dev_mode: bool
    api_key: str | None

    @property
    def api_request_s(self) -> float:
        """Seconds the API server spends on a request before the scheduler sees it."""
        return self.efficiency.api_request_ms / 1e3

    def cache_config(self, faults: Faults) -> dict[str, str]:
        """Labels of `vllm:cache_config_info`."""
        version = Version(self.version)
        labels = {
            "block_size": str(faults.wrong_block_size or self.engine.block_size),
            "cache_dtype": self.kv_cache_dtype,
            "calculate_kv_scales": "False",
            "cpu_kvcache_space_bytes": "None",
            "cpu_offload_gb": "0",
            "enable_prefix_caching": str(self.engine.prefix_caching),
            "engine": "0",
            "gpu_memory_utilization": str(self.gpu_memory_utilization),
            "kv_offloading_backend": self.argv.text("kv-offloading-backend") or "native",
            "kv_offloading_size": self.argv.text("kv-offloading-size") or "None",
            "num_cpu_blocks": "None",
            "num_gpu_blocks": str(self.engine.num_blocks),
            "num_gpu_blocks_override": "None",
            "prefix_caching_hash_algo": "sha256",
            "sliding_window": "None",
        }
        if version >= Version("0.24"):
            labels["kv_cache_size_tokens"] = str(self.kv_tokens)
            labels["kv_cache_max_concurrency"] = str(self.kv_tokens / self.limits.max_model_len)
        return labels

    def config(self) -> dict[str, object]:
        """The resolved configuration in /server_info."""
        return {
            "model_config": {"model": self.argv.model, "max_model_len": self.limits.max_model_len},
            "cache_config": {
                "block_size": self.engine.block_size,
                "cache_dtype": self.kv_cache_dtype,
                "enable_prefix_caching": self.engine.prefix_caching,
                "gpu_memory_utilization": self.gpu_memory_utilization,
                "num_gpu_blocks": self.engine.num_blocks,
            },
            "parallel_config": {"tensor_parallel_size": self.layout.tp},
            "scheduler_config": {
                "max_num_seqs": self.engine.max_num_seqs,
                "max_num_batched_tokens": self.engine.max_num_batched_tokens,
            },
        }


def resolve(
    argv: ServeArgv, context: Context, env: Mapping[str, str], table: RuleTable, cal: Calibration
) -> Node:
    """Resolve the argv as vLLM would. Raises Refusal, UsageError."""
    version = Version(context.vllm)
    start = Start(argv, env, context.profile, context.hardware, context.vllm)
    facts = facts_of(start, table)
    check_rules(start, table)
    arch = from_config(context.profile.config, mla_disabled=env.get("VLLM_MLA_DISABLE") == "1")
    length = argv.integer("max-model-len", arch.max_position_embeddings or 32768)
    block = facts.block_size or 16
    scheduler = _scheduler(argv, context, version, length, env, longest=arch.max_position_embeddings)
    layout = replace(from_args(dict(argv.flags)), speculative_tokens=0, mtp=False)  # it serves without drafts
    utilization = argv.number("gpu-memory-utilization", 0.92 if version >= Version("0.20.2") else 0.9)
    capacity = _capacity(argv, context, arch, layout, utilization, length, scheduler, block)
    blocks = argv.integer("num-gpu-blocks-override", capacity.tokens // block)
    efficiency = cal.efficiency(_when(facts, context), context.simulation.efficiency)
    return Node(
        version=context.vllm,
        argv=argv,
        arch=arch,
        facts=facts,
        layout=layout,
        engine=EngineConfig(
            max_num_seqs=min(scheduler.seats, context.faults.max_running or scheduler.seats),
            max_num_batched_tokens=scheduler.budget,
            max_model_len=length,
            block_size=block,
            num_blocks=blocks,
            prefix_caching=facts.prefix_caching,
            chunked_prefill=scheduler.chunked,
            offload_blocks=_offload_blocks(facts, arch, layout, block),
        ),
        times=step_times(
            arch,
            context.profile.checkpoint,
            context.hardware,
            layout,
            efficiency,
            scale=context.simulation.slowdown / context.simulation.speed,
        ),
        noises=tuple(_noise(context, efficiency, rank) for rank in range(layout.dp)),
        efficiency=efficiency,
        limits=_limits(argv, context.profile, arch, length, _wording(version)),
        dialect=_dialect(argv, version),
        kv_cache_dtype=facts.kv_cache_dtype,
        gpu_memory_utilization=utilization,
        weights_gib=capacity.weights / GIB,
        kv_gib=capacity.kv_bytes / GIB,
        kv_tokens=blocks * block,
        backend=context.faults.wrong_backend or facts.backend or "unknown",
        runner=facts.runner,
        picked_block_size="block-size" not in argv.flags and version >= Version("0.19"),
        dev_mode=env.get("VLLM_SERVER_DEV_MODE") == "1",
        api_key=argv.text("api-key") or env.get("VLLM_API_KEY"),
    )


def _capacity(
    argv: ServeArgv,
    context: Context,
    arch: Architecture,
    layout: Layout,
    utilization: float,
    length: int,
    scheduler: Scheduler,
    block: int,
) -> KvCapacity:
    """The KV cache of one engine. Raises Refusal if the cache or the weights do not fit."""
    capacity = kv_capacity_tokens(
        arch,
        context.profile.checkpoint,
        context.hardware,
        layout,
        utilization,
        vllm=context.vllm,
        max_model_len=length,
        max_num_batched_tokens=scheduler.budget,
        max_num_seqs=scheduler.seats,
        block_size=block,
        kv_cache_memory_bytes=argv.integer("kv-cache-memory-bytes", 0) or None,
    )
    if capacity is None:
        raise UsageError(f"hardware {context.hardware.name!r} has no GPU, so step times cannot be simulated")
    needed = sequence_bytes_per_rank(arch, layout, length)
    if doubts(arch, context.profile.checkpoint, context.hardware):  # a model in doubt refuses nothing
        kv_bytes = max(capacity.kv_bytes, needed)
        weight_bytes = min(capacity.weights, capacity.hbm_bytes - capacity.overhead)
        capacity = replace(
            capacity, kv_bytes=kv_bytes, weights=weight_bytes, tokens=max(capacity.tokens, length + 2 * block)
        )
    check_memory(capacity, max_model_len=length, sequence_bytes=needed, version=Version(context.vllm))
    return capacity


class Scheduler(NamedTuple):
    """Limits of a scheduler step."""

    budget: int
    seats: int
    chunked: bool


def _scheduler(
    argv: ServeArgv,
    context: Context,
    version: Version,
    length: int,
    env: Mapping[str, str],
    *,
    longest: int | None,
) -> Scheduler:
    gpu = context.hardware.gpu
    big = version >= Version("0.28") and gpu is not None and gpu.hbm_bytes >= 160 * GIB
    budget = argv.integer("max-num-batched-tokens", 16384 if big else 8192)
    seats = argv.integer("max-num-seqs", 1024)
    if "max-num-batched-tokens" not in argv.flags:  # vLLM raises its default, not the user's value
        budget = max(budget, seats)
    chunked = argv.switch("enable-chunked-prefill", default=True)
    check_lengths(max_model_len=length, longest=longest, budget=budget, seats=seats, chunked=chunked, env=env)
    return Scheduler(budget, seats, chunked)


def _when(facts: Facts, context: Context) -> When:
    return When(
        model=context.profile.name,
        family=facts.family,
        mla=facts.mla,
        moe=facts.moe,
        aiter=facts.aiter,
        quantization=facts.quantization,
        backend=facts.backend,
        gpu=facts.gpu,
    )


def step_times(
    arch: Architecture,
    checkpoint: Checkpoint,
    hardware: Hardware,
    layout: Layout,
    efficiency: Efficiency,
    scale: float = 1.0,
) -> PhysicsTimes:
    """Step times on hardware with this efficiency, multiplied by `scale`."""
    model = StepModel(
        arch,
        checkpoint,
        efficiency.derate(hardware),
        layout,
        collective_latency_s=efficiency.collective_latency_us / 1e6,
        overhead_s=efficiency.step_overhead_ms / 1e3,
    )
    return PhysicsTimes(model, efficiency.sequence_overhead_us / 1e6, scale)


def _noise(context: Context, efficiency: Efficiency, rank: int) -> Noise | None:
    run_cv = math.hypot(efficiency.run_cv, context.simulation.run_cv)
    if not (run_cv or context.simulation.noise_cv):
        return None
    return Noise(context.simulation.noise_cv, run_cv, context.seed + 7919 * rank)


def _offload_blocks(facts: Facts, arch: Architecture, layout: Layout, block: int) -> int:
    """Blocks in host memory: each rank keeps its part of a block, or all ranks share one copy."""
    if not facts.offload or not facts.offload_gib:
        return 0
    per_rank = facts.offload_gib * GIB / (layout.tp * layout.pp)
    if facts.kv_copies and facts.offload_copies:
        per_rank *= facts.kv_copies / facts.offload_copies
    return int(per_rank / kv_bytes_per_token_per_rank(arch, layout)) // block


def _limits(
    argv: ServeArgv, profile: ModelProfile, arch: Architecture, max_len: int, wording: Wording
) -> Limits:
    served = argv.flags.get("served-model-name", argv.model)
    names = served if isinstance(served, tuple) else (argv.text("served-model-name") or argv.model,)
    image = image_rule(profile.config) if arch.vision else None
    return Limits(names, max_len, profile.vocab_size or arch.vocab_size, image, 999, wording)


def _wording(version: Version) -> Wording:
    if version < Version("0.17"):
        return "0.14"
    return "0.17" if version < Version("0.32") else "0.32"


def _dialect(argv: ServeArgv, version: Version) -> Dialect:
    return Dialect(
        full_completion_events=version < Version("0.24"),
        reasoning_content=version < Version("0.16"),
        prompt_details=argv.switch("enable-prompt-tokens-details"),
        all_details=version >= Version("0.24"),
        interval=argv.integer("stream-interval", 1),
        reasoning_parser=argv.text("reasoning-parser") is not None,
        force_usage=argv.switch("enable-force-include-usage"),
    )
