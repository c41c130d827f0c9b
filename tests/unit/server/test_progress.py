"""Steps of a start, from vLLM's log lines of two versions."""

import pytest

from rocbench.server.progress import step_of


@pytest.mark.parametrize(
    ("line", "step"),
    [
        (
            "Loading safetensors checkpoint shards:  45% Completed | 5/11 [00:10<00:12,  2.1s/it]",
            ("loading weights 5/11", 0.45),
        ),
        (
            "INFO [x] Model loading took 79.0912 GiB memory and 212.3 seconds",
            ("weights loaded: 79.0912 GiB per rank", None),
        ),
        ("INFO [x] Loading weights took 201.55 seconds", ("weights loaded in 201.55 s", None)),
        (
            "INFO [kv_cache_utils.py:1305] GPU KV cache size: 1,564,016 tokens",
            ("KV cache of 1,564,016 tokens", None),
        ),
        (
            "INFO [kv.py:1] CPU KV cache size: 466,032 tokens, Maximum concurrency for 1,024 tokens per request: 455x",
            ("KV cache of 466,032 tokens", None),
        ),
        (
            "Capturing CUDA graphs (decode, FULL):  40%|####      | 27/67 [00:02<00:03]",
            ("capturing graphs", 0.4),
        ),
        ("INFO [x] Graph capturing finished in 31 secs, took 1.52 GiB", ("graphs captured in 31 s", None)),
        ("INFO [x] torch.compile takes 12.34 s in total", ("compiled in 12.34 s", None)),
        (
            "[aiter] start build [module_moe_ck2stages] under /x/build",
            ("AITER builds module_moe_ck2stages", None),
        ),
        (
            "INFO [core.py:1] Initializing a V1 LLM engine (v0.14.1) with config: x",
            ("starting engine of vLLM 0.14.1", None),
        ),
        (
            "INFO [core.py] init engine (profile, create kv cache, warmup model) took 3.52 s (compilation: 1.00 s)",
            ("engine ready in 3.52 s", None),
        ),
        ("INFO:     127.0.0.1 - GET /health", None),
        ("", None),
    ],
)
def test_step(line, step):
    """A progress line gives a text and, if known, a share; any other line gives None."""
    assert step_of(line) == step
