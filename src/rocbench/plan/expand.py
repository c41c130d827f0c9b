"""Expand a sweep into a plan: every server and cell in order, with stable ids and all faults at once. Pure.

A *group* is one server configuration with all its cells. A *launch* is one start of a group's server and the
runs (cell and repeat) made on it, in order: restarts, interleaving and ablation blocks are all lists of launches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from rocbench.errors import BenchError, InputError
from rocbench.judgement import factorial
from rocbench.plan import arms, order
from rocbench.plan.estimate import estimate, prompt_images
from rocbench.plan.faults import (
    hidden_axes,
    no_image,
    not_simulated,
    nothing_left,
    twice,
    without_effect,
    wrong_gpus,
)
from rocbench.plan.identity import cell_id, configuration_name
from rocbench.plan.planned import (
    Axes,
    Cell,
    Group,
    Launch,
    Level,
    Overrides,
    Plan,
    PlanFault,
    Run,
    Skip,
    Sources,
)
from rocbench.redact import lift_flags, masked_entry
from rocbench.rules.resolve import ServeRequest, resolve
from rocbench.settings import matrix
from rocbench.settings.blocks import blocks_of
from rocbench.settings.schema import CELL_AXES, Hardware, ModelProfile, Sweep, SweepModel, Workload

__all__ = [
    "Cell",
    "Group",
    "Launch",
    "Level",
    "Overrides",
    "Plan",
    "PlanFault",
    "Run",
    "Skip",
    "Sources",
    "cell_at",
    "expand",
]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of `models` at one combination of axes, with everything that decides its server and cells."""

    sweep: Sweep
    sources: Sources
    overrides: Overrides
    model: SweepModel
    axes: Axes

    @property
    def server_axes(self) -> dict[str, Any]:
        """The axes that make the server; the others are of its cells."""
        return {name: value for name, value in self.axes.items() if name not in CELL_AXES}

    @property
    def name(self) -> str:
        """The configuration's name: the model and the axes of the server."""
        return configuration_name(self.model.profile, self.axes)


def expand(sweep: Sweep, sources: Sources, overrides: Overrides | None = None) -> Plan:
    """Return the whole plan. Faults are collected, not raised, so that a user sees all of them at once."""
    overrides = overrides or Overrides()
    groups: list[Group] = []
    faults: list[PlanFault] = []
    skipped: list[Skip] = []
    mixed: dict[PlanFault, None] = {}
    notes: dict[str, None] = {}
    for entry in sweep.models:
        before = len(groups)
        model = entry if isinstance(entry, SweepModel) else SweepModel(profile=entry)
        for axes in _axes(sweep, model):
            each = _Entry(sweep, sources, overrides, model, axes)
            try:
                group = _group(each, len(groups), skipped)
            except BenchError as error:
                if _has_selected_cell(each):
                    faults.append(PlanFault(each.name, error.text()))
                continue
            if not (group.cells or group.searches):
                continue
            if group.resolution is not None and not overrides.force:
                faults += [
                    PlanFault(
                        each.name,
                        f"{f.message} [rule {f.rule}; {f.source}]" + (f"\n  fix: {f.fix}" if f.fix else ""),
                    )
                    for f in group.resolution.contradictions
                ]
            if refused := not_simulated(sweep, group, overrides):
                faults.append(PlanFault(each.name, refused))
            if sweep.server.kind == "container" and group.image(sweep) is None:
                faults.append(PlanFault(each.name, no_image(group)))
            if wrong := wrong_gpus(group, sweep.server):
                faults.append(PlanFault(each.name, wrong))
            groups.append(group)
            notes |= dict.fromkeys(c.estimate.in_doubt for c in group.cells if c.estimate.in_doubt)
            if beyond := _beyond_graphs(group):
                notes[beyond] = None
        mixed_arms, arm_notes = arms.judge(groups[before:], sweep)
        mixed |= dict.fromkeys(mixed_arms)
        notes |= dict.fromkeys(arm_notes)
    if not groups and not faults:
        faults.append(PlanFault(sweep.name, nothing_left(overrides.only, skipped)))
    hidden = list(hidden_axes(sweep))
    faults += [*hidden, *without_effect(sweep, overrides), *([] if hidden else twice(groups))]
    return Plan(
        sweep,
        sources,
        tuple(groups),
        tuple(order.launches(sweep, groups)),
        (*faults, *mixed),
        tuple(skipped),
        tuple(notes),
    )


def _beyond_graphs(group: Group) -> str:
    """A note if more users decode at once than the largest CUDA graph holds; empty otherwise."""
    facts = group.resolution.facts if group.resolution is not None else None
    if facts is None or not facts.graph_batch:
        return ""
    users = max((cell.level.concurrency or 0 for cell in group.cells), default=0)
    batch = min(-(-users // facts.dp), facts.max_num_seqs or users)
    if batch <= facts.graph_batch:
        return ""
    return (
        f"{group.model}: up to {batch} requests decode at once, but the largest CUDA graph holds {facts.graph_batch}: "
        f"larger steps run without a graph (--max-cudagraph-capture-size sets the limit)"
    )


def _axes(sweep: Sweep, model: SweepModel) -> list[Axes]:
    """Return the axis combinations of one model: the matrix, times the ablation's arms, plus `include`."""
    arms = factorial.arms(sweep.factors, sweep.design) if sweep.factors else [{}]
    combined: list[Axes] = [dict(axes) | dict(arm) for axes in matrix.expand(sweep.matrix) for arm in arms]
    combined += [
        entry for entry in sweep.matrix.include if entry.get("model", model.profile) == model.profile
    ]
    return combined


def _group(entry: _Entry, index: int, skipped: list[Skip]) -> Group:
    sweep, sources, model = entry.sweep, entry.sources, entry.model
    profile = sources.models.get(model.profile)
    vllm = entry.overrides.vllm or str(entry.server_axes.get("vllm") or "") or model.vllm or sweep.vllm
    resolution = None
    if profile is not None and sources.hardware is not None and sweep.server.kind != "attached":
        resolution = resolve(_request(entry, profile, sources.hardware, vllm))
    group = Group(
        server_id=f"{index + 1:02d}-{_slug(entry.name)}",
        model=model.profile,
        profile=profile,
        hardware=sources.hardware,
        vllm=vllm,
        axes=entry.server_axes,
        resolution=resolution,
        cells=(),
    )
    return replace(
        group,
        cells=tuple(_cells(entry, group, skipped)),
        searches=tuple(_searches(entry, group, skipped)),
    )


def _request(entry: _Entry, profile: ModelProfile, hardware: Hardware, vllm: str | None) -> ServeRequest:
    """Collect everything that decides the flags. Later wins: sweep, model entry, axis, command line."""
    sweep, overrides, model, axes = entry.sweep, entry.overrides, entry.model, entry.server_axes
    axis_env = {name[4:]: str(value) for name, value in axes.items() if name.startswith("env.")}
    axis_args = {
        name: value
        for name, value in axes.items()
        if name not in ("aiter", "tp", "vllm") and not name.startswith("env.")
    }
    args, env = lift_flags(
        _flags(sweep.serve_args, model.serve_args, axis_args, overrides.args),
        dict(sweep.env) | dict(model.env) | axis_env | overrides.env,
        where="serve_args",
    )
    return ServeRequest(
        profile=profile,
        hardware=hardware,
        vllm=vllm,
        tp=overrides.tp or axes.get("tp") or model.tp,
        aiter=next(
            (v for v in (overrides.aiter, axes.get("aiter"), model.aiter, sweep.aiter) if v is not None), None
        ),
        user_args=args,
        user_env=env,
        nodes=profile.nodes,
        force=overrides.force,
        offload_compared=arms.compares_offload(sweep),
        multi_turn=any(
            (dataset := entry.sources.workloads[name].dataset) is not None and dataset.multi_turn
            for name in model.workloads or sweep.workloads
        ),
    )


def _flags(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge flag layers; `block_size`, `block-size` and `--block-size` are the same flag."""
    merged: dict[str, Any] = {}
    for layer in layers:
        flags: dict[str, Any] = {}
        for name, value in layer.items():
            flag = name.lstrip("-").replace("_", "-")
            if (other := flags.setdefault(flag, value)) is not value and other != value:
                raise InputError(
                    f"--{flag} is given twice: {masked_entry(f'--{flag}', flags[flag])!r} and "
                    f"{masked_entry(f'--{flag}', value)!r}",
                    where="serve_args",
                )
        merged |= flags
    return merged


def _cells(entry: _Entry, group: Group, skipped: list[Skip]) -> Iterator[Cell]:
    axes, workloads = entry.axes, entry.sources.workloads
    blocks, ids = blocks_of(entry.sweep, entry.model), set()
    loads = _load_differences(entry.sweep, entry.model, blocks, axes)
    for index, name, level in _points(blocks, axes):
        cell = cell_at(blocks[index][0], group, workloads[name], level, loads[index].get(name))
        if not _selected(entry, name, level, cell.key):
            continue
        if isinstance(cell, Skip):
            skipped.append(cell)
        elif cell.cell_id not in ids:  # two blocks may have the same cell
            ids.add(cell.cell_id)
            yield cell


def _points(blocks: Sequence[tuple[Sweep, SweepModel]], axes: Axes) -> Iterator[tuple[int, str, Level]]:
    """Yield every workload and level of each block, with the block's index."""
    for index, (part, entry) in enumerate(blocks):
        for name in _workloads(part, entry, axes):
            for level in _levels(part, entry, axes):
                yield index, name, level


def _load_differences(
    sweep: Sweep, model: SweepModel, blocks: Sequence[tuple[Sweep, SweepModel]], axes: Axes
) -> list[dict[str, Axes]]:
    """Return for each block, by workload, how its load differs from that of other blocks which measure the
    same level.

    It is part of the key like an axis, because otherwise two cells would have the same key. The sweep's own
    load is not named.
    """
    takers: dict[str, dict[Level, set[int]]] = {}
    for index, name, level in _points(blocks, axes):
        takers.setdefault(name, {}).setdefault(level, set()).add(index)
    usual, facts = _load_facts(sweep), [_load_facts(part) for part, _ in blocks]
    differences: list[dict[str, Axes]] = [{} for _ in blocks]
    for name, levels in takers.items():
        groups = [[facts[i] for i in indexes] for indexes in levels.values()]
        if sweep.search and name in _workloads(sweep, model, axes):  # at levels that are not known yet
            groups = [[*group, usual] if group[0]["kind"] == usual["kind"] else group for group in groups]
        unlike = [load for group in groups for load in group if any(load != other for other in group)]
        for index, load in enumerate(facts):
            if load in unlike and load != usual:
                differences[index][name] = {
                    fact: value
                    for fact, value in load.items()
                    if any(other.get(fact, value) != value for other in unlike)
                }
    return differences


def _load_facts(sweep: Sweep) -> Axes:
    return sweep.load.model_dump(exclude={"shape"}) | sweep.load.shape.model_dump()


def _searches(entry: _Entry, group: Group, skipped: list[Skip]) -> Iterator[Workload]:
    """Yield workloads with a search whose lowest level this server can run."""
    search = entry.sweep.search
    if search is None:
        return
    for name in _workloads(entry.sweep, entry.model, entry.axes):
        workload = entry.sources.workloads[name]
        key = f"{entry.name}/{workload.name}/search"
        lowest = cell_at(entry.sweep, group, workload, level_of(entry.sweep, search.low))
        if not _selected(entry, name, Level(), key):
            continue
        if isinstance(lowest, Skip):
            skipped.append(Skip(key, lowest.reason))
        else:
            yield workload


def _workloads(sweep: Sweep, model: SweepModel, axes: Axes) -> list[str]:
    return [axes["workload"]] if "workload" in axes else list(model.workloads or sweep.workloads)


def _selected(entry: _Entry, workload: str, level: Level, key: str) -> bool:
    """Return True if the matrix does not exclude a cell and --only matches it."""
    facts = entry.server_axes | {
        "model": entry.model.profile,
        "workload": workload,
        "concurrency": level.concurrency,
        "rate": level.rate,
    }
    return not matrix.excluded(entry.sweep.matrix, facts) and _matches(entry.overrides.only, key)


def _has_selected_cell(entry: _Entry) -> bool:
    """Return True if a cell is selected. An impossible server without selected cells is not an error."""
    sweep, model, axes = entry.sweep, entry.model, entry.axes
    levels = [(workload, level, level.label) for _, workload, level in _points(blocks_of(sweep, model), axes)]
    if sweep.search is not None:
        levels += [(workload, Level(), "search") for workload in _workloads(sweep, model, axes)]
    return any(
        _selected(entry, workload, level, f"{entry.name}/{entry.sources.workloads[workload].name}/{label}")
        for workload, level, label in levels
    )


def level_of(sweep: Sweep, value: float) -> Level:
    """Return a number as a level of this sweep: users, or requests/s."""
    return Level(rate=float(value)) if sweep.load.shape.kind == "open" else Level(concurrency=int(value))


def cell_at(
    sweep: Sweep, group: Group, workload: Workload, level: Level, load: Axes | None = None
) -> Cell | Skip:
    """Return one cell of a server with its identity and estimate, or the reason that it cannot run; `load` is
    part of its key.
    """
    key = "/".join(
        [configuration_name(group.model, {**group.axes, **(load or {})}), workload.name, level.label]
    )
    reason = _cannot_run(group, workload)
    if reason:
        return Skip(key, reason)
    cell = Cell(cell_id(sweep, group, workload, level), key, workload, level, sweep.load)
    if group.resolution is None or group.profile is None or group.hardware is None:
        return cell
    estimated = estimate(
        group.profile,
        group.hardware,
        group.resolution,
        workload,
        sweep.load,
        concurrency=level.concurrency,
        assume=sweep.assume,
    )
    return Skip(key, estimated.cannot_fit) if estimated.cannot_fit else replace(cell, estimate=estimated)


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
    """Return the reason that a cell makes no sense on this server, or None."""
    if group.profile is not None and workload.images and "vision_config" not in group.profile.config:
        return "the model does not support images"
    if group.resolution is not None:
        limit = group.resolution.flag("max-model-len")
        images = prompt_images(workload, group.profile) if group.profile else 0
        need = images + (workload.isl.high or workload.isl.mean) + (workload.osl.high or workload.osl.mean)
        if isinstance(limit, int) and need > limit:
            what = "ISL + images + OSL" if images else "ISL + OSL"
            return f"{what} = {need} tokens, which is more than --max-model-len {limit}"
    return None


def _matches(only: str | None, key: str) -> bool:
    """Match `MODEL/CELL-PATTERN`: shell wildcards on the key; a model or a prefix alone matches too."""
    if only is None:
        return True
    return any(fnmatchcase(key, pattern) for pattern in (only, f"{only}/*", f"{only}*", f"*/{only}"))


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-._=" else "-" for c in text)[:80].strip("-")
