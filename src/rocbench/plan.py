"""Sweep -> Plan: every server and cell in order, with stable ids and every fault at once. Pure.

A *group* is one server configuration with all its cells. A *launch* is one start of a group's server and the
runs (cell and repeat) made on it, in order: restarts, interleaving and ablation blocks are all lists of launches.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rocbench import ablate
from rocbench.errors import BenchError, ConfigError
from rocbench.estimate import NOTHING_KNOWN, Estimate, estimate
from rocbench.rules.resolve import Resolution, ServeRequest, resolve
from rocbench.server.redact import masked_environment
from rocbench.settings import matrix
from rocbench.settings.schema import (
    Hardware,
    Load,
    ModelProfile,
    Repeats,
    Sweep,
    SweepModel,
    Workload,
)

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
    """`MODEL/WORKLOAD/LEVEL` with the axes that vary, for people and for --only."""
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
    """None where the server is not ours to start."""
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: a cell and which repeat it is, counted from 1."""

    cell: Cell
    repeat: int
    discarded: bool = False
    """The first measurement after a load, kept apart from all judgement."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a server and the runs made on it."""

    group: Group
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that stops the plan."""

    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Skip:
    """A cell left out, and why."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Sources:
    """The profiles a sweep names, already read: plan.expand reads no files."""

    models: Mapping[str, ModelProfile]
    workloads: Mapping[str, Workload]
    hardware: Hardware | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep will do."""

    sweep: Sweep
    sources: Sources
    groups: tuple[Group, ...]
    launches: tuple[Launch, ...]
    faults: tuple[Fault, ...] = ()
    skipped: tuple[Skip, ...] = ()

    @property
    def runs(self) -> int:
        """Measurements in all."""
        return sum(len(launch.runs) for launch in self.launches)

    @property
    def estimate_s(self) -> float | None:
        """Node time of all launches, loads and measurements; None where nothing is known of some cell."""
        total = 0.0
        for launch in self.launches:
            load_s = _load_s(self.sweep, launch.group)
            times = [run.cell.estimate.duration_s for run in launch.runs]
            if load_s is None or any(time is None for time in times):
                return None
            total += load_s + sum(time for time in times if time is not None)
        return total


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line sets above the YAML."""

    vllm: str | None = None
    hardware: str | None = None
    tp: int | None = None
    aiter: Any = None
    args: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    force: bool = False
    only: str | None = None


def expand(sweep: Sweep, sources: Sources, overrides: Overrides | None = None) -> Plan:
    """The whole plan; faults are collected, not raised, so that a user sees all at once."""
    overrides = overrides or Overrides()
    groups: list[Group] = []
    faults: list[Fault] = []
    skipped: list[Skip] = []
    for entry in sweep.models:
        model = entry if isinstance(entry, SweepModel) else SweepModel(profile=entry)
        for axes in _axes(sweep, model):
            try:
                group = _group(sweep, sources, overrides, model, axes, len(groups), skipped)
            except BenchError as error:
                faults.append(Fault(_name(model.profile, axes), error.text()))
                continue
            if not group.cells:
                continue
            if group.resolution is not None and not overrides.force:
                faults += [
                    Fault(
                        _name(model.profile, axes), f"{f.message} [rule {f.rule}; {f.source}]\n  fix: {f.fix}"
                    )
                    for f in group.resolution.contradictions
                ]
            groups.append(group)
    if not groups and not faults:
        faults.append(Fault(sweep.name, _nothing_left(overrides.only, skipped)))
    return Plan(sweep, sources, tuple(groups), tuple(_launches(sweep, groups)), tuple(faults), tuple(skipped))


def _nothing_left(only: str | None, skipped: list[Skip]) -> str:
    if only:
        return f"no cell matches --only {only!r}"
    return "no cell is left: " + "; ".join(f"{s.key}: {s.reason}" for s in skipped[:3])


def _axes(sweep: Sweep, model: SweepModel) -> list[Axes]:
    """Axis combinations of one model: the matrix, times the ablation's arms, plus `include`."""
    arms = ablate.arms(sweep.factors, sweep.design) if sweep.factors else [{}]
    combined: list[Axes] = [dict(axes) | dict(arm) for axes in matrix.expand(sweep.matrix) for arm in arms]
    combined += [
        entry for entry in sweep.matrix.include if entry.get("model", model.profile) == model.profile
    ]
    return combined


_CELL_AXES = ("model", "workload", "concurrency", "rate")


def _group(
    sweep: Sweep,
    sources: Sources,
    overrides: Overrides,
    model: SweepModel,
    axes: Axes,
    index: int,
    skipped: list[Skip],
) -> Group:
    server_axes = {name: value for name, value in axes.items() if name not in _CELL_AXES}
    profile = sources.models.get(model.profile)
    vllm = overrides.vllm or _text(server_axes.get("vllm")) or model.vllm or sweep.vllm
    resolution = None
    if profile is not None and sources.hardware is not None and sweep.server.kind != "attached":
        resolution = resolve(_request(sweep, profile, sources.hardware, vllm, overrides, model, server_axes))
    group = Group(
        server_id=f"{index + 1:02d}-{_slug(_name(model.profile, server_axes))}",
        model=model.profile,
        profile=profile,
        hardware=sources.hardware,
        vllm=vllm,
        axes=server_axes,
        resolution=resolution,
        cells=(),
    )
    return replace(group, cells=tuple(_cells(sweep, sources, overrides, model, axes, group, skipped)))


def _load_s(sweep: Sweep, group: Group) -> float | None:
    """Seconds a start takes: as told for the simulated server, none for a running one, else from the weights."""
    match sweep.server.kind:
        case "simulated":
            return sweep.simulation.load_s + 2.0
        case "attached":
            return 0.0
        case _:
            return group.cells[0].estimate.server_load_s if group.cells else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _request(
    sweep: Sweep,
    profile: ModelProfile,
    hardware: Hardware,
    vllm: str | None,
    overrides: Overrides,
    model: SweepModel,
    axes: Axes,
) -> ServeRequest:
    """Everything that decides the flags. Later wins: sweep, model entry, axis, command line."""
    axis_env = {name[4:]: str(value) for name, value in axes.items() if name.startswith("env.")}
    axis_args = {
        name: value
        for name, value in axes.items()
        if name not in ("aiter", "tp", "vllm") and not name.startswith("env.")
    }
    return ServeRequest(
        profile=profile,
        hardware=hardware,
        vllm=vllm,
        tp=overrides.tp or axes.get("tp") or model.tp,
        aiter=next(
            (v for v in (overrides.aiter, axes.get("aiter"), model.aiter, sweep.aiter) if v is not None), None
        ),
        user_args=_flags(sweep.serve_args, model.serve_args, axis_args, overrides.args),
        user_env=dict(sweep.env) | dict(model.env) | axis_env | overrides.env,
        nodes=profile.nodes,
        force=overrides.force,
    )


def _flags(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge flag layers; `block_size`, `block-size` and `--block-size` are one flag."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= {name.lstrip("-").replace("_", "-"): value for name, value in layer.items()}
    return merged


def _cells(
    sweep: Sweep,
    sources: Sources,
    overrides: Overrides,
    model: SweepModel,
    axes: Axes,
    group: Group,
    skipped: list[Skip],
) -> Iterable[Cell]:
    names = [axes["workload"]] if "workload" in axes else list(model.workloads or sweep.workloads)
    for name in names:
        workload = sources.workloads[name]
        for level in _levels(sweep, model, axes):
            key = "/".join([_name(model.profile, group.axes), workload.name, level.label])
            facts = dict(group.axes) | {
                "model": model.profile,
                "workload": name,
                "concurrency": level.concurrency,
                "rate": level.rate,
            }
            if matrix.excluded(sweep.matrix, facts) or not _selected(overrides.only, key):
                continue
            reason = _cannot_run(group, workload)
            if reason:
                skipped.append(Skip(key, reason))
                continue
            cell = Cell(_identity(sweep, group, workload, level), key, workload, level, sweep.load)
            if group.resolution is not None and group.profile is not None and group.hardware is not None:
                found = estimate(
                    group.profile,
                    group.hardware,
                    group.resolution,
                    workload,
                    sweep.load,
                    concurrency=level.concurrency,
                    rate=level.rate,
                )
                if found.cannot_fit:
                    skipped.append(Skip(key, found.cannot_fit))
                    continue
                cell = replace(cell, estimate=found)
            yield cell


def _levels(sweep: Sweep, model: SweepModel, axes: Axes) -> list[Level]:
    match sweep.load.shape.kind:
        case "closed":
            users = (
                [axes["concurrency"]] if "concurrency" in axes else (model.concurrency or sweep.concurrency)
            )
            return [Level(concurrency=int(n)) for n in users]
        case "open":
            rates = [axes["rate"]] if "rate" in axes else (model.rate or sweep.rate)
            return [Level(rate=float(r)) for r in rates]
        case _:
            return [Level()]


def _cannot_run(group: Group, workload: Workload) -> str | None:
    """Why a cell makes no sense on this server, or None."""
    if group.profile is not None and workload.images and "vision_config" not in group.profile.config:
        return "the model takes no images"
    if group.resolution is not None:
        limit = _flag(group.resolution, "--max-model-len")
        need = (workload.isl.high or workload.isl.mean) + (workload.osl.high or workload.osl.mean)
        if isinstance(limit, int) and need > limit:
            return f"ISL + OSL = {need} tokens is more than --max-model-len {limit}"
    return None


def _flag(resolution: Resolution, name: str) -> Any:
    return next((entry.value for entry in resolution.args if entry.name == name), None)


def _selected(only: str | None, key: str) -> bool:
    """`MODEL/CELL-PATTERN`: shell wildcards on the key; a part alone matches a model or a prefix."""
    if only is None:
        return True
    from fnmatch import fnmatchcase

    return any(fnmatchcase(key, pattern) for pattern in (only, f"{only}/*", f"{only}*", f"*/{only}"))


def _name(model: str, axes: Axes) -> str:
    shown = ",".join(f"{k}={_plain(v)}" for k, v in axes.items() if k not in _CELL_AXES)
    return f"{model}@{shown}" if shown else model


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "+".join(f"{k}:{v}" for k, v in value.items())
    return str(value)


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-._=" else "-" for c in text)[:80].strip("-")


def _identity(sweep: Sweep, group: Group, workload: Workload, level: Level) -> str:
    """Hash of everything that decides a cell's result; the same cell has the same id in every run."""
    profile = group.profile
    decides = {
        "model": profile.hf_id if profile else group.model,
        "revision": profile.revision if profile else None,
        "argv": list(group.resolution.argv()) if group.resolution else None,
        "env": masked_environment(group.resolution.environment(), ()) if group.resolution else None,
        "vllm": group.vllm,
        "hardware": group.hardware.name if group.hardware else None,
        "server": sweep.server.model_dump(mode="json", exclude={"ready_timeout_s", "api_key_env", "gpus"}),
        "workload": workload.model_dump(mode="json", exclude={"note"}),
        "load": sweep.load.model_dump(mode="json"),
        "level": [level.concurrency, level.rate],
        "seed": sweep.seed,
        "simulation": sweep.simulation.model_dump(mode="json") if sweep.server.kind == "simulated" else None,
    }
    text = json.dumps(decides, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _launches(sweep: Sweep, groups: list[Group]) -> Iterable[Launch]:
    """The order of all measurements, decided by `restart`, `order`, `factors` and the seed."""
    repeats = range(1, _most_repeats(sweep) + 1)
    rng = random.Random(sweep.seed)
    if sweep.factors:
        for model in dict.fromkeys(group.model for group in groups):
            arms = [group for group in groups if group.model == model]
            for repeat, index in ablate.abba_order(len(arms), len(repeats), sweep.seed):
                yield Launch(arms[index], _runs(sweep, arms[index], [repeat], rng))
        return
    if sweep.restart == "never":
        for group in groups:
            yield Launch(group, _runs(sweep, group, repeats, rng))
        return
    for repeat in repeats:
        for group in groups:
            runs = _runs(sweep, group, [repeat], rng)
            if sweep.restart == "per_repeat":
                yield Launch(group, runs)
                continue
            for cell in dict.fromkeys(run.cell.cell_id for run in runs):
                yield Launch(group, tuple(run for run in runs if run.cell.cell_id == cell))


def _most_repeats(sweep: Sweep) -> int:
    return sweep.repeats.max if isinstance(sweep.repeats, Repeats) else sweep.repeats


def _runs(sweep: Sweep, group: Group, repeats: Iterable[int], rng: random.Random) -> tuple[Run, ...]:
    runs: list[Run] = []
    for n, repeat in enumerate(repeats):
        cells = list(group.cells)
        if sweep.order == "random":
            rng.shuffle(cells)
        elif sweep.order == "interleaved" and repeat % 2 == 0:
            cells.reverse()
        if sweep.discard_first and n == 0:
            runs += [Run(cell, repeat, discarded=True) for cell in cells]
        runs += [Run(cell, repeat) for cell in cells]
    return tuple(runs)


def raise_faults(plan: Plan) -> None:
    """Stop when anything is wrong, with all of it in one message.

    Raises:
        ConfigError: the plan has faults.
    """
    if plan.faults:
        raise ConfigError("\n".join(f"{fault.where}: {fault.message}" for fault in plan.faults))
