"""The `amd-smi` command: asked with a time limit, its JSON read in both shapes.

Leaves are `{"value": N, "unit": "W"}`, a bare value, or "N/A"; a whole section may be "N/A" too. The top level is a
list (ROCm up to 6.x) or `{"gpu_data": [...]}` (from 7.0.2, ROCm/amdsmi#134).
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from contextlib import suppress
from typing import Any

from rocbench.records import GpuSample

TIMEOUT_S = 10.0
REST_S = 60.0
"""A tool that hung is not asked again for so long: a sick driver would cost every question its time-out."""
_MIB = 1024**2

_THROTTLES = ("prochot", "socket_thermal", "vr_thermal", "hbm_thermal")
"""Power (ppt) is left out: under full load an MI300-class GPU runs at its power cap, by design and always."""


_hung: dict[str, float] = {}
"""Tools that hung, and until when (monotonic) they are left alone."""


def available() -> bool:
    """Whether the command is on PATH."""
    return shutil.which("amd-smi") is not None


def rests() -> bool:
    """Whether the command hung lately, and is not asked for a while."""
    return _hung.get("amd-smi", 0.0) > time.monotonic()


def run(argv: list[str], timeout_s: float = TIMEOUT_S) -> str | None:
    """Standard output of a tool; None when it is missing, fails, or takes too long.

    A tool that hangs in the driver cannot even be killed, so nothing here waits for its end.
    """
    hung = _hung
    if hung.get(argv[0], 0.0) > time.monotonic():
        return None
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
    except OSError:
        return None
    try:
        out, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        hung[argv[0]] = time.monotonic() + REST_S
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)
        assert process.stdout is not None
        process.stdout.close()
        return None
    # amd-smi exits non-zero for one unreadable value and still prints all others.
    return out if process.returncode == 0 or out.lstrip().startswith(("[", "{")) else None


def ask(*words: str, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]] | None:
    """Rows of `amd-smi WORDS --json`, one a GPU; None when it does not answer."""
    out = run(["amd-smi", *words, "--json"], timeout_s)
    return None if out is None else rows(out)


def rows(text: str) -> list[dict[str, Any]] | None:
    """Rows of either shape, `gpu` a number in each; None for anything else. Pure.

    A row that does not say its GPU is no row: whose reading it is cannot be told.
    """
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if isinstance(data, dict):
        data = data.get("gpu_data", [data] if "gpu" in data else None)
    if not isinstance(data, list):
        return None
    found = [row | {"gpu": int(gpu)} for row in data if (gpu := number(row, "gpu")) is not None]
    return found if found or not data else None


def leaf(row: Any, *path: str) -> Any:
    """Value at a path, its unit dropped; None for N/A and for whatever is not there. Pure."""
    for key in path:
        row = row.get(key) if isinstance(row, dict) else None
    if isinstance(row, dict):
        row = row.get("value")
    return None if row in ("N/A", "", None) else row


def number(row: Any, *path: str) -> float | None:
    """A leaf as a finite number; None where it is none. Pure."""
    try:
        value = float(leaf(row, *path))
    except (OverflowError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def sample_of(row: dict[str, Any], at_ns: int) -> GpuSample:
    """One reading from a row of `amd-smi metric`. Pure."""
    clock = row.get("clock")
    used = number(row, "mem_usage", "used_vram")
    activity = number(row, "usage", "gfx_activity")
    clocks = [
        mhz
        for name, entry in (clock.items() if isinstance(clock, dict) else ())
        if name.startswith("gfx_") and (mhz := number(entry, "clk")) is not None
    ]
    errors = number(row, "ecc", "total_uncorrectable_count")
    return GpuSample(
        at_ns=at_ns,
        gpu=row["gpu"],
        power_w=number(row, "power", "socket_power"),
        energy_j=number(row, "energy", "total_energy_consumption"),
        temperature_hotspot_c=number(row, "temperature", "hotspot"),
        temperature_memory_c=number(row, "temperature", "mem"),
        clock_mhz=sum(clocks) / len(clocks) if clocks else None,
        vram_used_bytes=None if used is None else int(used * _MIB),
        activity=None if activity is None else activity / 100,
        throttled=_throttled(row.get("throttle")),
        ecc_uncorrectable=None if errors is None else int(errors),
    )


def _throttled(throttle: Any) -> bool | None:
    """Whether a thermal or emergency limit is in force; None where the tool does not tell."""
    known = [leaf(throttle, f"{name}_violation_status") for name in _THROTTLES]
    told = [str(status).upper() for status in known if status is not None]
    return any(status in ("ACTIVE", "TRUE", "1") for status in told) if told else None


def residency(row: dict[str, Any]) -> int | None:
    """Time spent under thermal or emergency limits, as the accumulators count it; None without them. Pure.

    A difference between two readings shows what a status read once a second would miss.
    """
    throttle = row.get("throttle")
    counts = [number(throttle, f"{name}_accumulated") for name in _THROTTLES]
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known else None


def processes_of(rows_: list[dict[str, Any]]) -> dict[int, list[tuple[int | None, str]]]:
    """GPU to (pid, name) of the processes on it, from `amd-smi process`. Pure.

    A GPU whose list is not told is left out; a pid that is not told is None.
    """
    found: dict[int, list[tuple[int | None, str]]] = {}
    for row in rows_:
        told = [entry.get("process_info") for entry in entries(row, "process_list")]
        known = [info for info in told if isinstance(info, dict)]
        # An empty list, or a sentence in place of a process: nobody is there.
        if known or row.get("process_list") == [] or any(info not in (None, "N/A", "") for info in told):
            pids = [number(info, "pid") for info in known]
            names = [str(leaf(info, "name") or "?") for info in known]
            found[row["gpu"]] = [
                (None if pid is None else int(pid), name) for pid, name in zip(pids, names, strict=True)
            ]
    return found


def who(pid: int | None, name: str) -> str:
    """A process of `processes_of` in words. Pure."""
    return f"{name} (pid {'not told' if pid is None else pid})"


def entries(row: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The entries of a list in a row; none where the tool gives something else for it. Pure."""
    listed = row.get(key)
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
