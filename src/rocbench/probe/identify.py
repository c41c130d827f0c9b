"""Identification of the GPUs that amd-smi lists, and of their sockets."""

from __future__ import annotations

from rocbench.probe import amd_smi
from rocbench.probe.amd_smi import GpuEntry
from rocbench.probe.sockets import Identity, Sockets, grouped

_BDF = (("bdf",), ("gpu_bdf",), ("bus", "bdf"))
_SERIAL = (("asic", "asic_serial"),)
_PARTITION = (("partition_id",), ("partition", "partition_id"))
_MODE = (("partition", "compute_partition"), ("partition", "accelerator_partition"))
_CAP = (
    ("limit", "max_power"),
    ("limit", "ppt0", "max_power_limit"),
    ("limit", "socket_power"),
    ("limit", "ppt0", "socket_power_limit"),
)


def sockets() -> Sockets:
    """This node's sockets by `amd-smi`; empty if it does not answer."""
    by_gpu: dict[int, list[GpuEntry]] = {}
    for question in ("list", "static"):
        for row in amd_smi.ask(question) or []:
            by_gpu.setdefault(row["gpu"], []).append(row)
    return grouped({gpu: identity_of(*rows) for gpu, rows in by_gpu.items()})


def identity_of(*rows: GpuEntry) -> Identity:
    """One GPU's identity from its rows of `amd-smi list` and `amd-smi static`. Pure."""
    partition = amd_smi.first_leaf(rows, _PARTITION)
    cap_w = next((w for row in rows for path in _CAP if (w := amd_smi.number(row, *path))), None)
    return Identity(
        bdf=str(amd_smi.first_leaf(rows, _BDF) or ""),
        serial=str(amd_smi.first_leaf(rows, _SERIAL) or ""),
        partition=int(partition) if str(partition).isdigit() else None,
        mode=str(amd_smi.first_leaf(rows, _MODE) or "").upper(),
        cap_w=cap_w,
    )
