"""Load hosts on Ray nodes: an actor on each keeps its workers (`load.hosts`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rocbench import baseurl
from rocbench.errors import InputError
from rocbench.fleet import cluster
from rocbench.load.hosts import Agent, HostSide, Report
from rocbench.load.spec import WorkerSpec

ANSWER_S = 60.0
"""Maximum time for a load host to answer before it counts as gone."""


class Actor(HostSide):
    """The load host's side, as a Ray actor."""

    def cpus(self) -> int:
        """Return the CPUs that its workers may use."""
        return len(os.sched_getaffinity(0))


class RayAgent:
    """A load host that is reached through Ray."""

    def __init__(self, node: cluster.Node) -> None:
        self._ray = cluster.ray()
        on_node = cluster.on_node(node.node_id)
        self.name = node.name
        self._actor = self._ray.remote(Actor).options(num_cpus=0, scheduling_strategy=on_node).remote()
        self.cpus = int(self._ask(self._actor.cpus))

    def clock(self) -> int:
        """Return its CLOCK_REALTIME in ns."""
        return int(self._ask(self._actor.clock))

    def start(self, specs: Sequence[WorkerSpec], workers: int) -> None:
        """Start these workers, of `workers` over all hosts."""
        self._ask(self._actor.start, list(specs), workers)

    def exchange(self, head: Sequence[int]) -> tuple[list[list[int]], bool]:
        """Send it the driver's cells, and return those of its workers."""
        counters, done = self._ask(self._actor.exchange, list(head))
        return counters, bool(done)

    def reports(self) -> list[Report]:
        """Return the reports of its workers."""
        return list(self._ask(self._actor.reports))

    def end(self) -> None:
        """Stop all its workers."""
        self._ask(self._actor.end)

    def leave(self) -> None:
        """Stop the actor too."""
        self._ray.kill(self._actor)

    def _ask(self, method: Any, *words: Any) -> Any:
        try:
            return self._ray.get(method.remote(*words), timeout=ANSWER_S)
        except self._ray.exceptions.RayError as error:
            raise OSError(f"{self.name}: {str(error).strip().splitlines()[0]}") from None


@contextmanager
def hosts(count: int | None, address: str | None, base_url: str) -> Iterator[tuple[Agent, ...]]:
    """Yield `count` load hosts, each on its own node, this machine's last; none when `count` is None.

    Raises:
        InputError: the cluster has fewer nodes, or the server listens on an address of this machine only.
        EnvironmentFault: Ray is not installed, or no cluster answers.
    """
    if count is None:
        yield ()
        return
    with cluster.joined(address):
        live, own_id = cluster.nodes(), cluster.own_id()
        own_address = next((node.address for node in live if node.node_id == own_id), "")
        usable = [node for node in live if node.resources.get("CPU", 0) >= 1]
        chosen = sorted(usable, key=lambda node: (node.node_id == own_id, node.name))[:count]
        if len(chosen) < count:
            raise InputError(
                f"{count} load hosts are needed, but the cluster has {len(usable)} nodes with a CPU",
                where="--load-hosts",
                fix="request fewer load hosts, or add nodes",
            )
        remote = [node.name for node in chosen if node.address != own_address]
        if remote and baseurl.parse(base_url).loopback:
            raise InputError(
                f"{', '.join(remote)} cannot reach {base_url}",
                where="--load-hosts",
                fix="let the server listen on an address that all hosts reach, and give that address as --base-url",
            )
        agents: list[RayAgent] = []
        try:
            agents.extend(RayAgent(node) for node in chosen)
            yield tuple(agents)
        finally:
            for agent in agents:
                agent.leave()
