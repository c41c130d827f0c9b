"""Profiles of models and hardware, as frozen pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, model_validator

from rocbench.settings.amounts import Gpus, Quantity, Tokens, Vocabulary
from rocbench.settings.strict import Strict, Variable, Word

FlagValue = bool | int | float | str | dict[str, Any] | None
"""Value of a serve argument: True for a bare flag, False for its `--no-` form, None for unset, a dict for JSON."""


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
    """Storage of the weights on disk."""

    quantization: Literal["none", "fp8_block", "fp8_channel", "int4_group", "mxfp4"] = "none"
    """Quantisation scheme of the weights."""
    bits: float = Field(default=16, gt=0, le=64)
    """Bits of one weight."""
    block: tuple[Tokens, Tokens] | None = None
    """Weight block (rows, columns) of block quantisation, 128x128 for DeepSeek FP8."""
    group: Tokens | None = None
    """Group size of group quantisation."""
    linear_bits: Annotated[float, Field(gt=0, le=64)] | None = None
    """Bits of a weight outside the routed experts. None: `bits` with FP8 and in models without experts; 16 with INT4 or
    MXFP4 experts."""
    bytes: Quantity | None = None
    """Bytes of all weight files. None: derived from the parameters."""
    unsure: tuple[str, ...] = ()
    """Doubts about the storage, one sentence each. If there is any, no figure derived from the size stops a plan or
    makes a row invalid."""


class ServeVariant(Strict):
    """Serve arguments and environment for a range of vLLM versions."""

    vllm: VersionRange
    """vLLM versions to which the variant applies."""
    args: dict[str, FlagValue] = {}
    """Serve arguments without the leading dashes: `quantization: fp8`."""
    env: dict[Variable, str] = {}
    """Environment variables."""
    image: Word | None = None
    """Container image."""
    tp: Gpus | None = None
    """Tensor parallel size; replaces the profile's."""
    source: str
    """Source of the arguments: recipe, guide or file."""
    note: str = ""
    """Note for readers; `bench explain` prints it above its table."""
    why: dict[str, str] = {}
    """Reasons for values, by the name of the flag or variable; they replace the reasons in reasons.yaml."""


class Derived(Strict):
    """Figures computed from `config`, for readers of a profile. `bench` does not use them."""

    family: str | None = None
    """Attention family."""
    total_params: float | None = None
    """Parameters of the language model, without multi-token-prediction layers."""
    active_params: float | None = None
    """Parameters that one token uses."""
    kv_bytes_per_token: float | None = None
    """KV cache bytes per token of the whole model: 2 bytes per number, no replication, without the indexer."""
    indexer_bytes_per_token: float | None = None
    """Cache bytes per token of a sparse attention's indexer."""


class Published(Strict):
    """Figures that others publish of the model, for readers. `bench` does not use them; the page of model profiles compares
    them with the derived ones."""

    total_params: Quantity | None = None
    """Parameters."""
    total_unit: Quantity | None = None
    """Unit to which the source rounds `total_params`. None: they are exact."""
    with_vision: bool = False
    """`total_params` includes the vision tower."""
    with_mtp: bool = False
    """`total_params` includes the multi-token-prediction layers."""
    active_params: Quantity | None = None
    """Parameters that one token uses."""
    active_unit: Quantity | None = None
    """Unit to which the source rounds `active_params`."""
    active_without: Literal["", "embedding", "embedding and head"] = ""
    """What the source leaves out of `active_params`, as the derived figure shows."""
    kv_bytes_per_token: Quantity | None = None
    """KV cache bytes per token of the whole model, at 2 bytes per number."""
    source: str
    """Source of the figures."""


class ModelProfile(Strict):
    """Model: identity, the fields of its Hugging Face config that decide its architecture, and serve arguments."""

    name: str
    """Name of the profile, as in sweeps."""
    hf_id: Word
    """Hugging Face id, the model argument of `vllm serve`."""
    revision: Word | None = None
    """Commit of the checkpoint. None: the newest."""
    path: Word | None = None
    """Local folder of the model, served instead of `hf_id`."""
    gated: bool = False
    """The download needs HF_TOKEN."""
    trust_remote_code: bool = False
    """The checkpoint contains Python code that vLLM must run."""
    config: dict[str, Any]
    """Fields of `config.json`, with text_config and vision_config nested as in that file."""
    checkpoint: Checkpoint = Checkpoint()
    """Storage of the weights."""
    precision: str
    """Label of the weights' precision in the running server: bf16, fp8, int4, mxfp4."""
    total_params: Quantity | None = None
    """Parameters. Set only if they cannot be derived from `config`."""
    active_params: Quantity | None = None
    """Parameters that one token uses. Set only if they cannot be derived from `config`."""
    tp: Gpus = 8
    """Default tensor parallel size."""
    nodes: Gpus = 1
    """Number of nodes over which one server runs."""
    max_model_len: Tokens | None = None
    """Maximum context length, in tokens."""
    vocab_size: Vocabulary | None = None
    """Number of token ids from which random prompts are drawn. None: as in the config."""
    vllm_min: VersionText | None = None
    """First vLLM version that the model's recipe supports; `bench` warns about an older version."""
    serve: tuple[ServeVariant, ...] = ()
    """Serve arguments by vLLM version; the first match applies."""
    published: Published | None = None
    """Figures that others publish of the model."""
    sources: tuple[str, ...] = ()
    """Sources of the facts."""
    unconfirmed: tuple[str, ...] = ()
    """Facts that no source confirms."""
    derived: Derived | None = None
    """Figures computed from `config`, for readers."""


# --- hardware


class Gpu(Strict):
    """One GPU, with the figures that the vendor publishes."""

    name: str
    """Name, as the vendor writes it."""
    gfx: str
    """Architecture: `gfx942`."""
    device_ids: tuple[str, ...] = ()
    """PCI device ids, by which `bench doctor` recognises the GPU: `0x74a5`."""
    hbm_bytes: Annotated[int, Field(gt=0, le=2**60)]
    """Memory, in bytes."""
    hbm_bytes_per_s: Quantity
    """Peak bandwidth of the memory, in bytes/s."""
    flops: dict[Literal["bf16", "fp16", "fp8", "int8", "fp4"], Quantity]
    """Dense peak FLOP/s by number format."""
    link_bytes_per_s: Quantity
    """Bandwidth of one link between two GPUs, in bytes/s, one direction."""
    links: Gpus
    """Links from one GPU to its peers."""
    power_w: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Power limit (TBP), in watts. None: not published."""
    host_bytes_per_s: Quantity | None = None
    """Bandwidth from host to GPU, in bytes/s, one direction: the upper limit for loading offloaded KV."""
    cache_bytes: float = Field(default=0.0, ge=0, le=1e21)
    """Size of the last-level cache, in bytes. Data that may stay in this cache between steps does not count as read from HBM."""


class Hardware(Strict):
    """Node. On a CPU node (`gpu` is None) the real engine runs, and no physical bounds apply."""

    name: str
    """Name of the profile, as in sweeps."""
    platform: Literal["rocm", "cpu"]
    """Platform of vLLM."""
    gpus: int = Field(ge=0, le=1024)
    """GPUs of one node."""
    gpu: Gpu | None = None
    """GPU of the node. None: a CPU node."""
    announced: bool = False
    """The figures are from announcements, not from a data sheet: no limit derived from them refuses a plan or makes a row
    invalid."""
    rocm: VersionText | None = None
    """ROCm version of the host."""
    sources: tuple[str, ...] = ()
    """Sources of the figures."""
    unconfirmed: tuple[str, ...] = ()
    """Figures that no source confirms."""

    @model_validator(mode="after")
    def _gpu_on_rocm(self) -> Hardware:
        if (self.platform == "rocm") != (self.gpu is not None):
            raise ValueError("platform rocm needs a `gpu`; platform cpu must not have a `gpu`")
        return self
