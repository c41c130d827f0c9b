"""Sweeps (`configs/sweeps/*.yaml`) as frozen pydantic models. Unknown keys are refused: a misspelt key must not be
ignored. Model and hardware profiles are in `profiles`, workloads in `workloads`; both are re-exported here.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from rocbench import baseurl
from rocbench.errors import InputError
from rocbench.settings import extent, headers
from rocbench.settings.amounts import (
    Factor,
    Gpus,
    Rate,
    Repeats,
    Requests,
    Seconds,
    Seed,
    Users,
    Wait,
)
from rocbench.settings.blocks import Block
from rocbench.settings.goals import Power, Search, Share, Slo, Until
from rocbench.settings.profiles import (
    Checkpoint,
    Derived,
    FlagValue,
    Gpu,
    Hardware,
    ModelProfile,
    Published,
    ServeVariant,
    VersionText,
)
from rocbench.settings.simulation import Assume, Simulation
from rocbench.settings.strict import Command, FolderName, Once, Strict, Variable, Word, variable
from rocbench.settings.workloads import Dataset, Images, Length, Workload

__all__ = [
    "Assume",
    "Checkpoint",
    "Dataset",
    "Derived",
    "FlagValue",
    "Gpu",
    "Hardware",
    "Images",
    "Length",
    "Load",
    "Matrix",
    "ModelProfile",
    "OpenLoop",
    "Published",
    "ServeVariant",
    "Server",
    "Simulation",
    "Strict",
    "Sweep",
    "SweepModel",
    "TraceReplay",
    "VersionText",
    "Workload",
    "check_url",
]


class ClosedLoop(Strict):
    """N users; each sends its next request when the previous one has ended."""

    kind: Literal["closed"] = "closed"
    """Closed loop."""


class OpenLoop(Strict):
    """Requests sent on a schedule. The level of a cell is the rate, in requests/s."""

    kind: Literal["open"]
    """Open loop."""
    arrival: Literal["constant", "poisson", "gamma"] = "poisson"
    """Distribution of the time between requests."""
    burstiness: Factor = 1.0
    """Shape of the gamma distribution: 1 is Poisson, less is burstier."""
    max_in_flight: Users | None = None
    """Maximum number of requests in flight. Further requests wait, and the row reports their lateness."""


class TraceReplay(Strict):
    """Requests sent at the timestamps of a file."""

    kind: Literal["trace"]
    """Trace replay."""
    path: str
    """File with JSON Lines or one JSON array; may be compressed with gzip."""
    unit: Literal["s", "ms"] | None = None
    """Unit of the key `timestamp`. None: milliseconds in the Mooncake format (whole numbers and hash_ids); a file of
    another format is refused."""
    speed: Factor = 1.0
    """Divide all times between requests by this factor."""
    skip_bad: bool = False
    """Skip lines that cannot be used, and report their number. Otherwise such a line stops the plan."""


LoadShape = Annotated[ClosedLoop | OpenLoop | TraceReplay, Field(discriminator="kind")]


class Load(Strict):
    """Load and measured window of a cell."""

    shape: LoadShape = ClosedLoop()
    """Closed loop, open loop or trace."""
    duration_s: Seconds = 30.0
    """Minimum length of the measured window, in seconds."""
    max_duration_s: Seconds = 1800.0
    """Maximum length of the window, and of the warm-up before it, in seconds."""
    min_requests_per_user: float = Field(default=5.0, ge=0, le=1e6)
    """Minimum number of requests per user that begin in the window."""
    max_requests: Requests | None = None
    """Total number of requests; it replaces the duration, as in the study. Rows of such a load are marked."""
    max_requests_per_user: Requests | None = None
    """With `max_requests`: the total is also limited to this number for each user of the level."""
    ramp_s: Wait | None = None
    """Time over which users start, in seconds. None: about the duration of one request."""
    wave: bool = False
    """Start all users at once: with fixed lengths, requests stay in step."""
    max_tail_s: Wait | None = None
    """Maximum time, in seconds, for which the load continues after the window, until the last request of the window has
    ended.
    None: half a window (closed loop: a whole window), and at least the time of a few requests."""
    max_tail_requests: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """Maximum number of requests sent after the window. None: as many as began in the window, or were due in it."""
    max_drain_s: Wait | None = None
    """Maximum time, in seconds, to wait for requests in flight after the last send. Requests that still run then are
    cut off and count as unfinished. None: the length of the window (closed loop: `request_timeout_s`)."""
    request_timeout_s: Seconds = 600.0
    """Maximum time from the send to the last byte, in seconds."""
    transport: Literal["auto", "wire", "aiohttp"] = "auto"
    """HTTP client; wire uses the kernel's timestamps."""
    keep_stamps: bool = False
    """Store the timestamp of every token."""


AXIS_MOST = {"concurrency": 1_000_000, "rate": 1_000_000, "tp": 1024}
"""Maximum value of an axis, as in `amounts`."""
CELL_AXES = ("model", "workload", "concurrency", "rate")
"""Axes of every cell, with or without a matrix."""


class Matrix(Strict):
    """Axes in addition to model, workload and concurrency: `aiter`, `tp`, `vllm`, or the name of a serve argument."""

    product: dict[str, tuple[Any, ...]] = {}
    """Values of each axis; every combination is used."""
    zip: dict[str, tuple[Any, ...]] = {}
    """Values of each axis, in lists of equal length; the first values form one combination, the second the next."""
    include: tuple[dict[str, Any], ...] = ()
    """Additional combinations."""
    exclude: tuple[dict[str, Any], ...] = ()
    """Combinations to leave out. An entry excludes each combination that has all its values."""

    @model_validator(mode="after")
    def _expands(self) -> Matrix:
        for name, values in (self.product | self.zip).items():
            if not values:
                raise ValueError(f"`{'product' if name in self.product else 'zip'}.{name}` has no values")
        if twice := set(self.product) & set(self.zip):
            raise ValueError(f"axis `{min(twice)}` is in both product and zip")
        if len({len(values) for values in self.zip.values()}) > 1:
            lengths = ", ".join(f"{name} {len(values)}" for name, values in self.zip.items())
            raise ValueError(f"the lists of `zip` must have equal lengths: {lengths}")
        return self

    def axes(self) -> dict[str, tuple[Any, ...]]:
        """Return every axis with all its values."""
        axes: dict[str, tuple[Any, ...]] = self.product | self.zip
        for name, value in (item for entry in self.include for item in entry.items()):
            axes[name] = (*axes.get(name, ()), value)
        return axes


class SweepModel(Strict):
    """Model of a sweep with its own settings."""

    profile: str
    """Model profile."""
    path: Word | None = None
    """Local folder of the model, served instead of the profile's `hf_id`."""
    tp: Gpus | None = None
    """Tensor parallel size."""
    workloads: Annotated[tuple[str, ...], Once] | None = None
    """Replaces the sweep's."""
    concurrency: Annotated[tuple[Users, ...], Once] | None = None
    """Replaces the sweep's."""
    rate: Annotated[tuple[Rate, ...], Once] | None = None
    """Replaces the sweep's."""
    serve_args: dict[str, FlagValue] = {}
    """Added to the sweep's."""
    env: dict[Variable, str] = {}
    """Added to the sweep's."""
    aiter: Any = None
    """Replaces the sweep's."""
    vllm: VersionText | None = None
    """Replaces the sweep's."""


class Server(Strict):
    """Server: launched by `bench`, or already running."""

    kind: Literal["simulated", "process", "container", "attached"] = "simulated"
    """Simulated server, `vllm serve` as a process or in a container, or a running server."""
    command: Command | None = None
    """Command to run instead of `vllm` (kind process), for example the absolute path of an environment's `vllm`."""
    image: Word | None = None
    """Container image; replaces the profile's."""
    runtime: Literal["docker", "podman"] = "docker"
    """Container runtime."""
    base_url: str | None = None
    """URL of a running server (kind attached)."""
    api_key_env: str | None = None
    """Name of the environment variable with the API key. The key itself is never written to a file."""
    headers: dict[str, str] = {}
    """Additional headers of every request to a running server; for a secret, name its variable: `{X-Api-Key: $MY_KEY}`."""
    insecure: bool = False
    """Accept any TLS certificate of a running server."""
    ready_timeout_s: Seconds | None = None
    """Maximum time of a server start, in seconds. None: 600 s plus 3 s per billion parameters."""
    dev_mode: bool = True
    """Set VLLM_SERVER_DEV_MODE=1 (loopback only): needed to verify settings after the start, and to reset caches."""
    gpus: tuple[int, ...] | None = None
    """Indices of the GPUs to use. None: free GPUs."""

    @model_validator(mode="after")
    def _fits_kind(self) -> Server:
        if self.kind == "attached" and not self.base_url:
            raise ValueError("`kind: attached` needs `base_url`, the http://HOST:PORT of the running server")
        if self.kind != "attached" and self.base_url:
            raise ValueError(f"`base_url` names a running server: set `kind: attached`, not {self.kind}")
        # A validator of the field would put its value, perhaps a secret, into the message.
        if self.base_url is not None:
            check_url(self.base_url)
        if self.kind != "attached" and (self.headers or self.insecure):
            raise ValueError(
                f"`headers` and `insecure` need a running server (`kind: attached`), not {self.kind}"
            )
        headers.check(self.headers)
        if self.api_key_env and "authorization" in map(str.lower, self.headers):
            raise ValueError("set either `api_key_env` or the header `Authorization`, not both")
        return self


def check_url(url: str) -> None:
    """Raise ValueError if a text is not the URL of a server, or holds a secret, which would be written to plan.json."""
    try:
        baseurl.parse(url)
    except InputError as error:  # without `where`, which shows the URL
        raise ValueError(f"`base_url` {error.what}; {error.fix}") from None


class Sweep(Strict):
    """Sweep: models, hardware and loads."""

    name: FolderName
    """Name of the sweep; part of the run id."""
    vllm: VersionText | None = None
    """vLLM version of the servers; flags are derived for it."""
    hardware: str = "mi325x"
    """Hardware profile."""
    server: Server = Server()
    """How each server runs: started by `bench`, or already running."""
    models: Annotated[tuple[str | SweepModel, ...], Once]
    """Model profiles, or entries with their own settings."""
    workloads: Annotated[tuple[str, ...], Once] = ()
    """Workloads."""
    concurrency: Annotated[tuple[Users, ...], Once] = ()
    """Levels of a closed loop: users."""
    rate: Annotated[tuple[Rate, ...], Once] = ()
    """Levels of an open loop: requests/s."""
    blocks: tuple[Block, ...] = ()
    """Cells with other workloads, levels or load, on the same servers. At least one block must use the sweep's levels."""
    matrix: Matrix = Matrix()
    """Further axes; each combination of their values needs its own server."""
    aiter: Any = None
    """on, off, or a map of parts (`{moe: off, mla: on}`). None: profile and rules decide."""
    serve_args: dict[str, FlagValue] = {}
    """Flags of every server, without dashes; they override profile and rules."""
    env: dict[Variable, str] = {}
    """Environment variables of every server."""
    load: Load = Load()
    """Load of each cell."""
    repeats: Repeats = 1
    """Number of measurements of each cell."""
    until: Until | None = None
    """Repeat each cell until the confidence interval of its mean is narrow enough."""
    retries: Annotated[int, Field(ge=0, le=10_000, validation_alias=AliasChoices("retries", "again"))] = 0
    """Maximum number of retries in the run. A measurement that this machine disturbed is retried immediately. Old name:
    `again`."""
    discard_first: bool = False
    """After each server start, measure each cell one additional time before its repeats, and discard this measurement."""
    restart: Literal["never", "per_repeat", "per_cell"] = "never"
    """When a server is restarted between repeats."""
    order: Literal["as_given", "random", "interleaved"] = "as_given"
    """Order of the cells on a server; interleaved reverses the order in every second repeat."""
    factors: dict[str, tuple[Any, ...]] = {}
    """Factors of an ablation, each with a list of levels; the first level is the base."""
    design: Literal["full", "one_at_a_time", "leave_one_out", "pairwise"] = "full"
    """Combinations of the factors to run."""
    also_changes: tuple[str, ...] = ()
    """Settings that may differ between arms in addition to their factor; any other difference stops the plan."""
    slo: Slo = Slo()
    """Limits for goodput."""
    search: Search | None = None
    """Find the highest load that meets limits."""
    power: Power = Power()
    """The change that the repeats should tell."""
    saturation_gain: Share = 0.05
    """Minimum gain in throughput when the load doubles; with a smaller gain, the load is past the saturation point."""
    seed: Seed = 0
    """Seed of prompts, order and arrivals."""
    assume: Assume = Assume()
    """Assumptions of the plan's time estimate."""
    simulation: Simulation = Simulation()
    """Settings of the simulated server."""
    nightly: bool = False
    """Refuse to start on a node that fails `bench doctor`."""
    note: str = ""
    """Note for readers of the file."""

    @model_validator(mode="after")
    def _has_levels(self) -> Sweep:
        loads = [Load.model_validate(self.load.model_dump() | block.load) for block in self.blocks]
        kinds = {"concurrency": "closed", "rate": "open"}
        for name, kind in kinds.items() if self.blocks else ():
            used = any(
                load.shape.kind == kind and not getattr(block, name)
                for block, load in zip(self.blocks, loads, strict=True)
            )
            if getattr(self, name) and not used:
                raise ValueError(
                    f"no block uses the sweep's `{name}`: each block sets its own `{name}` or has a kind of load without `{name}`. "
                    f"Remove the sweep's `{name}`, or add the block `- {{{name}: {list(getattr(self, name))}}}`"
                )
        if self.blocks and all(
            block.workloads and (block.concurrency or block.rate) for block in self.blocks
        ):
            return self
        kind, search = self.load.shape.kind, self.search is not None
        if kind == "closed" and not (self.concurrency or _all_set(self.models, "concurrency") or search):
            raise ValueError("a closed loop needs `concurrency`, a list of users, or a `search`")
        if kind == "open" and not (self.rate or _all_set(self.models, "rate") or search):
            raise ValueError("an open loop (`load.shape`) needs `rate`, a list of requests/s, or a `search`")
        if not self.models:
            raise ValueError("`models` is empty")
        if not self.workloads:
            raise ValueError("`workloads` is empty")
        for name, needed in kinds.items() if not self.blocks else ():
            given = getattr(self, name) or any(getattr(model, name, None) for model in self.models)
            if given and kind != needed:
                raise ValueError(
                    f"`{name}` needs {'an open' if needed == 'open' else 'a closed'} loop, but `load.shape` is "
                    f"{kind}: remove `{name}`, or change `load.shape`"
                )
        return self

    @model_validator(mode="after")
    def _axes_exist(self) -> Sweep:
        if "model" in self.matrix.product | self.matrix.zip | self.factors:
            raise ValueError("`model` is not an axis: list models under `models`")
        axes = {"matrix": self.matrix.axes(), "factors": self.factors}
        for where, name, values in ((w, n, v) for w, named in axes.items() for n, v in named.items()):
            if name.startswith("env."):
                variable(name.removeprefix("env."))
            for value in values:
                if expected := _expected_by_axis(name, value):
                    raise ValueError(f"`{where}`: axis {name!r} needs {expected}, not {value!r}")
        known = {*axes["matrix"], *axes["factors"], *CELL_AXES}
        for name in (name for entry in self.matrix.exclude for name in entry):
            if name not in known:
                raise ValueError(
                    f"`matrix.exclude` names {name!r}, which is not an axis of this sweep; its axes are {', '.join(sorted(known))}"
                )
        return self

    @model_validator(mode="after")
    def _goals_fit(self) -> Sweep:
        if self.search is not None and self.factors:
            raise ValueError(
                "`search` and `factors` cannot be combined: arms are compared at the same levels, but a search chooses levels"
            )
        if self.search is not None and self.load.shape.kind == "trace":
            raise ValueError("a trace has no levels to search")
        if self.until is not None and self.until.max < self.repeats:
            raise ValueError("`until.max` must be at least `repeats`")
        if self.until is not None and self.until.told is not None and not self.factors:
            raise ValueError("`until.told` needs `factors`: it repeats the arms of an ablation")
        extent.check(self)
        return self


def _expected_by_axis(axis: str, value: Any) -> str:
    """Return the values that an axis accepts, if this is not one of them; else an empty text."""
    most = AXIS_MOST.get(axis, math.inf)
    number = not isinstance(value, bool) and isinstance(value, int | float) and 0 < value <= most
    match axis:
        case "concurrency" | "tp" if not (number and isinstance(value, int)):
            return f"whole numbers from 1 to {most:,}"
        case "rate" if not number:
            return f"numbers above 0 and up to {most:,}"
        case "workload" if not isinstance(value, str):
            return "names of workloads"
    return ""


def _all_set(models: tuple[str | SweepModel, ...], field: str) -> bool:
    """Return True if every model of a sweep sets a field itself."""
    return bool(models) and all(isinstance(m, SweepModel) and getattr(m, field) for m in models)
