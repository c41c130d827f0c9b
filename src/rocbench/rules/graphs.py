"""The CUDA graph mode of a server and the largest captured batch, by vLLM's own code.

Sources: `__post_init__` and `_set_cudagraph_sizes` of vllm/config/vllm.py; `resolve_cudagraph_mode_and_sizes` of
vllm/config/compilation.py (up to 0.22 `_check_and_update_cudagraph_mode` of gpu_model_runner.py);
`check_and_update_config` of vllm/platforms/rocm.py; `_cudagraph_support` of each attention backend's builder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rocbench.rules.versions import Range

Support = str
"""Graphs that a backend supports, as vLLM names them: NEVER, UNIFORM_SINGLE_TOKEN_DECODE, UNIFORM_BATCH, ALWAYS."""

_SINGLE = "UNIFORM_SINGLE_TOKEN_DECODE"
_SUPPORT: dict[str, tuple[tuple[str, Support], ...]] = {
    # 0.18: the indexer reports NEVER where DeepGEMM is not available, as on ROCm (v0.18.1 mla/indexer.py:218-223)
    "ROCM_AITER_MLA_SPARSE": (("<0.19", "NEVER"), ("<0.26", _SINGLE), (">=0.26", "UNIFORM_BATCH")),
    "ROCM_AITER_MLA": (("<0.14", _SINGLE), (">=0.14", "UNIFORM_BATCH")),
    "ROCM_AITER_TRITON_MLA": (("<0.14", "NEVER"), (">=0.14", "UNIFORM_BATCH")),
    "TRITON_MLA": (("<0.22", "NEVER"), ("<0.26", "UNIFORM_BATCH"), ("<0.31", _SINGLE), (">=0.31", "UNIFORM_BATCH")),
    "ROCM_AITER_FA": (("<0.17", _SINGLE), (">=0.17", "UNIFORM_BATCH")),
    "TRITON_ATTN": ((">=0", "ALWAYS"),),
    "ROCM_ATTN": ((">=0", "ALWAYS"),),
    "ROCM_AITER_UNIFIED_ATTN": ((">=0", "ALWAYS"),),
    "FLEX_ATTENTION": (("<0.20", "NEVER"), (">=0.20", "ALWAYS")),
}  # fmt: skip

DEFAULT = "FULL_AND_PIECEWISE"
_MODES = frozenset({"NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE"})
_DECIDING = (
    "compilation-config.splitting_ops",
    "compilation-config.backend",
    "compilation-config.level",
    "compilation-config.pass_config.fuse_attn_quant",
    "optimization-level",
    "all2all-backend",
    "compilation-config.pass_config.enable_sp",
)
"""Flags that can change the graph mode or its sizes in ways that are not modelled: with one of them both are unknown."""


@dataclass(frozen=True, slots=True)
class GraphQuestion:
    """The inputs of the resolution."""

    platform: str
    vllm: str | None
    backend: str | None
    ordinary: bool
    """True for a decoder without its own backend, hybrid layers or chunked local attention."""
    gpt_oss: bool
    dcp: int
    pcp: int
    layerwise: bool
    """True if a KV connector may need PIECEWISE."""
    spec_tokens: int | None
    """Draft tokens per step; 0 without drafts, None if unknown."""
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    flags: Mapping[str, Any]

    def at(self, span: str) -> bool:
        """True if the version is in a range."""
        return self.vllm is not None and Range.parse(span).holds(self.vllm)


def support(question: GraphQuestion) -> Support | None:
    """The graphs that the backend supports; None if unknown."""
    if question.vllm is None or question.platform != "rocm" or not question.ordinary:
        return None
    spans = _SUPPORT.get(question.backend or "", ())
    return next((level for span, level in spans if question.at(span)), None)


def asked_mode(question: GraphQuestion) -> str | None:
    """The mode before the backend counts; None if unknown."""
    flags = question.flags
    if flags.get("enforce-eager") is True:
        return "NONE"
    if any(flags.get(name) is not None for name in _DECIDING):
        return None
    if str(flags.get("compilation-config.mode", 3)).upper() not in {"3", "VLLM_COMPILE"}:
        return None
    named = str(flags.get("compilation-config.cudagraph_mode") or DEFAULT).upper()
    if named not in _MODES:
        return None
    if question.dcp > 1 and question.at("<0.29") and "FULL" in named:
        return "PIECEWISE"
    return "PIECEWISE" if question.pcp > 1 and "FULL" in named else named


def mode(question: GraphQuestion) -> str | None:
    """The mode that the server runs; None if unknown."""
    named, level = asked_mode(question), support(question)
    if named == "NONE" or (named == "PIECEWISE" and level is not None):
        return named
    if named is None or level is None or question.layerwise or question.spec_tokens is None:
        return None
    if named == "FULL" and level != "ALWAYS":
        named = "FULL_AND_PIECEWISE"  # with NEVER the server stops here
    single = level == _SINGLE and question.spec_tokens > 0
    return "PIECEWISE" if level == "NEVER" or single else named


def largest(question: GraphQuestion) -> int | None:
    """The largest batch of decodes, in requests, that a graph covers; 0 without graphs, None if unknown."""
    named = asked_mode(question)
    if named == "NONE":
        return 0
    if named is None or question.vllm is None or question.spec_tokens is None or question.spec_tokens > 0:
        return None  # with drafts, the sizes count tokens, and each version rounds them in its own way
    sizes = _given_sizes(question.flags)
    asked = _first(
        question.flags, "max-cudagraph-capture-size", "compilation-config.max_cudagraph_capture_size"
    )
    if sizes is not None:
        return max(
            (size for size in sizes if size <= (question.max_num_batched_tokens or size)), default=None
        )
    if asked is not None and not isinstance(asked, int):
        return None
    seqs = question.max_num_seqs
    top = asked if asked is not None else 1024 if question.gpt_oss else min(2 * seqs if seqs else 512, 512)
    tokens = question.max_num_batched_tokens
    if tokens is not None and tokens <= top:  # from 0.20.1 the largest possible batch is captured too
        return tokens if question.at(">=0.20.1") else _on_grid(tokens)
    whole = asked is None and not question.gpt_oss and seqs is not None and seqs <= top
    return max(seqs or 0, _on_grid(top)) if whole and question.at(">=0.31") else _on_grid(top)


def _on_grid(top: int) -> int:
    """The last captured size: 1, 2, 4, then multiples of 8 up to 256, then of 16."""
    if top >= 256:
        return top // 16 * 16
    if top >= 8:
        return top // 8 * 8
    return max((size for size in (1, 2, 4) if size <= top), default=0)


def _given_sizes(flags: Mapping[str, Any]) -> list[int] | None:
    """The sizes that the user gives; None if they are not given or not understood."""
    given = _first(flags, "cudagraph-capture-sizes", "compilation-config.cudagraph_capture_sizes")
    if isinstance(given, str):
        given = [int(word) for word in given.replace(",", " ").split() if word.isdigit()]
    if isinstance(given, list) and given and all(isinstance(size, int) for size in given):
        return given
    return None


def _first(flags: Mapping[str, Any], *names: str) -> Any:
    return next((flags[name] for name in names if flags.get(name) is not None), None)
