"""The model runner (V1 or V2) that a vLLM version chooses, by its own code.

Source: `use_v2_model_runner` of vllm/config/vllm.py (0.22 on), and VLLM_USE_V2_MODEL_RUNNER before. The two runners
schedule, sample and capture graphs by different code, so a comparison across them compares engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rocbench.rules.truth import truthy
from rocbench.rules.versions import Range

VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"


@dataclass(frozen=True, slots=True)
class RunnerQuestion:
    """The inputs of the choice."""

    platform: str
    vllm: str | None
    architectures: tuple[str, ...]
    moe: bool
    hybrid: bool
    mla: bool
    quantized: bool
    """True if the checkpoint has a quantization config; `--quantization` does not count."""
    tp: int
    pp: int
    pcp: int
    flags: Mapping[str, Any]
    asked: str | None
    """The text of VLLM_USE_V2_MODEL_RUNNER."""

    def flag(self, leaf: str) -> Any:
        """A flag's value; {} for a JSON flag with keys given; None if it is not given."""
        below = any(name.startswith(f"{leaf}.") for name in self.flags)
        return {} if below and leaf not in self.flags else self.flags.get(leaf)

    def at(self, span: str) -> bool:
        """True if the version is in a range."""
        return self.vllm is not None and Range.parse(span).holds(self.vllm)


@dataclass(frozen=True, slots=True)
class RunnerChoice:
    """The runner (`v1`, `v2`, or None if unknown), the reason, and the source."""

    name: str | None
    reason: str
    source: str = ""


def choose(question: RunnerQuestion) -> RunnerChoice:
    """The runner of this version for this model and these settings."""
    if question.vllm is None:
        return RunnerChoice(None, "the vLLM version is unknown")
    if question.at("<0.22"):
        asked = question.at(">=0.13") and truthy(question.asked)
        source = f"v0.14.1 envs.py:1601; {VARIABLE} alone decides in 0.13 to 0.21"
        return (
            RunnerChoice("v2", "requested by the variable", source) if asked else _v1("the default", source)
        )
    if question.platform != "rocm":
        return RunnerChoice(None, "depends on whether Triton is installed")
    if question.asked:
        name = "v2" if truthy(question.asked) else "v1"
        return RunnerChoice(name, f"requested by {VARIABLE}", "v0.22.1 config/vllm.py:494; v0.33.0:748")
    choice = _by_model(question)
    if choice.name != "v2":
        return choice
    return _by_features(question) or choice


def _v1(reason: str, source: str) -> RunnerChoice:
    return RunnerChoice("v1", reason, source)


_LISTED: tuple[tuple[str, frozenset[str], str], ...] = (
    ("<0.23", frozenset({"Qwen3ForCausalLM"}), "v0.22.1 config/vllm.py:69"),
    (
        "<0.24",
        frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM"}),
        "v0.23.0 config/vllm.py:69",
    ),
    (
        "<0.25",
        frozenset(
            {
                "Qwen3ForCausalLM",
                "DeepseekV2ForCausalLM",
                "Qwen2MoeForCausalLM",
                "GraniteMoeForCausalLM",
                "LlamaForCausalLM",
                "MistralForCausalLM",
            }
        ),
        "v0.24.0 config/vllm.py:68",
    ),
    (
        "<0.26",
        frozenset({"DeepseekV2ForCausalLM", "Qwen2MoeForCausalLM", "GraniteMoeForCausalLM"}),
        "v0.25.1 config/vllm.py:68",
    ),
    (
        "<0.28",  # KimiK3 joins the list in 0.27, but not on ROCm (ROCM_EXCLUDED_V2_MODEL_RUNNER_ARCHITECTURES)
        frozenset(
            {
                "DeepseekV2ForCausalLM",
                "GraniteMoeForCausalLM",
                "InklingForCausalLM",
                "InklingForConditionalGeneration",
                "LongcatFlashNgramForCausalLM",
                "Qwen2MoeForCausalLM",
            }
        ),
        "v0.26.0 config/vllm.py:68; v0.27.1 config/vllm.py:69-101",
    ),
    (
        "<0.29",  # DeepseekV4 joins the list in 0.28, but not on ROCm
        frozenset(
            {
                "DeepseekV2ForCausalLM",
                "GraniteMoeForCausalLM",
                "InklingForCausalLM",
                "InklingForConditionalGeneration",
                "KimiK3ForConditionalGeneration",
                "LongcatFlashNgramForCausalLM",
                "Qwen2MoeForCausalLM",
            }
        ),
        "v0.28.0 config/vllm.py:69-93",
    ),
)
"""Architectures with V2 by default on ROCm, up to 0.28: range, names, source."""
_V1_ON_ROCM: tuple[tuple[str, frozenset[str], str], ...] = (
    ("<0.30", frozenset({"DeepseekV32ForCausalLM", "DeepseekV4ForCausalLM"}), "v0.29.0 config/vllm.py:71"),
    (
        "<0.32",
        frozenset({"DeepseekV32ForCausalLM", "DeepseekV4ForCausalLM", "GlmMoeDsaForCausalLM"}),
        "v0.30.0 config/vllm.py:73; v0.31.0 config/vllm.py:75",
    ),
)
"""Architectures with V1 by default on ROCm, from 0.29 to 0.31 (ROCM_DEFAULT_MRV1_ARCHITECTURES)."""


def _by_model(question: RunnerQuestion) -> RunnerChoice:
    """The choice by architecture, before the features that V2 lacks."""
    names = set(question.architectures)
    if question.at(">=0.29"):
        for span, kept, source in _V1_ON_ROCM:
            if question.at(span):
                if not names & kept:
                    break
                if question.at(">=0.31") and (question.pcp > 1 or question.pp > 1):
                    return RunnerChoice(None, "V1 is the default here only as far as it supports the layout")
                return _v1("the default for this architecture on ROCm", source)
        return RunnerChoice("v2", "the default from 0.29", "v0.29.0 config/vllm.py:646; v0.33.0:731-767")
    if question.flag("runner") not in (None, "auto", "generate"):
        return _v1("V2 is the default for text generation only", "v0.22.1 config/vllm.py:523")
    span, listed, source = next(entry for entry in _LISTED if question.at(entry[0]))
    if question.at(">=0.27") and question.pcp > 1:
        return RunnerChoice("v2", "prefill context parallelism needs V2", "v0.27.1 config/vllm.py:584")
    if question.at(">=0.25") and _method(question) == "dspark":
        return RunnerChoice("v2", "dspark needs V2", "v0.25.1 config/vllm.py:528-532")
    if question.at("<0.25"):
        dense = question.at(">=0.24") or not (question.moe or question.quantized)
        if names & listed and dense:
            return RunnerChoice("v2", "the default for this architecture", source)
        return _v1("the default for this architecture", source)
    if question.hybrid and not (question.at(">=0.27") and names & listed):
        return _v1("the default for hybrid models", source)
    if names & listed or not question.moe:
        kind = "this architecture" if names & listed else "dense models"
        return RunnerChoice("v2", f"the default for {kind}", source)
    return _v1("the default for MoE models that are not listed", source)


def _by_features(question: RunnerQuestion) -> RunnerChoice | None:
    """V1, or an unknown runner, if the settings use a feature that V2 lacks; None if they use none."""
    source = "_get_v2_model_runner_unsupported_features of config/vllm.py"
    for span, name, used in _LACKING:
        if question.at(span) and used(question):
            return _v1(f"V2 does not support {name}", source)
    if question.flag("speculative-config") is not None:
        return _by_drafts(question, source)
    if question.at(">=0.30,<0.32") and question.hybrid and question.flag("mamba-cache-mode") is None:
        return RunnerChoice(None, "depends on the cache mode that vLLM chooses for this hybrid model")
    return None


def _given(leaf: str) -> Callable[[RunnerQuestion], bool]:
    return lambda question: question.flag(leaf) not in (None, False, "", 0)


def _is(leaf: str, *values: Any) -> Callable[[RunnerQuestion], bool]:
    return lambda question: question.flag(leaf) in values


_LACKING: tuple[tuple[str, str, Callable[[RunnerQuestion], bool]], ...] = (
    ("<0.26", "prefill context parallelism", lambda q: q.pcp > 1),
    ("<0.27", "prefill context parallelism", lambda q: q.pcp > 1 and not q.mla),
    ("<0.32", "stock torch.compile", _is("compilation-config.mode", 1, "1", "STOCK_TORCH_COMPILE")),
    (
        "<0.32",
        "sequence parallelism",
        lambda q: q.flag("compilation-config.pass_config.enable_sp") is True and q.tp > 1,
    ),
    (
        ">=0.24",
        "pipeline parallelism with external_launcher",
        lambda q: q.pp > 1 and q.flag("distributed-executor-backend") == "external_launcher",
    ),
    (
        "<0.23",
        "reasoning budget enforcement",
        lambda q: _given("reasoning-config")(q) or _given("reasoning-parser")(q),
    ),
    (">=0.22", "dual batch overlap", _given("enable-dbo")),
    (">=0.30", "dual batch overlap", lambda q: isinstance(n := q.flag("ubatch-size"), int) and n > 1),
    (">=0.24,<0.32", "elastic expert parallelism", _given("enable-elastic-ep")),
    ("<0.28", "routed experts capture", _given("enable-return-routed-experts")),
    ("<0.31", "custom logits processors", _given("logits-processors")),
    ("<0.29", "prompt embeds", _given("enable-prompt-embeds")),
    ("<0.26", "this logprobs mode", _is("logprobs-mode", "raw_logits", "processed_logits")),
    ("<0.30", "KV sharing fast prefill", _given("kv-sharing-fast-prefill")),
    ("<0.28", "EC transfer", lambda q: q.flag("ec-transfer-config") is not None),
    (">=0.30,<0.32", "mamba cache mode 'all'", _is("mamba-cache-mode", "all")),
)
"""Features that V2 lacks: versions, name, and the test of the settings."""
_DRAFTS: tuple[tuple[str, frozenset[str]], ...] = (
    ("<0.24", frozenset({"eagle", "eagle3", "mtp"})),
    ("<0.25", frozenset({"eagle", "eagle3", "mtp"})),
    ("<0.29", frozenset({"eagle", "eagle3", "mtp", "dspark"})),
    ("<0.30", frozenset({"eagle", "eagle3", "mtp", "dspark", "extract_hidden_states"})),
)
"""Speculative methods that V2 supports, up to 0.29."""
_NOT_DRAFTS: tuple[tuple[str, frozenset[str]], ...] = (
    (
        "<0.31",
        frozenset(
            {"ngram", "ngram_gpu", "draft_model", "suffix", "medusa", "mlp_speculator", "custom_class"}
        ),
    ),
    ("<0.32", frozenset({"ngram", "ngram_gpu", "suffix", "medusa", "mlp_speculator", "custom_class"})),
    ("<0.33", frozenset({"suffix", "medusa", "mlp_speculator", "custom_class"})),
    (">=0.33", frozenset({"suffix", "custom_class"})),
)
"""Speculative methods that V2 lacks, from 0.30."""


def _method(question: RunnerQuestion) -> str:
    method = question.flag("speculative-config.method")
    name = str(method) if method else ""
    return "mtp" if name.endswith("_mtp") else name


def _by_drafts(question: RunnerQuestion, source: str) -> RunnerChoice | None:
    """V1 for a method that V2 lacks; unknown for a method that vLLM finds out itself, or that the draft decides."""
    method = _method(question)
    if method in {"", "dflash"}:
        return RunnerChoice(None, "depends on the draft model")
    if question.flag("speculative-config.parallel_drafting") is True and method != "dspark":
        return _v1("V2 does not support parallel drafting", source)
    if method == "eagle3" and question.pp > 1 and question.at("<0.30"):
        return _v1("V2 does not support EAGLE3 with pipeline parallelism", source)
    if question.at("<0.30"):
        lacks = method not in next(known for span, known in _DRAFTS if question.at(span))
    else:
        lacks = method in next(known for span, known in _NOT_DRAFTS if question.at(span))
    return _v1(f"V2 does not support the speculative method {method}", source) if lacks else None
