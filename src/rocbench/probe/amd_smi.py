"""The `amd-smi` command: called with a time limit, its JSON read in both shapes.

Leaves are `{"value": N, "unit": "W"}`, a bare value, or "N/A"; a whole section may be "N/A" too. The top
level is a list (ROCm up to 6.x) or `{"gpu_data": [...]}` (from 7.0.2, ROCm/amdsmi#134). Standard output may
hold other text around the JSON: ROCm 6.4 to 7.0 print warnings of missing groups there (ROCm/amdsmi#114).
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
from contextlib import suppress
from typing import Any

from rocbench.records import GpuSample

TIMEOUT_S = 10.0
REST_S = 60.0
"""Pause after a tool hung: with a sick driver every call would cost its full time-out."""
_MIB = 1024**2

_THROTTLES = ("prochot", "socket_thermal", "vr_thermal", "hbm_thermal")
"""Power (ppt) is excluded: under full load an MI300-class GPU runs at its power cap by design."""


_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)|\ufeff|\r")
_GROUPS = re.compile(r"required groups:|Permission denied|permission", re.IGNORECASE)
_MOST_WARNINGS = 20
_LONGEST = 300

_warnings: dict[str, None] = {}
"""Text that the tool wrote next to its JSON, each line once, in order."""
_OPENS = re.compile(r"[\[{]")
_last_words: dict[str, str] = {}
_hung: dict[str, float] = {}
"""Tools that hung, each with the end of its pause (monotonic)."""


def available() -> bool:
    """Return whether the command is on PATH."""
    return shutil.which("amd-smi") is not None


def rests() -> bool:
    """Return whether the command hung recently and is paused."""
    return _hung.get("amd-smi", 0.0) > time.monotonic()


def run(argv: list[str], timeout_s: float = TIMEOUT_S) -> str | None:
    """Standard output of a tool; None if it is missing, fails, or takes too long.

    Other text next to its JSON, on either output, is kept for `warnings`.

    A tool that hangs in the driver cannot even be killed, so this function does not wait for its end.
    """
    hung = _hung
    if hung.get(argv[0], 0.0) > time.monotonic():
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
        out, beside = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        hung[argv[0]] = time.monotonic() + REST_S
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        return None
    found, around = documents(out)
    said = [line for line in map(_said, (around + "\n" + beside).splitlines()) if line]
    if found:
        _warnings.update(dict.fromkeys(said[: _MOST_WARNINGS - len(_warnings)]))
    elif said:
        _last_words["amd-smi"] = said[-1]
    # amd-smi exits non-zero for one unreadable value and still prints all others.
    return out if process.returncode == 0 or found else None


def warnings() -> list[str]:
    """Text from amd-smi next to its JSON since this process began, each line once, with the fix if known."""
    return [f"amd-smi says: {line}{_fix(line)}" for line in _warnings]


def last_words() -> str:
    """The error text of amd-smi from its last failure, with the fix if known; empty if it gave none."""
    line = _last_words.get("amd-smi", "")
    return line and line + _fix(line)


def _said(line: str) -> str:
    """A line as plain text; empty without words, and for all but the last line of a traceback."""
    text = _ANSI.sub("", line)
    frame = text.startswith((" ", "\t", "Traceback")) or not re.search(r"\w", text)
    return "" if frame else text.strip()[:_LONGEST]


def _fix(line: str) -> str:
    if not _GROUPS.search(line):
        return ""
    names = re.search(r"required groups: *([\w, ]+)", line)
    groups = ",".join(re.findall(r"\w+", names[1])) if names else "render,video"
    return f"; fix: sudo usermod -aG {groups} $USER, then log in again (in a container --group-add)"


def documents(text: str) -> tuple[list[Any], str]:
    """Every JSON list and object in a text, and the text around and between them. Pure."""
    text = _ANSI.sub("", text)
    decoder = json.JSONDecoder()
    found: list[Any] = []
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
            found.append(value)
            around.append(text[done:at])
            done = end
        at = end
    return found, "\n".join([*around, text[done:]])


def ask(*words: str, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]] | None:
    """Rows of `amd-smi WORDS --json`, one per GPU; None if it does not answer."""
    out = run(["amd-smi", *words, "--json"], timeout_s)
    return None if out is None else rows(out)


def rows(text: str) -> list[dict[str, Any]] | None:
    """Rows of either shape, each with a number as `gpu`; None for anything else. Pure.

    A row without its GPU is dropped: it cannot be assigned.
    """
    listed: list[Any] | None = None
    for data in documents(text)[0]:
        there = data.get("gpu_data", [data] if "gpu" in data else None) if isinstance(data, dict) else data
        if isinstance(there, list):
            listed = [*(listed or []), *there]
    if listed is None:
        return None
    found: dict[int, dict[str, Any]] = {}
    for row in listed:
        if (gpu := number(row, "gpu")) is not None:
            found[int(gpu)] = found.get(int(gpu), {}) | row | {"gpu": int(gpu)}
    return list(found.values()) if found or not listed else None


def leaf(row: Any, *path: str) -> Any:
    """Value at a path, without its unit; None for N/A and for missing values. Pure."""
    for key in path:
        row = row.get(key) if isinstance(row, dict) else None
    if isinstance(row, dict):
        row = row.get("value")
    return None if row in ("N/A", "", None) else row


def number(row: Any, *path: str) -> float | None:
    """A leaf as a finite number; None if it is not one. Pure."""
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
    """Return whether a thermal or emergency limit is in force; None if the tool does not tell."""
    known = [leaf(throttle, f"{name}_violation_status") for name in _THROTTLES]
    told = [str(status).upper() for status in known if status is not None]
    return any(status in ("ACTIVE", "TRUE", "1") for status in told) if told else None


def residency(row: dict[str, Any]) -> int | None:
    """Time spent under thermal or emergency limits, by the accumulators; None without them. Pure.

    The difference between two readings shows events that a status read once a second would miss.
    """
    throttle = row.get("throttle")
    counts = [number(throttle, f"{name}_accumulated") for name in _THROTTLES]
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known else None


def processes_of(rows_: list[dict[str, Any]]) -> dict[int, list[tuple[int | None, str]]]:
    """GPU to (pid, name) of the processes on it, from `amd-smi process`. Pure.

    A GPU without a list is omitted; an unknown pid is None.
    """
    found: dict[int, list[tuple[int | None, str]]] = {}
    for row in rows_:
        told = [entry.get("process_info") for entry in entries(row, "process_list")]
        known = [info for info in told if isinstance(info, dict)]
        # An empty list, or a sentence in place of a process: no process.
        if known or row.get("process_list") == [] or any(info not in (None, "N/A", "") for info in told):
            pids = [number(info, "pid") for info in known]
            names = [str(leaf(info, "name") or "?") for info in known]
            found[row["gpu"]] = [
                (None if pid is None else int(pid), name) for pid, name in zip(pids, names, strict=True)
            ]
    return found


def who(pid: int | None, name: str) -> str:
    """A process of `processes_of` as text. Pure."""
    return f"{name} (pid {'not told' if pid is None else pid})"


def entries(row: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The entries of a list in a row; empty if the tool gives something else for it. Pure."""
    listed = row.get(key)
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
