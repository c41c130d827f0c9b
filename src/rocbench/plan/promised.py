"""The power of a plan: the comparison that its repeats allow, and the changes that it can tell. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rocbench.judgement import looks
from rocbench.judgement.promise import Design, Promise, Spread, promised
from rocbench.judgement.verdicts import DEFAULT_METRICS
from rocbench.plan.planned import Plan
from rocbench.settings.schema import Sweep
from rocbench.tables.row import Row

METRIC = DEFAULT_METRICS[0]
"""The metric that is promised from a stated CoV."""


def of(plan: Plan, earlier: Iterable[Row] = ()) -> tuple[Promise, ...]:
    """The promises of a plan: for a stated CoV of one metric, else for each metric that earlier runs show.

    Args:
        plan: the plan; without cells (a search) there is no promise.
        earlier: rows of earlier runs of any cells.
    """
    keys = {cell.key for group in plan.groups for cell in group.cells}
    if not keys:
        return ()
    wanted, asked = design(plan), plan.sweep.power
    if asked.cov is not None:
        return (promised(METRIC, wanted, Spread.stated(asked.cov), asked.effect),)
    known = comparable(plan, earlier)
    spreads = {metric: Spread.of(known, metric) for metric in DEFAULT_METRICS}
    found = [promised(m, wanted, spread, asked.effect) for m, spread in spreads.items() if spread]
    return tuple(found) or (promised(METRIC, wanted, None, asked.effect),)


def comparable(plan: Plan, earlier: Iterable[Row]) -> list[Row]:
    """Rows of the plan's cells (by key) on its hardware, measured or simulated as the plan will."""
    keys = {cell.key for group in plan.groups for cell in group.cells}
    hardware = {group.hardware.name if group.hardware else None for group in plan.groups}
    origin = "simulated" if plan.sweep.server.kind == "simulated" else ""
    return [
        row
        for row in earlier
        if row.get("key") in keys and row.origin == origin and row.get("hardware") in hardware
    ]


def design(plan: Plan) -> Design:
    """The comparison within a run: arms of an ablation in pairs, else two arms of the matrix (or two such runs)."""
    sweep, count = plan.sweep, sum(len(group.cells) for group in plan.groups)
    repeats = sweep.until.max if sweep.until else sweep.repeats
    looked = max(len(looks.planned(sweep.model_dump(include={"repeats", "until"}))), 1)
    if not sweep.factors:
        arms = len(plan.groups) / len({group.model for group in plan.groups})
        cells = max(round(count / arms), 1)
        tests = cells * len(DEFAULT_METRICS)
        return Design(repeats, count, cells, tests, looks=looked, min_effect=sweep.power.min_effect)
    levels = max(round(count * len({group.model for group in plan.groups}) / len(plan.groups)), 1)
    single, interactions, averaged = _effects(sweep)
    return Design(
        repeats=repeats,
        measured=count,
        cells=levels * single,
        tests=levels * (single + interactions) * len(DEFAULT_METRICS),
        paired=True,
        averaged=averaged,
        looks=looked,
        min_effect=sweep.power.min_effect,
    )


def _effects(sweep: Sweep) -> tuple[int, int, int]:
    """Effects of single factors at one load level, interactions, and arms that each side of an effect averages."""
    others = [len(levels) - 1 for levels in sweep.factors.values()]
    single, pairs = sum(others), _pairs(others)
    match sweep.design:
        case "full":
            levels = [len(each) for each in sweep.factors.values()]
            return single, pairs, math.prod(levels) // max(levels)
        case "leave_one_out":
            return len(others), 0, 1
        case "pairwise":
            return single, pairs, 1 + single - max(others)
        case _:
            return single, 0, 1


def _pairs(others: Sequence[int]) -> int:
    return (sum(others) ** 2 - sum(n * n for n in others)) // 2
