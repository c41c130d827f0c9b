"""Commands of each host for one server over several nodes. Pure.

With multiprocessing, every host runs `vllm serve` with the same flags, its rank and the first host's address;
only the first serves requests (the others are `--headless`). Data-parallel ranks follow from the node's rank
(v0.14.1 engine/arg_utils.py:1460-1540 and docs/serving/parallelism_scaling.md:134-153; v0.33.0
engine/arg_utils.py:2399-2455 and :140-159; vLLM PR 23691).
With Ray, the hosts join a cluster, and the first runs the only command (v0.14.1 and v0.33.0
docs/serving/parallelism_scaling.md, "Running vLLM on a Ray cluster").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rocbench.errors import ConfigError
from rocbench.rules.resolution import Resolution

HEAD = "HEAD_IP"
"""Placeholder for the first host's address while it is unknown."""
RAY_PORT = 6379


@dataclass(frozen=True, slots=True)
class HostCommand:
    """The commands of one host, in order."""

    host: int
    """Counted from 0; host 0 answers requests."""
    commands: tuple[tuple[str, ...], ...]
    """The argv of each; the last command keeps running."""


def host_commands(
    resolution: Resolution, program: Sequence[str] = ("vllm",), head: str = HEAD
) -> tuple[HostCommand, ...]:
    """The commands of every host of a server, host 0 first; one host for a server on one node.

    Args:
        resolution: the result of the rules.
        program: the words before `serve`.
        head: address of host 0 that the others reach.

    Raises:
        ConfigError: the ranks cannot be spread evenly over the nodes.
    """
    nodes = resolution.facts.nodes
    serve = (*program, "serve", *resolution.argv())
    if nodes == 1:
        return (HostCommand(0, (serve,)),)
    if resolution.facts.gpus_needed % nodes:
        raise ConfigError(
            f"{resolution.facts.gpus_needed} ranks cannot be spread evenly over {nodes} nodes",
            fix="choose tensor, pipeline and data parallel sizes whose product is a multiple of the number of nodes",
        )
    if by_ray(resolution):
        start = ("ray", "start")
        return (
            HostCommand(0, ((*start, "--head", "--port", str(RAY_PORT)), serve)),
            *(
                HostCommand(host, ((*start, "--address", f"{head}:{RAY_PORT}", "--block"),))
                for host in range(1, nodes)
            ),
        )
    return tuple(
        HostCommand(
            host,
            (
                (
                    *serve,
                    *("--node-rank", str(host), "--master-addr", head),
                    *(("--headless",) if host else ()),
                ),
            ),
        )
        for host in range(nodes)
    )


def by_ray(resolution: Resolution) -> bool:
    """True if vLLM's Ray executor runs the server: then one command starts all hosts."""
    return resolution.flags().get("distributed-executor-backend") == "ray"
