"""The parts of a plan: cells, groups, launches, runs. Values only; `expand` makes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from rocbench.plan.estimate import NOTHING_KNOWN, Estimate
from rocbench.rules.resolve import Resolution
from rocbench.rules.versions import Range
from rocbench.settings.schema import Hardware, Load, ModelProfile, Sweep, Workload

Axes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Level:
    """The load axis of a cell: users (closed loop), requests/s (open loop), or neither (trace)."""

    concurrency: int | None = None
    rate: float | None = None

    @property
    def label(self) -> str:
        """`c64`, `r8.5` or `trace`."""
        if self.concurrency is not None:
            return f"c{self.concurrency}"
        return f"r{self.rate:g}" if self.rate is not None else "trace"


@dataclass(frozen=True, slots=True)
class Cell:
    """One server x workload x level."""

    cell_id: str
    """12 hex digits of the hash of everything that decides the cell."""
    key: str
    """`MODEL/WORKLOAD/LEVEL` with the axes that vary, for readers and for --only."""
    workload: Workload
    level: Level
    load: Load
    estimate: Estimate = NOTHING_KNOWN


@dataclass(frozen=True, slots=True)
class Group:
    """One server configuration and its cells."""

    server_id: str
    model: str
    profile: ModelProfile | None
    """None for a running server of a model without a profile."""
    hardware: Hardware | None
    vllm: str | None
    axes: dict[str, Any]
    resolution: Resolution | None
    """None if bench does not start the server."""
    cells: tuple[Cell, ...]
    searches: tuple[Workload, ...] = ()
    """Workloads whose maximum load is searched for; the search adds their cells while it measures."""

    def image(self, sweep: Sweep) -> str | None:
        """Return the container image: the sweep's, else the one that the profile names for this version."""
        if sweep.server.image or self.profile is None or self.vllm is None:
            return sweep.server.image
        entries = (e for e in self.profile.serve if Range.parse(e.vllm).holds(self.vllm))
        return next((entry.image for entry in entries if entry.image), None)


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: a cell and its repeat, counted from 1."""

    cell: Cell
    repeat: int
    discarded: bool = False
    """True for the first measurement after a load, which judgement ignores."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a server and the runs made on it."""

    group: Group
    runs: tuple[Run, ...]
    searches: tuple[Workload, ...] = ()
    """Searches made after the runs."""


@dataclass(frozen=True, slots=True)
class PlanFault:
    """A fault that stops the plan."""

    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Skip:
    """A skipped cell, and the reason."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Sources:
    """The profiles that a sweep names, already read: plan.expand reads no files."""

    models: Mapping[str, ModelProfile]
    workloads: Mapping[str, Workload]
    hardware: Hardware | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The servers and runs of a sweep."""

    sweep: Sweep
    sources: Sources
    groups: tuple[Group, ...]
    launches: tuple[Launch, ...]
    faults: tuple[PlanFault, ...] = ()
    skipped: tuple[Skip, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes for the reader."""

    @property
    def runs(self) -> int:
        """Number of measurements; those of a search are not included."""
        return sum(len(launch.runs) for launch in self.launches)

    @property
    def estimate_s(self) -> float | None:
        """Node time of all launches, loads and measurements; None where a part is not known."""
        if any(launch.searches for launch in self.launches):
            return None
        total = 0.0
        for launch in self.launches:
            load_s = _load_s(self.sweep, launch.group)
            times = [run.cell.estimate.duration_s for run in launch.runs]
            if load_s is None or any(time is None for time in times):
                return None
            total += load_s + sum(time for time in times if time is not None)
        return total


def _load_s(sweep: Sweep, group: Group) -> float | None:
    """Seconds of a start: as set for the simulated server, none for a running one, else from the weights."""
    match sweep.server.kind:
        case "simulated":
            return sweep.simulation.load_s + 2.0
        case "attached":
            return 0.0
        case _:
            return group.cells[0].estimate.server_load_s if group.cells else None


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values from the command line that override the YAML."""

    vllm: str | None = None
    hardware: str | None = None
    tp: Annotated[int, Field(ge=1, le=1024)] | None = None
    aiter: Any = None
    args: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    force: bool = False
    only: str | None = None
