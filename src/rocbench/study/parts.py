"""The parts of a study: each sweep of a method on each of its variants, as a plan. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from rocbench.errors import ConfigError
from rocbench.plan.expand import Launch, Overrides, Plan, Run, Sources, expand
from rocbench.settings.schema import Length, Sweep, SweepModel, Workload
from rocbench.study.folder import StudyFolder
from rocbench.study.schema import Method, Small, Variant

Kind = Literal["process", "container", "simulated"]
Read = Callable[[Sweep, Overrides], Sources]
"""Reads the profiles that a sweep names."""


@dataclass(frozen=True, slots=True)
class Part:
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
        """`corrected-runs-0.33.0`: the name of its run folder."""
        return f"{self.sweep}-{self.variant}"


def parts(
    folder: StudyFolder,
    read: Read,
    *,
    method: str | None = None,
    variant: str | None = None,
    kind: Kind | None = None,
    small: bool = False,
) -> list[Part]:
    """Return every part, in order.

    Args:
        folder: the study.
        read: reads profiles.
        method, variant: only these.
        kind: kind of server, in place of the sweeps' own.
        small: reduced, for the simulated server.

    Raises:
        ConfigError: no part has that name.
    """
    found = [
        _part(folder, read, (name, method_), variant_, sweep, kind, folder.study.small if small else None)
        for name, method_, variant_ in _chosen(folder, method, variant)
        for sweep in method_.sweeps
    ]
    wanted = folder.study.small.parts if small else ()
    return [
        part for part in found if (part.plan.groups or part.plan.faults) and (not wanted or part.id in wanted)
    ]


def _chosen(
    folder: StudyFolder, method: str | None, variant: str | None
) -> list[tuple[str, Method, Variant]]:
    methods = folder.study.methods
    if method is not None and method not in methods:
        raise ConfigError(
            f"no method {method!r}", where=folder.study.name, fix=f"known: {', '.join(methods)}"
        )
    found = [
        (name, method_, variant_)
        for name, method_ in methods.items()
        for variant_ in method_.variants
        if method in (None, name) and variant in (None, variant_.name)
    ]
    if not found:
        known = ", ".join(sorted({v.name for m in methods.values() for v in m.variants}))
        raise ConfigError(f"no variant {variant!r}", where=folder.study.name, fix=f"known: {known}")
    return found


def _part(
    folder: StudyFolder,
    read: Read,
    method: tuple[str, Method],
    variant: Variant,
    name: str,
    kind: Kind | None,
    small: Small | None,
) -> Part:
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
    return Part(method[0], variant.name, name, plan, overrides, frozenset(method[1].by_design))


# --- small


def reduced(sweep: Sweep, small: Small) -> Sweep:
    """Return a part's sweep with fewer models and levels, shorter windows and faster simulated servers."""
    kept = small.models.get(sweep.name)
    models = tuple(m for m in sweep.models if kept is None or _profile(m) in kept)
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
    wanted = {level for workload in workloads for level in small.concurrency.get(workload, ())}
    return tuple(level for level in levels if level in wanted)


def _profile(model: str | SweepModel) -> str:
    return model if isinstance(model, str) else model.profile


def _shorter(workload: Workload, small: Small) -> Workload:
    def cut(length: Length) -> Length:
        return length.model_copy(update={"mean": max(1, length.mean // small.divisor)})

    return workload.model_copy(update={"isl": cut(workload.isl), "osl": cut(workload.osl)})


# --- what is kept


def only(plan: Plan, keep: Callable[[Run], bool]) -> Plan:
    """Return the plan with the kept runs, without servers that have no run left."""
    launches = tuple(
        Launch(launch.group, runs, launch.searches)
        for launch in plan.launches
        if (runs := tuple(run for run in launch.runs if keep(run)))
    )
    used = {launch.group.server_id for launch in launches}
    groups = tuple(group for group in plan.groups if group.server_id in used)
    return replace(plan, launches=launches, groups=groups)


def runs_of(plan: Plan) -> Iterator[tuple[Launch, Run]]:
    """Yield every run with its launch."""
    for launch in plan.launches:
        for run in launch.runs:
            yield launch, run
