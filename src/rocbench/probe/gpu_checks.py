"""Checks of the GPUs, from what amd-smi says. Pure: the answers are arguments.

A missing value of one GPU leaves its check unknown, unless another GPU fails it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rocbench.probe import amd_smi, environment
from rocbench.probe.checks import Check, judged

Row = dict[str, Any]
Rows = list[Row]
Cards = list[dict[str, Any]]
"""The GPUs in the form of `environment.gpus`."""
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
"""Maximum share of VRAM in use on an idle GPU (driver and firmware: some 300 MiB)."""
_ASK = "see what amd-smi says of it: static, metric, process, bad-pages, firmware"
_HEALTH = "rocm.docs.amd.com how-to/rocm-for-ai/system-health-check"


def checks(asked: Asked, *, there: bool, tool: bool, wanted: int, environ: Mapping[str, str]) -> list[Check]:
    """All GPU checks.

    Args:
        asked: rows of each question's answer; None if amd-smi did not answer.
        there: True if /dev/kfd exists.
        tool: True if amd-smi is on PATH.
        wanted: number of GPUs that the node should have.
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
        _processes(cards, asked.get("process"), absent),
        _vram(cards, asked.get("metric"), absent),
        _ecc(cards, asked.get("metric"), absent),
        _bad_pages(cards, asked.get("bad_pages"), absent),
        _links(cards, asked.get("metric"), absent),
        _mec(cards, environ, absent),
        _perf_level(cards, asked.get("metric"), absent),
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


def _count(cards: Cards, wanted: int, absent: str) -> Check:
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


def _equal(id_: str, need: Any, cards: Cards, key: str, absent: str, want: str) -> Check:
    values = {card["gpu"]: str(card[key]) for card in cards if key in card}
    missing = _missing(cards, values)
    differ = len(set(values.values())) > 1
    return judged(
        id_,
        need,
        False if differ else None if missing else True,
        _told(_tally(values.values()), missing, absent),
        want,
        "bring the odd GPU to the others' state; one slow GPU slows all ranks" if differ else _ASK,
        _HEALTH,
    )


def _partitions(cards: Cards, absent: str) -> Check:
    modes = {
        card["gpu"]: f"{card['compute_partition']}/{card['memory_partition']}"
        for card in cards
        if "compute_partition" in card and "memory_partition" in card
    }
    missing = _missing(cards, modes)
    other = set(modes.values()) - {"SPX/NPS1"}
    counts = Counter(modes.values())
    return judged(
        "partitions",
        "must",
        False if other else None if missing else True,
        _told(", ".join(f"{mode} ({count})" for mode, count in counts.items()), missing, absent),
        "SPX/NPS1 on all",
        "sudo amd-smi set --compute-partition SPX; sudo amd-smi set --memory-partition NPS1"
        if other
        else _ASK,
        "instinct.docs.amd.com GPU partitioning",
    )


def _processes(cards: Cards, rows: Rows | None, absent: str) -> Check:
    listed = amd_smi.processes_of(rows or [])
    return _each(
        "gpu_processes",
        cards,
        {
            gpu: [f"{amd_smi.who(pid, name)} on GPU {gpu}" for pid, name in there]
            for gpu, there in listed.items()
        },
        absent,
        ("none", "none"),
        "end them, or run when they are done: neighbours share power, memory and links",
    )


def _vram(cards: Cards, rows: Rows | None, absent: str) -> Check:
    def held(row: Row) -> list[str] | None:
        used = amd_smi.number(row, "mem_usage", "used_vram")
        total = amd_smi.number(row, "mem_usage", "total_vram")
        if used is None or not total:
            return None
        share = used / total
        return [f"GPU {row['gpu']}: {100 * share:.0f} %"] if share > IDLE_VRAM else []

    return _each(
        "vram_baseline",
        cards,
        {row["gpu"]: held(row) for row in rows or []},
        absent,
        (f"below {100 * IDLE_VRAM:.0f} % on all", f"below {100 * IDLE_VRAM:.0f} % of each GPU"),
        "something holds VRAM: see gpu_processes; without a process a reset or a reboot frees it",
        "InferenceX benchmarks/benchmark_lib.sh (wait_for_amd_gpu_clean)",
    )


def _ecc(cards: Cards, rows: Rows | None, absent: str) -> Check:
    return _no_errors(
        "ecc",
        cards,
        {row["gpu"]: amd_smi.number(row, "ecc", "total_uncorrectable_count") for row in rows or []},
        absent,
        "uncorrectable errors since the driver was loaded",
        "take the GPU out of service; its results are not to be trusted",
    )


def _links(cards: Cards, rows: Rows | None, absent: str) -> Check:
    def errors(row: Row) -> float | None:
        replays = amd_smi.number(row, "pcie", "replay_count")
        # Newer tools give N/A for xGMI on healthy nodes, so only PCIe is required.
        xgmi = amd_smi.leaf(row, "xgmi_err") not in (None, 0, "AMDSMI_XGMI_STATUS_NO_ERRORS")
        return (replays or 0) + xgmi if xgmi or replays is not None else None

    return _no_errors(
        "links",
        cards,
        {row["gpu"]: errors(row) for row in rows or []},
        absent,
        "PCIe replays and xGMI errors",
        "reseat or service; see dmesg and amd-smi xgmi",
    )


def _bad_pages(cards: Cards, rows: Rows | None, absent: str) -> Check:
    def pages(row: Row) -> float | None:
        key = "retired" if "retired" in row else "bad_pages"
        told, listed = row.get(key), amd_smi.entries(row, key)
        if listed or told == []:
            return len(listed)
        return 0 if str(told).lower().startswith("no bad pages") else None

    return _no_errors(
        "bad_pages",
        cards,
        {row["gpu"]: pages(row) for row in rows or []},
        absent,
        "retired memory pages",
        "watch the GPU; have it serviced if it grows",
    )


def _no_errors(
    id_: str, cards: Cards, counts: Mapping[int, float | None], absent: str, what: str, fix: str
) -> Check:
    bad = {
        gpu: None if count is None else [f"GPU {gpu}: {count:.0f}"] if count > 0 else []
        for gpu, count in counts.items()
    }
    return _each(id_, cards, bad, absent, (f"no {what}", f"0 {what}"), fix)


def _each(
    id_: str,
    cards: Cards,
    bad: Mapping[int, list[str] | None],
    absent: str,
    fine_want: tuple[str, str],
    fix: str,
    source: str = _HEALTH,
) -> Check:
    """Check each GPU separately.

    Args:
        id_: of the check.
        cards: the GPUs of the node.
        bad: GPU to its faults, each as text; None if it does not tell.
        absent: reason why no GPU could be asked; empty if they could.
        fine_want: the finding without faults, and the expected value.
        fix: the remedy for the faults.
        source: of the check.
    """
    told = {gpu: words for gpu, words in bad.items() if words is not None}
    wrong = [word for words in told.values() for word in words]
    missing = _missing(cards, told)
    fine, want = fine_want
    return judged(
        id_,
        "must",
        False if wrong else None if missing else True,
        _told(", ".join(wrong[:8]) or (fine if told and not missing else ""), missing, absent),
        want,
        fix if wrong else _ASK,
        source,
    )


def _missing(cards: Cards, told: Mapping[int, Any]) -> str:
    """Text on the GPUs with a missing value; empty if all have it."""
    silent = [str(card["gpu"]) for card in cards if card["gpu"] not in told]
    if not told or len(silent) == len(cards):
        return "not told"
    return f"not told by GPU {', '.join(silent)}" if silent else ""


def _told(found: str, missing: str, absent: str) -> str:
    """The finding and the missing GPUs; without a finding, the reason."""
    return "; ".join(filter(None, (found, missing))) if found else absent or missing


def _tally(values: Iterable[str]) -> str:
    """`gfx942`, or `gfx90a (1), gfx942 (7)` if they differ."""
    counts = Counter(values)
    return ", ".join(f"{value} ({count})" if len(counts) > 1 else value for value, count in counts.items())


def _mec(cards: Cards, environ: Mapping[str, str], absent: str) -> Check:
    versions = {card["gpu"]: str(card["mec_firmware"]) for card in cards if "mec_firmware" in card}
    numbers = {
        gpu: int(match[0]) for gpu, version in versions.items() if (match := re.search(r"\d+$", version))
    }
    missing = _missing(cards, numbers)
    reclaim = environ.get("HSA_NO_SCRATCH_RECLAIM") == "1"
    old = any(number < MEC_FIRMWARE for number in numbers.values())
    makes_up = reclaim and (not absent or bool(numbers))
    good = True if makes_up else False if old else None if missing else True
    told = _told(", ".join(sorted(set(versions.values()))), missing, absent)
    return judged(
        "mec_firmware",
        "must",
        good,
        f"{told}{', HSA_NO_SCRATCH_RECLAIM=1' if reclaim else ''}",
        f"{MEC_FIRMWARE} or later, else HSA_NO_SCRATCH_RECLAIM=1",
        "export HSA_NO_SCRATCH_RECLAIM=1 for servers, or update the firmware",
        "rocm.docs.amd.com vLLM optimisation; InferenceX benchmark scripts",
    )


def _perf_level(cards: Cards, rows: Rows | None, absent: str) -> Check:
    levels = {
        row["gpu"]: str(level) for row in rows or [] if (level := amd_smi.leaf(row, "perf_level")) is not None
    }
    missing = _missing(cards, levels)
    differ = len(set(levels.values())) > 1
    return judged(
        "perf_level",
        "record",
        False if differ else None if missing else True,
        _told(", ".join(Counter(levels.values())), missing, absent),
        "the same on all; never mix runs with and without perf determinism",
        "rocm-smi --resetperfdeterminism (-r) puts all back" if differ else _ASK,
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
