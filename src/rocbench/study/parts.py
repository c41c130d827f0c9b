"""The parts of a study: each sweep of a method on each of its variants, as a plan. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from rocbench.errors import ConfigError
from rocbench.plan.expand import Launch, Overrides, Plan, Run, Sources, expand
from rocbench.settings.schema import Length, Sweep, Workload
from rocbench.study.folder import StudyFolder
from rocbench.study.schema import Small, Study, Variant

Kind = Literal["process", "container", "simulated"]
Read = Callable[[Sweep, Overrides], Sources]
"""A function that reads the profiles named by a sweep."""


@dataclass(frozen=True, slots=True)
class StudyPart:
    """One sweep of a study on one variant."""

    method: str
    variant: str
    sweep: str
    plan: Plan
    overrides: Overrides
    by_design: frozenset[str] = frozenset()
    """Reason codes that the method causes by design."""

    @property
    def id(self) -> str:
        """The name of its run folder: `corrected-runs-0.33.0`."""
        return f"{self.sweep}-{self.variant}"


def parts(
    folder: StudyFolder,
    read: Read,
    *,
    method: str | None = None,
    variant: str | None = None,
    kind: Kind | None = None,
    small: bool = False,
) -> list[StudyPart]:
    """Return every part, in order.

    Args:
        folder: the study.
        read: reads profiles.
        method, variant: only these.
        kind: kind of server, in place of the sweeps' own.
        small: True for the reduced study.

    Raises:
        ConfigError: the study has no such method or variant.
    """
    reduction = folder.study.small if small else None
    kept = folder.study.small.parts if small else ()
    found = [
        _part(folder, read, name, each, sweep, kind, reduction)
        for name, each in _variants(folder.study, method, variant)
        for sweep in folder.study.methods[name].sweeps
    ]
    return [
        part for part in found if (part.plan.groups or part.plan.faults) and (not kept or part.id in kept)
    ]


def _variants(study: Study, method: str | None, variant: str | None) -> list[tuple[str, Variant]]:
    """Return the methods' names with their variants, those asked for."""
    if method is not None and method not in study.methods:
        known = ", ".join(study.methods)
        raise ConfigError(f"unknown method {method!r}", where=study.name, fix=f"known: {known}")
    pairs = [(name, each) for name, found in study.methods.items() for each in found.variants]
    matches = [
        (name, each) for name, each in pairs if method in (None, name) and variant in (None, each.name)
    ]
    if not matches:
        known = ", ".join(sorted({each.name for _, each in pairs}))
        raise ConfigError(f"unknown variant {variant!r}", where=study.name, fix=f"known: {known}")
    return matches


def _part(
    folder: StudyFolder,
    read: Read,
    method: str,
    variant: Variant,
    name: str,
    kind: Kind | None,
    small: Small | None,
) -> StudyPart:
    sweep = folder.sweeps[name].model_copy(update={"name": f"{name}-{variant.name}"})
    if variant.calibration is not None:
        simulation = sweep.simulation.model_copy(update={"calibration": variant.calibration})
        sweep = sweep.model_copy(update={"simulation": simulation})
    if kind is not None:
        sweep = sweep.model_copy(update={"server": sweep.server.model_copy(update={"kind": kind})})
    if small is not None:
        sweep = reduced(sweep, small)
    overrides = Overrides(vllm=variant.vllm)
    sources = read(sweep, overrides)
    if small is not None:
        workloads = {key: _shorter(workload, small) for key, workload in sources.workloads.items()}
        sources = replace(sources, workloads=workloads)
    plan = expand(sweep, sources, overrides)
    by_design = frozenset(folder.study.methods[method].by_design)
    return StudyPart(method, variant.name, name, plan, overrides, by_design)


# --- small


def reduced(sweep: Sweep, small: Small) -> Sweep:
    """Return a part's sweep with fewer models and levels, shorter windows and faster simulated servers."""
    kept = small.models.get(sweep.name)
    models = tuple(
        model
        for model in sweep.models
        if kept is None or (model if isinstance(model, str) else model.profile) in kept
    )
    blocks = tuple(
        block.model_copy(update={"concurrency": levels})
        for block in sweep.blocks
        if (levels := _levels(block.workloads, block.concurrency, small))
    )
    load = sweep.load.model_copy(
        update={"duration_s": small.duration_s, "min_requests_per_user": small.min_requests_per_user}
    )
    simulation = sweep.simulation.model_copy(update={"speed": small.speed, "load_s": 0.2})
    return sweep.model_copy(
        update={
            "models": models,
            "blocks": blocks,
            "concurrency": _levels(sweep.workloads, sweep.concurrency, small),
            "load": load,
            "repeats": min(sweep.repeats, small.repeats),
            "simulation": simulation,
        }
    )


def _levels(workloads: tuple[str, ...], levels: tuple[int, ...], small: Small) -> tuple[int, ...]:
    kept = {level for workload in workloads for level in small.concurrency.get(workload, ())}
    return tuple(level for level in levels if level in kept)


def _shorter(workload: Workload, small: Small) -> Workload:
    def cut(length: Length) -> Length:
        return length.model_copy(update={"mean": max(1, length.mean // small.divisor)})

    return workload.model_copy(update={"isl": cut(workload.isl), "osl": cut(workload.osl)})


def only(plan: Plan, keep: Callable[[Run], bool]) -> Plan:
    """Return the plan with the runs that `keep` accepts, without servers that have no run left."""
    launches = tuple(
        Launch(launch.group, runs, launch.searches)
        for launch in plan.launches
        if (runs := tuple(run for run in launch.runs if keep(run)))
    )
    used = {launch.group.server_id for launch in launches}
    groups = tuple(group for group in plan.groups if group.server_id in used)
    return replace(plan, launches=launches, groups=groups)
