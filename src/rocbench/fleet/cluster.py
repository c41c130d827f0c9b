"""The Ray cluster: joining it, its nodes by name, and the resources that give a task a whole node."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rocbench.errors import EnvironmentFault, InputError
from rocbench.plan.planned import Plan


@dataclass(frozen=True, slots=True)
class Node:
    """A live node of the cluster."""

    node_id: str
    name: str
    """Its host name; with the first digits of its Ray id if several nodes of the cluster share a host."""
    address: str
    resources: Mapping[str, float]


def ray() -> Any:
    """Return the library.

    Raises:
        EnvironmentFault: it is not installed.
    """
    try:
        import ray as library
    except ImportError:
        raise EnvironmentFault("Ray is not installed", fix="pip install 'rocbench[ray]'") from None
    return library


@contextmanager
def joined(address: str | None) -> Iterator[Any]:
    """Yield the library, joined to a cluster; at the end, leave the cluster unless the process had joined before.

    Args:
        address: `HOST:PORT` of the head, or None for the cluster that this machine is part of.

    Raises:
        EnvironmentFault: Ray is not installed, or no cluster answers.
    """
    library = ray()
    if library.is_initialized():
        yield library
        return
    try:
        library.init(
            address=address or "auto",
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            namespace="rocbench",
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EnvironmentFault(
            f"no Ray cluster answers: {reason}",
            where=address or "this machine",
            fix="start one with `ray start --head`, or give --address HOST:PORT",
        ) from None
    try:
        yield library
    finally:
        library.shutdown()


def nodes() -> list[Node]:
    """Return the live nodes, by name."""
    alive = [entry for entry in ray().nodes() if entry["Alive"]]
    hosts = collections.Counter(entry["NodeManagerHostname"] for entry in alive)
    live = []
    for entry in alive:
        host, node_id = entry["NodeManagerHostname"], entry["NodeID"]
        name = f"{host}/{node_id[:8]}" if hosts[host] > 1 else host
        live.append(Node(node_id, name, entry["NodeManagerAddress"], entry["Resources"]))
    return sorted(live, key=lambda node: node.name)


def own_id() -> str:
    """Return the Ray id of this process's node."""
    return str(ray().get_runtime_context().get_node_id())


def on_node(node_id: str) -> Any:
    """Return the scheduling strategy that runs a task on this node only."""
    return ray().util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)


def demand(plan: Plan, resource: str | None, live: list[Node]) -> dict[str, Any]:
    """Return the resources of a task: a named resource, else all GPUs or all CPUs of a node, without a neighbour.

    Raises:
        InputError: no node has it.
    """
    if resource is not None:
        if not any(node.resources.get(resource, 0) >= 1 for node in live):
            raise InputError(
                f"no node of the cluster has the resource {resource!r}",
                where="--resource",
                fix=f"start its nodes with --resources '{{\"{resource}\": 1}}'",
            )
        return {"num_cpus": 0, "resources": {resource: 1}}
    hardware = plan.groups[0].hardware if plan.groups else None
    if (
        plan.sweep.server.kind in {"process", "container"}
        and hardware is not None
        and hardware.gpu is not None
    ):
        if not any(node.resources.get("GPU", 0) >= hardware.gpus for node in live):
            raise InputError(
                f"no node of the cluster has {hardware.gpus} GPUs",
                where=hardware.name,
                fix="if the nodes do not report their GPUs to Ray, give --resource NAME; otherwise give another --hardware",
            )
        return {"num_cpus": 0, "num_gpus": hardware.gpus}
    cpus = [node.resources["CPU"] for node in live if node.resources.get("CPU", 0) >= 1]
    if not cpus:
        raise InputError(
            "no node of the cluster has a CPU for Ray",
            fix="name a resource that the nodes have: --resource NAME",
        )
    return {"num_cpus": int(min(cpus))}
