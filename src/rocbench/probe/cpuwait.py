"""Time for which the server's threads waited for a CPU that others used (column `server_cpu_wait_share`).

For each thread the kernel counts the time that it ran, and the time that it was ready to run and waited
(/proc/PID/task/TID/schedstat). Not every wait is a loss: 64 OpenMP threads on 4 CPUs wait for each other. So a
wait is divided between the threads that ran meanwhile on the CPUs that the thread may use: the server's own
threads, and all others (the busy time of these CPUs, minus the server's part). Time throttled by a CPU quota
(`cpu.max`, `cpu.cfs_quota_us`) counts as lost to others. The column is the share of the thread that lost most,
so idle threads do not change it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rocbench.probe.cpu import CpuReading, read_cpu
from rocbench.probe.cpu import view as cpu_view
from rocbench.probe.monitor import Monitor
from rocbench.processes import ProcessIdentity

PERIOD_S = 1.0
COST = 0.01
"""Maximum share of one CPU for readings: the pause after a slow reading is longer."""

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_QUOTA_STATS = {"throttled_usec": 1e6, "throttled_time": 1e9}
"""Names of the throttled time in `cpu.stat` of cgroup version 2 and 1, and their units per second."""


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """Run time and wait time of one thread since its start, in seconds, and the CPUs that it may use."""

    run_s: float
    wait_s: float
    cpus: frozenset[int]


@dataclass(frozen=True, slots=True)
class Reading:
    """The server's threads, its CPUs and its quotas at one moment of the monotonic clock."""

    at_s: float
    threads: Mapping[tuple[int, int], ThreadTime]
    """By pid and thread id."""
    idle_s: Mapping[int, float]
    """CPU to the seconds since boot without a running thread: idle, or serving interrupts."""
    throttled_s: Mapping[str, float]
    """Control group to the seconds throttled by its CPU quota, summed over CPUs."""


def read_cpu_wait(
    members: Iterable[ProcessIdentity],
    proc: Path = _PROC,
    cgroups: Path = _CGROUPS,
    affinity: Callable[[int], Collection[int]] = os.sched_getaffinity,
) -> Reading:
    """Read the threads of these processes, without ended ones; none in a kernel without schedstat."""

    threads: dict[tuple[int, int], ThreadTime] = {}
    groups: set[Path] = set()
    for member in members:
        folder = proc / str(member.pid)
        with suppress(OSError):
            groups |= _quota_groups((folder / "cgroup").read_text(encoding="utf-8"), cgroups)
        with suppress(OSError):
            for path in (folder / "task").iterdir():
                with suppress(OSError, ValueError):
                    with open(path / "schedstat", "rb") as file:
                        run_ns, wait_ns = file.read().split()[:2]
                    cpus = frozenset(affinity(int(path.name)))
                    spent = ThreadTime(int(run_ns) / 1e9, int(wait_ns) / 1e9, cpus)
                    threads[member.pid, int(path.name)] = spent
    throttled = {str(group): seconds for group in groups if (seconds := _throttled_s(group)) is not None}
    return Reading(time.monotonic(), threads, _idle_s(proc), throttled)


def _quota_groups(text: str, cgroups: Path) -> set[Path]:
    """The control groups in /proc/PID/cgroup that may have a CPU quota, with their parents."""
    groups = set()
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        roots = [cgroups] if number == "0" else [cgroups / controllers, cgroups / "cpu"]
        for root in roots:
            group = root / path.strip("/")
            groups |= {group, *(above for above in group.parents if above.is_relative_to(root))}
    return groups


def _throttled_s(group: Path) -> float | None:
    try:
        for line in (group / "cpu.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name in _QUOTA_STATS:
                return int(value) / _QUOTA_STATS[name]
    except (OSError, ValueError):
        pass
    return None


def _idle_s(proc: Path) -> dict[int, float]:
    """Idle, iowait, irq and softirq time of each CPU (proc_stat(5)).

    On a CPU that stops its tick only idle time is exact. User and system time are counted at ticks, so a server
    that a client wakes at its ticks would be counted twice.
    """
    idle_s = {}
    with suppress(OSError, ValueError, IndexError):
        for line in (proc / "stat").read_text(encoding="ascii").splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                ticks = [int(fields[at]) for at in (3, 4, 5, 6)]
                idle_s[int(name.removeprefix("cpu"))] = sum(ticks) / _TICKS_PER_S
    return idle_s


@dataclass(slots=True)
class Account:
    """Run and wait time of each thread between the first reading and the last; pure."""

    first: Reading
    last: Reading = field(init=False)
    spent: dict[tuple[int, int], ThreadTime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.last = self.first

    def add(self, reading: Reading) -> None:
        """Add a later reading. A new thread started since the last one; an ended thread keeps its sum."""
        for key, now in reading.threads.items():
            before = self.last.threads.get(key)
            if before is None or now.run_s < before.run_s or now.wait_s < before.wait_s:
                before = ThreadTime(
                    0.0, 0.0, now.cpus
                )  # a new thread; its number may have been in use before
            total = self.spent.get(key, ThreadTime(0.0, 0.0, now.cpus))
            self.spent[key] = ThreadTime(
                total.run_s + now.run_s - before.run_s, total.wait_s + now.wait_s - before.wait_s, now.cpus
            )
        self.last = reading

    def wait_share(self) -> float | None:
        """The largest share of the time that a thread waited because of others; None without readings.

        wait x others / (others + own): `own` is the run time of the server's other threads on the thread's
        CPUs, and `others` the run time of everything else there while the server was ready to run. The server is
        assumed to need the CPUs then as much as in the rest of the time, in which it either ran or left them idle.
        Waits up to the time throttled by a quota count in full.
        """
        seconds = self.last.at_s - self.first.at_s
        if seconds <= 0 or not self.spent:
            return None
        throttled_s = sum(
            max(0.0, after - self.first.throttled_s.get(group, after))
            for group, after in self.last.throttled_s.items()
        )
        own = self._own()
        idle = {
            cpu: min(seconds, max(0.0, after - self.first.idle_s.get(cpu, after)))
            for cpu, after in self.last.idle_s.items()
        }
        worst = 0.0
        for thread in self.spent.values():
            wait_s = min(thread.wait_s, seconds)
            cpus = thread.cpus & idle.keys()
            ran = sum(own.get(cpu, 0.0) for cpu in cpus)
            free = sum(idle[cpu] for cpu in cpus)
            others = limit = max(0.0, seconds * len(cpus) - free - ran)
            if ran + free > 0:
                others *= ran / (ran + free)
            all_others = others + max(0.0, ran - thread.run_s)
            by_quota = min(wait_s, throttled_s)
            by_others = (wait_s - by_quota) * others / all_others if all_others > 0 else 0.0
            worst = max(worst, by_quota + min(by_others, limit))
        return worst / seconds

    def _own(self) -> dict[int, float]:
        """CPU to the seconds that the server ran on it, if each thread uses all its CPUs equally."""
        own: dict[int, float] = {}
        for thread in self.spent.values():
            for cpu in thread.cpus:
                own[cpu] = own.get(cpu, 0.0) + thread.run_s / len(thread.cpus)
        return own


@dataclass(slots=True)
class CpuWait(Monitor):
    """Account of the measured window, updated each second while the context is open, and the CPU use of processes."""

    members: Callable[[], tuple[ProcessIdentity, ...]]
    period_s: float = PERIOD_S
    account: Account | None = None
    """None before the window, and without a visible thread: threads found later do not cover the window."""
    first: CpuReading | None = None
    last: CpuReading | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def enter(self, phase: str) -> None:
        """Take readings at the first progress in the phase `measure`, and at the first after it."""
        if phase == "measure" and self.first is None:
            members = self.members()
            self.first = read_cpu(members)
            reading = read_cpu_wait(members)
            with self._lock:
                self.account = Account(reading) if reading.threads else None
        elif phase != "measure" and self.first is not None and self.last is None:
            members = self.members()
            with self._lock:
                self.last = read_cpu(members)
                if self.account is not None:
                    self.account.add(read_cpu_wait(members))

    def view(self) -> dict[str, float | None]:
        """Columns of `cells`; None if no process of the server is visible."""
        shares = cpu_view(self.first, self.last) if self.first and self.last else {}
        return shares | {"server_cpu_wait_share": self.account.wait_share() if self.account else None}

    def _run(self) -> None:
        pause_s = self.period_s
        while not self._closing.wait(pause_s):
            start_s = time.thread_time()
            if self.account is not None and self.last is None:
                members = self.members()
                with self._lock:
                    if self.last is None:
                        self.account.add(read_cpu_wait(members))
            pause_s = max(self.period_s, (time.thread_time() - start_s) / COST)
