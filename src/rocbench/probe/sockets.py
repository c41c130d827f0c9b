"""Sockets of the GPUs that amd-smi lists. Pure.

amd-smi lists a GPU in DPX, QPX or CPX mode once per partition, with the power and energy of the whole socket
(AMD SMI, "GPU partitioning"). A sum over a node must count each socket once.
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
    """Properties that identify a listed GPU's socket; empty or None if the tool does not report them."""

    bdf: str = ""
    serial: str = ""
    partition: int | None = None
    mode: str = ""
    """SPX, DPX, TPX, QPX or CPX."""
    cap_w: float | None = None
    """Maximum power of the socket."""

    @property
    def slot(self) -> str:
        """The PCI device without its function, which is the partition's number; empty if unknown."""
        match = _BDF.match(self.bdf.strip())
        return "" if match is None else f"{int(match[1] or '0', 16):x}:{match[2]}:{match[3]}".lower()

    @property
    def known_serial(self) -> str:
        """The serial number; empty if it is not a real one."""
        return "" if _NO_SERIAL.match(self.serial.strip()) else self.serial.strip().lower()


@dataclass(frozen=True, slots=True)
class Sockets:
    """GPU to its socket, named by the socket's lowest GPU. A missing GPU may share any socket."""

    of: Mapping[int, int] = field(default_factory=dict)
    caps_w: Mapping[int, float] = field(default_factory=dict)
    """Socket to its maximum power."""
    partitioned: frozenset[int] = frozenset()
    """GPUs that are only a part of their socket, even if the other parts are not listed."""

    def counted_once(self, samples: Sequence[GpuSample], used: Iterable[int]) -> list[GpuSample]:
        """Samples with the power and energy of each socket only at the lowest of its used GPUs.

        If a partition does not report its socket's power (secondary ones usually do not), another one's value
        is used. If the socket of a GPU is unknown, its power and energy are absent, unless it is the only
        listed GPU.
        """
        lowest: dict[int, int] = {}
        for gpu in sorted(set(used) or {sample.gpu for sample in samples}):
            lowest.setdefault(self.of.get(gpu, -1 - gpu), gpu)
        of_socket: dict[int, tuple[float | None, float | None]] = {}
        for sample in sorted(samples, key=lambda sample: sample.gpu):
            socket = self.of.get(sample.gpu)
            if socket is not None:
                power_w, energy_j = of_socket.get(socket, (None, None))
                of_socket[socket] = (
                    sample.power_w if power_w is None else power_w,
                    sample.energy_j if energy_j is None else energy_j,
                )
        counted = []
        for sample in samples:
            socket = self.of.get(sample.gpu)
            if socket is None:
                only = len(samples) == 1
                counted.append(sample if only else replace(sample, power_w=None, energy_j=None))
                continue
            carrier = lowest.get(socket, sample.gpu)
            power_w, energy_j = of_socket[socket] if lowest.get(socket) == sample.gpu else (None, None)
            counted.append(replace(sample, power_w=power_w, energy_j=energy_j, socket=carrier))
        return counted

    def cap_w(self, gpus: Iterable[int]) -> float | None:
        """Maximum total power of the sockets of these GPUs; None if one is unknown."""
        sockets = {self.of.get(gpu, gpu) for gpu in gpus}
        caps = [self.caps_w[socket] for socket in sockets if socket in self.caps_w]
        return sum(caps) if sockets and len(caps) == len(sockets) else None

    def note(self, used: Iterable[int], listed: Iterable[int]) -> str:
        """A note on the power of these GPUs; empty if each is its own socket."""
        gpus, all_gpus = sorted(set(used)), sorted(set(listed))
        unknown = [gpu for gpu in gpus if gpu not in self.of]
        if unknown and len(all_gpus) < 2:
            return ""
        if unknown:
            return (
                f"power is absent: amd-smi does not report whether GPUs {_ranges(unknown)} are partitions of one "
                "socket. Partitions would each report the power of the whole socket"
            )
        sockets = {self.of[gpu] for gpu in gpus}
        others = [gpu for gpu in all_gpus if self.of.get(gpu) in sockets and gpu not in gpus]
        parts = f"{_count(len(gpus), 'partition')} of {_count(len(sockets), 'socket')}"
        if others:
            return f"power includes GPUs {_ranges(others)}: power is measured for whole sockets, and the server uses {parts}"
        if len(sockets) < len(gpus):
            return f"power is counted once per socket: {parts}"
        parts_only = sorted(self.partitioned & set(gpus))
        return (
            f"power is measured for whole sockets; GPUs {_ranges(parts_only)} are partitions of a socket"
            if parts_only
            else ""
        )


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
    """True if GPUs of one PCI slot (or one serial number) are separate sockets; None if unknown."""
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _ranges(gpus: Sequence[int]) -> str:
    """`0-7, 9`."""
    runs: list[list[int]] = []
    for gpu in gpus:
        if runs and gpu == runs[-1][-1] + 1:
            runs[-1].append(gpu)
        else:
            runs.append([gpu])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
