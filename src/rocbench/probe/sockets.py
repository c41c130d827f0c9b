"""Sockets of the GPUs that amd-smi lists. Pure.

A GPU in DPX, QPX or CPX mode is listed once per partition, and the power and energy listed with a partition
are those of the whole socket (AMD SMI, "GPU partitioning"): a sum over a node must count each socket once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rocbench.records import GpuSample

_BDF = re.compile(r"^(?:([0-9a-f]+):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-9a-f]+)$", re.IGNORECASE)
_NO_SERIAL = re.compile(r"^(?:(?:0x)?(?:0+|f+)?|N/A)$", re.IGNORECASE)
"""Text that firmware gives instead of a serial number."""
WHOLE = "SPX"
"""The mode in which a socket is one GPU."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Properties that identify a listed GPU's socket. Empty or None if the tool does not tell."""

    bdf: str = ""
    serial: str = ""
    partition: int | None = None
    mode: str = ""
    """SPX, DPX, TPX, QPX or CPX."""
    cap_w: float | None = None
    """Maximum power of the socket."""

    @property
    def slot(self) -> str:
        """The PCI device without its function, which numbers partitions; empty if unknown."""
        match = _BDF.match(self.bdf.strip())
        return "" if match is None else f"{int(match[1] or '0', 16):x}:{match[2]}:{match[3]}".lower()

    @property
    def known_serial(self) -> str:
        """The serial number; empty if it is not a real one."""
        return "" if _NO_SERIAL.match(self.serial.strip()) else self.serial.strip().lower()


@dataclass(frozen=True, slots=True)
class Sockets:
    """GPU to its socket, which has the number of its lowest GPU. A missing GPU may share any socket."""

    of: Mapping[int, int] = field(default_factory=dict)
    caps_w: Mapping[int, float] = field(default_factory=dict)
    """Socket to its maximum power."""
    partitioned: frozenset[int] = frozenset()
    """GPUs that are only a part of their socket, also if the other parts are not listed."""

    def counted_once(self, samples: Sequence[GpuSample], used: Iterable[int]) -> list[GpuSample]:
        """Samples with the power and energy of each socket only at the lowest of its used GPUs.

        If a partition does not tell its socket's power (secondary ones usually do not), another one's value
        is used. If the owner of a figure is unknown, the figure is absent; a GPU that is the only one listed
        is a socket.
        """
        wanted = set(used) or {sample.gpu for sample in samples}
        alone = len(samples) == 1
        first: dict[int, int] = {}
        for gpu in sorted(wanted):
            first.setdefault(self.of.get(gpu, -1 - gpu), gpu)
        told: dict[int, tuple[float | None, float | None]] = {}
        for sample in sorted(samples, key=lambda sample: sample.gpu):
            socket = self.of.get(sample.gpu)
            if socket is not None:
                power_w, energy_j = told.get(socket, (None, None))
                told[socket] = (
                    sample.power_w if power_w is None else power_w,
                    sample.energy_j if energy_j is None else energy_j,
                )
        found = []
        for sample in samples:
            socket = self.of.get(sample.gpu)
            if socket is None:
                found.append(sample if alone else replace(sample, power_w=None, energy_j=None))
                continue
            carries = first.get(socket) == sample.gpu
            power_w, energy_j = told[socket] if carries else (None, None)
            found.append(
                replace(sample, power_w=power_w, energy_j=energy_j, socket=first.get(socket, sample.gpu))
            )
        return found

    def cap_w(self, gpus: Iterable[int]) -> float | None:
        """Maximum total power of the sockets of these GPUs; None if one does not tell."""
        sockets = {self.of.get(gpu, gpu) for gpu in gpus}
        caps = [self.caps_w[socket] for socket in sockets if socket in self.caps_w]
        return sum(caps) if sockets and len(caps) == len(sockets) else None

    def note(self, used: Iterable[int], listed: Iterable[int]) -> str:
        """A note on the power of these GPUs; empty if each is its own socket."""
        gpus, there = sorted(set(used)), sorted(set(listed))
        unsure = [gpu for gpu in gpus if gpu not in self.of]
        if unsure and len(there) < 2:
            return ""
        if unsure:
            return (
                f"power is absent: amd-smi does not tell whether GPUs {_ranges(unsure)} are partitions of one socket, "
                "whose power each of them shows"
            )
        sockets = {self.of[gpu] for gpu in gpus if gpu in self.of}
        others = [gpu for gpu in there if self.of.get(gpu) in sockets and gpu not in gpus]
        parts = f"{len(gpus)} partitions of {len(sockets)} socket{'s' if len(sockets) > 1 else ''}"
        if others:
            return f"power is of whole sockets: {parts}, which GPUs {_ranges(others)} share"
        if len(sockets) < len(gpus):
            return f"power is counted once a socket: {parts}"
        hidden = sorted(self.partitioned & set(gpus))
        return f"power is of whole sockets, of which GPUs {_ranges(hidden)} are partitions" if hidden else ""


def grouped(identities: Mapping[int, Identity]) -> Sockets:
    """GPUs grouped by socket. GPUs without any identifying property are omitted."""
    slots: dict[str, list[int]] = {}
    of: dict[int, int] = {}
    for gpu, identity in sorted(identities.items()):
        if identity.slot or identity.known_serial:
            slots.setdefault(identity.slot or f"serial {identity.known_serial}", []).append(gpu)
        elif identity.mode == WHOLE:
            of[gpu] = gpu
    for members in slots.values():
        apart = _apart([identities[gpu] for gpu in members])
        if apart is not None:
            of |= {gpu: gpu if apart else members[0] for gpu in members}
    caps: dict[int, float] = {}
    for gpu, socket in of.items():
        cap_w = identities[gpu].cap_w
        if cap_w:
            caps.setdefault(socket, cap_w)
    parts = {gpu for gpu in of if identities[gpu].mode not in ("", WHOLE)}
    return Sockets(of, caps, frozenset(parts))


def _apart(members: Sequence[Identity]) -> bool | None:
    """Return whether GPUs of one PCI slot (or one serial number) are separate sockets; None if unknown."""
    if len(members) == 1:
        return True
    serials = [member.known_serial for member in members]
    if all(serials) and len(set(serials)) == len(serials):
        return True  # functions of a virtual machine's bus
    if all(serials) and len(set(serials)) == 1:
        return False
    partitions = [member.partition for member in members]
    if None not in partitions and len(set(partitions)) == len(partitions):
        return False
    modes = {member.mode for member in members}
    if modes == {WHOLE}:
        return True
    return False if modes - {WHOLE, ""} or len({member.bdf for member in members}) == 1 else None


def _ranges(gpus: Sequence[int]) -> str:
    """`0-7, 9`."""
    runs: list[list[int]] = []
    for gpu in gpus:
        if runs and gpu == runs[-1][-1] + 1:
            runs[-1].append(gpu)
        else:
            runs.append([gpu])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
