"""Number of servers and measurements of a sweep, checked before its plan is built. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rocbench.settings.amounts import MOST_RUNS, MOST_SERVERS

if TYPE_CHECKING:
    from rocbench.settings.schema import Sweep


def check(sweep: Sweep) -> None:
    """Refuse a sweep that is too large to measure.

    Raises:
        ValueError: the sweep has more than `MOST_SERVERS` servers, or more than `MOST_RUNS` cells and repeats.
    """
    matrix = sweep.matrix
    each = math.prod(map(len, matrix.product.values())) * len(next(iter(matrix.zip.values()), " "))
    combined = each * arms(sweep) + len(matrix.include)
    servers = len(sweep.models) * combined
    if servers > MOST_SERVERS:
        raise ValueError(
            f"the sweep has {_shown(servers)} servers for {len(sweep.models)} models; at most {MOST_SERVERS:,} servers are allowed"
        )
    axes = {*matrix.product, *matrix.zip, *sweep.factors}
    cells = 0
    for model in sweep.models:
        own = sweep if isinstance(model, str) else model
        for part in sweep.blocks or (own,):
            workloads = part.workloads or own.workloads or sweep.workloads
            levels = (part.concurrency or own.concurrency or sweep.concurrency) + (
                part.rate or own.rate or sweep.rate
            )
            cells += (1 if "workload" in axes else len(workloads)) * (
                1 if axes & {"concurrency", "rate"} else len(levels)
            )
    runs = combined * cells * max(sweep.repeats, sweep.until.max if sweep.until else 1)
    if runs > MOST_RUNS:
        raise ValueError(
            f"the sweep has {_shown(runs)} measurements (cells times repeats); at most {MOST_RUNS:,} are allowed"
        )


def arms(sweep: Sweep) -> int:
    """Return the number of arms of an ablation (`judgement.factorial.arms`); 1 without factors."""
    changes = sum(len(levels) - 1 for levels in sweep.factors.values())
    match sweep.design:
        case "full":
            return math.prod(map(len, sweep.factors.values()))
        case "one_at_a_time":
            return 1 + changes
        case "leave_one_out":
            return 1 + len(sweep.factors)
        case "pairwise":
            return 1 + changes + changes * (changes - 1) // 2


def _shown(count: int) -> str:
    return f"{count:,}" if count < 10**15 else "more than 10^15"
