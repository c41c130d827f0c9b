"""Blocks of a sweep: cells with other workloads, levels or load, measured on the same servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from rocbench.settings.amounts import Rate, Users
from rocbench.settings.strict import Once, Strict

if TYPE_CHECKING:
    from rocbench.settings.schema import Sweep, SweepModel


class Block(Strict):
    """Some cells of a sweep. A setting that the block lacks has the sweep's value."""

    workloads: Annotated[tuple[str, ...], Once] = ()
    """Replaces the sweep's."""
    models: tuple[str, ...] = ()
    """Profiles of models to which the block applies; empty means all."""
    concurrency: Annotated[tuple[Users, ...], Once] = ()
    """Replaces the sweep's."""
    rate: Annotated[tuple[Rate, ...], Once] = ()
    """Replaces the sweep's."""
    load: dict[str, Any] = {}
    """Settings of `load` that differ in this block. They are part of the cell keys if another block has the same level."""


def blocks_of(sweep: Sweep, model: SweepModel) -> list[tuple[Sweep, SweepModel]]:
    """Return one sweep per block for a model; the sweep itself if it has no blocks."""
    if not sweep.blocks:
        return [(sweep, model)]
    return [
        _with_block(block, sweep, model)
        for block in sweep.blocks
        if not block.models or model.profile in block.models
    ]


def _with_block(block: Block, sweep: Sweep, model: SweepModel) -> tuple[Sweep, SweepModel]:
    update = {name: value for name in ("workloads", "concurrency", "rate") if (value := getattr(block, name))}
    load = type(sweep.load).model_validate(sweep.load.model_dump() | block.load)
    return (
        sweep.model_copy(update=update | {"load": load}),
        model.model_copy(update=dict.fromkeys(update)),
    )
