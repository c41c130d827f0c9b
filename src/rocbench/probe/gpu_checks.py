"""Checks of the GPUs, from what amd-smi says. Pure: the answers are arguments."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rocbench.probe import amd_smi, environment
from rocbench.probe.checks import Check, judged

Rows = list[dict[str, Any]]
Asked = Mapping[str, Rows | None]

QUESTIONS: dict[str, tuple[str, ...]] = {
    "static": ("static",),
    "metric": ("metric",),
    "process": ("process",),
    "firmware": ("firmware",),
    "bad_pages": ("bad-pages",),
}
MEC_FIRMWARE = 177
IDLE_VRAM = 0.02
"""Share of VRAM that an idle GPU may hold (driver and firmware: some 300 MiB)."""
_HEALTH = "rocm.docs.amd.com how-to/rocm-for-ai/system-health-check"


def checks(asked: Asked, *, there: bool, tool: bool, wanted: int, environ: Mapping[str, str]) -> list[Check]:
    """All GPU checks.

    Args:
        asked: rows of each question's answer; None where amd-smi did not answer.
        there: whether /dev/kfd exists.
        tool: whether amd-smi is on PATH.
        wanted: GPUs that the node should have.
        environ: the environment that servers will be started with.
    """
    cards = environment.gpus(asked.get("static"), environment.mec_firmware(asked.get("firmware")))
    absent = (
        "no amd-smi on PATH"
        if there and not tool
        else "no AMD GPU (/dev/kfd is missing)"
        if not there
        else ""
    )
    if not absent and asked.get("static") is None:
        absent = "amd-smi does not answer"
    found = [
        _device(there),
        _count(cards, wanted, absent),
        _equal("gfx", "must", cards, "gfx", absent, "the same on all"),
        _equal("vbios", "must", cards, "vbios", absent, "the same on all"),
        _equal("power_cap", "must", cards, "power_cap_w", absent, "the same on all"),
        _partitions(cards, absent),
        _processes(asked.get("process"), absent),
        _vram(asked.get("metric"), absent),
        _ecc(asked.get("metric"), absent),
        _bad_pages(asked.get("bad_pages"), absent),
        _links(asked.get("metric"), absent),
        _mec(cards, environ, absent),
        _perf_level(asked.get("metric"), absent),
        _visible(environ),
    ]
    if not absent:
        return found
    remedy = "install amd-smi (ROCm) and see that it answers" if there else "see kfd"
    return [replace(check, fix=remedy) if check.status == "unknown" else check for check in found]


def _device(there: bool) -> Check:
    return judged(
        "kfd",
        "must",
        there,
        "/dev/kfd is there" if there else "/dev/kfd is missing",
        "present",
        "install the amdgpu driver (dkms) and see that `lsmod | grep amdgpu` lists it; in a container --device /dev/kfd",
    )


def _count(cards: list[dict[str, Any]], wanted: int, absent: str) -> Check:
    names = Counter(str(card.get("name", "?")) for card in cards)
    told = ", ".join(f"{count} x {name}" for name, count in names.items())
    return judged(
        "gpus",
        "must",
        None if absent else len(cards) == wanted,
        absent or told or "none",
        f"{wanted}",
        "a GPU that is missing fell off the bus (dmesg | grep amdgpu), or the node is partitioned",
        _HEALTH,
    )


def _equal(id_: str, need: Any, cards: list[dict[str, Any]], key: str, absent: str, want: str) -> Check:
    values = Counter(str(card[key]) for card in cards if key in card)
    known = sum(values.values()) == len(cards) > 0
    told = ", ".join(f"{value} ({count})" if len(values) > 1 else value for value, count in values.items())
    return judged(
        id_,
        need,
        len(values) == 1 if known else None,
        told or absent or "not told",
        want,
        "bring the odd GPU to the others' state; one slow GPU slows all ranks" if known else "",
        _HEALTH,
    )


def _partitions(cards: list[dict[str, Any]], absent: str) -> Check:
    modes = Counter(
        f"{card['compute_partition']}/{card['memory_partition']}"
        for card in cards
        if "compute_partition" in card and "memory_partition" in card
    )
    known = sum(modes.values()) == len(cards) > 0
    return judged(
        "partitions",
        "must",
        set(modes) == {"SPX/NPS1"} if known else None,
        ", ".join(f"{mode} ({count})" for mode, count in modes.items()) or absent or "not told",
        "SPX/NPS1 on all",
        "sudo amd-smi set --compute-partition SPX; sudo amd-smi set --memory-partition NPS1" if known else "",
        "instinct.docs.amd.com GPU partitioning",
    )


def _processes(rows: Rows | None, absent: str) -> Check:
    listed = amd_smi.processes_of(rows or [])
    others = [
        f"{amd_smi.who(pid, name)} on GPU {gpu}" for gpu, entries in listed.items() for pid, name in entries
    ]
    return judged(
        "gpu_processes",
        "must",
        None if rows is None else not others,
        ", ".join(others[:8]) or absent or ("none" if rows is not None else "not told"),
        "none",
        "end them, or run when they are done: neighbours share power, memory and links",
        _HEALTH,
    )


def _vram(rows: Rows | None, absent: str) -> Check:
    used = {row.get("gpu"): _share(row) for row in rows or []}
    known = {gpu: share for gpu, share in used.items() if share is not None}
    busy = [f"GPU {gpu}: {100 * share:.0f} %" for gpu, share in known.items() if share > IDLE_VRAM]
    return judged(
        "vram_baseline",
        "must",
        not busy if known else None,
        ", ".join(busy) or (f"below {100 * IDLE_VRAM:.0f} % on all" if known else absent or "not told"),
        f"below {100 * IDLE_VRAM:.0f} % of each GPU",
        "something holds VRAM: see gpu_processes; without a process a reset or a reboot frees it",
        "InferenceX benchmarks/benchmark_lib.sh (wait_for_amd_gpu_clean)",
    )


def _share(row: dict[str, Any]) -> float | None:
    used = amd_smi.number(row, "mem_usage", "used_vram")
    total = amd_smi.number(row, "mem_usage", "total_vram")
    return used / total if used is not None and total else None


def _ecc(rows: Rows | None, absent: str) -> Check:
    return _no_errors(
        "ecc",
        rows,
        lambda row: amd_smi.number(row, "ecc", "total_uncorrectable_count"),
        absent,
        "uncorrectable errors since the driver was loaded",
        "take the GPU out of service; its results are not to be trusted",
    )


def _links(rows: Rows | None, absent: str) -> Check:
    def errors(row: dict[str, Any]) -> float | None:
        replays = amd_smi.number(row, "pcie", "replay_count")
        xgmi = amd_smi.leaf(row, "xgmi_err")
        if replays is None and xgmi is None:
            return None
        return (replays or 0) + (0 if xgmi in (None, 0, "AMDSMI_XGMI_STATUS_NO_ERRORS") else 1)

    return _no_errors(
        "links",
        rows,
        errors,
        absent,
        "PCIe replays and xGMI errors",
        "reseat or service; see dmesg and amd-smi xgmi",
    )


def _no_errors(
    id_: str,
    rows: Rows | None,
    count: Callable[[dict[str, Any]], float | None],
    absent: str,
    what: str,
    fix: str,
) -> Check:
    counts = {row.get("gpu"): count(row) for row in rows or []}
    known = {gpu: errors for gpu, errors in counts.items() if errors is not None}
    bad = [f"GPU {gpu}: {errors:.0f}" for gpu, errors in known.items() if errors > 0]
    return judged(
        id_,
        "must",
        not bad if known else None,
        ", ".join(bad) or (f"no {what}" if known else absent or "not told"),
        f"0 {what}",
        fix,
        _HEALTH,
    )


def _bad_pages(rows: Rows | None, absent: str) -> Check:
    def pages(row: dict[str, Any]) -> float:
        return float(sum(isinstance(page, dict) for page in row.get("retired") or row.get("bad_pages") or ()))

    return _no_errors(
        "bad_pages",
        rows,
        pages,
        absent,
        "retired memory pages",
        "watch the GPU; have it serviced if it grows",
    )


def _mec(cards: list[dict[str, Any]], environ: Mapping[str, str], absent: str) -> Check:
    versions = {str(card["mec_firmware"]) for card in cards if "mec_firmware" in card}
    numbers = [int(match[0]) for version in versions if (match := re.search(r"\d+$", version))]
    reclaim = environ.get("HSA_NO_SCRATCH_RECLAIM") == "1"
    good = None if not numbers else min(numbers) >= MEC_FIRMWARE or reclaim
    told = (
        f"{', '.join(sorted(versions))}{', HSA_NO_SCRATCH_RECLAIM=1' if reclaim else ''}" if versions else ""
    )
    return judged(
        "mec_firmware",
        "must",
        good,
        told or absent or "not told",
        f"{MEC_FIRMWARE} or later, else HSA_NO_SCRATCH_RECLAIM=1",
        "export HSA_NO_SCRATCH_RECLAIM=1 for servers, or update the firmware",
        "rocm.docs.amd.com vLLM optimisation; InferenceX benchmark scripts",
    )


def _perf_level(rows: Rows | None, absent: str) -> Check:
    levels = Counter(
        str(level) for row in rows or [] if (level := amd_smi.leaf(row, "perf_level")) is not None
    )
    return judged(
        "perf_level",
        "record",
        len(levels) == 1 if levels else None,
        ", ".join(levels) or absent or "not told",
        "the same on all; never mix runs with and without perf determinism",
        "rocm-smi --resetperfdeterminism (-r) puts all back",
        "instinct.docs.amd.com system optimisation",
    )


def _visible(environ: Mapping[str, str]) -> Check:
    names = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
    values = {name: environ[name] for name in names if name in environ}
    return judged(
        "visible_devices",
        "must",
        len(set(values.values())) < 2,
        ", ".join(f"{name}={value}" for name, value in values.items()) or "not set",
        "HIP_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES agree",
        "unset one of them: vLLM refuses to start where they differ",
        "v0.33.0 platforms/rocm.py",
    )
