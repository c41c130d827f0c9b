"""Node time of a plan, from calibrated step times and load times: its measured share, and its cost. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rocbench.plan.estimate import max_requests, measurement_s, steady_step
from rocbench.plan.expand import Cell, Group, Plan
from rocbench.sim.costs import Batch
from rocbench.sim.node import Node

NO_LOAD_S = 600.0
"""Time of a start if the model's size is not known."""


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of node time."""

    measured_s: float = 0.0
    rest_s: float = 0.0
    """Warm-up, tail, and the time between cells."""
    load_s: float = 0.0
    loads: int = 0
    runs: int = 0

    @property
    def total_s(self) -> float:
        """The total."""
        return self.measured_s + self.rest_s + self.load_s

    @property
    def share(self) -> float | None:
        """Measured / all; None for nothing."""
        return self.measured_s / self.total_s if self.total_s else None

    def __add__(self, other: Time) -> Time:
        return Time(
            self.measured_s + other.measured_s,
            self.rest_s + other.rest_s,
            self.load_s + other.load_s,
            self.loads + other.loads,
            self.runs + other.runs,
        )


NodeOf = Callable[[Group], Node]
"""Maps a group to its simulated server, which gives the step times."""


def of_plan(plan: Plan, node_of: NodeOf) -> Time:
    """Return the node time of a whole plan."""
    nodes = {group.server_id: node_of(group) for group in plan.groups}
    total = Time()
    for launch in plan.launches:
        total += Time(load_s=load_s(launch.group), loads=1)
        node = nodes[launch.group.server_id]
        for run in launch.runs:
            total += of_cell(run.cell, node)
    return total


def load_s(group: Group) -> float:
    """Return the seconds of one start."""
    known = group.cells[0].estimate.server_load_s if group.cells else None
    return NO_LOAD_S if known is None else known


def of_cell(cell: Cell, node: Node) -> Time:
    """Return the time of one measurement of a cell."""
    users = min(cell.level.concurrency or 1, node.engine.max_num_seqs)
    requests = max_requests(cell.load, cell.level.concurrency)
    measured, rest = measurement_s(cell.load, users, requests, lambda n: request_s(cell, node, n))
    return Time(measured_s=measured, rest_s=rest, runs=1)


def request_s(cell: Cell, node: Node, users: int) -> float:
    """Return seconds from sending a request to its last token, in a steady loop of `users` users."""
    prefill, pairs, _, context, images = steady_step(cell.workload, cell.estimate.image_tokens, users)
    batch = Batch(round(prefill), pairs, users, round(context), round(images))
    return node.api_request_s + cell.workload.osl.mean * node.times.step_s(batch)
