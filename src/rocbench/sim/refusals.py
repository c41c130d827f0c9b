"""Settings that a real vLLM version refuses to start with, and its messages. Pure.

Rules of severity `hard_error` are checked on the argv and environment as given, without filling in settings.
Lengths and memory, which no rule covers, are checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from packaging.version import Version

from rocbench.errors import InputError
from rocbench.model.architecture import from_config
from rocbench.physics.kv import KvCapacity
from rocbench.rules.facts import Facts, Subject, gather
from rocbench.rules.flags import leaves
from rocbench.rules.resolve import ServeRequest
from rocbench.rules.resolve import resolve as resolve_rules
from rocbench.rules.table import RuleTable
from rocbench.settings.schema import Hardware, ModelProfile
from rocbench.sim.argv import ServeArgv, UsageError
from rocbench.units import GIB

NO_START_REFUSAL = {
    "ready-timeout": "the simulated server loads its weights in less time",
    "swap-space": "argparse refuses the flag",
    "log-requests": "argparse refuses the flag",
    "hybrid-seqs": "the number of state blocks is not modelled",
    "cpu-mla-fp8": "the engine starts and dies at the first request",
    "cpu-moe-ep": "the engine starts and dies at the first request",
    "off-mla-garbled": "the server starts, and its answers are garbage",
    "off-dcp": "the engine starts and dies at the first request",
}
"""Hard errors that do not prevent the start of vLLM, or that are refused elsewhere."""
NEEDED_FILLS = {"bs-sparse-1", "bs-m3", "off-hma-flag", "off-hma-lmcache"}
"""Rules whose setting vLLM needs to start."""
EXCEPTIONS: dict[str, tuple[str, str | None]] = {
    "bs-sparse-1": ("AssertionError", None),
    "heads-16-128": ("AssertionError", None),
    "heads-4-8-16k": ("AssertionError", None),
    "heads-div16": ("AssertionError", None),
    "heads-lt16": ("AssertionError", None),
    "heads-any": ("AssertionError", None),
    "triton-mla-fp8": ("NotImplementedError", None),
    "triton-mla-kv": ("NotImplementedError", "TritonMLA V1 with FP8 KV cache not yet supported"),
    "kv-flex-auto": ("NotImplementedError", "FlexAttention does not support quantized kv-cache. Yet"),
    "kv-flex": ("NotImplementedError", None),
    "offload-size": ("Exception", "cpu_bytes_to_use must be specified in kv_connector_extra_config"),
    "offload-negative": ("RuntimeError", "Trying to create tensor with negative dimension"),
    "off-no-size": ("Exception", None),
    "off-cpu-blocks": ("Exception", "num_cpu_blocks must be specified in kv_connector_extra_config"),
    "off-kernel-blocks-mla": ("AssertionError", "assert gpu_block_size_factor == 1"),
    "off-kernel-blocks": ("AssertionError", "assert gpu_block_size_factor == 1"),
    "off-kpool": ("AssertionError", None),
    "off-hybrid": ("ValueError", "Connector OffloadingConnector does not support HMA but HMA is enabled."),
    "off-simple-cuda": ("ModuleNotFoundError", "No module named 'cuda'"),
    "off-simple-rocm": ("RuntimeError", None),
    "off-mla-bug": ("KeyError", "'model.layers.0.self_attn.indexer.k_cache'"),
    "off-triton-swap": ("Memory access fault by GPU node-1", "on address 0x7f0000000000. Reason: Unknown."),
    "step-limits": (
        "pydantic_core._pydantic_core.ValidationError",
        "1 validation error for SchedulerConfig: Input should be greater than or equal to 1",
    ),
    "arch-min": ("ValueError", "Model architectures ['{architecture}'] are not supported for now."),
}
"""Rules to the exception and message of vLLM; ValueError and the rule's text for the others."""
NOT_IN_RULES = {"served-model-name", "host", "port", "api-key"}
"""Flags that no rule reads."""


class Refusal(Exception):
    """Refusal of vLLM to start, with the last line of its traceback."""

    def __init__(self, kind: str, message: str) -> None:
        self.line = f"{kind}: {message}"
        super().__init__(self.line)


@dataclass(frozen=True, slots=True)
class Start:
    """The settings and the node of a server start."""

    argv: ServeArgv
    env: Mapping[str, str]
    profile: ModelProfile
    hardware: Hardware
    vllm: str

    def flags(self) -> dict[str, Any]:
        """Flags in the form that the rules use."""
        return {name: value for name, value in self.argv.flags.items() if name not in NOT_IN_RULES}

    def variables(self) -> dict[str, str]:
        """Environment variables that vLLM reads."""
        others = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF")
        return {name: value for name, value in self.env.items() if name.startswith("VLLM_") or name in others}


def facts_of(start: Start, table: RuleTable) -> Facts:
    """The facts for the flags as given. Raises UsageError for a value that cannot be read."""
    off = start.env.get("VLLM_MLA_DISABLE") == "1"
    subject = Subject(
        profile=start.profile,
        architecture=from_config(start.profile.config, mla_disabled=off),
        hardware=start.hardware,
        vllm=start.vllm,
        nodes=nodes_of(start),
        offload_compared=False,
        multi_turn=False,
        names=table.names,
        parts=table.parts,
        architectures=table.architectures,
    )
    try:
        return gather(subject, leaves(start.flags(), table.names, "argv"), start.variables())
    except InputError as error:
        raise UsageError(f"argument {error.what}") from None


def nodes_of(start: Start) -> int:
    """Number of nodes: --nnodes, or those of the profile if Ray would find them."""
    by_ray = start.flags().get("distributed-executor-backend") == "ray"
    return start.profile.nodes if by_ray else start.argv.integer("nnodes", 1)


def check_rules(start: Start, table: RuleTable) -> None:
    """Raise Refusal for the first hard error that prevents the start of this vLLM."""
    bare = start.profile.model_copy(
        update={"serve": (), "tp": 1, "max_model_len": None, "trust_remote_code": False, "revision": None}
    )
    hard = replace(table, rules=tuple(r for r in table.rules if r.severity == "hard_error"), defaults=())
    request = ServeRequest(
        bare,
        start.hardware,
        start.vllm,
        user_args=start.flags(),
        user_env=start.variables(),
        nodes=nodes_of(start),
    )
    resolution = resolve_rules(request, hard)
    broken = [finding.rule for finding in resolution.contradictions if finding.rule not in NO_START_REFUSAL]
    missing = {entry.rule for entry in (*resolution.args, *resolution.env)} & NEEDED_FILLS
    facts = facts_of(start, table)
    for rule in hard.rules:
        if rule.id in broken or rule.id in missing:
            kind, message = EXCEPTIONS.get(rule.id, ("ValueError", None))
            raise Refusal(kind, (message or rule.message).format_map(_shown(facts)))
    if start.profile.trust_remote_code and not start.argv.switch("trust-remote-code"):
        raise Refusal(
            "ValueError",
            f"The repository {start.argv.model} contains custom code which must be executed to correctly load "
            f"the model. You can inspect the repository content at https://hf.co/{start.argv.model}.\n"
            "Please pass the argument `trust_remote_code=True` to allow custom code to be run.",
        )


def _shown(facts: Facts) -> dict[str, Any]:
    values = {name: getattr(facts, name) for name in Facts.__dataclass_fields__}
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in values.items()}


def check_lengths(
    *, max_model_len: int, longest: int | None, budget: int, seats: int, chunked: bool, env: Mapping[str, str]
) -> None:
    """Raise Refusal in the same cases as vLLM's ModelConfig and SchedulerConfig."""
    if longest and max_model_len > longest and env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") != "1":
        raise Refusal(
            "ValueError",
            f"User-specified max_model_len ({max_model_len}) is greater than the derived max_model_len "
            f"(max_position_embeddings={longest} or model_max_length=None in model's config.json). To allow "
            "overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1.",
        )
    if budget < max_model_len and not chunked:
        raise Refusal(
            "ValueError",
            f"max_num_batched_tokens ({budget}) is smaller than max_model_len ({max_model_len}). This "
            "effectively limits the maximum sequence length to max_num_batched_tokens and makes vLLM reject "
            "longer sequences. Please increase max_num_batched_tokens or decrease max_model_len.",
        )
    if budget < seats:
        raise Refusal(
            "ValueError",
            f"max_num_batched_tokens ({budget}) must be greater than or equal to max_num_seqs ({seats}).",
        )


def check_memory(
    capacity: KvCapacity, *, max_model_len: int, sequence_bytes: float, version: Version
) -> None:
    """Raise Refusal if the weights, or one sequence of maximum length in the KV cache, do not fit."""
    if capacity.weights + capacity.overhead > capacity.hbm_bytes:
        raise Refusal(
            "torch.OutOfMemoryError",
            f"HIP out of memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of "
            f"{capacity.hbm_bytes / GIB:.2f} GiB of which 0.11 GiB is free.",
        )
    on_cpu = " (which also controls CPU memory on the CPU backend)" if version >= Version("0.33") else ""
    see = "See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."
    if capacity.kv_bytes <= 0:
        raise Refusal(
            "ValueError",
            "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
            f"initializing the engine. {see}",
        )
    if sequence_bytes > capacity.kv_bytes:
        raise Refusal(
            "ValueError",
            f"To serve at least one request with the models's max seq len ({max_model_len}), "
            f"({sequence_bytes / GIB:.2f} GiB KV cache is needed, which is larger than the available KV cache "
            f"memory ({capacity.kv_bytes / GIB:.2f} GiB). Based on the available memory, the estimated maximum "
            f"model length is {int(max_model_len * capacity.kv_bytes / sequence_bytes)}. Try increasing "
            f"`gpu_memory_utilization`{on_cpu} or decreasing `max_model_len` when initializing the engine. {see}",
        )
