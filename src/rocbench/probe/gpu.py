"""Telemetry of the GPUs that a server uses, once a second, from the amdsmi library or the `amd-smi` command.

It never fails a run: unreadable values are absent, a tool that hangs is abandoned with a note, and on a machine
without an AMD GPU telemetry is off, with one note.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

from rocbench import baseurl
from rocbench.probe import amd_smi, identify
from rocbench.probe.amd_library import Library
from rocbench.probe.monitor import Monitor
from rocbench.probe.sockets import Sockets
from rocbench.processes import ProcessIdentity
from rocbench.records import GpuSample
from rocbench.settings.schema import Hardware

PERIOD_S = 1.0
EDGE_S = 3.0
"""Maximum distance from a window of a reading that gives the energy at the window's edge."""
FIRST_S = 20.0
_GIVE_UP_AFTER = 3
_SHARED_EVERY = 10
_STALLED_S = 15.0
_LOOK_S = 0.02

Reading = list[tuple[GpuSample, int | None]]
"""A sample of each GPU, and its throttle residency."""

_shown: set[str] = set()
"""Notes of this process. A missing GPU is reported once, not for each server of a run."""


@dataclass(slots=True)
class Telemetry(Monitor):
    """Readings while the context is open; empty without a source."""

    read: Callable[[int], Reading | None] | None = None
    gpus: tuple[int, ...] = ()
    """Indices kept; empty keeps all."""
    sockets: Sockets = field(default_factory=Sockets)
    cap_w: float | None = None
    """Power limit of one socket, used if the tool does not report it."""
    own_pids: Callable[[], set[int]] = set
    attached: bool = False
    """The server's processes are unknown: those found first may be its own, later ones are not."""
    notes: list[str] = field(default_factory=list)
    samples: list[GpuSample] = field(default_factory=list)
    power_note: str = ""
    """A note on the power: whole sockets, or the reason for a missing figure."""
    looks: list[tuple[int, bool | None]] = field(default_factory=list)
    """(ns, True if another process was on these GPUs) of each answered look."""

    _returned: int = 0
    """Number of notes that `new_notes` has returned."""
    _first_pids: set[int | None] | None = field(default=None, repr=False)
    """Processes found first on the GPUs of an attached server."""
    _residency: dict[int, int] = field(default_factory=dict, repr=False)
    _last_ns: int = 0
    _JOIN_S: ClassVar[float] = 2.0
    """A thread that is stuck in the driver is abandoned."""

    def __enter__(self) -> Self:
        if self.read is None:
            return self
        self._last_ns = time.time_ns()
        return Monitor.__enter__(self)

    def between(self, start_ns: int, end_ns: int) -> list[GpuSample]:
        """Readings of a window, and up to 3 s before and after it, for the energy at its edges.

        Waits for the first reading after the window, usually less than a second: without it the energy counter
        would not cover the end of the window.
        """
        edge_ns = int(EDGE_S * 1e9)
        while self._last_ns < end_ns and time.time_ns() < end_ns + edge_ns:
            if self._thread is None or not self._thread.is_alive():
                break
            time.sleep(_LOOK_S)
        if self.read is not None and end_ns - self._last_ns > _STALLED_S * 1e9:
            self._note_once(f"GPU telemetry stalled: no reading for {(end_ns - self._last_ns) / 1e9:.0f} s")
        return [
            sample for sample in list(self.samples) if start_ns - edge_ns <= sample.at_ns < end_ns + edge_ns
        ]

    def power_columns(self) -> dict[str, float | int | str | None]:
        """Columns of `cells` on the sockets whose power was measured."""
        used = set(self.gpus) or {sample.gpu for sample in self.samples}
        if not used or not self.sockets.of.keys() >= used:
            return {"power_note": self.power_note or None}
        sockets = len({self.sockets.of[gpu] for gpu in used})
        reported_w = self.sockets.cap_w(used)
        by_hardware = None if self.cap_w is None else sockets * self.cap_w
        return {
            "gpu_sockets": sockets,
            "power_cap_w": by_hardware if reported_w is None else reported_w,
            "power_note": self.power_note or None,
        }

    def shared(self, start_ns: int, end_ns: int) -> bool | None:
        """Column `gpu_shared`: True if another process was on these GPUs; None if unknown."""
        edge_ns = int(3 * _SHARED_EVERY * PERIOD_S * 1e9)
        before = [others for at_ns, others in self.looks if start_ns - edge_ns <= at_ns < start_ns]
        inside = [others for at_ns, others in self.looks if start_ns <= at_ns < end_ns]
        looks = [*before[-1:], *inside]
        return True if True in looks else None if not looks or None in looks else False

    def new_notes(self) -> list[str]:
        """Notes since the last call, with new warnings of amd-smi."""
        self.notes += [note for warning in amd_smi.warnings() for note in _once(warning)]
        notes = self.notes[self._returned :]
        self._returned += len(notes)
        return notes

    def _run(self) -> None:
        failed, turn = 0, 0
        while not self._closing.is_set() and failed < _GIVE_UP_AFTER:
            if turn % _SHARED_EVERY == 0:
                self._look_for_others()
            paused = amd_smi.paused()  # one slow answer on a busy node is one failure, not one each second
            failed = 0 if self.take() else failed + (not paused)
            turn += 1
            self._closing.wait(PERIOD_S)
        if failed >= _GIVE_UP_AFTER:
            self._note_once(f"GPU telemetry stopped: {failed} consecutive readings failed or took too long")

    def take(self) -> bool:
        """Take one reading; return False if it failed."""
        assert self.read is not None
        before = time.time_ns()
        reading = self.read(before)
        if not reading:
            return False
        at_ns = (before + time.time_ns()) // 2
        # A missing GPU gets an empty sample: a sum over the others is not the server's power.
        listed = [sample.gpu for sample, _ in reading]
        missing = set(self.gpus) - set(listed)
        self.samples += [GpuSample(at_ns, gpu) for gpu in sorted(missing)]
        if not self.power_note:
            self.power_note = self.sockets.note(self.gpus or listed, {*listed, *self.sockets.of})
            if self.power_note:
                self._note_once(self.power_note)
        once = self.sockets.counted_once([sample for sample, _ in reading], self.gpus)
        for sample, (_, residency) in zip(once, reading, strict=True):
            if self.gpus and sample.gpu not in self.gpus:
                continue
            throttled = self._throttled(sample, residency)
            self.samples.append(replace(sample, at_ns=at_ns, throttled=throttled))
        self._last_ns = at_ns
        return True

    def _throttled(self, sample: GpuSample, residency: int | None) -> bool | None:
        """Throttling since the last reading, by the accumulator; without one by the status."""
        if residency is None:
            return sample.throttled
        last = self._residency.get(sample.gpu)
        self._residency[sample.gpu] = residency
        return bool(sample.throttled) if last is None else residency > last or bool(sample.throttled)

    def _look_for_others(self) -> None:
        rows = amd_smi.ask("process") if amd_smi.available() else None
        if rows is None:
            return
        listed = {
            gpu: processes
            for gpu, processes in amd_smi.processes_of(rows).items()
            if not self.gpus or gpu in self.gpus
        }
        pids = {pid for processes in listed.values() for pid, _ in processes}
        if self._first_pids is None:
            self._first_pids = pids if self.attached else set()
        own_pids = self.own_pids() | self._first_pids | {None, os.getpid()}
        others = [
            f"{amd_smi.process_text(pid, name)} on GPU {gpu}"
            for gpu, processes in listed.items()
            for pid, name in processes
            if pid not in own_pids
        ]
        unknown = self.attached or None in pids or not listed or set(self.gpus) - listed.keys()
        if others:
            self._note_once(f"another process uses the server's GPUs: {', '.join(others[:8])}")
        self.looks.append((time.time_ns(), True if others else None if unknown else False))

    def _note_once(self, text: str) -> None:
        if not any(note[:20] == text[:20] for note in self.notes):
            self.notes.append(text)


def telemetry(
    kind: str,
    base_url: str,
    gpus: tuple[int, ...],
    members: Callable[[], Iterable[ProcessIdentity]],
    hardware: Hardware | None,
) -> Telemetry:
    """Telemetry of the GPUs that a running server uses.

    Off for a simulated server, on CPU hardware, and for a server on another machine.

    Args:
        kind: of the server (`ServerSpec.kind`).
        gpus: indices that it is bound to; empty if unknown.
        members: its processes (`RunningServer.processes`).
    """
    attached = kind == "attached"
    if kind == "simulated" or (hardware is not None and hardware.platform == "cpu"):
        return Telemetry()
    if attached and not baseurl.parse(base_url).loopback:
        return Telemetry(notes=_once("GPU telemetry is off: the server runs on another machine"))
    read, origin, sockets = _working_source()
    if read is None:
        return Telemetry(notes=_once(f"GPU telemetry is off: {origin}"))

    def own_pids() -> set[int]:
        return {member.pid for member in members()}

    return Telemetry(
        read=read,
        gpus=gpus or _used_by(own_pids(), attached=attached),
        sockets=sockets,
        cap_w=hardware.gpu.power_w if hardware is not None and hardware.gpu is not None else None,
        own_pids=own_pids,
        attached=attached,
        notes=_once(f"GPU telemetry once a second from {origin}"),
    )


Source = tuple[Callable[[int], Reading | None], Callable[[], Sockets]]
"""(reader of the GPUs, reader of their sockets)."""


def source() -> tuple[Source | None, str]:
    """This machine's GPU reader and its name; (None, reason) without one."""
    try:
        library = Library()
    except OSError as error:
        if not amd_smi.available():
            missing = "no amd-smi" if Path("/dev/kfd").exists() else "no /dev/kfd, no amd-smi"
            return None, f"no AMD GPU can be read on this machine ({missing}; {error})"
        return (_by_command, identify.sockets), "amd-smi"
    return (library.read, library.sockets), "the amdsmi library"


def _by_command(at_ns: int) -> Reading | None:
    flags = ["-p", "-u", "-c", "-t", "-m", "-E", "-e"]
    rows = amd_smi.ask("metric", *flags, "--violation", timeout_s=5.0)
    if rows is None:  # up to ROCm 6.2 there is no --violation
        rows = amd_smi.ask("metric", *flags, timeout_s=5.0)
    if rows is None:
        return None
    return [(amd_smi.sample_of(row, at_ns), amd_smi.residency(row)) for row in rows]


def _working_source() -> tuple[Callable[[int], Reading | None] | None, str, Sockets]:
    """A source that gave a reading, its name and cost, and the sockets; else None, the reason, and no sockets.

    The first reading is taken in a thread that is abandoned if it does not return: with a hung driver even
    opening the library never returns.
    """
    outcome: list[tuple[Callable[[int], Reading | None] | None, str, Sockets]] = []

    def attempt() -> None:
        readers, name = source()
        if readers is None:
            outcome.append((None, name, Sockets()))
            return
        read, sockets = readers
        before_s = _cpu_s()
        reading = read(time.time_ns())
        cost_ms = (_cpu_s() - before_s) * 1e3
        if reading:
            outcome.append((read, f"{name}, {cost_ms:.0f} ms of CPU time per reading", sockets()))
        else:
            error = amd_smi.last_error()
            outcome.append((None, f"{name} gives no reading" + (f" ({error})" if error else ""), Sockets()))

    thread = threading.Thread(target=attempt, daemon=True, name="gpu-first")
    thread.start()
    thread.join(timeout=FIRST_S)
    if outcome:
        return outcome[0]
    hung = f"no reading within {FIRST_S:.0f} s; the GPU driver may hang"
    return None, hung if thread.is_alive() else "the first reading failed", Sockets()


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.thread_time() + children.ru_utime + children.ru_stime


def _used_by(own_pids: set[int], *, attached: bool) -> tuple[int, ...]:
    """GPUs on which the server's own processes are listed; empty (all) if unknown.

    The processes of an attached server are unknown: its GPUs are those in use.
    """
    rows = amd_smi.ask("process") if amd_smi.available() else None
    by_gpu = {gpu: {pid for pid, _ in listed} for gpu, listed in amd_smi.processes_of(rows or []).items()}
    return tuple(sorted(gpu for gpu, pids in by_gpu.items() if own_pids & pids or (attached and pids)))


def _once(text: str) -> list[str]:
    if text in _shown:
        return []
    _shown.add(text)
    return [text]
