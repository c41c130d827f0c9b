"""Split a plan over nodes or job-array tasks. Pure: every shard computes the same split by itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from rocbench.errors import InputError
from rocbench.plan.expand import Group, Plan

MAX_SHARDS = 10_000
"""More than any queue accepts as one job array, and more than a plan has servers."""


def parse(text: str) -> tuple[int, int]:
    """Parse `2/4` as (2, 4), counted from 1.

    Raises:
        InputError: it is not such a pair.
    """
    try:
        index, total = (int(part) for part in text.split("/"))
    except ValueError:
        index = total = 0
    if not 1 <= index <= total <= MAX_SHARDS:
        raise InputError(
            f"cannot read {text!r:.60}",
            where="--shard",
            fix=f"give I/N with 1 <= I <= N <= {MAX_SHARDS:,}, for example 2/4",
        )
    return index, total


def shard(plan: Plan, index: int, total: int) -> Plan:
    """Return the part of a plan that shard `index` of `total` runs.

    A server's cells stay together, so that it is loaded once; the arms of an ablation stay on one node, so that
    they can be compared. The longest pieces are assigned first, each to the shard with the least time so far.
    """
    pieces = together(plan)
    loads = [0.0] * total
    servers: set[str] = set()
    for name in longest_first(plan):
        least = min(range(total), key=lambda i: (loads[i], i))
        loads[least] += _seconds(plan, pieces[name])
        if least == index - 1:
            servers |= {group.server_id for group in pieces[name]}
    return part(plan, servers)


def together(plan: Plan) -> dict[str, list[Group]]:
    """Return the groups that must run on one node, by name: one server's cells, all arms of an ablation."""
    pieces: dict[str, list[Group]] = {}
    for group in plan.groups:
        pieces.setdefault(group.model if plan.sweep.factors else group.server_id, []).append(group)
    return pieces


def longest_first(plan: Plan) -> list[str]:
    """Return the names of `together`, longest first: the last piece to begin should be short."""
    pieces = together(plan)
    return sorted(pieces, key=lambda name: (-_seconds(plan, pieces[name]), name))


def part(plan: Plan, servers: Collection[str]) -> Plan:
    """Return the part of a plan that has these servers, by id."""
    return replace(
        plan,
        groups=tuple(group for group in plan.groups if group.server_id in servers),
        launches=tuple(launch for launch in plan.launches if launch.group.server_id in servers),
    )


def _seconds(plan: Plan, groups: list[Group]) -> float:
    """Return the estimated time of groups; a minute per measurement where nothing is known."""
    names = {group.server_id for group in groups}
    runs = [run for launch in plan.launches if launch.group.server_id in names for run in launch.runs]
    loads = sum(group.cells[0].estimate.server_load_s or 0.0 for group in groups if group.cells)
    return loads + sum(run.cell.estimate.duration_s or 60.0 for run in runs)
