"""The answers of the AMD SMI library for 8 GPUs of one kind, with the memory that the environment states."""

from __future__ import annotations

import os

GFX = os.environ.get("ORACLE_GFX", "gfx942")
MEMORY = int(os.environ.get("ORACLE_MEMORY", "0"))
_CARDS = {"gfx942": ("0x74a5", "AMD Instinct MI325X"), "gfx950": ("0x75a3", "AMD Instinct MI355X")}


class AmdSmiException(Exception):
    """As in the library."""


class AmdSmiMemoryType:
    """As in the library."""

    VRAM = 0


def amdsmi_init(*_: object) -> None:
    """Nothing to open."""


def amdsmi_shut_down() -> None:
    """Nothing to close."""


def amdsmi_get_processor_handles() -> list[int]:
    """8 GPUs."""
    return list(range(8))


def amdsmi_get_gpu_asic_info(handle: int) -> dict[str, str]:
    """Architecture, PCI id and name."""
    device, name = _CARDS[GFX]
    return {"target_graphics_version": GFX, "device_id": device, "market_name": name}


def amdsmi_get_gpu_device_uuid(handle: int) -> str:
    """Any text that differs by GPU."""
    return f"gpu-{handle}"


def amdsmi_get_gpu_memory_total(handle: int, kind: int) -> int:
    """Bytes of HBM."""
    return MEMORY


def amdsmi_topo_get_link_type(one: int, other: int) -> dict[str, int]:
    """One hop over XGMI."""
    return {"hops": 1, "type": 2}


def amdsmi_topo_get_numa_node_number(handle: int) -> int:
    """Half of the GPUs on each of two NUMA nodes."""
    return handle // 4
