"""Blocks of a sweep: cells with workloads, levels or a load of their own, measured on the same servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from rocbench.settings.amounts import Rate, Users
from rocbench.settings.strict import Once, Strict

if TYPE_CHECKING:
    from rocbench.settings.schema import Sweep, SweepModel


class Block(Strict):
    """Some cells of a sweep. What is not said here is as the sweep has it."""

    workloads: Annotated[tuple[str, ...], Once] = ()
    """In place of the sweep's."""
    models: tuple[str, ...] = ()
    """Profiles that it is for; none named is all."""
    concurrency: Annotated[tuple[Users, ...], Once] = ()
    """In place of the sweep's."""
    rate: Annotated[tuple[Rate, ...], Once] = ()
    """In place of the sweep's."""
    load: dict[str, Any] = {}
    """Keys of `load` that differ here; keys of cells say how, where another block takes the same level."""


def blocks_of(sweep: Sweep, model: SweepModel) -> list[tuple[Sweep, SweepModel]]:
    """The sweep as each of its blocks sees it, for one model; the sweep itself without blocks."""
    if not sweep.blocks:
        return [(sweep, model)]
    return [
        _seen_by(block, sweep, model)
        for block in sweep.blocks
        if not block.models or model.profile in block.models
    ]


def _seen_by(block: Block, sweep: Sweep, model: SweepModel) -> tuple[Sweep, SweepModel]:
    ours = {name: value for name in ("workloads", "concurrency", "rate") if (value := getattr(block, name))}
    load = type(sweep.load).model_validate(sweep.load.model_dump() | block.load)
    return (
        sweep.model_copy(update=ours | {"load": load}),
        model.model_copy(update=dict.fromkeys(ours)),
    )
