"""What vLLM makes of an argv: memory, backend, limits, and what it refuses."""

from __future__ import annotations

import pytest

from rocbench.errors import ConfigError
from rocbench.plan.estimate import kv_capacity
from rocbench.rules.resolve import ServeRequest, resolve
from rocbench.settings import catalog
from rocbench.sim import calibration, loglines
from rocbench.sim.argv import UsageError
from rocbench.sim.calibration import When
from rocbench.sim.refusals import Refusal
from simnodes import argv_of, node

V32 = "deepseek-ai/DeepSeek-V3.2 -tp 8"
LLAMA = "meta-llama/Llama-3.1-405B-Instruct -tp 8 --quantization fp8 --max-model-len 32768"
KIMI = "moonshotai/Kimi-K2.5 --trust-remote-code"
QWEN = "Qwen/Qwen3-VL-235B-A22B-Instruct -tp 8 --max-model-len 32768"
AITER = {"VLLM_ROCM_USE_AITER": "1"}


def refusal(profile, vllm, argv, env=None):
    """The line that vLLM would end with."""
    with pytest.raises(Refusal) as caught:
        node(profile, vllm, argv.split(), env or {})
    return caught.value.line


@pytest.mark.parametrize("profile", ["deepseek-v3.2", "llama-3.1-405b", "qwen3-vl-235b", "kimi-k2.5"])
@pytest.mark.parametrize("vllm", ["0.16.0", "0.33.0"])
def test_the_profiles_start(profile, vllm):
    """What the rules give for each profile is accepted by the simulated server of that version."""
    server = node(profile, vllm)
    assert server.engine.num_blocks * server.engine.block_size == server.kv_tokens > 100_000


@pytest.mark.parametrize(
    ("profile", "vllm", "argv", "env", "line"),
    [
        ("deepseek-v3.2", "0.14.1", V32, AITER,
         "AssertionError: Sparse MLA backend on ROCm only supports block size 1 for now."),
        ("deepseek-v3.2", "0.14.1", V32 + " --block-size 16", AITER,
         "AssertionError: Sparse MLA backend on ROCm only supports block size 1 for now."),
        ("deepseek-v3.2", "0.14.1", V32 + " --block-size 1 --kv-cache-dtype fp8", AITER,
         "ValueError: ROCMAiterMLASparseBackend doesn't support fp8 kv_cache_dtype."),
        ("deepseek-v3.2", "0.14.1",
         V32 + " --block-size 1 --kv-offloading-size 64 --disable-hybrid-kv-cache-manager", AITER,
         "KeyError: 'model.layers.0.self_attn.indexer.k_cache'"),
        ("kimi-k2.5", "0.16.0", KIMI + " -tp 8 --block-size 1 --max-model-len 32768", {},
         ("AssertionError: Aiter MLA only supports 16 or 128 number of heads. Provided 8 number of heads. "
         "Try adjusting tensor_parallel_size value.")),
        ("kimi-k2.5", "0.14.1", KIMI + " -tp 4", {},
         "ValueError: Model architectures ['KimiK25ForConditionalGeneration'] are not supported for now."),
        ("qwen3-vl-235b", "0.14.1", QWEN + " --kv-offloading-backend native --kv-offloading-size 64", {},
         ("ValueError: Connector OffloadingConnector does not support HMA but HMA is enabled. Please set "
         "`--disable-hybrid-kv-cache-manager`.")),
        ("llama-3.1-405b", "0.33.0", LLAMA + " --kv-offloading-size 0", {},
         "Exception: cpu_bytes_to_use must be specified in kv_connector_extra_config"),
        ("llama-3.1-405b", "0.33.0", LLAMA + " --kv-offloading-size 64",
         {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
         ("ValueError: KV connector OffloadingConnector is incompatible with "
         "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True")),
        ("llama-3.1-405b", "0.14.1", LLAMA.replace("-tp 8", "-tp 3"), {},
         "ValueError: Total number of attention heads (128) must be divisible by tensor parallel size (3)."),
    ],
)  # fmt: skip
def test_what_this_version_refuses_is_refused_in_its_words(profile, vllm, argv, env, line):
    """The rules' hard errors, without filling in what the argv lacks."""
    assert refusal(profile, vllm, argv, env) == line


def test_lengths_and_budgets_are_checked():
    """max_model_len beyond the positions, and a budget below the seats."""
    assert "User-specified max_model_len (999999) is greater than the derived max_model_len" in refusal(
        "llama-3.1-405b", "0.14.1", LLAMA + " --max-model-len 999999"
    )
    assert refusal("llama-3.1-405b", "0.14.1", LLAMA + " --max-num-batched-tokens 64") == (
        "ValueError: max_num_batched_tokens (64) must be greater than or equal to max_num_seqs (1024)."
    )
    assert "is smaller than max_model_len" in refusal(
        "llama-3.1-405b", "0.14.1", LLAMA + " --no-enable-chunked-prefill"
    )


def test_memory_is_checked():
    """Weights that do not fit, no room for blocks, and a length that does not fit the blocks."""
    assert refusal("llama-3.1-405b", "0.14.1", LLAMA.replace("-tp 8", "-tp 1")).startswith(
        "torch.OutOfMemoryError: HIP out of memory."
    )
    assert "No available memory for the cache blocks" in refusal(
        "llama-3.1-405b", "0.14.1", LLAMA + " --gpu-memory-utilization 0.2"
    )
    assert "To serve at least one request with the models's max seq len (131072)" in refusal(
        "llama-3.1-405b", "0.14.1", LLAMA.replace("32768", "131072") + " --gpu-memory-utilization 0.225"
    )


@pytest.mark.parametrize("vllm", ["0.14.1", "0.25.1", "0.33.0"])
def test_it_holds_as_many_tokens_as_the_plan_says(vllm):
    """What is planned starts: both take from the HBM what this version takes."""
    profile, hardware = catalog.model("deepseek-v3.2"), catalog.hardware("mi325x")
    planned = kv_capacity(profile, hardware, resolve(ServeRequest(profile, hardware, vllm)))
    assert node("deepseek-v3.2", vllm).kv_tokens == planned.tokens


def test_limits_of_a_step_are_checked():
    """As SchedulerConfig does: one sequence and one token at least."""
    for flag in ("--max-num-seqs 0", "--max-num-seqs -5", "--max-num-batched-tokens 0"):
        assert "1 validation error for SchedulerConfig" in refusal(
            "llama-3.1-405b", "0.14.1", f"{LLAMA} {flag}"
        )


def test_custom_code_has_to_be_trusted():
    """A repository with code of its own is refused without the flag."""
    assert "contains custom code" in refusal(
        "kimi-k2.5", "0.16.0", "moonshotai/Kimi-K2.5 -tp 4 --max-model-len 4096"
    )


def test_a_flag_that_cannot_be_read_is_a_usage_error():
    """It ends with argparse's code, not with a start that fails."""
    with pytest.raises(UsageError):
        node("llama-3.1-405b", "0.14.1", (LLAMA + " --block-size many").split())


def test_defaults_follow_the_version():
    """GPU memory 0.90 and 8,192 tokens in 0.14.1, 0.92 and 16,384 in 0.33."""
    old, new = (node("llama-3.1-405b", v, LLAMA.split()) for v in ("0.14.1", "0.33.0"))
    assert (old.gpu_memory_utilization, old.engine.max_num_batched_tokens) == (0.9, 8192)
    assert (new.gpu_memory_utilization, new.engine.max_num_batched_tokens) == (0.92, 16384)


def test_offload_brings_a_host_tier():
    """64 GiB over 8 ranks of a GQA model hold some 11,000 blocks of 16 tokens."""
    argv = QWEN + " --kv-offloading-backend native --kv-offloading-size 64 --disable-hybrid-kv-cache-manager"
    server = node("qwen3-vl-235b", "0.14.1", argv.split())
    per_rank = 64 * 2**30 / 8 / (2 * 94 * 128 * 2)
    assert server.engine.offload_blocks == int(per_rank) // 16


@pytest.mark.parametrize(("vllm", "copies"), [("0.26.0", 8), ("0.28.0", 1), ("0.33.0", 8)])
def test_ranks_keep_copies_of_an_mla_cache_unless_the_region_is_shared(vllm, copies):
    """0.27 to 0.30 store one copy of dense MLA, other versions one for each rank."""
    argv = "deepseek-ai/DeepSeek-R1 --trust-remote-code -tp 8 --kv-offloading-size 64"
    server = node("deepseek-r1", vllm, argv.split())
    assert server.engine.offload_blocks == int(64 * 2**30 / copies / (61 * 576 * 2)) // 16


def test_the_log_carries_the_figures_in_the_words_of_the_version():
    """Cache size and most concurrency stand on two lines in 0.14.1, on one from 0.28."""
    old, new = node(), node(vllm="0.33.0")
    tokens = f"{old.kv_tokens:,}"
    lines = loglines.after_load(old, 1.0)
    assert f"GPU KV cache size: {tokens} tokens" in lines
    assert any(line.startswith("Maximum concurrency for 32,768 tokens per request: ") for line in lines)
    assert any(", Maximum concurrency for 32,768 tokens" in line for line in loglines.after_load(new, 1.0))
    assert loglines.backend_line(old) == "Using Triton Attention backend."
    assert loglines.backend_line(new).startswith(("Using ROCM_AITER_FA backend", "Using ROCM_ATTN backend"))


def test_a_proof_can_find_what_the_server_has():
    """cache_config_info tells block size and blocks; the token count from 0.24."""
    server = node("deepseek-v3.2")
    labels = server.cache_config(server_faults())
    assert labels["block_size"] == "1"
    assert int(labels["num_gpu_blocks"]) == server.kv_tokens
    assert "kv_cache_size_tokens" not in labels
    assert node(vllm="0.33.0").cache_config(server_faults())["kv_cache_size_tokens"]


def server_faults():
    """No faults."""
    from rocbench.settings.faults import Faults

    return Faults()


def test_an_efficiency_of_one_reaches_the_physics():
    """`efficiency` replaces all three shares, without overheads."""
    plain, ideal = node(), node(simulation={"efficiency": 1.0})
    assert ideal.efficiency.step_overhead_ms == 0
    assert ideal.efficiency.bandwidth == ideal.efficiency.compute == ideal.efficiency.communication == 1
    assert plain.efficiency.bandwidth < 1


def test_factors_of_a_calibration_apply_where_they_say():
    """AITER off costs a dense model little and a mixture of experts more; unknown names are refused."""
    assumed = calibration.read_calibration("default")
    assert assumed.what == "assumed"
    base = assumed.base.compute
    assert assumed.efficiency(When(aiter=True, moe=True)).compute == base
    dense, moe = (assumed.efficiency(When(aiter=False, moe=moe)).compute for moe in (False, True))
    assert moe < dense < base
    with pytest.raises(ConfigError, match="calibration"):
        calibration.read_calibration("nonsense")


def test_the_argv_of_the_rules_is_what_is_served():
    """Name, port and model come from the argv alone."""
    argv, env = argv_of()
    server = node(
        argv=[*argv, "--served-model-name", "a", "b", "--api-key", "k"],
        env=env | {"VLLM_SERVER_DEV_MODE": "1"},
    )
    assert server.limits.served_names == ("a", "b")
    assert (server.api_key, server.dev_mode) == ("k", True)


def test_the_cache_can_be_sized_by_hand():
    """By bytes per rank, or by blocks."""
    argv = LLAMA.split()
    bytes_ = node(argv=[*argv, "--kv-cache-memory-bytes", "4G"])
    assert bytes_.kv_tokens == pytest.approx(4 * 2**30 / (2 * 126 * 128 * 2), rel=0.01)
    assert node(argv=[*argv, "--num-gpu-blocks-override", "3000"]).kv_tokens == 48_000


def test_what_is_not_simulated_is_said():
    """The server makes no drafts, and its log says so."""
    drafting = node(
        argv=[*LLAMA.split(), "--speculative-config", '{"method":"ngram","num_speculative_tokens":3}']
    )
    assert loglines.warnings(drafting)
    assert not loglines.warnings(node())
    assert drafting.layout.speculative_tokens == 0
