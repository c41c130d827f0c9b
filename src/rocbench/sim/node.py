"""What vLLM of a given version makes of an argv on a given node: memory, blocks, limits, step times. Pure.

The result decides everything the simulated server does; `Refusal` is what it says instead of starting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from rocbench.architecture import Architecture, from_config
from rocbench.settings.schema import Hardware, ModelProfile, Simulation, Strict
from rocbench.sim.argv import ServeArgv
from rocbench.sim.costs import AffineTimes, Noise, StepTimes
from rocbench.sim.engine import EngineConfig
from rocbench.sim.faults import Faults
from rocbench.sim.prompts import ImageRule, Limits
from rocbench.sim.streams import Dialect
from rocbench.units import GIB


class Context(Strict):
    """The JSON that ROCBENCH_SIM names: what the simulated server knows beside its argv."""

    profile: ModelProfile
    hardware: Hardware
    vllm: str = "0.14.1"
    simulation: Simulation = Simulation()
    seed: int = 0
    faults: Faults = Faults()


class Refusal(Exception):
    """vLLM does not start: the last line of its traceback."""

    def __init__(self, kind: str, message: str) -> None:
        self.line = f"{kind}: {message}"
        super().__init__(self.line)


@dataclass(frozen=True, slots=True)
class Node:
    """A started server's resolved settings."""

    version: str
    argv: ServeArgv
    arch: Architecture
    engine: EngineConfig
    times: StepTimes
    limits: Limits
    dialect: Dialect
    tp: int
    block_size: int
    kv_cache_dtype: str
    gpu_memory_utilization: float
    weights_gib: float
    """Per rank."""
    kv_gib: float
    """Memory for the KV cache per rank."""
    kv_tokens: int
    backend: str
    backend_line: str
    picked_block_size: bool
    """vLLM chose the block size itself and says so (from 0.19)."""
    dev_mode: bool
    api_key: str | None
    api_request_s: float = 0.002
    """Seconds the API server spends on a request before the engine sees it."""
    answer_median: float = 256.0
    """Tokens of an answer that ends by itself: median and sigma of a lognormal."""
    answer_sigma: float = 1.0

    def cache_config(self, faults: Faults) -> dict[str, str]:
        """Labels of `vllm:cache_config_info`."""
        version = Version(self.version)
        told = {
            "block_size": str(faults.wrong_block_size or self.block_size),
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
            told["kv_cache_size_tokens"] = str(self.kv_tokens)
            told["kv_cache_max_concurrency"] = str(self.kv_tokens / self.limits.max_model_len)
        return told

    def config(self) -> dict[str, object]:
        """What /server_info tells of the resolved configuration."""
        return {
            "model_config": {"model": self.argv.model, "max_model_len": self.limits.max_model_len},
            "cache_config": {
                "block_size": self.block_size,
                "cache_dtype": self.kv_cache_dtype,
                "enable_prefix_caching": self.engine.prefix_caching,
                "gpu_memory_utilization": self.gpu_memory_utilization,
                "num_gpu_blocks": self.engine.num_blocks,
            },
            "parallel_config": {"tensor_parallel_size": self.tp},
            "scheduler_config": {
                "max_num_seqs": self.engine.max_num_seqs,
                "max_num_batched_tokens": self.engine.max_num_batched_tokens,
            },
        }

    def noise(self, context: Context) -> Noise | None:
        """Noise on step times as the simulation asks for it."""
        cv = context.simulation.noise_cv
        return Noise(cv, context.seed) if cv else None


def resolve(argv: ServeArgv, context: Context, env: Mapping[str, str]) -> Node:
    """Resolve the argv as vLLM would. Raises Refusal, UsageError."""
    version, profile, hardware = Version(context.vllm), context.profile, context.hardware
    arch = from_config(profile.config)
    tp = argv.integer("tensor-parallel-size", 1)
    max_len = argv.integer("max-model-len", arch.max_position_embeddings or 32768)
    gpu = hardware.gpu
    hbm = gpu.hbm_bytes if gpu else 16 * GIB
    utilization = argv.number("gpu-memory-utilization", 0.92 if version >= Version("0.20.2") else 0.9)
    big = version >= Version("0.28") and hbm >= 160 * GIB
    budget = argv.integer("max-num-batched-tokens", 16384 if big else 8192)
    block = argv.integer("block-size", 16)
    weights = profile.checkpoint.bytes or arch.total_params * profile.checkpoint.bits / 8
    kv_bytes = 1 if (argv.text("kv-cache-dtype") or "auto").startswith("fp8") else 2
    per_token = _kv_bytes_per_token(arch, tp, kv_bytes)
    room = hbm * utilization - weights / tp - 4 * GIB
    if room <= 0:
        raise Refusal("torch.OutOfMemoryError", "HIP out of memory.")
    blocks = int(room / per_token) // block
    seats = argv.integer("max-num-seqs", 1024)
    if context.faults.max_running:
        seats = min(seats, context.faults.max_running)
    prefix = argv.switch("enable-prefix-caching", default=True)
    return Node(
        version=context.vllm,
        argv=argv,
        arch=arch,
        engine=EngineConfig(seats, budget, max_len, block, blocks, prefix),
        times=AffineTimes(),
        limits=_limits(argv, profile, arch, max_len, modern=version >= Version("0.30")),
        dialect=_dialect(argv, version),
        tp=tp,
        block_size=block,
        kv_cache_dtype=argv.text("kv-cache-dtype") or "auto",
        gpu_memory_utilization=utilization,
        weights_gib=weights / tp / GIB,
        kv_gib=room / GIB,
        kv_tokens=blocks * block,
        backend="TRITON_ATTN",
        backend_line=context.faults.wrong_backend or "Using Triton Attention backend.",
        picked_block_size="block-size" not in argv.flags and version >= Version("0.19"),
        dev_mode=env.get("VLLM_SERVER_DEV_MODE") == "1",
        api_key=argv.text("api-key") or env.get("VLLM_API_KEY"),
    )


def _kv_bytes_per_token(arch: Architecture, tp: int, element: int) -> float:
    if arch.mla and arch.kv_lora_rank:
        return float(arch.num_layers * (arch.kv_lora_rank + (arch.qk_rope_head_dim or 0)) * element)
    return float(2 * arch.num_layers * max(1, arch.num_kv_heads // tp) * arch.head_dim * element)


def _limits(
    argv: ServeArgv, profile: ModelProfile, arch: Architecture, max_len: int, *, modern: bool
) -> Limits:
    served = argv.flags.get("served-model-name", argv.model)
    names = (
        (served,)
        if isinstance(served, str)
        else tuple(served)
        if isinstance(served, tuple)
        else (argv.model,)
    )
    image = image_rule(profile.config) if arch.vision else None
    return Limits(names, max_len, profile.vocab_size or arch.vocab_size, image, 999, modern)


def image_rule(config: Mapping[str, Any]) -> ImageRule:
    """Image tokens by patch and merge size; pixel bounds are the processors' defaults.

    Source: `preprocessor_config.json` of Qwen3-VL (4,096 to 16,777,216 pixels); others are taken alike.
    """
    vision = config.get("vision_config") or {}
    patch = int(vision.get("patch_size") or 14)
    merge = vision.get("spatial_merge_size") or vision.get("merge_kernel_size") or 2
    side = int(merge[0] if isinstance(merge, (list, tuple)) else merge)
    return ImageRule(patch * side, 4096, 16_777_216)


def _dialect(argv: ServeArgv, version: Version) -> Dialect:
    return Dialect(
        full_completion_events=version < Version("0.30"),
        reasoning_content=version < Version("0.16"),
        prompt_details=argv.switch("enable-prompt-tokens-details"),
        reasoning_parser=argv.text("reasoning-parser") is not None,
        force_usage=argv.switch("enable-force-include-usage"),
    )
