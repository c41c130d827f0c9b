"""What a server has, read from its own words, and how that is held against the plan."""

import pytest

from rocbench.probe.scrape import labels
from rocbench.server.proof import Proof, _cache_labels, backends_in, chosen_config, compare, facts

CACHE = (
    'vllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="False",engine="0",'
    'kv_cache_size_tokens="466032",num_gpu_blocks="29127"} 1.0\n'
)
LOG = [
    "(Worker pid=9) INFO [gpu_model_runner.py:1] Model loading took 79.0912 GiB memory and 212.3 seconds",
    "(Worker pid=8) INFO [gpu_model_runner.py:1] Model loading took 79.1 GiB memory and 212.3 seconds",
    "INFO [kv_cache_utils.py:1305] GPU KV cache size: 1,234,560 tokens",
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
    """What the engine resolved stands above what its configuration says."""
    found = facts(INFO, labels(CACHE, "vllm:cache_config_info"), LOG, "0.32.0")

    assert found == {
        "vllm": "0.32.0",
        "backend": "ROCM_AITER_MLA",
        "backends": ["ROCM_AITER_MLA"],
        "block_size": 16,
        "prefix_caching": False,
        "kv_cache_dtype": "auto",
        "kv_capacity_tokens": 466_032,
        "weights_gib_per_rank": 79.1,
    }


def test_metrics_that_cannot_be_read():
    """A cut line tells nothing, and ends nothing."""
    assert _cache_labels(CACHE) == labels(CACHE, "vllm:cache_config_info")
    assert _cache_labels('vllm:cache_config_info{block_size="16 1.0\n') == []


def test_configuration_without_metrics():
    """Without the metric, /server_info and the log tell."""
    found = facts(INFO, [], LOG, None)

    assert (found["block_size"], found["prefix_caching"], found["kv_capacity_tokens"]) == (1, True, 1_234_560)
    assert "vllm" not in found


def test_tokens_of_all_engines():
    """Under data parallelism each engine has a cache of its own."""
    two = CACHE + CACHE.replace('engine="0"', 'engine="1"')

    assert facts(None, labels(two, "vllm:cache_config_info"), [], None)["kv_capacity_tokens"] == 932_064


def test_tokens_from_blocks():
    """An older server tells blocks and their size only."""
    old = [{"block_size": "16", "num_gpu_blocks": "100"}]

    assert facts(None, old, [], None)["kv_capacity_tokens"] == 1600


def test_silent_server():
    """A server that tells nothing gives nothing, not zeros."""
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
    """The back end is read from each version's line, and no other back end is taken for it."""
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
    """Another release is a mismatch; a local label or a missing zero is none."""
    assert compare({"vllm": "0.32.0"}, {"vllm": "0.32"}) == ((), ())
    assert compare({"vllm": "0.32.0"}, {"vllm": "0.33.0"})[0] == ("vllm is 0.32.0, planned 0.33.0",)
    assert compare({"vllm": "nightly"}, {"vllm": "0.33.0"})[0] == ("vllm is nightly, planned 0.33.0",)


def test_second_backend_counts():
    """A hybrid or vision model names several back ends; the planned one must be among them."""
    found = {"backend": "FLASH_ATTN", "backends": ["FLASH_ATTN", "ROCM_AITER_FA"]}

    assert compare(found, {"backend": "ROCM_AITER_FA"}) == ((), ())


def test_difference_column():
    """Empty when all was found as planned, absent when something could not be told."""
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
    """Whatever another version answers there, nothing breaks."""
    assert chosen_config(info) == {}
    assert facts(info, [], [], None) == {}
