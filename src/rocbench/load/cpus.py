"""CPU placement of the load workers, so that they and the server's ranks do not disturb each other."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

LEAST_CPUS = 8
"""Minimum CPUs for a placement; with fewer, the kernel places the workers."""
MOST_CPUS = 65_536
"""CPUs of one machine: Linux is built for at most 8,192."""
_NODES = Path("/sys/devices/system/node")
_CPUS = Path("/sys/devices/system/cpu")


def pick(
    count: int,
    available: Collection[int],
    taken: Collection[int],
    nodes: Mapping[int, Sequence[int]],
    siblings: Mapping[int, Sequence[int]],
) -> tuple[int, ...] | None:
    """`count` CPUs for the client, one per core, on one NUMA node if it fits; None if too few are free. Pure.

    Args:
        count: number of CPUs needed.
        available: CPUs this process may use.
        taken: CPUs that the server's ranks are bound to, or last ran on.
        nodes: NUMA node to its CPUs.
        siblings: CPU to the hardware threads of its core, itself among them.

    A core counts as taken when any of its threads is. Nodes with the fewest taken CPUs come first, then those
    with higher numbers; within a node the highest CPUs, because servers bind from below.
    """
    busy = {thread for cpu in taken for thread in siblings.get(cpu, (cpu,))}
    free = [
        cpu for cpu in available if cpu not in busy and cpu == min(siblings.get(cpu, (cpu,)), default=cpu)
    ]
    if len(free) < count:
        return None
    home = {cpu: node for node, cpus in nodes.items() for cpu in cpus}
    crowd = {node: len(busy.intersection(cpus)) for node, cpus in nodes.items()}
    room = {node: sum(home.get(cpu) == node for cpu in free) >= count for node in nodes}

    def rank(cpu: int) -> tuple[bool, int, int, int]:
        node = home.get(cpu, -1)
        return (not room.get(node, False), crowd.get(node, 0), -node, -cpu)

    return tuple(sorted(free, key=rank)[:count])


def usable() -> set[int]:
    """The CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def for_client(count: int, server_pids: Collection[int] = ()) -> tuple[int, ...] | None:
    """CPUs for `count` workers that the server's processes do not use; None leaves it to the kernel."""
    available = usable()
    if len(available) < max(LEAST_CPUS, 2 * count):
        return None
    taken: set[int] = set()
    for pid in server_pids:
        with suppress(OSError, ValueError, IndexError):
            bound = os.sched_getaffinity(pid)
            # The mask of a process that may run anywhere says nothing; its last CPUs do.
            taken |= bound if len(bound) < len(available) else _last_cpus(pid)
    return pick(count, available, taken, _nodes(), _siblings(available))


def off_server(available: Collection[int], bound: Collection[Collection[int]]) -> set[int]:
    """The CPUs that no process of the server may use; all available CPUs if there are none. Pure.

    Args:
        available: CPUs this process may use.
        bound: CPUs that each of the server's processes may use.
    """
    return set(available).difference(*bound) or set(available)


@contextmanager
def kept_off(server_pids: Collection[int]) -> Iterator[None]:
    """Keep this thread, and the threads that it starts, off the server's CPUs while the context is open.

    The driver needs CPU time as well as the workers: it reads the server's metrics and shows the progress.
    """
    available = usable()
    bound = []
    for pid in server_pids:
        with suppress(OSError, AttributeError):
            bound.append(os.sched_getaffinity(pid))
    client_cpus = off_server(available, bound)
    if client_cpus == available:
        yield
        return
    os.sched_setaffinity(0, client_cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, available)


def _last_cpus(pid: int) -> set[int]:
    """CPUs on which a process's threads last ran (field 39 of /proc/PID/task/TID/stat)."""
    cpus = set()
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            cpus.add(int(stat.read_text(encoding="ascii").rsplit(")", 1)[1].split()[36]))
    return cpus


def _nodes() -> dict[int, list[int]]:
    nodes = {}
    for folder in _NODES.glob("node[0-9]*"):
        with suppress(OSError, ValueError):
            nodes[int(folder.name.removeprefix("node"))] = cpu_list(
                (folder / "cpulist").read_text(encoding="ascii")
            )
    return nodes


def _siblings(cpus: Collection[int]) -> dict[int, list[int]]:
    siblings = {}
    for cpu in cpus:
        with suppress(OSError, ValueError):
            path = _CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list"
            siblings[cpu] = cpu_list(path.read_text(encoding="ascii"))
    return siblings


def cpu_list(text: str) -> list[int]:
    """CPU numbers of the kernel's form `0-3,8`. Raises ValueError for other text or over `MOST_CPUS` CPUs."""
    cpus: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        if int(last or first) >= MOST_CPUS or len(cpus) > MOST_CPUS:
            raise ValueError(f"CPU numbers must be below {MOST_CPUS}")
        cpus.extend(numbers)
    return cpus
