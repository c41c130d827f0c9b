"""Layouts from serve arguments."""

from __future__ import annotations

import pytest

from rocbench.errors import InputError
from rocbench.physics.layout import Layout, from_args


def test_layout_from_serve_arguments():
    """Names with or without dashes, JSON as text or mapping, numbers as text."""
    args = {
        "--tensor-parallel-size": 8,
        "pipeline_parallel_size": "2",
        "--enable-expert-parallel": True,
        "decode-context-parallel-size": 4,
        "--kv-cache-dtype": "fp8_e4m3",
        "quantization": "fp8",
        "--mm-encoder-tp-mode": "data",
        "speculative-config": '{"method": "mtp", "num_speculative_tokens": 5}',
    }
    assert from_args(args) == Layout(
        tp=8,
        pp=2,
        ep=True,
        dcp=4,
        kv_dtype="fp8",
        online_fp8=True,
        speculative_tokens=5,
        mtp=True,
        vision_data_parallel=True,
    )
    assert from_args({}) == Layout()
    assert from_args({"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}}).mtp is False


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("auto", "bf16"),
        ("bfloat16", "bf16"),
        ("fp8", "fp8"),
        ("fp8_e5m2", "fp8"),
        ("fp8_ds_mla", "fp8_ds_mla"),
        ("int4_per_token_head", "int4"),
        ("int8_per_token_head", "int8"),
    ],
)
def test_cache_precisions(name, dtype):
    """Every spelling of --kv-cache-dtype has its bytes."""
    assert from_args({"kv-cache-dtype": name}).kv_dtype == dtype


def test_impossible_layouts_are_refused():
    """Sizes start at 1 and are whole numbers; the rules refuse sizes that do not fit each other."""
    with pytest.raises(InputError, match="tp must be at least 1"):
        Layout(tp=0)
    with pytest.raises(InputError, match="whole number"):
        from_args({"tensor-parallel-size": 2.5})
    assert Layout(tp=8, dcp=3).gpus == 8
    assert from_args({"tp": 4, "prefill_context_parallel_size": 2}).gpus == 8


def test_gpus():
    """A server's GPUs are the product of its parallel sizes; expert and context parallelism add none."""
    assert Layout(tp=4, pp=2, dp=3, ep=True, dcp=2).gpus == 24
