"""The `amd-smi` command: called with a time limit, its JSON read in both shapes.

Leaves are `{"value": N, "unit": "W"}`, a bare value, or "N/A"; a whole section may be "N/A" too. The top
level is a list (ROCm up to 6.x) or `{"gpu_data": [...]}` (from 7.0.2, ROCm/amdsmi#134). Standard output may
hold other text around the JSON: ROCm 6.4 to 7.0 print warnings of missing groups there (ROCm/amdsmi#114).
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from rocbench.records import GpuSample

GpuEntry = dict[str, Any]
"""One GPU's object in a JSON answer, with its number as `gpu`."""

TIMEOUT_S = 10.0
REST_S = 60.0
"""Pause after a tool hung: with a faulty driver every call would take its full time limit."""
_MIB = 1024**2
_THROTTLES = ("prochot", "socket_thermal", "vr_thermal", "hbm_thermal")
"""Power (ppt) is excluded: under full load an MI300-class GPU runs at its power cap by design."""


_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)|\ufeff|\r")
_GROUPS = re.compile(r"required groups:|Permission denied|permission", re.IGNORECASE)
_MOST_WARNINGS = 20
_LONGEST = 300

_warnings: dict[str, None] = {}
"""Lines that the tool wrote next to its JSON, each once, in order."""
_OPENS = re.compile(r"[\[{]")
_last_error: dict[str, str] = {}
"""Tool to the last line of its last failure."""
_hung: dict[str, float] = {}
"""Tool that hung to the end of its pause (monotonic)."""


def available() -> bool:
    """True if the command is on PATH."""
    return shutil.which("amd-smi") is not None


def paused(tool: str = "amd-smi") -> bool:
    """True if the tool hung recently and is not called for a while."""
    return _hung.get(tool, 0.0) > time.monotonic()


def run(argv: list[str], timeout_s: float = TIMEOUT_S) -> str | None:
    """Standard output of a tool; None if it is missing, fails, or takes too long.

    `warnings` keeps the text around its JSON and on standard error. A tool that hangs in the driver cannot be
    killed, so this function does not wait for its end.
    """
    if paused(argv[0]):
        return None
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError:
        return None
    try:
        out, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _hung[argv[0]] = time.monotonic() + REST_S
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        return None
    answers, around = documents(out)
    lines = [line for line in map(_message, (around + "\n" + errors).splitlines()) if line]
    if answers:
        _warnings.update(dict.fromkeys(lines[: _MOST_WARNINGS - len(_warnings)]))
    elif lines:
        _last_error["amd-smi"] = lines[-1]
    # amd-smi exits non-zero for one unreadable value and still prints all others.
    return out if process.returncode == 0 or answers else None


def warnings() -> list[str]:
    """Lines that amd-smi wrote next to its JSON since this process began, each once, with the fix if known."""
    return [f"amd-smi says: {line}{_fix(line)}" for line in _warnings]


def last_error() -> str:
    """amd-smi's message from its last failure, with the fix if known; empty without one."""
    line = _last_error.get("amd-smi", "")
    return line and line + _fix(line)


def _message(line: str) -> str:
    """A line as plain text; empty if it has no word or belongs to a traceback, except the last line."""
    text = _ANSI.sub("", line)
    frame = text.startswith((" ", "\t", "Traceback")) or not re.search(r"\w", text)
    return "" if frame else text.strip()[:_LONGEST]


def _fix(line: str) -> str:
    if not _GROUPS.search(line):
        return ""
    names = re.search(r"required groups: *([\w, ]+)", line)
    groups = ",".join(re.findall(r"\w+", names[1])) if names else "render,video"
    return f"; fix: sudo usermod -aG {groups} $USER, then log in again (in a container, use --group-add)"


def documents(text: str) -> tuple[list[Any], str]:
    """Every JSON list and object in a text, and the text around them. Pure."""
    text = _ANSI.sub("", text)
    decoder = json.JSONDecoder()
    values: list[Any] = []
    around: list[str] = []
    done = at = 0
    while (match := _OPENS.search(text, at)) is not None:
        at = match.start()
        try:
            value, end = decoder.raw_decode(text, at)
        except (RecursionError, ValueError):
            at += 1
            continue
        if isinstance(value, dict) or all(isinstance(entry, dict) for entry in value):
            values.append(value)
            around.append(text[done:at])
            done = end
        at = end
    return values, "\n".join([*around, text[done:]])


def ask(*words: str, timeout_s: float = TIMEOUT_S) -> list[GpuEntry] | None:
    """Rows of `amd-smi WORDS --json`, one per GPU; None if it does not answer."""
    out = run(["amd-smi", *words, "--json"], timeout_s)
    return None if out is None else rows(out)


def rows(text: str) -> list[GpuEntry] | None:
    """One row per GPU, from either shape; None for anything else. A row without its GPU is dropped. Pure."""
    listed: list[Any] | None = None
    for data in documents(text)[0]:
        part = data.get("gpu_data", [data] if "gpu" in data else None) if isinstance(data, dict) else data
        if isinstance(part, list):
            listed = [*(listed or []), *part]
    if listed is None:
        return None
    by_gpu: dict[int, GpuEntry] = {}
    for row in listed:
        if (gpu := integer(row, "gpu")) is not None:
            by_gpu[gpu] = by_gpu.get(gpu, {}) | row | {"gpu": gpu}
    return list(by_gpu.values()) if by_gpu or not listed else None


def leaf(row: Any, *path: str) -> Any:
    """Value at a path, without its unit; None if it is missing or N/A. Pure."""
    for key in path:
        row = row.get(key) if isinstance(row, dict) else None
    if isinstance(row, dict):
        row = row.get("value")
    return None if row in ("N/A", "", None) else row


def first_leaf(rows_: Iterable[GpuEntry], paths: Iterable[tuple[str, ...]]) -> Any:
    """The first leaf of these rows at any of these paths; None without one. Pure."""
    leaves = (leaf(row, *path) for row, path in itertools.product(rows_, paths))
    return next((value for value in leaves if value is not None), None)


def number(row: Any, *path: str) -> float | None:
    """A leaf as a finite number; None if it is not one. Pure."""
    try:
        value = float(leaf(row, *path))
    except (OverflowError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def integer(row: Any, *path: str) -> int | None:
    """A leaf as an integer, rounded towards zero; None if it is not a number. Pure."""
    value = number(row, *path)
    return None if value is None else int(value)


def sample_of(row: GpuEntry, at_ns: int) -> GpuSample:
    """One reading from a row of `amd-smi metric`. Pure."""
    clock = row.get("clock")
    used = number(row, "mem_usage", "used_vram")
    activity = number(row, "usage", "gfx_activity")
    clocks = [
        mhz
        for name, entry in (clock.items() if isinstance(clock, dict) else ())
        if name.startswith("gfx_") and (mhz := number(entry, "clk")) is not None
    ]
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
        ecc_uncorrectable=integer(row, "ecc", "total_uncorrectable_count"),
    )


def _throttled(throttle: Any) -> bool | None:
    """True if a thermal or emergency limit is in force; None if the tool reports none of them."""
    leaves = [leaf(throttle, f"{name}_violation_status") for name in _THROTTLES]
    reported = [str(status).upper() for status in leaves if status is not None]
    return any(status in ("ACTIVE", "TRUE", "1") for status in reported) if reported else None


def residency(row: GpuEntry) -> int | None:
    """Time spent under thermal or emergency limits, by the accumulators; None without them. Pure.

    The difference of two readings shows events that a status read once a second misses.
    """
    throttle = row.get("throttle")
    counts = [integer(throttle, f"{name}_accumulated") for name in _THROTTLES]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def processes_of(rows_: list[GpuEntry]) -> dict[int, list[tuple[int | None, str]]]:
    """GPU to (pid, name) of the processes on it, from `amd-smi process`. Pure.

    A GPU without a list is omitted; an unknown pid is None.
    """
    by_gpu: dict[int, list[tuple[int | None, str]]] = {}
    for row in rows_:
        infos = [entry.get("process_info") for entry in entries(row, "process_list")]
        processes = [info for info in infos if isinstance(info, dict)]
        # An empty list, or a sentence in place of a process: no process.
        if processes or row.get("process_list") == [] or any(info not in (None, "N/A", "") for info in infos):
            by_gpu[row["gpu"]] = [
                (integer(info, "pid"), str(leaf(info, "name") or "?")) for info in processes
            ]
    return by_gpu


def process_text(pid: int | None, name: str) -> str:
    """A process of `processes_of` as text. Pure."""
    return f"{name} (pid {'unknown' if pid is None else pid})"


def entries(row: GpuEntry, key: str) -> list[dict[str, Any]]:
    """The objects of a list in a row; empty if the row has no list there. Pure."""
    listed = row.get(key)
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
