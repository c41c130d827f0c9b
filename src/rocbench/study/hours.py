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
class NodeTime:
    """Seconds of node time, with the number of server starts (`loads`) and measurements (`runs`)."""

    measured_s: float = 0.0
    rest_s: float = 0.0
    """Warm-up, tail, and the time between cells."""
    load_s: float = 0.0
    loads: int = 0
    runs: int = 0

    @property
    def total_s(self) -> float:
        """Measurement, rest and loading together."""
        return self.measured_s + self.rest_s + self.load_s

    @property
    def share(self) -> float | None:
        """Measured / all; None for nothing."""
        return self.measured_s / self.total_s if self.total_s else None

    def __add__(self, other: NodeTime) -> NodeTime:
        return NodeTime(
            self.measured_s + other.measured_s,
            self.rest_s + other.rest_s,
            self.load_s + other.load_s,
            self.loads + other.loads,
            self.runs + other.runs,
        )


NodeOf = Callable[[Group], Node]
"""Maps a group to its simulated server, which gives the step times."""


def of_plan(plan: Plan, node_of: NodeOf) -> NodeTime:
    """Return the node time of a whole plan."""
    nodes = {group.server_id: node_of(group) for group in plan.groups}
    total = NodeTime()
    for launch in plan.launches:
        node = nodes[launch.group.server_id]
        total += sum((of_cell(run.cell, node) for run in launch.runs), of_start(launch.group))
    return total


def of_start(group: Group) -> NodeTime:
    """Return the time of one start of a server."""
    load_s = group.cells[0].estimate.server_load_s if group.cells else None
    return NodeTime(load_s=NO_LOAD_S if load_s is None else load_s, loads=1)


def of_cell(cell: Cell, node: Node) -> NodeTime:
    """Return the time of one measurement of a cell."""
    users = min(cell.level.concurrency or 1, node.engine.max_num_seqs)
    requests = max_requests(cell.load, cell.level.concurrency)
    measured, rest = measurement_s(cell.load, users, requests, lambda n: request_s(cell, node, n))
    return NodeTime(measured_s=measured, rest_s=rest, runs=1)


def request_s(cell: Cell, node: Node, users: int) -> float:
    """Return seconds from sending a request to its last token, in a steady loop of `users` users."""
    prefill, pairs, _, context, images = steady_step(cell.workload, cell.estimate.image_tokens, users)
    batch = Batch(round(prefill), pairs, users, round(context), round(images))
    return node.api_request_s + cell.workload.osl.mean * node.times.step_s(batch)
