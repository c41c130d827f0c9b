"""Wait for empty GPUs before a server starts: memory of the last one is freed with a delay, or never."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rocbench.errors import NodeFault
from rocbench.probe import amd_smi
from rocbench.server.spec import OnProgress
from rocbench.units import GIB, size

DRAIN_S = 300.0
"""Seconds for memory to be freed; InferenceX allows 15 minutes (benchmarks/benchmark_lib.sh)."""
BUSY_SHARE = 0.10
"""Maximum share of memory in use on an idle GPU whose baseline is unknown (as in InferenceX)."""
SLACK_BYTES = GIB
_POLL_S = 1.0

_idle: dict[int, float] = {}
# GPU to the minimum memory in use (bytes) that this process has seen on it: its idle baseline.


def wait_idle(
    gpus: Sequence[int], on_progress: OnProgress | None = None, *, timeout_s: float = DRAIN_S
) -> None:
    """Waits until each GPU's used memory is back at its idle baseline. Returns at once if it cannot be read.

    Args:
        gpus: indices that the server will use; empty means all.

    Raises:
        NodeFault: memory is still held after the time; the message names the holders that amd-smi shows.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        used = _used(gpus)
        held = {gpu: taken for gpu, (taken, total) in used.items() if taken > _limit(gpu, total)}
        if not held:
            for gpu, (taken, _) in used.items():
                _idle[gpu] = min(taken, _idle.get(gpu, taken))
            return
        amounts = ", ".join(f"GPU {gpu}: {size(taken)}" for gpu, taken in held.items())
        if time.monotonic() >= deadline:
            raise NodeFault(
                f"GPU memory is still in use {timeout_s:.0f} s after the last server ({amounts}); {_holders(held)}",
                fix="end those processes; a GPU reset or a reboot frees memory that no process holds",
            )
        if on_progress:
            on_progress(f"waiting for GPU memory ({amounts})", None)
        time.sleep(_POLL_S)


def _limit(gpu: int, total: float) -> float:
    return _idle[gpu] + SLACK_BYTES if gpu in _idle else BUSY_SHARE * total


def _used(gpus: Sequence[int]) -> dict[int, tuple[float, float]]:
    """GPU to (bytes in use, total bytes); empty if it cannot be read."""
    rows = amd_smi.ask("metric", "-m") if amd_smi.available() else None
    memory = {}
    for row in rows or []:
        gpu = row["gpu"]
        taken = amd_smi.number(row, "mem_usage", "used_vram")
        total = amd_smi.number(row, "mem_usage", "total_vram")
        if taken is not None and total and (not gpus or gpu in gpus):
            memory[gpu] = (taken * 1024**2, total * 1024**2)
    return memory


def _holders(held: dict[int, float]) -> str:
    listed = amd_smi.processes_of(amd_smi.ask("process") or [])
    named = [
        f"{amd_smi.process_text(pid, name)} on GPU {gpu}" for gpu in held for pid, name in listed.get(gpu, ())
    ]
    return f"held by {', '.join(named[:8])}" if named else "no process is listed on these GPUs"
