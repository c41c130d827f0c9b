"""Load from several hosts: the same workers and the same control block on each, kept in step by their agents.

Sending and receiving happen on one host, so latencies need no common clock. The window does: its edges are
announced ahead, and each host gets them in its own clock, by an offset measured as NTP does (the exchange
with the shortest round trip); half the round trip bounds the error. Rows come back in the driver's clock.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from rocbench.errors import BenchError, EnvironmentFault, LoadFault
from rocbench.load.clock import Difference, difference
from rocbench.load.control import UNSET, Control, Count, Head
from rocbench.load.spec import WorkerSpec
from rocbench.load.work import WorkerReport
from rocbench.load.workerpool import Crew, WorkerPool
from rocbench.records import NONE, LoadHost

AHEAD_NS = 1_000_000_000
"""Time between the announcement of a window edge and the edge: longer than any exchange with a host."""
PINGS = 60
EXCHANGE_EVERY_S = 0.02
_END_S = 2.0
"""Time that the end of a load waits for hosts, twice: workers of a silent host see the end by themselves."""
_TIMES = (Head.GO_NS, Head.START_NS, Head.END_NS)
_FIRST = (Count.READY, Count.TAIL_SEEN, Count.EXHAUSTED)
"""Flags that are read before the counters that they confirm."""
_STAMPS = ("intended_ns", "sent_ns", "first_chunk_ns", "first_token_ns", "last_token_ns", "end_ns")

Report = WorkerReport | BenchError


class Agent(Protocol):
    """The calls to a load host. Every call may raise OSError if the host is gone."""

    name: str
    cpus: int

    def clock(self) -> int:
        """The host's CLOCK_REALTIME in ns."""

    def start(self, specs: Sequence[WorkerSpec], workers: int) -> None:
        """Start these workers; `workers` is the number over all hosts."""

    def exchange(self, head: Sequence[int]) -> tuple[list[list[int]], bool]:
        """Send the driver's cells, in this host's clock; return the workers' and True if all reported."""

    def reports(self) -> list[Report]:
        """The reports of the host's workers, once all have reported."""

    def end(self) -> None:
        """End all workers."""


class HostSide:
    """The load host's side; it runs in the agent's process on that host."""

    def __init__(self) -> None:
        self._control: Control | None = None
        self._crew: WorkerPool | None = None
        self._indexes: list[int] = []

    def clock(self) -> int:
        """CLOCK_REALTIME in ns."""
        return time.time_ns()

    def start(self, specs: Sequence[WorkerSpec], workers: int) -> None:
        """Start the workers with a control block like the driver's."""
        self._control = Control.create(workers)
        self._indexes = [spec.index for spec in specs]
        self._crew = WorkerPool([replace(spec, parent_pid=os.getpid()) for spec in specs], self._control)
        self._crew.start()

    def exchange(self, head: Sequence[int]) -> tuple[list[list[int]], bool]:
        """Write the driver's cells, the command last; read the workers', flags first."""
        assert self._control is not None
        assert self._crew is not None
        for cell in _TIMES:
            self._control.cells[cell] = head[cell]
        self._control.cells[Head.COMMAND] = head[Head.COMMAND]
        done = self._crew.done
        counters = []
        for index in self._indexes:
            cells = self._control.counters(index)
            flags = {flag: cells[flag] for flag in _FIRST}
            values = cells.tolist()
            for flag, value in flags.items():
                values[flag] = value
            counters.append(values)
        return counters, done

    def reports(self) -> list[Report]:
        """The report of each worker; a fault for a worker that died."""
        assert self._crew is not None
        return [
            member.report or LoadFault(f"load worker {member.index} ended unexpectedly: {member.why_dead()}")
            for member in self._crew.members
        ]

    def end(self) -> None:
        """End the workers and release the memory."""
        if self._crew is not None:
            self._crew.end()
            self._crew = None
        if self._control is not None:
            self._control.close()
            self._control = None


def offset(agent: Agent) -> Difference:
    """The host's clock minus ours."""
    return difference(agent.clock, time.time_ns, PINGS)


@dataclass(slots=True)
class _Host:
    """The driver's view of one host."""

    agent: Agent
    specs: list[WorkerSpec]
    offset: Difference
    reports: list[Report] | None = None
    fault: BenchError | None = None
    lag_ns: int = 0
    """The longest time without a message to the host."""
    thread: threading.Thread | None = field(default=None, repr=False)


class HostsCrew(Crew):
    """All workers on all hosts."""

    def __init__(self, specs: Sequence[WorkerSpec], control: Control, agents: Sequence[Agent]) -> None:
        super().__init__(specs, control)
        share = -(-len(specs) // len(agents))
        self._hosts = [
            _Host(agent, list(specs[place * share : (place + 1) * share]), offset(agent))
            for place, agent in enumerate(agents)
        ]
        self._ending = False

    def start(self) -> None:
        """Start the workers on each host and a thread that keeps it in step."""
        try:
            for host in self._hosts:
                host.agent.start(host.specs, len(self.specs))
        except OSError as error:
            raise EnvironmentFault(f"a load host is not reachable: {error}") from None
        for host in self._hosts:
            host.thread = threading.Thread(target=self._keep_in_step, args=(host,), daemon=True)
            host.thread.start()

    def end(self) -> None:
        """End the workers of each host, within a few seconds."""
        self._ending = True
        _within(_END_S, [host.thread for host in self._hosts if host.thread is not None])
        enders = [threading.Thread(target=_end, args=(host.agent,), daemon=True) for host in self._hosts]
        for ender in enders:
            ender.start()
        _within(_END_S, enders)

    def _keep_in_step(self, host: _Host) -> None:
        """Exchange the driver's commands and a host's counters until its workers have reported."""
        last = time.monotonic_ns()
        try:
            while not self._ending:
                head = self.control.cells[: max(Head) + 1].tolist()
                for cell in _TIMES:
                    if head[cell] not in {0, UNSET}:
                        head[cell] += host.offset.ns
                counters, done = host.agent.exchange(head)
                now = time.monotonic_ns()
                host.lag_ns, last = max(host.lag_ns, now - last), now
                for spec, values in zip(host.specs, counters, strict=True):
                    cells = self.control.counters(spec.index)
                    for place, value in enumerate(values):
                        cells[place] = value
                if done:
                    host.reports = host.agent.reports()
                    return
                time.sleep(EXCHANGE_EVERY_S)
        except ValueError:
            if not self._ending:  # the load is over, and so is its control block
                raise
        except OSError as error:
            host.fault = LoadFault(f"load host {host.agent.name} is not reachable: {error}")

    @property
    def done(self) -> bool:
        """True if all hosts have handed over all reports."""
        return all(host.reports is not None or host.fault is not None for host in self._hosts)

    def check(self) -> None:
        """Raise an error that a worker reported, or LoadFault for a host that is gone."""
        for host in self._hosts:
            if host.fault is not None:
                raise host.fault
            for report in host.reports or ():
                if isinstance(report, BenchError):
                    raise report

    def reports(self) -> list[WorkerReport]:
        """All workers' reports in the driver's clock, once `done`."""
        self.check()
        return [
            _in_our_clock(report, host)
            for host in self._hosts
            for report in host.reports or ()
            if isinstance(report, WorkerReport)
        ]

    def hosts(self) -> tuple[LoadHost, ...]:
        """Each host with the offset of its clock, measured again now, so that the bound includes a drift."""
        hosts = []
        for host in self._hosts:
            again = offset(host.agent)
            drift = abs(again.ns - host.offset.ns)
            bound = max(host.offset.bound_ns, again.bound_ns) + drift
            hosts.append(
                LoadHost(
                    host.agent.name, len(host.specs), host.offset.ns / 1e6, bound / 1e6, host.lag_ns / 1e6
                )
            )
        return tuple(hosts)

    def notes(self) -> list[str]:
        """Hosts without a message for longer than edges are announced ahead."""
        return [
            f"load host {host.agent.name} was not reachable for {host.lag_ns / 1e9:.1f} s, so the start or the "
            "end of the window may have reached the host too late"
            for host in self._hosts
            if host.lag_ns > AHEAD_NS
        ]


def _within(seconds: float, threads: Sequence[threading.Thread]) -> None:
    """Join all threads within one common time limit."""
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _end(agent: Agent) -> None:
    with suppress(OSError):  # the host is gone, and its workers notice
        agent.end()


def _in_our_clock(report: WorkerReport, host: _Host) -> WorkerReport:
    """A report with its stamps moved by the offset, and the host's name."""
    rows = report.rows.copy()
    for name in _STAMPS:
        known = rows[name] != NONE
        rows[name][known] -= host.offset.ns
    stamps = report.stamps
    if stamps is not None:
        stamps = {key: values - host.offset.ns for key, values in stamps.items()}
    return replace(report, rows=rows, stamps=stamps, stats=replace(report.stats, host=host.agent.name))


def spread(agents: Sequence[Agent], workers: int | None, needed: int) -> int:
    """Number of workers over all hosts: as asked, else `wanted`, the same on each, at most one per CPU."""
    if workers is not None:
        return max(workers, len(agents))
    each = -(-needed // len(agents))
    return len(agents) * max(1, min(each, *(agent.cpus for agent in agents)))
