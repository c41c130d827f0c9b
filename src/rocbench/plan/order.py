"""The order of all measurements: restarts, interleaving, arms, discarded repeats. Pure; the seed is the sweep's.

`restart` decides how often a server is started: once (`never`), once per repeat, or once per cell and repeat.
`order` decides the sequence: as written; `interleaved`, with every second repeat reversed, so that a linear
drift of the node affects all cells alike; or `random`, by the seed. Both apply to the cells of one server, and to
the servers themselves where they are started more than once. Arms of an ablation always run interleaved, on
servers of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rocbench.judgement import factorial
from rocbench.plan.planned import Cell, Group, Launch, Run
from rocbench.settings.schema import Sweep

T = TypeVar("T")


def launches(sweep: Sweep, groups: Sequence[Group]) -> Iterator[Launch]:
    """Yield every start of a server with its runs, in order."""
    rng = random.Random(sweep.seed)
    if sweep.factors:
        yield from _arms(sweep, groups, rng)
    elif sweep.restart == "never":
        for group in groups:
            yield Launch(group, _runs(sweep, group.cells, _repeats(sweep), rng), group.searches)
    else:
        for repeat in _repeats(sweep):
            for group in _ordered(sweep, groups, repeat, rng):
                yield from _restarted(sweep, group, repeat, rng)
        for group in groups:
            if group.searches:
                yield Launch(group, (), group.searches)


def _arms(sweep: Sweep, groups: Sequence[Group], rng: random.Random) -> Iterator[Launch]:
    """Measure every arm of a model once in each repeat, every second repeat in reverse (A B B A)."""
    for model in dict.fromkeys(group.model for group in groups):
        arms = [group for group in groups if group.model == model]
        for repeat, index in factorial.abba_order(len(arms), _max_repeats(sweep), sweep.seed):
            yield from _restarted(sweep, arms[index], repeat, rng)


def _restarted(sweep: Sweep, group: Group, repeat: int, rng: random.Random) -> Iterator[Launch]:
    """Yield one repeat of a group's cells on a fresh server, or each cell on its own server."""
    if sweep.restart != "per_cell":
        if group.cells:
            yield Launch(group, _runs(sweep, group.cells, [repeat], rng))
        return
    for cell in _ordered(sweep, group.cells, repeat, rng):
        yield Launch(group, _runs(sweep, [cell], [repeat], rng))


def _runs(sweep: Sweep, cells: Sequence[Cell], repeats: Iterable[int], rng: random.Random) -> tuple[Run, ...]:
    """The runs on one server; a first repeat that is discarded is measured again."""
    runs: list[Run] = []
    for n, repeat in enumerate(repeats):
        ordered = _ordered(sweep, cells, repeat, rng)
        if sweep.discard_first and n == 0:
            runs += [Run(cell, repeat, discarded=True) for cell in ordered]
        runs += [Run(cell, repeat) for cell in ordered]
    return tuple(runs)


def _ordered(sweep: Sweep, items: Sequence[T], repeat: int, rng: random.Random) -> list[T]:
    ordered = list(items)
    if sweep.order == "random":
        rng.shuffle(ordered)
    elif sweep.order == "interleaved" and repeat % 2 == 0:
        ordered.reverse()
    return ordered


def _repeats(sweep: Sweep) -> range:
    return range(1, _max_repeats(sweep) + 1)


def _max_repeats(sweep: Sweep) -> int:
    """The maximum repeats of a cell: the requested number, or the limit until the interval is narrow."""
    return sweep.until.max if sweep.until else sweep.repeats
