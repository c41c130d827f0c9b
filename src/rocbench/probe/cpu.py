"""CPU use of the server's processes. At 1,000 streams the API server is often the limit."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from rocbench import processes
from rocbench.processes import ProcessIdentity


@dataclass(frozen=True, slots=True)
class CpuReading:
    """CPU seconds of each process since its start, at one moment."""

    at_ns: int
    cpu_s: dict[ProcessIdentity, float]
    roles: dict[ProcessIdentity, str]
    """`frontend`, `engine`, `worker` or `other`."""


def read_cpu(members: Iterable[ProcessIdentity]) -> CpuReading:
    """Read /proc for the server's processes, leader first (`RunningServer.processes()`)."""
    cpu_s: dict[ProcessIdentity, float] = {}
    roles: dict[ProcessIdentity, str] = {}
    for index, member in enumerate(members):
        row = processes.read_process(member.pid)
        if row is not None and row.started == member.started:
            cpu_s[member] = row.cpu_s
            roles[member] = role_of(processes.command_line(member.pid), leader=index == 0)
    return CpuReading(time.time_ns(), cpu_s, roles)


def role_of(command: str, *, leader: bool) -> str:
    """The role by vLLM's process titles (`VLLM::EngineCore_DP0`, `VLLM::Worker_TP0`, `VLLM::APIServer_1`). Pure."""
    if "EngineCore" in command:
        return "engine"
    if "Worker" in command:
        return "worker"
    return "frontend" if leader or "APIServer" in command else "other"


def view(before: CpuReading, after: CpuReading) -> dict[str, float | None]:
    """Columns of `cells`: the share of one core that the busiest process of each role used. Pure.

    Above 1 for a process with several busy threads. None if no process of that role is visible (attached server,
    container with hidden processes).
    """
    seconds = (after.at_ns - before.at_ns) / 1e9
    busiest: dict[str, float] = {}
    for member, cpu_s in after.cpu_s.items():
        if member in before.cpu_s and seconds > 0:
            role = after.roles[member]
            busiest[role] = max(busiest.get(role, 0.0), (cpu_s - before.cpu_s[member]) / seconds)
    return {
        "server_frontend_cpu_share": busiest.get("frontend"),
        "server_engine_cpu_share": busiest.get("engine"),
        "server_worker_cpu_share": busiest.get("worker"),
    }
