"""The lines of vLLM's log that contain figures, in the wording of each version. Pure.

Sources: v0.14.1 and v0.33.0 `v1/core/kv_cache_utils.py`, `v1/engine/core.py`, `v1/worker/gpu_model_runner.py`.
"""

from __future__ import annotations

from packaging.version import Version

from rocbench.sim.node import Node

JIT_LINE = "[aiter] start build [module_moe_ck2stages_f8_f8_preshuffle_on_b16_silu_per_1x128_mulWeightStage2]"
OOM_LINE = (
    "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
    "255.98 GiB of which 1.21 GiB is free."
)
FAILED_LINE = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
SUCCESS_LINE = "Application startup complete."


OLD_BACKEND_LINES = {
    "ROCM_AITER_MLA_SPARSE": "Using Sparse MLA backend.",
    "TRITON_MLA": "Using Triton MLA backend.",
    "ROCM_AITER_MLA": "Using AITER MLA backend.",
    "ROCM_AITER_TRITON_MLA": "Using AITER TRITON MLA backend.",
    "TRITON_ATTN": "Using Triton Attention backend.",
    "ROCM_ATTN": "Using Rocm Attention backend.",
    "ROCM_AITER_FA": "Using Aiter Flash Attention backend.",
    "ROCM_AITER_UNIFIED_ATTN": "Using Aiter Unified Attention backend.",
    "FLEX_ATTENTION": "Using FlexAttention backend.",
}
"""Backend lines of v0.14.1 platforms/rocm.py:209-294."""


def backend_line(node: Node) -> str:
    """The line that names the attention backend."""
    if Version(node.version) < Version("0.18") and node.backend in OLD_BACKEND_LINES:
        return OLD_BACKEND_LINES[node.backend]
    if node.argv.text("attention-backend"):
        return f"Using {node.backend} backend (selected via --attention-backend)."
    return f"Using {node.backend} backend out of potential backends: ['{node.backend}']."


def before_load(node: Node) -> list[str]:
    """The lines before the weights are loaded."""
    engine = f"model='{node.argv.model}', tensor_parallel_size={node.layout.tp}, max_seq_len={node.limits.max_model_len}"
    return [
        f"vLLM API server version {node.version} (simulated by rocbench)",
        f"Initializing a V1 LLM engine (v{node.version}) with config: {engine}",
        f"Chunked prefill is enabled with max_num_batched_tokens={node.engine.max_num_batched_tokens}.",
        *(
            ["Using V2 Model Runner"]
            if node.runner == "v2" and Version(node.version) >= Version("0.16")
            else []
        ),
        backend_line(node),
    ]


def warnings(node: Node) -> list[str]:
    """Requested features that this server does not simulate."""
    if "speculative-config" in node.argv.flags or "spec-method" in node.argv.flags:
        return ["The simulated server does not support speculative decoding: it serves without draft tokens."]
    return []


def after_load(node: Node, load_s: float) -> list[str]:
    """The lines after the weights are loaded, up to the last one before requests are accepted."""
    version = Version(node.version)
    lines = [
        f"Loading weights took {load_s * 0.8:.2f} seconds",
        f"Model loading took {node.weights_gib:.4f} GiB memory and {load_s * 0.8:.6f} seconds",
        f"Available KV cache memory: {node.kv_gib:.2f} GiB",
    ]
    if node.picked_block_size:
        lines.append(
            f"Setting kv cache block size to {node.engine.block_size} for {node.backend} backend(s)."
        )
    size = f"GPU KV cache size: {node.kv_tokens:,} tokens"
    concurrency = (
        f"Maximum concurrency for {node.limits.max_model_len:,} tokens per request: "
        f"{node.kv_tokens / node.limits.max_model_len:.2f}x"
    )
    lines += [f"{size}, {concurrency}"] if version >= Version("0.28") else [size, concurrency]
    lines.append(f"Graph capturing finished in {load_s * 0.1:.0f} secs, took 1.20 GiB")
    unit = "s (compilation: 0.00 s)" if version >= Version("0.28") else "seconds"
    lines.append(f"init engine (profile, create kv cache, warmup model) took {load_s:.2f} {unit}")
    return lines
