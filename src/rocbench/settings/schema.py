"""The YAML files as frozen pydantic models. Unknown keys are refused: a misspelt key would be lost silently.

A model profile (`configs/models/*.yaml`) says what a model is and how it is served per vLLM version.
A hardware profile (`configs/hardware/*.yaml`) says what a GPU can do.
A workload (`configs/workloads/*.yaml`) says what a request is. A sweep (`configs/sweeps/*.yaml`) ties them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from rocbench.settings.blocks import Block
from rocbench.settings.goals import Search, Share, Slo, Until

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
Positive = Annotated[int, Field(gt=0)]


class Strict(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


# --- models


class Checkpoint(Strict):
    """How the weights are stored on disk."""

    quantization: Literal["none", "fp8_block", "fp8_channel", "int4_group", "mxfp4"] = "none"
    bits: float = 16
    block: tuple[int, int] | None = None
    """Weight block (rows, columns) of block quantisation, 128x128 for DeepSeek FP8."""
    group: int | None = None
    """Group size of group quantisation."""
    linear_bits: float | None = None
    """Bits of a weight outside the routed experts, where it is not as expected: as the experts for FP8 and in
    models without experts, 16 beside INT4 and MXFP4 experts."""
    bytes: float | None = None
    """Bytes of all weight files where known; else derived from the parameters."""


class ServeVariant(Strict):
    """Serve arguments and environment for a range of vLLM versions. The first that matches is taken."""

    vllm: VersionRange
    args: dict[str, FlagValue] = {}
    """Keys without the leading dashes: `quantization: fp8`."""
    env: dict[str, str] = {}
    image: str | None = None
    tp: Positive | None = None
    source: str
    note: str = ""


class Derived(Strict):
    """What was computed from `config`, kept in a profile for its reader. Nothing reads it back."""

    family: str | None = None
    total_params: float | None = None
    """Language model, without multi-token-prediction layers."""
    active_params: float | None = None
    kv_bytes_per_token: float | None = None
    """Whole model, 2 bytes a number, nothing replicated, the indexer left out."""
    indexer_bytes_per_token: float | None = None


class ModelProfile(Strict):
    """A model: identity, the Hugging Face config facts that decide its architecture, and how to serve it."""

    name: str
    hf_id: str
    revision: str | None = None
    path: str | None = None
    """A local folder that holds the model, served instead of `hf_id`."""
    gated: bool = False
    trust_remote_code: bool = False
    config: dict[str, Any]
    """Fields of `config.json` (nested text_config and vision_config as they are there)."""
    checkpoint: Checkpoint = Checkpoint()
    precision: str
    """Label of the weights as they run: bf16, fp8, int4, mxfp4."""
    total_params: float | None = None
    active_params: float | None = None
    """Set only where the derivation from `config` cannot know them."""
    tp: Positive = 8
    nodes: Positive = 1
    max_model_len: Positive | None = None
    vocab_size: Positive | None = None
    vllm_min: VersionText | None = None
    """First vLLM version that has the architecture."""
    serve: tuple[ServeVariant, ...] = ()
    sources: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    """Facts that no source confirms."""
    derived: Derived | None = None


# --- hardware


class Gpu(Strict):
    """One GPU. Dense peak FLOP/s per dtype; None where the vendor gives none."""

    name: str
    gfx: str
    hbm_bytes: Positive
    hbm_bytes_per_s: float
    flops: dict[Literal["bf16", "fp16", "fp8", "int8", "fp4"], float]
    link_bytes_per_s: float
    """Usable bytes/s of one GPU-GPU link, one direction."""
    links: Positive
    """Links from one GPU to its peers."""
    power_w: float
    idle_power_w: float | None = None
    host_bytes_per_s: float | None = None
    """Host to GPU, one direction: how fast offloaded KV comes back at best."""
    cache_bytes: float = 0.0
    """Last-level cache: so much may stay from step to step and need not be read from HBM."""


class Hardware(Strict):
    """A node. `gpu` is None for the CPU: the real engine runs there, and no physics is claimed."""

    name: str
    platform: Literal["rocm", "cpu"]
    gpus: int = Field(ge=0)
    gpu: Gpu | None = None
    rocm: VersionText | None = None
    sources: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _gpu_on_rocm(self) -> Hardware:
        if (self.platform == "rocm") != (self.gpu is not None):
            raise ValueError("platform rocm needs a `gpu`, platform cpu has none")
        return self


# --- workloads


class Length(Strict):
    """A token length: fixed, uniform or lognormal."""

    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    mean: Positive
    low: Positive | None = None
    high: Positive | None = None
    sigma: float | None = None
    """Standard deviation of the underlying normal, for lognormal."""

    @model_validator(mode="after")
    def _fits_kind(self) -> Length:
        if self.kind == "uniform" and (self.low is None or self.high is None or self.low > self.high):
            raise ValueError("a uniform length needs `low` <= `high`")
        if self.kind == "lognormal" and not self.sigma:
            raise ValueError("a lognormal length needs `sigma`")
        return self


class Images(Strict):
    """Synthetic images, unique and real files."""

    count: Positive
    width: Positive
    height: Positive
    format: Literal["png", "jpeg"] = "jpeg"


class Dataset(Strict):
    """Prompts from a JSONL file."""

    path: str
    shape: Literal["prompt", "sharegpt", "trace"] = "prompt"
    multi_turn: bool = False


class Workload(Strict):
    """What one request is."""

    name: str
    isl: Length
    """Text tokens of the prompt; image tokens come on top."""
    osl: Length
    images: Images | None = None
    dataset: Dataset | None = None
    api: Literal["auto", "completions", "chat"] = "auto"
    """auto: chat with images, else completions with token ids."""
    shared_prefix_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the prompt that all requests share. 0 unless the prefix cache is what is measured."""
    prompt_pool: Positive | None = None
    """Take prompts (and images) in turn from so many, as harnesses with a fixed list do; None makes each unique."""
    ignore_eos: bool = True
    temperature: float = 0.0
    note: str = ""


# --- sweeps


class ClosedLoop(Strict):
    """N users, each sends its next request when the last has ended."""

    kind: Literal["closed"] = "closed"


class OpenLoop(Strict):
    """Requests sent by the clock. The level of a cell is then the rate in requests/s."""

    kind: Literal["open"]
    arrival: Literal["constant", "poisson", "gamma"] = "poisson"
    burstiness: float = Field(default=1.0, gt=0)
    """Shape of the gamma distribution; 1 is Poisson, lower is burstier."""
    max_in_flight: Positive | None = None


class TraceReplay(Strict):
    """Requests at the timestamps of a JSONL file."""

    kind: Literal["trace"]
    path: str
    speed: float = Field(default=1.0, gt=0)


LoadShape = Annotated[ClosedLoop | OpenLoop | TraceReplay, Field(discriminator="kind")]


class Load(Strict):
    """How a cell is loaded and how long it is measured."""

    shape: LoadShape = ClosedLoop()
    duration_s: float = Field(default=30.0, gt=0)
    """The least length of the measured window."""
    max_duration_s: float = Field(default=1800.0, gt=0)
    min_requests_per_user: float = Field(default=5.0, ge=0)
    max_requests: Positive | None = None
    """Bound by count instead: so many requests in all, as the study did. The row is marked."""
    max_requests_per_user: Positive | None = None
    """With `max_requests`: no more than so many for each user of the level."""
    ramp_s: float | None = Field(default=None, ge=0)
    """Seconds over which users start; None staggers them over about one request's time."""
    wave: bool = False
    """Start all users at once, so that fixed lengths march in one wave."""
    request_timeout_s: float = Field(default=600.0, gt=0)
    transport: Literal["auto", "wire", "aiohttp"] = "auto"
    keep_stamps: bool = False


class Simulation(Strict):
    """Settings of the simulated server. They never touch a real one."""

    efficiency: float | None = Field(default=None, gt=0, le=1)
    """Share of the physical bound that steps reach; None takes the named calibration's."""
    calibration: str = "default"
    noise_cv: float = Field(default=0.0, ge=0)
    """Coefficient of variation of step times."""
    run_cv: float = Field(default=0.0, ge=0)
    """Coefficient of variation of the whole server's speed, drawn anew after each time it was idle."""
    speed: float = Field(default=1.0, gt=0)
    """Divide all step times; for tests."""
    load_s: float = Field(default=1.0, ge=0)
    """Seconds that the model load is made to last."""
    slowdown: float = Field(default=1.0, gt=0)
    """Multiply all step times: a regression, for the gate's tests."""
    faults: dict[str, dict[str, Any]] = {}
    """Faults of each model's server (fields of `rocbench.sim.faults.Faults`), to test what watches servers."""


Aiter = Annotated[Literal["on", "off"] | dict[str, Literal["on", "off"]], Field()]
"""`on`, `off`, or switches by part: `{moe: off, mla: on}`. YAML's bare on/off arrive as booleans."""


class Matrix(Strict):
    """Axes beside model, workload and concurrency: `aiter`, `tp`, `vllm`, or a serve argument's name."""

    product: dict[str, tuple[Any, ...]] = {}
    zip: dict[str, tuple[Any, ...]] = {}
    include: tuple[dict[str, Any], ...] = ()
    exclude: tuple[dict[str, Any], ...] = ()


class SweepModel(Strict):
    """A model of a sweep with its own settings."""

    profile: str
    path: str | None = None
    """A local folder that holds the model, served instead of the profile's `hf_id`."""
    tp: Positive | None = None
    workloads: tuple[str, ...] | None = None
    concurrency: tuple[Positive, ...] | None = None
    rate: tuple[float, ...] | None = None
    serve_args: dict[str, FlagValue] = {}
    env: dict[str, str] = {}
    aiter: Any = None
    vllm: VersionText | None = None


class Server(Strict):
    """How the server is had."""

    kind: Literal["simulated", "process", "container", "attached"] = "simulated"
    command: tuple[str, ...] | None = None
    """The command in place of `vllm` (kind process): an absolute path to an environment's `vllm`."""
    image: str | None = None
    runtime: Literal["docker", "podman"] = "docker"
    base_url: str | None = None
    api_key_env: str | None = None
    """Name of the variable that holds the key. The key itself never stands in a file."""
    ready_timeout_s: float | None = Field(default=None, gt=0)
    dev_mode: bool = True
    """Set VLLM_SERVER_DEV_MODE=1 (loopback only), for the proof after start and cache resets."""
    gpus: tuple[int, ...] | None = None


class Sweep(Strict):
    """A sweep: which models, on what, under which loads."""

    name: str
    vllm: VersionText | None = None
    hardware: str = "mi325x"
    server: Server = Server()
    models: tuple[str | SweepModel, ...]
    workloads: tuple[str, ...] = ()
    concurrency: tuple[Positive, ...] = ()
    """Levels of a closed loop: users."""
    rate: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Levels of an open loop: requests/s."""
    blocks: tuple[Block, ...] = ()
    """Cells with workloads, levels or a load of their own, on the same servers."""
    matrix: Matrix = Matrix()
    aiter: Any = None
    """on, off, or a map of parts; None leaves it to the profile and the rules."""
    serve_args: dict[str, FlagValue] = {}
    env: dict[str, str] = {}
    load: Load = Load()
    repeats: Positive = 1
    until: Until | None = None
    """Go on repeating until the interval is narrow enough."""
    discard_first: bool = False
    """Measure each cell once more after a load, and leave that out of all judgement."""
    restart: Literal["never", "per_repeat", "per_cell"] = "never"
    order: Literal["as_given", "random", "interleaved"] = "as_given"
    factors: dict[str, tuple[Any, ...]] = {}
    design: Literal["full", "one_at_a_time", "leave_one_out", "pairwise"] = "full"
    also_changes: tuple[str, ...] = ()
    """What the arms of `factors` may change beside their factor; anything else that differs stops the plan."""
    slo: Slo = Slo()
    search: Search | None = None
    saturation_gain: Share = 0.05
    """A doubling of the load that brings less throughput than this is past the saturation point."""
    seed: int = 0
    simulation: Simulation = Simulation()
    nightly: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _has_levels(self) -> Sweep:
        for block in self.blocks:
            Load.model_validate(self.load.model_dump() | block.load)
        if self.blocks and all(
            block.workloads and (block.concurrency or block.rate) for block in self.blocks
        ):
            return self
        kind, search = self.load.shape.kind, self.search is not None
        if kind == "closed" and not (self.concurrency or all_have(self.models, "concurrency") or search):
            raise ValueError("a closed loop needs `concurrency`, a list of users, or a `search`")
        if kind == "open" and not (self.rate or all_have(self.models, "rate") or search):
            raise ValueError("an open loop needs `rate`, a list of requests/s, or a `search`")
        if not self.models:
            raise ValueError("`models` is empty")
        if not self.workloads:
            raise ValueError("`workloads` is empty")
        return self

    @model_validator(mode="after")
    def _goals_fit(self) -> Sweep:
        if self.search is not None and self.factors:
            raise ValueError(
                "`search` and `factors` exclude each other: arms are compared at the same levels"
            )
        if self.search is not None and self.load.shape.kind == "trace":
            raise ValueError("a trace has no level to search")
        if self.until is not None and self.until.max < self.repeats:
            raise ValueError("`until.max` is less than `repeats`")
        return self


def all_have(models: tuple[str | SweepModel, ...], field: str) -> bool:
    """Whether every model of a sweep sets `field` for itself."""
    return bool(models) and all(isinstance(m, SweepModel) and getattr(m, field) for m in models)
