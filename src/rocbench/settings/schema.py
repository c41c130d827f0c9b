"""The YAML files as frozen pydantic models. Unknown keys are refused: a misspelt key would be lost silently.

A model profile (`configs/models/*.yaml`) says what a model is and how it is served per vLLM version, a hardware
profile (`configs/hardware/*.yaml`) what a GPU can do (both in `profiles`). A workload (`configs/workloads/*.yaml`) says
what a request is (`workloads`). A sweep (`configs/sweeps/*.yaml`) ties them.
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
from rocbench.settings.goals import Search, Share, Slo, Until
from rocbench.settings.profiles import (
    Checkpoint,
    Derived,
    FlagValue,
    Gpu,
    Hardware,
    ModelProfile,
    ServeVariant,
    VersionText,
)
from rocbench.settings.simulation import Assume, Simulation
from rocbench.settings.strict import Command, FolderName, Once, Strict, Variable, Word, variable
from rocbench.settings.workloads import Dataset, Images, Length, Workload

__all__ = [
    "Aiter",
    "Assume",
    "Block",
    "Checkpoint",
    "ClosedLoop",
    "Dataset",
    "Derived",
    "FlagValue",
    "Gpu",
    "Hardware",
    "Images",
    "Length",
    "Load",
    "LoadShape",
    "Matrix",
    "ModelProfile",
    "OpenLoop",
    "Search",
    "ServeVariant",
    "Server",
    "Simulation",
    "Slo",
    "Strict",
    "Sweep",
    "SweepModel",
    "TraceReplay",
    "Until",
    "VersionText",
    "Workload",
    "all_have",
    "check_url",
]


class ClosedLoop(Strict):
    """N users, each sends its next request when the last has ended."""

    kind: Literal["closed"] = "closed"
    """Closed loop."""


class OpenLoop(Strict):
    """Requests sent by the clock. The level of a cell is then the rate in requests/s."""

    kind: Literal["open"]
    """Open loop."""
    arrival: Literal["constant", "poisson", "gamma"] = "poisson"
    """Distribution of the gaps between sends."""
    burstiness: Factor = 1.0
    """Shape of the gamma distribution; 1 is Poisson, lower is burstier."""
    max_in_flight: Users | None = None
    """Requests due beyond it wait; their lateness is in the row."""


class TraceReplay(Strict):
    """Requests at the timestamps of a file."""

    kind: Literal["trace"]
    """Requests at given times."""
    path: str
    """JSON Lines, or one JSON array; may be packed with gzip."""
    unit: Literal["s", "ms"] | None = None
    """Of a bare `timestamp`. None takes milliseconds in Mooncake's form (whole numbers beside hash_ids), and refuses
    any other."""
    speed: Factor = 1.0
    """Divide all gaps."""
    skip_bad: bool = False
    """Leave out lines that cannot be used; how many is told. Else one of them stops the plan."""


LoadShape = Annotated[ClosedLoop | OpenLoop | TraceReplay, Field(discriminator="kind")]


class Load(Strict):
    """How a cell is loaded and how long it is measured."""

    shape: LoadShape = ClosedLoop()
    """Closed loop, open loop or trace."""
    duration_s: Seconds = 30.0
    """The least length of the measured window."""
    max_duration_s: Seconds = 1800.0
    """The greatest length of the window, and of the warm-up before it."""
    min_requests_per_user: float = Field(default=5.0, ge=0, le=1e6)
    """The window goes on until so many requests a user began in it."""
    max_requests: Requests | None = None
    """Bound by count instead: so many requests in all, as the study did. The row is marked."""
    max_requests_per_user: Requests | None = None
    """With `max_requests`: no more than so many for each user of the level."""
    ramp_s: Wait | None = None
    """Seconds over which users start; None staggers them over about one request's time."""
    wave: bool = False
    """Start all users at once, so that fixed lengths march in one wave."""
    max_tail_s: Wait | None = None
    """Maximum time, in seconds, for which the load is kept up after the window until its last request has ended.
    None: half a window (closed loop: a whole one), and at least the time of a few requests."""
    max_tail_requests: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """Maximum number of requests sent in that time. None: as many as come, or began, in the window."""
    max_drain_s: Wait | None = None
    """Maximum time, in seconds, to wait for requests in flight once nothing new is sent; what is left is cut and
    counted as unfinished. None: a window (closed loop: as long as a request may take)."""
    request_timeout_s: Seconds = 600.0
    """From the send to the last byte."""
    transport: Literal["auto", "wire", "aiohttp"] = "auto"
    """Who reads the socket; wire has the kernel's stamps."""
    keep_stamps: bool = False
    """Keep every token's stamp."""


Aiter = Annotated[Literal["on", "off"] | dict[str, Literal["on", "off"]], Field()]
"""`on`, `off`, or switches by part: `{moe: off, mla: on}`. YAML's bare on/off arrive as booleans."""


AXIS_MOST = {"concurrency": 1_000_000, "rate": 1_000_000, "tp": 1024}
"""Of an axis as of the setting of its name (`amounts`)."""
CELL_AXES = ("model", "workload", "concurrency", "rate")
"""Axes that every cell has, whatever the matrix."""


class Matrix(Strict):
    """Axes beside model, workload and concurrency: `aiter`, `tp`, `vllm`, or a serve argument's name."""

    product: dict[str, tuple[Any, ...]] = {}
    """Axis to values; every combination."""
    zip: dict[str, tuple[Any, ...]] = {}
    """Axis to values of equal number; taken together, one by one."""
    include: tuple[dict[str, Any], ...] = ()
    """Combinations beside these."""
    exclude: tuple[dict[str, Any], ...] = ()
    """Combinations left out: those that have all of an entry's values."""

    @model_validator(mode="after")
    def _expands(self) -> Matrix:
        for name, values in (self.product | self.zip).items():
            if not values:
                raise ValueError(f"`{'product' if name in self.product else 'zip'}.{name}` has no values")
        if twice := set(self.product) & set(self.zip):
            raise ValueError(f"axis `{min(twice)}` stands in both product and zip")
        if len({len(values) for values in self.zip.values()}) > 1:
            lengths = ", ".join(f"{name} {len(values)}" for name, values in self.zip.items())
            raise ValueError(f"`zip` takes its lists together, but their lengths differ: {lengths}")
        return self

    def axes(self) -> dict[str, tuple[Any, ...]]:
        """Every axis with all its values."""
        found: dict[str, tuple[Any, ...]] = self.product | self.zip
        for name, value in (item for entry in self.include for item in entry.items()):
            found[name] = (*found.get(name, ()), value)
        return found


class SweepModel(Strict):
    """A model of a sweep with its own settings."""

    profile: str
    """Name of the model profile."""
    path: Word | None = None
    """A local folder that holds the model, served instead of the profile's `hf_id`."""
    tp: Gpus | None = None
    """Tensor parallel size."""
    workloads: Annotated[tuple[str, ...], Once] | None = None
    """In place of the sweep's."""
    concurrency: Annotated[tuple[Users, ...], Once] | None = None
    """In place of the sweep's."""
    rate: Annotated[tuple[Rate, ...], Once] | None = None
    """In place of the sweep's."""
    serve_args: dict[str, FlagValue] = {}
    """On top of the sweep's."""
    env: dict[Variable, str] = {}
    """On top of the sweep's."""
    aiter: Any = None
    """In place of the sweep's."""
    vllm: VersionText | None = None
    """In place of the sweep's."""


class Server(Strict):
    """How the server is had."""

    kind: Literal["simulated", "process", "container", "attached"] = "simulated"
    """Simulated, `vllm serve` as a process or in a container, or one that runs already."""
    command: Command | None = None
    """The command in place of `vllm` (kind process): an absolute path to an environment's `vllm`."""
    image: Word | None = None
    """Container image, in place of the profile's."""
    runtime: Literal["docker", "podman"] = "docker"
    """Who runs containers."""
    base_url: str | None = None
    """Of a running server (kind attached)."""
    api_key_env: str | None = None
    """Name of the variable that holds the key. The key itself never stands in a file."""
    headers: dict[str, str] = {}
    """Further headers of every request to a running server; a secret by its variable: `{X-Api-Key: $MY_KEY}`."""
    insecure: bool = False
    """Take any TLS certificate of a running server."""
    ready_timeout_s: Seconds | None = None
    """None allows 600 s and 3 s a billion parameters."""
    dev_mode: bool = True
    """Set VLLM_SERVER_DEV_MODE=1 (loopback only), for the proof after start and cache resets."""
    gpus: tuple[int, ...] | None = None
    """Indices of the GPUs to use; None takes free ones."""

    @model_validator(mode="after")
    def _is_somewhere(self) -> Server:
        if self.kind == "attached" and not self.base_url:
            raise ValueError("`kind: attached` needs `base_url`, http://HOST:PORT of the running server")
        if self.kind != "attached" and self.base_url:
            raise ValueError(
                f"`base_url` is of a server that runs already: set `kind: attached`, not {self.kind}"
            )
        # Of the whole, not of the field: a field's value would stand in the message.
        if self.base_url is not None:
            check_url(self.base_url)
        if self.kind != "attached" and (self.headers or self.insecure):
            raise ValueError(
                f"`headers` and `insecure` are of a server that runs already, not of kind {self.kind}"
            )
        headers.check(self.headers)
        if self.api_key_env and "authorization" in map(str.lower, self.headers):
            raise ValueError("`api_key_env` and the header `Authorization` exclude each other")
        return self


def check_url(url: str) -> None:
    """Raise ValueError if it is not the URL of a server, or holds a secret, which would be in plan.json."""
    try:
        baseurl.parse(url)
    except InputError as error:  # without its place, which shows the URL
        raise ValueError(f"`base_url` {error.what}; {error.fix}") from None


class Sweep(Strict):
    """A sweep: which models, on what, under which loads."""

    name: FolderName
    """Becomes part of the run id."""
    vllm: VersionText | None = None
    """Version that the servers have; flags are derived for it."""
    hardware: str = "mi325x"
    """Hardware profile."""
    server: Server = Server()
    """How servers are had."""
    models: Annotated[tuple[str | SweepModel, ...], Once]
    """Names of profiles, or entries with settings of their own."""
    workloads: Annotated[tuple[str, ...], Once] = ()
    """Names of workloads."""
    concurrency: Annotated[tuple[Users, ...], Once] = ()
    """Levels of a closed loop: users."""
    rate: Annotated[tuple[Rate, ...], Once] = ()
    """Levels of an open loop: requests/s."""
    blocks: tuple[Block, ...] = ()
    """Cells with workloads, levels or a load of their own, on the same servers; some block takes the sweep's levels."""
    matrix: Matrix = Matrix()
    """Further axes: each combination is a server."""
    aiter: Any = None
    """on, off, or a map of parts; None leaves it to the profile and the rules."""
    serve_args: dict[str, FlagValue] = {}
    """Flags of every server, without dashes; they win over profile and rules."""
    env: dict[Variable, str] = {}
    """Environment variables of every server."""
    load: Load = Load()
    """How long and in what shape each cell is loaded."""
    repeats: Repeats = 1
    """Measurements of each cell."""
    until: Until | None = None
    """Go on repeating until the interval is narrow enough."""
    retries: Annotated[int, Field(ge=0, le=10_000, validation_alias=AliasChoices("retries", "again"))] = 0
    """Measurements of the run that may be repeated at once because this machine disturbed them. Old name: `again`."""
    discard_first: bool = False
    """Measure each cell again after a load, and leave that out of all judgement."""
    restart: Literal["never", "per_repeat", "per_cell"] = "never"
    """When a server is started anew between repeats."""
    order: Literal["as_given", "random", "interleaved"] = "as_given"
    """Of the cells on a server; interleaved reverses every second repeat."""
    factors: dict[str, tuple[Any, ...]] = {}
    """What an ablation switches: name to levels, the base first."""
    design: Literal["full", "one_at_a_time", "leave_one_out", "pairwise"] = "full"
    """Which combinations of the factors run."""
    also_changes: tuple[str, ...] = ()
    """What the arms of `factors` may change beside their factor; anything else that differs stops the plan."""
    slo: Slo = Slo()
    """Limits for goodput."""
    search: Search | None = None
    """Look for the highest load that meets limits."""
    saturation_gain: Share = 0.05
    """A doubling of the load that brings less throughput than this is past the saturation point."""
    seed: Seed = 0
    """Of prompts, order and arrivals."""
    assume: Assume = Assume()
    """What the plan's time estimate assumes."""
    simulation: Simulation = Simulation()
    """Settings of the simulated server."""
    nightly: bool = False
    """Refuse to start on a node that fails its doctor."""
    note: str = ""
    """For its reader."""

    @model_validator(mode="after")
    def _has_levels(self) -> Sweep:
        loads = [Load.model_validate(self.load.model_dump() | block.load) for block in self.blocks]
        takers = {"concurrency": "closed", "rate": "open"}
        for name, kind in takers.items() if self.blocks else ():
            taken = any(
                load.shape.kind == kind and not getattr(block, name)
                for block, load in zip(self.blocks, loads, strict=True)
            )
            if getattr(self, name) and not taken:
                raise ValueError(
                    f"no block takes the sweep's `{name}`: each has its own, or another load. Leave it out, or add the "
                    f"block `- {{{name}: {list(getattr(self, name))}}}`"
                )
        if self.blocks and all(
            block.workloads and (block.concurrency or block.rate) for block in self.blocks
        ):
            return self
        kind, search = self.load.shape.kind, self.search is not None
        if kind == "closed" and not (self.concurrency or all_have(self.models, "concurrency") or search):
            raise ValueError("a closed loop needs `concurrency`, a list of users, or a `search`")
        if kind == "open" and not (self.rate or all_have(self.models, "rate") or search):
            raise ValueError("an open loop (`load.shape`) needs `rate`, a list of requests/s, or a `search`")
        if not self.models:
            raise ValueError("`models` is empty")
        if not self.workloads:
            raise ValueError("`workloads` is empty")
        for name, taker in takers.items() if not self.blocks else ():
            given = getattr(self, name) or any(getattr(model, name, None) for model in self.models)
            if given and kind != taker:
                raise ValueError(
                    f"`{name}` is of {'an open' if taker == 'open' else 'a closed'} loop, but `load.shape` is "
                    f"{kind}: leave one of them out"
                )
        return self

    @model_validator(mode="after")
    def _axes_exist(self) -> Sweep:
        if "model" in self.matrix.product | self.matrix.zip | self.factors:
            raise ValueError("`model` is no axis: `models` lists them")
        axes = {"matrix": self.matrix.axes(), "factors": self.factors}
        for where, name, values in ((w, n, v) for w, found in axes.items() for n, v in found.items()):
            if name.startswith("env."):
                variable(name.removeprefix("env."))
            for value in values:
                if noun := _not_of_axis(name, value):
                    raise ValueError(f"`{where}`: axis {name!r} takes {noun}, not {value!r}")
        known = {*axes["matrix"], *axes["factors"], *CELL_AXES}
        for name in (name for entry in self.matrix.exclude for name in entry):
            if name not in known:
                raise ValueError(
                    f"`matrix.exclude` names {name!r}, which is no axis here: {', '.join(sorted(known))}"
                )
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
        extent.check(self)
        return self


def _not_of_axis(axis: str, value: Any) -> str:
    """What an axis takes, where the value is none of it."""
    most = AXIS_MOST.get(axis, math.inf)
    number = not isinstance(value, bool) and isinstance(value, int | float) and 0 < value <= most
    match axis:
        case "concurrency" | "tp" if not (number and isinstance(value, int)):
            return f"whole numbers from 1 to {most:,}"
        case "rate" if not number:
            return f"numbers above 0, to {most:,}"
        case "workload" if not isinstance(value, str):
            return "names of workloads"
    return ""


def all_have(models: tuple[str | SweepModel, ...], field: str) -> bool:
    """Whether every model of a sweep sets `field` for itself."""
    return bool(models) and all(isinstance(m, SweepModel) and getattr(m, field) for m in models)
