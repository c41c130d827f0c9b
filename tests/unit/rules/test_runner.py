"""The model runner and the CUDA graphs that each release chooses, as its source decides them."""

from __future__ import annotations

from typing import Any

import pytest

from rocbench.rules import graphs, runner
from rocbench.rules.resolve import ServeRequest, resolve
from rocbench.settings import catalog
from rulecases import hardware, profile


def question(vllm: str | None, architecture: str = "DeepseekV3ForCausalLM", **changes: Any) -> Any:
    """A question about a MoE model, with changes."""
    known: dict[str, Any] = {
        "platform": "rocm",
        "vllm": vllm,
        "architectures": (architecture,),
        "moe": True,
        "hybrid": False,
        "mla": True,
        "quantized": True,
        "tp": 8,
        "pp": 1,
        "pcp": 1,
        "flags": {},
        "asked": None,
    }
    return runner.RunnerQuestion(**known | changes)


DENSE = {"moe": False, "mla": False, "quantized": False}


@pytest.mark.parametrize(
    ("vllm", "architecture", "changes", "name"),
    [
        ("0.12.0", "LlamaForCausalLM", DENSE | {"asked": "1"}, "v1"),  # no such variable yet
        ("0.13.0", "LlamaForCausalLM", DENSE | {"asked": "1"}, "v2"),
        ("0.21.0", "LlamaForCausalLM", DENSE, "v1"),
        ("0.22.1", "Qwen3ForCausalLM", DENSE, "v2"),
        ("0.22.1", "Qwen3ForCausalLM", DENSE | {"flags": {"reasoning-parser": "qwen3"}}, "v1"),
        ("0.22.1", "LlamaForCausalLM", DENSE, "v1"),
        ("0.23.0", "LlamaForCausalLM", DENSE, "v2"),
        ("0.23.0", "LlamaForCausalLM", DENSE | {"quantized": True}, "v1"),
        ("0.24.0", "LlamaForCausalLM", DENSE | {"quantized": True}, "v2"),
        ("0.24.0", "Qwen3VLForConditionalGeneration", DENSE, "v1"),
        ("0.25.1", "Qwen3VLForConditionalGeneration", DENSE, "v2"),
        ("0.25.1", "DeepseekV2ForCausalLM", {}, "v2"),
        ("0.28.0", "DeepseekV3ForCausalLM", {}, "v1"),
        ("0.29.0", "DeepseekV3ForCausalLM", {}, "v2"),
        ("0.25.1", "KimiLinearForCausalLM", {"hybrid": True}, "v1"),
        ("0.27.1", "KimiK3ForConditionalGeneration", {"hybrid": True}, "v1"),  # excluded on ROCm
        ("0.28.0", "KimiK3ForConditionalGeneration", {"hybrid": True}, "v2"),
        ("0.28.0", "DeepseekV4ForCausalLM", {}, "v1"),
        ("0.29.0", "DeepseekV32ForCausalLM", {}, "v1"),
        ("0.29.0", "GlmMoeDsaForCausalLM", {}, "v2"),
        ("0.30.0", "GlmMoeDsaForCausalLM", {}, "v1"),
        ("0.31.0", "GlmMoeDsaForCausalLM", {}, "v1"),
        ("0.31.0", "GlmMoeDsaForCausalLM", {"pp": 2}, None),
        ("0.32.0", "DeepseekV32ForCausalLM", {}, "v2"),
        ("0.33.0", "DeepseekV32ForCausalLM", {"asked": "0"}, "v1"),
        ("0.28.0", "DeepseekV3ForCausalLM", {"asked": "1"}, "v2"),
        ("0.30.0", "KimiLinearForCausalLM", {"hybrid": True}, None),
        ("0.30.0", "KimiLinearForCausalLM", {"hybrid": True, "flags": {"mamba-cache-mode": "align"}}, "v2"),
        ("0.30.0", "KimiLinearForCausalLM", {"hybrid": True, "flags": {"mamba-cache-mode": "all"}}, "v1"),
        (None, "LlamaForCausalLM", DENSE, None),
        ("0.33.0", "LlamaForCausalLM", DENSE | {"platform": "cpu"}, None),
        ("0.14.1", "LlamaForCausalLM", DENSE | {"platform": "cpu"}, "v1"),
        ("0.28.0", "LlamaForCausalLM", DENSE | {"flags": {"runner": "pooling"}}, "v1"),
    ],
)
def test_runner_by_model(vllm, architecture, changes, name):
    """The architecture decides, by lists that change from release to release."""
    assert runner.choose(question(vllm, architecture, **changes)).name == name


def drafting(method: str, **more: Any) -> dict[str, Any]:
    """Flags of speculative decoding."""
    return {"speculative-config.method": method, "speculative-config.num_speculative_tokens": 3} | more


@pytest.mark.parametrize(
    ("vllm", "flags", "name"),
    [
        ("0.29.0", drafting("mtp"), "v2"),
        ("0.29.0", drafting("deepseek_mtp"), "v2"),
        ("0.29.0", drafting("ngram"), "v1"),
        ("0.31.0", drafting("ngram"), "v1"),
        ("0.32.0", drafting("ngram"), "v2"),
        ("0.29.0", drafting("draft_model"), "v1"),
        ("0.30.0", drafting("draft_model"), "v1"),
        ("0.31.0", drafting("draft_model"), "v2"),
        ("0.32.0", drafting("medusa"), "v1"),
        ("0.33.0", drafting("medusa"), "v2"),
        ("0.33.0", drafting("suffix"), "v1"),
        ("0.33.0", drafting("dflash"), None),
        ("0.33.0", {"speculative-config.model": "some/draft"}, None),
        ("0.33.0", drafting("eagle3", **{"speculative-config.parallel_drafting": True}), "v1"),
        ("0.33.0", {"enable-dbo": True}, "v1"),
        ("0.33.0", {"enable-dbo": False}, "v2"),
        ("0.33.0", {"ubatch-size": 2}, "v1"),
        ("0.31.0", {"compilation-config.mode": 1}, "v1"),
        ("0.32.0", {"compilation-config.mode": 1}, "v2"),
        ("0.30.0", {"logits-processors": "x:Y"}, "v1"),
        ("0.31.0", {"logits-processors": "x:Y"}, "v2"),
        ("0.31.0", {"enable-elastic-ep": True}, "v1"),
        ("0.32.0", {"enable-elastic-ep": True}, "v2"),
        ("0.29.0", {"kv-sharing-fast-prefill": True}, "v1"),
        ("0.30.0", {"kv-sharing-fast-prefill": True}, "v2"),
        ("0.31.0", {"compilation-config.pass_config.enable_sp": True}, "v1"),
    ],
)
def test_runner_by_features(vllm, flags, name):
    """A feature that V2 lacks brings V1 back, in the releases that lack it."""
    assert runner.choose(question(vllm, flags=flags)).name == name


@pytest.mark.parametrize(
    ("vllm", "flags", "name"),
    [
        ("0.25.1", drafting("ngram"), "v1"),
        ("0.25.1", drafting("eagle3"), "v2"),
        ("0.24.0", drafting("dspark"), "v1"),
        ("0.25.1", drafting("dspark"), "v2"),
        ("0.25.1", {"logprobs-mode": "raw_logits"}, "v1"),
        ("0.26.0", {"logprobs-mode": "raw_logits"}, "v2"),
        ("0.27.1", {"enable-return-routed-experts": True}, "v1"),
        ("0.28.0", {"enable-return-routed-experts": True}, "v2"),
        ("0.28.0", {"enable-prompt-embeds": True}, "v1"),
    ],
)
def test_runner_of_a_dense_model_by_features(vllm, flags, name):
    """The same for Llama, which has V2 from 0.23."""
    assert runner.choose(question(vllm, "LlamaForCausalLM", **DENSE, flags=flags)).name == name


def facts(model: str, vllm: str, aiter: Any = None, **args: Any) -> Any:
    """The facts of a model's server."""
    named = profile(model) if model in {"gqa", "mla-16", "gpt-oss", "hybrid"} else catalog.model(model)
    flags = {name.replace("_", "-"): value for name, value in args.items()}
    return resolve(ServeRequest(named, hardware("mi325x"), vllm, aiter=aiter, user_args=flags)).facts


@pytest.mark.parametrize(
    ("model", "vllm", "aiter", "mode"),
    [
        ("deepseek-v3.2", "0.17.1", None, "PIECEWISE"),
        ("deepseek-v3.2", "0.18.1", None, "PIECEWISE"),  # by the indexer, without DeepGEMM
        ("deepseek-v3.2", "0.19.1", None, "FULL_AND_PIECEWISE"),
        ("mla-16", "0.21.0", "off", "PIECEWISE"),
        ("mla-16", "0.22.1", "off", "FULL_AND_PIECEWISE"),
        ("mla-16", "0.14.1", "on", "FULL_AND_PIECEWISE"),
        ("gqa", "0.14.1", "on", "FULL_AND_PIECEWISE"),
        ("hybrid", "0.33.0", None, None),
        ("deepseek-v4-flash", "0.33.0", None, None),
    ],
)
def test_graph_mode_by_backend(model, vllm, aiter, mode):
    """A backend without full graphs leaves piecewise ones; of hybrid models and own backends nothing is claimed."""
    assert facts(model, vllm, aiter).graph_mode == mode


@pytest.mark.parametrize(
    ("args", "mode"),
    [
        ({"enforce_eager": True}, "NONE"),
        ({"compilation_config": {"cudagraph_mode": "PIECEWISE"}}, "PIECEWISE"),
        (
            {"compilation_config": {"cudagraph_mode": "FULL"}},
            "FULL_AND_PIECEWISE",
        ),  # ROCM_AITER_FA: uniform batches
        ({"compilation_config": {"cudagraph_mode": "FULL_DECODE_ONLY"}}, "FULL_DECODE_ONLY"),
        ({"compilation_config": {"mode": 0}}, None),
        ({"compilation_config": {"splitting_ops": []}}, None),
        ({"speculative_config": {"method": "mtp", "num_speculative_tokens": 2}}, "FULL_AND_PIECEWISE"),
        ({"speculative_config": {"model": "some/draft"}}, None),
        ({"kv_offloading_size": 8}, "FULL_AND_PIECEWISE"),
        ({"kv_offloading_size": 8, "kv_offloading_backend": "lmcache"}, None),
    ],
)
def test_graph_mode_by_settings(args, mode):
    """Settings that decide the mode are followed; with settings that are not modelled it is unknown."""
    assert facts("gqa", "0.33.0", "on", **args).graph_mode == mode


def test_graph_mode_with_context_parallelism():
    """DCP leaves piecewise graphs up to 0.28."""
    dcp = {"decode_context_parallel_size": 8}
    assert facts("mla-16", "0.28.0", "off", **dcp).graph_mode == "PIECEWISE"
    assert facts("mla-16", "0.29.0", "off", **dcp).graph_mode == "FULL_AND_PIECEWISE"


@pytest.mark.parametrize(
    ("vllm", "seqs", "tokens", "flags", "batch"),
    [
        ("0.14.1", 1024, 8192, {}, 512),
        ("0.14.1", 300, 8192, {}, 512),
        ("0.14.1", 100, 8192, {}, 200),
        ("0.14.1", 3, 8192, {}, 4),
        ("0.30.0", 100, 100, {}, 100),
        ("0.14.1", 100, 100, {}, 96),
        ("0.14.1", 1024, 8192, {"max-cudagraph-capture-size": 1000}, 992),
        ("0.14.1", 1024, 8192, {"cudagraph-capture-sizes": "1 2 4 8"}, 8),
        ("0.14.1", 1024, 8192, {"compilation-config.cudagraph_capture_sizes": [1, 64]}, 64),
        ("0.14.1", 1024, 8192, {"enforce-eager": True}, 0),
        ("0.14.1", 1024, 8192, {"optimization-level": "1"}, None),
        (None, 1024, 8192, {}, None),
    ],
)
def test_largest_captured_batch(vllm, seqs, tokens, flags, batch):
    """The sizes end at 512 or twice the sequences, on a grid of 8 and 16 (`_set_cudagraph_sizes`)."""
    asked = graphs.GraphQuestion(
        "rocm", vllm, "ROCM_AITER_FA", True, False, 1, 1, False, 0, seqs, tokens, flags
    )
    assert graphs.largest(asked) == batch


@pytest.mark.parametrize(
    ("args", "pinned"),
    [
        ({}, (1024, 16384)),
        ({"max_num_batched_tokens": 512}, (512, 512)),
        ({"max_num_seqs": 2, "max_model_len": 1000}, (2, 2000)),
        ({"enable_chunked_prefill": False}, (1024, 131072)),
        ({"performance_mode": "throughput"}, (None, None)),
    ],
)
def test_default_sizes_of_a_step_fit_each_other(args, pinned):
    """The pinned defaults are those of vLLM, which fits each to the other and to the model's length."""
    named = {name.replace("_", "-"): value for name, value in args.items()}
    flags = resolve(ServeRequest(profile("gqa"), hardware("mi325x"), "0.33.0", user_args=named)).flags()

    assert (flags.get("max-num-seqs"), flags.get("max-num-batched-tokens")) == pinned
