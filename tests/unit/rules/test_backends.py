"""The attention backend and block size that each vLLM version would choose."""

from __future__ import annotations

import pytest

from rocbench.rules.load import shipped
from rocbench.rules.resolve import resolve
from rocbench.rules.table import RuleTable
from rulecases import request

BARE = RuleTable(
    **{
        **{name: getattr(shipped(), name) for name in ("names", "parts", "architectures")},
        "rules": (),
        "defaults": (),
    }
)
"""No rules: what vLLM does by itself."""

ON, OFF = "on", "off"


def facts(model, vllm, **given):
    """The facts of a request, with no rule in the way."""
    return resolve(request({"model": model} | given, vllm), BARE).facts


@pytest.mark.parametrize(
    ("model", "vllm", "given", "backend"),
    [
        # sparse MLA: one backend, whatever the switch says
        ("deepseek-v3.2", "0.14.1", {"aiter": OFF}, "ROCM_AITER_MLA_SPARSE"),
        ("deepseek-v3.2", "0.33.0", {"aiter": OFF}, "ROCM_AITER_MLA_SPARSE"),
        # dense MLA: the switch, or block size 1 below 0.18
        ("mla-16", "0.14.1", {"aiter": ON}, "ROCM_AITER_MLA"),
        ("mla-16", "0.14.1", {"aiter": OFF}, "TRITON_MLA"),
        ("mla-16", "0.14.1", {"aiter": OFF, "args": {"block-size": 1}}, "ROCM_AITER_MLA"),
        ("mla-16", "0.17.1", {"aiter": OFF, "args": {"block-size": 1}}, "ROCM_AITER_MLA"),
        ("mla-16", "0.18.1", {"aiter": OFF, "args": {"block-size": 1}}, "TRITON_MLA"),
        ("mla-16", "0.33.0", {"aiter": {"mla": "off"}}, "TRITON_MLA"),
        ("mla-16", "0.33.0", {"aiter": ON}, "ROCM_AITER_MLA"),
        ("mla-16", "0.14.1", {"aiter": ON, "args": {"attention-backend": "TRITON_MLA"}}, "TRITON_MLA"),
        ("mla-16", "0.14.1", {"aiter": ON, "env": {"VLLM_ATTENTION_BACKEND": "TRITON_MLA"}}, "TRITON_MLA"),
        (
            "mla-16",
            "0.16.0",
            {"aiter": ON, "env": {"VLLM_ATTENTION_BACKEND": "TRITON_MLA"}},
            "ROCM_AITER_MLA",
        ),
        # GQA to 0.18: by the switches
        ("gqa", "0.14.1", {"aiter": ON}, "ROCM_AITER_FA"),
        ("gqa", "0.14.1", {"aiter": OFF}, "TRITON_ATTN"),
        ("gqa", "0.14.1", {}, "TRITON_ATTN"),
        ("gqa", "0.14.1", {"aiter": {"mha": "off"}}, "TRITON_ATTN"),
        ("gqa", "0.14.1", {"aiter": {"unified_attention": "on"}}, "ROCM_AITER_UNIFIED_ATTN"),
        ("gqa", "0.14.1", {"env": {"VLLM_V1_USE_PREFILL_DECODE_ATTENTION": "1"}}, "ROCM_ATTN"),
        ("gqa", "0.16.0", {"env": {"VLLM_V1_USE_PREFILL_DECODE_ATTENTION": "1"}}, "TRITON_ATTN"),
        (
            "gqa",
            "0.16.0",
            {"args": {"attention-config": {"use_prefill_decode_attention": True}}},
            "ROCM_ATTN",
        ),
        ("gqa", "0.18.1", {"aiter": ON}, "ROCM_AITER_FA"),
        ("gqa-96", "0.17.1", {"aiter": ON}, "ROCM_AITER_FA"),
        ("gqa-96", "0.18.1", {"aiter": ON}, "TRITON_ATTN"),
        # GQA from 0.19: ROCM_ATTN first, but for KV connectors from 0.23, sinks and head sizes
        ("gqa", "0.19.1", {"aiter": ON}, "ROCM_ATTN"),
        ("gqa", "0.33.0", {"aiter": OFF}, "ROCM_ATTN"),
        ("gqa", "0.22.1", {"aiter": ON, "args": {"kv-offloading-size": 8}}, "ROCM_ATTN"),
        ("gqa", "0.23.0", {"aiter": ON, "args": {"kv-offloading-size": 8}}, "ROCM_AITER_FA"),
        ("gqa", "0.33.0", {"aiter": OFF, "args": {"kv-offloading-size": 8}}, "ROCM_AITER_UNIFIED_ATTN"),
        ("gpt-oss", "0.22.1", {"aiter": ON}, "ROCM_AITER_UNIFIED_ATTN"),
        ("gpt-oss", "0.23.0", {"aiter": ON}, "ROCM_AITER_FA"),
        ("gqa", "0.33.0", {"args": {"attention-backend": "rocm_aiter_fa"}}, "ROCM_AITER_FA"),
        # sparse MLA has one backend: another is ignored to 0.17, and held against the model (and refused) from 0.18
        ("deepseek-v3.2", "0.17.1", {"args": {"attention-backend": "TRITON_MLA"}}, "ROCM_AITER_MLA_SPARSE"),
        ("deepseek-v3.2", "0.18.1", {"args": {"attention-backend": "TRITON_MLA"}}, "TRITON_MLA"),
        # a KV dtype that only some backends have
        ("gqa", "0.33.0", {"aiter": ON, "args": {"kv-cache-dtype": "int8_per_token_head"}}, "TRITON_ATTN"),
        ("gqa", "0.33.0", {"aiter": ON, "args": {"kv-cache-dtype": "turboquant_4bit_nc"}}, None),
        # what is not known is not guessed
        ("gqa", None, {"aiter": ON}, None),
        ("hybrid", "0.33.0", {}, None),
        ("deepseek-v4-flash", "0.33.0", {}, None),
        # the CPU
        ("tiny-llama-gqa", "0.32.0", {"hardware": "cpu"}, "CPU_ATTN"),
        ("tiny-deepseek-v3-mla-moe", "0.32.0", {"hardware": "cpu"}, "CPU_MLA"),
    ],
)
def test_backend(model, vllm, given, backend):
    """The selection of each version, with its reason."""
    found = facts(model, vllm, **given)
    assert found.backend == backend
    assert found.backend_reason


@pytest.mark.parametrize(
    ("model", "vllm", "given", "block"),
    [
        ("gqa", "0.14.1", {}, 16),
        ("gqa", "0.14.1", {"aiter": {"unified_attention": "on"}}, 64),
        ("gqa", "0.14.1", {"args": {"attention-backend": "ROCM_AITER_UNIFIED_ATTN"}}, 16),
        ("gqa", "0.33.0", {"args": {"attention-backend": "ROCM_AITER_UNIFIED_ATTN"}}, 64),
        ("gqa", "0.33.0", {"args": {"block-size": 32}}, 32),
        ("mla-16", "0.33.0", {"aiter": ON}, 16),
        ("hybrid", "0.33.0", {}, None),
        ("gqa", None, {}, None),
        ("tiny-llama-gqa", "0.32.0", {"hardware": "cpu"}, 128),
        ("tiny-deepseek-v3-mla-moe", "0.32.0", {"hardware": "cpu"}, 16),
        ("tiny-deepseek-v3-mla-moe", "0.32.0", {"hardware": "cpu", "args": {"block-size": 1}}, 1),
    ],
)
def test_block_size(model, vllm, given, block):
    """As asked for; else the version's default for the backend, unknown where that is not known."""
    assert facts(model, vllm, **given).block_size == block
