"""Node time of a plan, from the physics and the load times: its measured share, and its cost. Pure.

A closed loop's steady state is modelled as one repeated step: all users decode one token, and for each token
users x ISL / OSL prompt tokens are computed. Warm-up is one turnover, the tail another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rocbench.conduct import bind
from rocbench.plan.expand import Cell, Group, Plan
from rocbench.sim.costs import Batch
from rocbench.sim.node import Node

BESIDE_S = 5.0
"""Fixed time of a cell: reset the cache, read the server's fields, connect users, write results."""
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
    load = cell.load
    users = min(cell.level.concurrency or 1, node.engine.max_num_seqs)
    most = bind.most_requests(cell)
    if most is not None:
        users = min(users, most)
        full, last = divmod(most, users)
        seconds = full * request_s(cell, node, users) + (request_s(cell, node, last) if last else 0.0)
        return Time(measured_s=min(seconds, load.max_duration_s), rest_s=BESIDE_S, runs=1)
    turnover = request_s(cell, node, users)
    window = min(max(load.duration_s, load.min_requests_per_user * turnover), load.max_duration_s)
    return Time(measured_s=window, rest_s=2 * turnover + BESIDE_S, runs=1)


def request_s(cell: Cell, node: Node, users: int) -> float:
    """Return seconds from sending a request to its last token, in a steady loop of `users` users."""
    workload = cell.workload
    isl, osl = float(workload.isl.mean), float(workload.osl.mean)
    images = 0.0
    if workload.images and node.limits.image:
        picture = workload.images
        images = picture.count * node.limits.image.tokens(picture.width, picture.height)
    context = users * (isl + images + osl / 2)
    computed, seen = (0.0, 0.0) if workload.prompt_pool else (users * (isl + images), users * images)
    batch = Batch(
        prefill_tokens=round(computed / osl),
        prefill_pairs=computed / osl * (isl + images) / 2,
        decode_seqs=users,
        decode_context=round(context),
        image_tokens=round(seen / osl),
    )
    return node.api_request_s + osl * node.times.step_s(batch)
