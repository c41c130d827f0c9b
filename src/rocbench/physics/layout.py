"""The layout of a model: distribution over GPUs, and precision. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rocbench import jsontext
from rocbench.errors import InputError

KvDtype = Literal["bf16", "fp8", "fp8_ds_mla", "int8", "int4", "int3"]

KV_BYTES: dict[KvDtype, float] = {
    "bf16": 2.0, "fp8": 1.0, "fp8_ds_mla": 1.0, "int8": 1.0, "int4": 0.5, "int3": 0.375
}  # fmt: skip
"""Bytes of one cached number. `fp8_ds_mla` has its own layout, see `kv.latent_entry_bytes`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Parallelism and precision of one server. A rank is one GPU."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: bool = False
    pcp: int = 1
    """Prefill context parallelism: groups of ranks that divide the tokens of a prompt; each holds the weights."""
    dcp: int = 1
    """Decode context parallelism: ranks that divide the KV of each sequence. Rules know the sizes that vLLM refuses."""
    kv_dtype: KvDtype = "bf16"
    online_fp8: bool = False
    """16-bit weights quantised to FP8 while loading: `--quantization fp8`, or `fp8_per_tensor` and others from 0.20."""
    speculative_tokens: int = 0
    """Draft tokens per step."""
    mtp: bool = False
    """The checkpoint's multi-token-prediction layers are loaded to draft."""
    vision_data_parallel: bool = False
    """A whole vision tower on each rank (`--mm-encoder-tp-mode data`)."""
    language_only: bool = False
    """No vision tower is loaded (`--language-model-only`)."""
    tables_on_host: bool = True
    """Tables of n-gram embeddings are in the host's memory, vLLM's default (`--engram-config`, `cpu_offload`)."""

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "dp", "pcp", "dcp"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def gpus(self) -> int:
        """GPUs of the server."""
        return self.tp * self.pp * self.pcp * self.dp

    @property
    def kv_bytes_per_element(self) -> float:
        """Bytes of one cached number."""
        return KV_BYTES[self.kv_dtype]


def from_args(args: Mapping[str, object]) -> Layout:
    """Return the layout that `vllm serve` arguments request.

    Args:
        args: names with or without leading dashes, `-` or `_` alike, as in a resolution or a profile.

    Raises:
        InputError: a size is not a whole number of at least 1, or a speculative or Engram config is not JSON.
    """
    known = {name.lstrip("-").replace("_", "-"): value for name, value in args.items()}
    speculation = known.get("speculative-config")
    if isinstance(speculation, str):
        speculation = jsontext.parse(speculation, "--speculative-config")
    draft = speculation if isinstance(speculation, Mapping) else {}
    engram = known.get("engram-config")
    if isinstance(engram, str):
        engram = jsontext.parse(engram, "--engram-config")
    return Layout(
        tp=_number(known.get("tensor-parallel-size") or known.get("tp")),
        pp=_number(known.get("pipeline-parallel-size") or known.get("pp")),
        dp=_number(known.get("data-parallel-size") or known.get("dp")),
        ep=bool(known.get("enable-expert-parallel")),
        pcp=_number(known.get("prefill-context-parallel-size") or known.get("pcp")),
        dcp=_number(known.get("decode-context-parallel-size") or known.get("dcp")),
        kv_dtype=kv_dtype(str(known.get("kv-cache-dtype") or "auto")),
        online_fp8=str(known.get("quantization")).startswith("fp8"),
        speculative_tokens=_number(draft.get("num_speculative_tokens"), 0),
        mtp="mtp" in str(draft.get("method", "")),
        vision_data_parallel=known.get("mm-encoder-tp-mode") == "data",
        language_only=bool(known.get("language-model-only")),
        tables_on_host=not isinstance(engram, Mapping) or bool(engram.get("cpu_offload", True)),
    )


def kv_dtype(name: str) -> KvDtype:
    """Return the cache precision for a `--kv-cache-dtype` value; `auto` is the model's own 16 bits.

    Of two precisions (`turboquant_k8v4`) the smaller one counts, without scales, so that no bound is too low.
    """
    if name == "fp8_ds_mla":
        return "fp8_ds_mla"
    if name.startswith("fp8"):
        return "fp8"
    if name.startswith("int8"):
        return "int8"
    if name.startswith(("turboquant", "octave")):
        return "int3" if "3" in name else "int4"
    return "int4" if name.startswith(("int4", "nvfp4", "ultraquant")) else "bf16"


def _number(value: object, default: int = 1) -> int:
    try:
        return default if value is None else int(str(value))
    except ValueError:
        raise InputError(
            f"a parallel size or a number of tokens must be a whole number, not {value!r:.100}"
        ) from None
