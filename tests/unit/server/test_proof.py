"""What a server has, read from its own words, and how that is held against the plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.probe.scrape import labels
from rocbench.server.proof import Proof, _cache_labels, backends_in, chosen_config, compare, facts

CACHE = (
    'vllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="False",engine="0",'
    'kv_cache_size_tokens="466032",num_gpu_blocks="29127"} 1.0\n'
)
LOG = [
    "(Worker pid=9) INFO [gpu_model_runner.py:1] Model loading took 79.0912 GiB memory and 212.3 seconds",
    "(Worker pid=8) INFO [gpu_model_runner.py:1] Model loading took 79.1 GiB memory and 212.3 seconds",
    "INFO [kv_cache_utils.py:1305] GPU KV cache size: 466,032 tokens",
    "(Worker pid=9) INFO [rocm.py:214] Using AITER MLA backend.",
]
INFO = {
    "vllm_config": {
        "cache_config": {"block_size": 1, "cache_dtype": "bfloat16", "enable_prefix_caching": True},
        "model_config": {"dtype": "torch.bfloat16", "hf_token": "hf_planted", "max_model_len": 1024},
        "attention_config": {"backend": "ROCM_AITER_FA"},
        "scheduler_config": {"max_num_seqs": 128},
    },
    "vllm_env": {
        "VLLM_ROCM_USE_AITER": True,
        "VLLM_API_KEY": "k-planted",
        "VLLM_ROCM_SECRET": "s",
        "OTHER": 1,
    },
}


def test_metrics_come_first():
    """Values that the engine resolved override its configuration."""
    found = facts(INFO, labels(CACHE, "vllm:cache_config_info"), LOG, "0.32.0")

    assert found == {
        "vllm": "0.32.0",
        "backend": "ROCM_AITER_MLA",
        "backends": ["ROCM_AITER_MLA"],
        "runner": "v1",
        "block_size": 16,
        "prefix_caching": False,
        "kv_cache_dtype": "auto",
        "kv_capacity_tokens": 466_032,
        "weights_gib_per_rank": 79.1,
    }


@pytest.mark.parametrize(
    ("lines", "version", "runner"),
    [
        (LOG, "0.16.0", "v1"),
        (LOG, "0.15.1", None),
        (LOG, None, None),
        (LOG, "nightly", None),
        ([*LOG, "(Worker pid=9) INFO [gpu_worker.py:513] Using V2 Model Runner"], "0.33.0", "v2"),
        ([*LOG, "(Worker pid=9) INFO [gpu_worker.py:513] Using V2 Model Runner"], None, "v2"),
        ([], "0.33.0", None),
    ],
)
def test_the_model_runner_is_read_from_the_log(lines, version, runner):
    """V2 is named by a line; V1 is told by its absence, once workers have loaded the weights."""
    assert facts(None, [], lines, version).get("runner") == runner


def test_metrics_that_cannot_be_read():
    """A truncated line is skipped."""
    assert _cache_labels(CACHE) == labels(CACHE, "vllm:cache_config_info")
    assert _cache_labels('vllm:cache_config_info{block_size="16 1.0\n') == []


def test_configuration_without_metrics():
    """Without the metric, /server_info and the log are used."""
    found = facts(INFO, [], LOG, None)

    assert (found["block_size"], found["prefix_caching"], found["kv_capacity_tokens"]) == (1, True, 466_032)
    assert "vllm" not in found


def test_tokens_of_all_engines():
    """Under data parallelism each engine has its own cache."""
    two = CACHE + CACHE.replace('engine="0"', 'engine="1"')

    assert facts(None, labels(two, "vllm:cache_config_info"), [], None)["kv_capacity_tokens"] == 932_064


ENGINES = ("", "(EngineCore pid=86) ", "(EngineCore_DP0 pid=1) ", "(EngineCore_DP1 pid=2) ")


def kv_log(engine, tokens=None, length=32_768, times=None):
    """The lines that one engine logs about its cache."""
    lines = [] if tokens is None else [f"{engine}INFO [k.py:1319] GPU KV cache size: {tokens:,} tokens"]
    told = f"Maximum concurrency for {length:,} tokens per request: {times}x"
    return lines + ([] if times is None else [f"{engine}INFO [k.py:1324] {told}"])


@pytest.mark.parametrize(
    ("log", "info", "tokens", "doubted"),
    [
        (kv_log(ENGINES[1], 290_864, times=33.04), None, 1_082_654, True),
        (kv_log(ENGINES[1], 290_864, times=0.40), None, None, True),
        (kv_log(ENGINES[1], 1_082_654, times=33.04), None, 1_082_654, False),
        (kv_log(ENGINES[1], 33_024, length=1000, times=32.76), None, 33_024, False),
        (kv_log(ENGINES[1], None, times=33.04), None, 1_082_654, False),
        (kv_log(ENGINES[2], 100_000) + kv_log(ENGINES[3], 100_000), None, 200_000, False),
        (
            kv_log(ENGINES[2], 100_000, times=3.05) + kv_log(ENGINES[3], 90_000, times=2.75),
            None,
            190_000,
            False,
        ),
        (kv_log(ENGINES[2], 100_000), 2, None, True),
        (kv_log(ENGINES[0], 100_000) * 2, 2, 200_000, False),
        (kv_log(ENGINES[1], 100_000) + kv_log(ENGINES[1], 99_000), None, 99_000, False),
        (
            [
                "INFO [k.py:1148] CPU KV cache size: 1,000 tokens, Maximum concurrency for 100 tokens per request: 10.00x"
            ],
            None,
            1_000,
            False,
        ),
    ],
    ids=[
        "hybrid",
        "hybrid_rounded_away",
        "derived_by_vllm",
        "whole_blocks",
        "concurrency_alone",
        "two_engines",
        "unequal_engines",
        "one_of_two",
        "one_name",
        "a_line_a_worker",
        "one_line",
    ],
)
def test_two_lines_of_one_cache(log, info, tokens, doubted):
    """The size and the concurrency of each engine must agree, and every engine must be counted."""
    doubts = {}
    told = info and {"vllm_config": {"parallel_config": {"data_parallel_size": info}}}

    assert facts(told, [], log, None, doubts).get("kv_capacity_tokens") == tokens
    assert ("kv_capacity_tokens" in doubts) == doubted


@given(st.integers(1, 8), st.integers(64, 200_000), st.floats(1.5, 500), st.floats(0.05, 20))
def test_sizes_that_agree_are_summed(engines, length, times, factor):
    """The logged size if the lines agree; else the size by the concurrency, with a doubt, or none."""
    tokens = int(times * length)
    log = [
        line
        for n in range(engines)
        for line in kv_log(f"(EngineCore_DP{n} pid={n}) ", int(tokens * factor), length, f"{times:.2f}")
    ]
    doubts = {}
    found = facts(None, [], log, None, doubts).get("kv_capacity_tokens")

    if not doubts:
        assert found == int(tokens * factor) * engines
        assert abs(factor - 1) < 0.04
    elif found is not None:
        assert found == pytest.approx(tokens * engines, rel=0.011)


def test_metrics_and_log_contradict_each_other():
    """Neither figure is used, and the doubt has both; a log that lacks an engine is not compared."""
    doubts = {}
    log = kv_log(ENGINES[1], 1_234_560)
    found = facts(None, labels(CACHE, "vllm:cache_config_info"), log, None, doubts)

    assert "kv_capacity_tokens" not in found
    assert doubts == {"kv_capacity_tokens": "the metrics say 466,032 tokens, but the log says 1,234,560"}
    two = labels(CACHE + CACHE.replace('engine="0"', 'engine="1"'), "vllm:cache_config_info")
    doubts = {}
    assert facts(None, two, kv_log(ENGINES[2], 1), None, doubts)["kv_capacity_tokens"] == 932_064
    assert doubts == {}


def test_engines_that_differ():
    """A setting that differs between engines has no value."""
    doubts = {}
    two = CACHE + CACHE.replace('engine="0"', 'engine="1"').replace('block_size="16"', 'block_size="32"')
    found = facts(None, labels(two, "vllm:cache_config_info"), [], None, doubts)

    assert "block_size" not in found
    assert doubts == {"block_size": "the engines have different values: 16 and 32"}


def test_log_that_knows_better_than_the_configuration():
    """A block size that vLLM set itself overrides the configuration; a KV type that differs has no value."""
    doubts = {}
    log = [
        "INFO [interface.py:915] Setting attention block size to 1600 tokens to ensure that",
        "INFO [cache.py:1] Using fp8 data type to store kv cache. It reduces the GPU memory footprint",
    ]
    found = facts(INFO, [], log, None, doubts)

    assert found["block_size"] == 1600
    assert "kv_cache_dtype" not in found
    assert doubts == {"kv_cache_dtype": "the engine says bfloat16, but its log says fp8"}


def test_tokens_from_blocks():
    """An older server reports only blocks and their size."""
    old = [{"block_size": "16", "num_gpu_blocks": "100"}]

    assert facts(None, old, [], None)["kv_capacity_tokens"] == 1600


def test_silent_server():
    """A server that reports nothing gives no facts, not zeros."""
    assert facts(None, [], [], None) == {}


@pytest.mark.parametrize(
    ("line", "backend"),
    [
        ("INFO [rocm.py:250] Using Aiter Flash Attention backend.", "ROCM_AITER_FA"),
        ("INFO [rocm.py:217] Using Triton MLA backend.", "TRITON_MLA"),
        ("INFO [rocm.py:207] Using Sparse MLA backend.", "ROCM_AITER_MLA_SPARSE"),
        ("INFO [rocm.py:1] Using Rocm Attention backend.", "ROCM_ATTN"),
        ("INFO [rocm.py:1] Using Aiter Unified Attention backend.", "ROCM_AITER_UNIFIED_ATTN"),
        ("INFO [rocm.py:1] Using Triton Attention backend.", "TRITON_ATTN"),
        ("INFO [r.py:1] Using ROCM_AITER_FA backend (selected via --attention-backend).", "ROCM_AITER_FA"),
        ("INFO [r.py:1] Using ROCM_ATTN backend out of potential backends: ['ROCM_ATTN'].", "ROCM_ATTN"),
        (
            "INFO [r.py:1] Found incompatible backend(s) [TURBOQUANT] with X. Overriding with TRITON_ATTN out of",
            "TRITON_ATTN",
        ),
        ("(Worker pid=15823) INFO 11-23 01:22:30 [cpu.py:175] Using CPU_MLA backend.", "CPU_MLA"),
        ("INFO [s.py:131] Using CPU_SDPA_MLA MLA prefill backend.", None),
        ("INFO [u.py:1] Using CPU Unquantized MoE backend out of potential backends: ['CPU'].", None),
        ("INFO [p.py:1] world_size=1 backend=gloo", None),
    ],
)
def test_backend_lines(line, backend):
    """The attention back end is read from each version's line, and no other back end is."""
    assert backends_in([line]) == ([backend] if backend else [])


def test_mismatch_and_unknown():
    """A different value is a mismatch, a missing one is unknown, and None expects nothing."""
    found = {"block_size": 16, "vllm": "0.14.1+rocm700", "kv_cache_dtype": "bfloat16", "prefix_caching": True}
    expected = {
        "block_size": 1,
        "vllm": "0.14.1",
        "kv_cache_dtype": "auto",
        "prefix_caching": True,
        "backend": "ROCM_ATTN",
        "nothing": None,
    }

    assert compare(found, expected) == (("block_size is 16, planned 1",), ("backend",))


def test_other_version():
    """Another release is a mismatch; a local label or a missing zero is not."""
    assert compare({"vllm": "0.32.0"}, {"vllm": "0.32"}) == ((), ())
    assert compare({"vllm": "0.32.0"}, {"vllm": "0.33.0"})[0] == ("vllm is 0.32.0, planned 0.33.0",)
    assert compare({"vllm": "nightly"}, {"vllm": "0.33.0"})[0] == ("vllm is nightly, planned 0.33.0",)


def test_second_backend_counts():
    """A hybrid or vision model names several back ends; the planned one must be among them."""
    found = {"backend": "FLASH_ATTN", "backends": ["FLASH_ATTN", "ROCM_AITER_FA"]}

    assert compare(found, {"backend": "ROCM_AITER_FA"}) == ((), ())


def test_difference_column():
    """Empty if all is as planned, absent if a fact is unknown."""
    assert Proof({}).differences == ""
    assert Proof({}, unknown=("backend",)).differences is None
    assert (
        Proof({}, ("a is 1, planned 2", "b is 1, planned 2"), ("c",)).differences
        == "a is 1, planned 2;b is 1, planned 2"
    )


def test_tokens_never_stored():
    """/server_info holds tokens and keys; only chosen keys leave it."""
    stored = chosen_config(INFO)

    assert "planted" not in str(stored)
    assert stored["vllm_env"] == {"VLLM_ROCM_USE_AITER": True}
    assert stored["model_config"] == {"dtype": "torch.bfloat16", "max_model_len": 1024}


@pytest.mark.parametrize(
    "info", [None, [], {}, {"vllm_config": "repr(VllmConfig)"}, {"vllm_config": {"cache_config": None}}]
)
def test_odd_server_info(info):
    """Any form of /server_info is read without an error."""
    assert chosen_config(info) == {}
    assert facts(info, [], [], None) == {}


@pytest.mark.parametrize("told", ["9" * 400, "9" * 5000, "1e999", "x", "None"])
def test_a_setting_that_is_no_number_is_not_told(told):
    """A value that is not a number, or too large for a column, is absent."""
    label = {"block_size": told, "kv_cache_size_tokens": told}
    found = facts(None, [label], [], None)
    assert not {"block_size", "kv_capacity_tokens"} & found.keys()
