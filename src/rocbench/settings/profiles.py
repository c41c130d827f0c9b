"""Profiles of models and of hardware, as frozen pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, model_validator

from rocbench.settings.amounts import Gpus, Quantity, Tokens, Vocabulary
from rocbench.settings.strict import Strict, Variable, Word

FlagValue = bool | int | float | str | dict[str, Any] | None
"""A serve argument: True for a bare flag, False for its `--no-` form, None to leave it unset, a dict as JSON."""


def _version(text: str) -> str:
    try:
        Version(text)
    except InvalidVersion as error:
        raise ValueError(f"{text!r} is not a version such as 0.14.1") from error
    return text


def _range(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(f"{text!r} is not a version range such as '>=0.14,<0.18'") from error
    return text


VersionText = Annotated[str, AfterValidator(_version)]
VersionRange = Annotated[str, AfterValidator(_range)]


# --- models


class Checkpoint(Strict):
    """How the weights are stored on disk."""

    quantization: Literal["none", "fp8_block", "fp8_channel", "int4_group", "mxfp4"] = "none"
    """Scheme of the weights."""
    bits: float = Field(default=16, gt=0, le=64)
    """Of one weight."""
    block: tuple[Tokens, Tokens] | None = None
    """Weight block (rows, columns) of block quantisation, 128x128 for DeepSeek FP8."""
    group: Tokens | None = None
    """Group size of group quantisation."""
    linear_bits: Annotated[float, Field(gt=0, le=64)] | None = None
    """Bits of a weight outside the routed experts, where it is not as expected: as the experts for FP8 and in
    models without experts, 16 beside INT4 and MXFP4 experts."""
    bytes: Quantity | None = None
    """Bytes of all weight files where known; else derived from the parameters."""
    unsure: tuple[str, ...] = ()
    """What of it is not understood, one sentence each. While there is any, no figure of its size refuses or voids."""


class ServeVariant(Strict):
    """Serve arguments and environment for a range of vLLM versions. The first that matches is taken."""

    vllm: VersionRange
    """Versions that it is for."""
    args: dict[str, FlagValue] = {}
    """Keys without the leading dashes: `quantization: fp8`."""
    env: dict[Variable, str] = {}
    """Environment variables."""
    image: Word | None = None
    """Container image."""
    tp: Gpus | None = None
    """Tensor parallel size, in place of the profile's."""
    source: str
    """Who says so: recipe, guide or file."""
    note: str = ""
    """For its reader; told once above the table of `bench explain`."""
    why: dict[str, str] = {}
    """Reason of a value, by the name of its flag or variable, where reasons.yaml does not fit."""


class Derived(Strict):
    """What was computed from `config`, kept in a profile for its reader. Nothing reads it back."""

    family: str | None = None
    """Attention family."""
    total_params: float | None = None
    """Language model, without multi-token-prediction layers."""
    active_params: float | None = None
    """Used by one token."""
    kv_bytes_per_token: float | None = None
    """Whole model, 2 bytes a number, nothing replicated, the indexer left out."""
    indexer_bytes_per_token: float | None = None
    """Of a sparse attention's indexer."""


class ModelProfile(Strict):
    """A model: identity, the Hugging Face config facts that decide its architecture, and how to serve it."""

    name: str
    """As sweeps name it."""
    hf_id: Word
    """Hugging Face id; what stands after `vllm serve`."""
    revision: Word | None = None
    """Commit of the checkpoint; None takes the newest."""
    path: Word | None = None
    """A local folder that holds the model, served instead of `hf_id`."""
    gated: bool = False
    """Needs HF_TOKEN to download."""
    trust_remote_code: bool = False
    """The checkpoint brings code of its own."""
    config: dict[str, Any]
    """Fields of `config.json` (nested text_config and vision_config as they are there)."""
    checkpoint: Checkpoint = Checkpoint()
    """How its weights are stored."""
    precision: str
    """Label of the weights as they run: bf16, fp8, int4, mxfp4."""
    total_params: Quantity | None = None
    """As `active_params`."""
    active_params: Quantity | None = None
    """Set only where the derivation from `config` cannot know them."""
    tp: Gpus = 8
    """Tensor parallel size, where nothing else is said."""
    nodes: Gpus = 1
    """Nodes that one server spans."""
    max_model_len: Tokens | None = None
    """Longest context to serve."""
    vocab_size: Vocabulary | None = None
    """Token ids to draw prompts from; None takes the config's."""
    vllm_min: VersionText | None = None
    """First vLLM version that has the architecture."""
    serve: tuple[ServeVariant, ...] = ()
    """Arguments by vLLM version; the first that matches is taken."""
    sources: tuple[str, ...] = ()
    """Where the facts come from."""
    unconfirmed: tuple[str, ...] = ()
    """Facts that no source confirms."""
    derived: Derived | None = None
    """What was computed from `config`, for the reader."""


# --- hardware


class Gpu(Strict):
    """One GPU. Dense peak FLOP/s per dtype; None where the vendor gives none."""

    name: str
    """As the vendor calls it."""
    gfx: str
    """Architecture: `gfx942`."""
    hbm_bytes: Annotated[int, Field(gt=0, le=2**60)]
    """Memory of one GPU."""
    hbm_bytes_per_s: Quantity
    """Peak bandwidth of one GPU's memory."""
    flops: dict[Literal["bf16", "fp16", "fp8", "int8", "fp4"], Quantity]
    """Dense peak FLOP/s by number format."""
    link_bytes_per_s: Quantity
    """Usable bytes/s of one GPU-GPU link, one direction."""
    links: Gpus
    """Links from one GPU to its peers."""
    power_w: Annotated[float, Field(gt=0, le=1e6)]
    """Power limit of one GPU (TBP)."""
    host_bytes_per_s: Quantity | None = None
    """Host to GPU, one direction: how fast offloaded KV comes back at best."""
    cache_bytes: float = Field(default=0.0, ge=0, le=1e21)
    """Last-level cache: so much may stay from step to step and need not be read from HBM."""


class Hardware(Strict):
    """A node. `gpu` is None for the CPU: the real engine runs there, and no physics is claimed."""

    name: str
    """As sweeps name it."""
    platform: Literal["rocm", "cpu"]
    """What vLLM runs on there."""
    gpus: int = Field(ge=0, le=1024)
    """GPUs of one node."""
    gpu: Gpu | None = None
    """None on the CPU."""
    rocm: VersionText | None = None
    """ROCm of the host."""
    sources: tuple[str, ...] = ()
    """Where the figures come from."""

    @model_validator(mode="after")
    def _gpu_on_rocm(self) -> Hardware:
        if (self.platform == "rocm") != (self.gpu is not None):
            raise ValueError("platform rocm needs a `gpu`, platform cpu has none")
        return self
