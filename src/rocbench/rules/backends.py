"""Attention backend and block size that a vLLM version chooses, by its own selection code.

Sources: vllm/platforms/rocm.py `get_attn_backend_cls` (0.12-0.17), `_get_backend_priorities` (0.18 on), and
`validate_configuration` of the backends; vllm/platforms/cpu.py. The proof after start checks the choice in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rocbench.rules.versions import Range

FA_HEADS = frozenset({64, 128, 256})
ROCM_ATTN_HEADS = frozenset({32, 64, 80, 96, 128, 160, 192, 224, 256})
PLAIN_KV = frozenset({"auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"})
"""KV dtypes of ROCM_ATTN, ROCM_AITER_FA and ROCM_AITER_UNIFIED_ATTN (supported_kv_cache_dtypes, 0.18 on)."""
OWN_BACKENDS = ("deepseek_v4", "deepseek_v41", "minimax_m3", "minimax_m3_vl", "step5")
"""Model types that bring their own attention backend."""
IMPLEMENTATIONS = {
    "ROCM_AITER_MLA": "AiterMLAImpl",
    "ROCM_AITER_TRITON_MLA": "AiterTritonMLAImpl",
    "ROCM_AITER_MLA_SPARSE": "ROCMAiterMLASparseImpl",
    "ROCM_ATTN": "RocmAttentionImpl",
    "ROCM_AITER_FA": "AiterFlashAttentionImpl",
    "ROCM_AITER_UNIFIED_ATTN": "RocmAiterUnifiedAttentionImpl",
    "TRITON_ATTN": "TritonAttentionImpl",
    "FLEX_ATTENTION": "FlexAttentionImpl",
}
"""Classes that vLLM names in its messages, 0.12 to 0.33."""

_MM_PREFIX = ("gemma3", "gemma4", "molmo2", "bagel", "paligemma", "moondream3")
"""Model types that need full attention within an image, which few backends have (is_mm_prefix_lm of vLLM)."""
_DEFAULT_BLOCKS = frozenset({*IMPLEMENTATIONS, "TRITON_MLA"})
"""Backends of which the default block size was read; others, for other hardware, may prefer another one."""


@dataclass(frozen=True, slots=True)
class Question:
    """The inputs of the selection."""

    platform: str
    vllm: str | None
    model_type: str
    family: str
    head_dim: int
    sinks: bool
    encoder_decoder: bool
    requested: str
    """--attention-backend, or VLLM_ATTENTION_BACKEND in versions that read it, in capitals; empty: not given."""
    kv_cache_dtype: str
    block_size: int | None
    parts: Mapping[str, bool | None]
    prefill_decode: bool
    """VLLM_V1_USE_PREFILL_DECODE_ATTENTION (to 0.14), attention-config.use_prefill_decode_attention (0.16-0.18)."""
    kv_connector: bool

    @property
    def mla(self) -> bool:
        """True if attention is MLA."""
        return self.family.startswith("mla")

    def part(self, name: str) -> bool:
        """True if an AITER part acts; unknown counts as off."""
        return bool(self.parts.get(name))


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """The backend, its reason and source; the name is None if unknown."""

    name: str | None
    reason: str
    source: str


def choose(question: Question) -> BackendChoice:
    """The backend that this version chooses for this model and these settings."""
    if question.vllm is None:
        return BackendChoice(None, "the vLLM version is unknown", "")
    if question.platform == "cpu":
        name = "CPU_MLA" if question.mla else "CPU_ATTN"
        return BackendChoice(name, "the CPU platform has one backend per family", "vllm/platforms/cpu.py")
    if question.model_type in OWN_BACKENDS:
        return BackendChoice(None, f"vLLM has a separate backend for {question.model_type}", "vllm/models")
    if question.family == "hybrid":
        return BackendChoice(
            None, "a hybrid model has one backend per kind of layer", "vllm/platforms/rocm.py"
        )
    old = Range.parse("<0.18").holds(question.vllm)
    if question.family == "mla_sparse" and (old or not question.requested):
        return BackendChoice(
            "ROCM_AITER_MLA_SPARSE",
            "the only sparse MLA backend on ROCm, regardless of the AITER switch",
            "v0.14.1 platforms/rocm.py:202" if old else "v0.33.0 platforms/rocm.py:531",
        )
    if question.requested and _packed(question) and Range.parse(">=0.28").holds(question.vllm):
        return BackendChoice(
            None,
            f"vLLM leaves the requested backend for the one that is made for a {question.kv_cache_dtype} KV cache",
            "v0.28.0 platforms/rocm.py:643-656; v0.33.0 platforms/rocm.py get_attn_backend_cls",
        )
    if question.requested:
        return BackendChoice(question.requested, "requested by --attention-backend", "vllm/platforms/rocm.py")
    if question.mla:
        return _dense_mla(question, old=old)
    return _old_gqa(question) if Range.parse("<0.19").holds(question.vllm) else _gqa(question)


def _packed(question: Question) -> bool:
    """True if the KV dtype has a backend of its own, and another one is requested: vLLM warns and takes its own."""
    kind = question.kv_cache_dtype.partition("_")[0]
    return kind in {"turboquant", "ultraquant"} and question.requested != kind.upper()


def _dense_mla(question: Question, *, old: bool) -> BackendChoice:
    source = "v0.14.1 platforms/rocm.py:213-218" if old else "v0.33.0 platforms/rocm.py:545-556"
    if question.part("mla"):
        return BackendChoice("ROCM_AITER_MLA", "AITER and its MLA part are on", source)
    if old and question.block_size == 1:
        return BackendChoice("ROCM_AITER_MLA", "block size 1 selects AITER MLA, even with AITER off", source)
    return BackendChoice("TRITON_MLA", "AITER or its MLA part is off", source)


def _old_gqa(question: Question) -> BackendChoice:
    """The choice of 0.12 to 0.18: by the AITER switches."""
    source = "v0.14.1 platforms/rocm.py:253-286; v0.18.1 platforms/rocm.py:309"
    if question.part("unified_attention"):
        return BackendChoice("ROCM_AITER_UNIFIED_ATTN", "AITER and its UNIFIED_ATTENTION part are on", source)
    if question.part("mha") and _fa_fits(question):
        return BackendChoice("ROCM_AITER_FA", "AITER and its MHA part are on", source)
    if question.prefill_decode:
        return BackendChoice("ROCM_ATTN", "separate attention for prefill and decode is requested", source)
    return BackendChoice("TRITON_ATTN", "AITER or its MHA part is off", source)


def _fa_fits(question: Question) -> bool:
    """True if ROCM_AITER_FA fits. Before 0.18, head size, sinks and kind did not count."""
    assert question.vllm is not None
    if Range.parse("<0.18").holds(question.vllm):
        return True
    sinks = not question.sinks or Range.parse(">=0.23").holds(question.vllm)
    return question.head_dim in FA_HEADS and not question.encoder_decoder and sinks


def _gqa(question: Question) -> BackendChoice:
    """The choice of 0.19 and later: ROCM_ATTN first, regardless of the AITER switch."""
    assert question.vllm is not None
    source = "v0.33.0 platforms/rocm.py:556-571"
    no_connector = not (question.kv_connector and Range.parse(">=0.23").holds(question.vllm))
    if question.model_type.startswith(_MM_PREFIX):
        return BackendChoice(
            None,
            "the model's image tokens attend to each other in both directions",
            "v0.33.0 config/model.py",
        )
    if question.encoder_decoder:
        return BackendChoice(
            None, "an encoder-decoder model needs one layout for encoder and decoder", source
        )
    if question.kv_cache_dtype.endswith("_per_token_head"):
        return BackendChoice(
            "TRITON_ATTN", f"the only backend that supports a {question.kv_cache_dtype} KV cache", source
        )
    if question.kv_cache_dtype not in PLAIN_KV:
        return BackendChoice(
            None,
            f"no general attention backend supports a {question.kv_cache_dtype} KV cache; at most a backend made for that type does",
            source,
        )
    if no_connector and not question.sinks and question.head_dim in ROCM_ATTN_HEADS:
        return BackendChoice("ROCM_ATTN", "first in the priority order since 0.19", source)
    why = (
        "ROCM_ATTN does not support a KV connector"
        if not no_connector
        else "ROCM_ATTN does not support this model"
    )
    if question.part("mha") and _fa_fits(question):
        return BackendChoice("ROCM_AITER_FA", f"{why}; AITER and its MHA part are on", source)
    if not no_connector and Range.parse("<0.30").holds(question.vllm):
        return BackendChoice(
            "TRITON_ATTN",
            f"{why}, and ROCM_AITER_UNIFIED_ATTN does so only from 0.30",
            "v0.23.0 v1/attention/backends/rocm_aiter_unified_attn.py:26; v0.30.0 rocm_aiter_unified_attn.py:97",
        )
    return BackendChoice(
        "ROCM_AITER_UNIFIED_ATTN",
        f"{why}; this backend is next in the priority order if aiter is installed",
        source,
    )


def default_block_size(choice: BackendChoice, question: Question) -> int | None:
    """The default KV block size of this version; None if unknown."""
    if question.platform == "cpu":
        return 16 if question.mla else 128
    if choice.name not in _DEFAULT_BLOCKS:
        return None
    assert question.vllm is not None
    if Range.parse("<0.19").holds(question.vllm):  # the platform set 64 for the switch, with any backend
        return 64 if question.part("unified_attention") else 16
    return 64 if choice.name == "ROCM_AITER_UNIFIED_ATTN" else 16
