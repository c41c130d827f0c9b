"""Checks of the GPUs, from amd-smi's answers. Pure.

A missing value of one GPU makes its check unknown, unless another GPU fails the check.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rocbench.probe import amd_smi, environment
from rocbench.probe.amd_smi import GpuEntry
from rocbench.probe.checks import Check, Need, judged

QUESTIONS = ("static", "metric", "process", "firmware", "bad-pages")
"""Subcommands of amd-smi."""
MEC_FIRMWARE = 177
IDLE_VRAM = 0.02
"""Maximum share of VRAM in use on an idle GPU (driver and firmware: some 300 MiB)."""
_ASK = "run amd-smi for this GPU: static, metric, process, bad-pages, firmware"
_HEALTH = "rocm.docs.amd.com how-to/rocm-for-ai/system-health-check"


def checks(
    answers: Mapping[str, list[GpuEntry] | None],
    *,
    has_device: bool,
    has_tool: bool,
    expected_gpus: int,
    environ: Mapping[str, str],
) -> list[Check]:
    """All GPU checks.

    Args:
        answers: amd-smi's answer to each of QUESTIONS; None if there is none.
        has_device: True if /dev/kfd exists.
        has_tool: True if amd-smi is on PATH.
        expected_gpus: number of GPUs that the node should have.
        environ: the environment of the servers to start.
    """
    gpus = environment.gpus(answers["static"], environment.mec_firmware(answers["firmware"]))
    metrics = answers["metric"] or []
    absent = ""
    if not has_device:
        absent = "no AMD GPU (/dev/kfd is missing)"
    elif not has_tool:
        absent = "no amd-smi on PATH"
    elif answers["static"] is None:
        absent = "amd-smi does not answer"
    results = [
        _device(has_device),
        _count(gpus, expected_gpus, absent),
        _same("gfx", "must", gpus, _values(gpus, "gfx"), absent),
        _same("vbios", "must", gpus, _values(gpus, "vbios"), absent),
        _same("power_cap", "must", gpus, _values(gpus, "power_cap_w"), absent),
        _partitions(gpus, absent),
        _processes(gpus, answers["process"] or [], absent),
        _vram(gpus, metrics, absent),
        _ecc(gpus, metrics, absent),
        _bad_pages(gpus, answers["bad-pages"] or [], absent),
        _links(gpus, metrics, absent),
        _mec(gpus, environ, absent),
        _perf_level(gpus, metrics, absent),
        _visible(environ),
    ]
    if not absent:
        return results
    remedy = "install amd-smi (ROCm) and check that it answers" if has_device else "see kfd"
    return [replace(check, fix=remedy) if check.status == "unknown" else check for check in results]


def _device(has_device: bool) -> Check:
    return judged(
        "kfd",
        "must",
        has_device,
        "/dev/kfd exists" if has_device else "/dev/kfd is missing",
        "present",
        "install the amdgpu driver (dkms) and check that `lsmod | grep amdgpu` lists it; in a container --device /dev/kfd",
    )


def _count(gpus: list[GpuEntry], expected: int, absent: str) -> Check:
    names = Counter(str(gpu.get("name", "?")) for gpu in gpus)
    return judged(
        "gpus",
        "must",
        None if absent else len(gpus) == expected,
        absent or ", ".join(f"{count} x {name}" for name, count in names.items()) or "none",
        f"{expected}",
        "a missing GPU fell off the bus (dmesg | grep amdgpu), or the node is partitioned",
        _HEALTH,
    )


def _values(gpus: list[GpuEntry], key: str) -> dict[int, str]:
    return {gpu["gpu"]: str(gpu[key]) for gpu in gpus if key in gpu}


def _same(
    id_: str,
    need: Need,
    gpus: list[GpuEntry],
    values: Mapping[int, str],
    absent: str,
    *,
    want: str = "the same on all",
    fix: str = "bring the odd GPU to the others' state; one slow GPU slows all ranks",
    source: str = _HEALTH,
) -> Check:
    """Check that all GPUs have the same value."""
    counts = Counter(values.values())
    wrong = len(counts) > 1
    tally = _tally(counts) if wrong else "".join(counts)
    return _per_gpu(
        id_, need, gpus, values, absent, wrong=wrong, found=tally, want=want, fix=fix, source=source
    )


def _partitions(gpus: list[GpuEntry], absent: str) -> Check:
    modes = {
        gpu["gpu"]: f"{gpu['compute_partition']}/{gpu['memory_partition']}"
        for gpu in gpus
        if "compute_partition" in gpu and "memory_partition" in gpu
    }
    return _per_gpu(
        "partitions",
        "must",
        gpus,
        modes,
        absent,
        wrong=bool(set(modes.values()) - {"SPX/NPS1"}),
        found=_tally(Counter(modes.values())),
        want="SPX/NPS1 on all",
        fix="sudo amd-smi set --compute-partition SPX; sudo amd-smi set --memory-partition NPS1",
        source="instinct.docs.amd.com GPU partitioning",
    )


def _tally(counts: Mapping[str, int]) -> str:
    """`gfx90a (1), gfx942 (7)`."""
    return ", ".join(f"{value} ({count})" for value, count in counts.items())


def _processes(gpus: list[GpuEntry], rows: list[GpuEntry], absent: str) -> Check:
    listed = amd_smi.processes_of(rows)
    return _faults(
        "gpu_processes",
        gpus,
        {
            gpu: [f"{amd_smi.process_text(pid, name)} on GPU {gpu}" for pid, name in processes]
            for gpu, processes in listed.items()
        },
        absent,
        fine="none",
        want="none",
        fix="stop them, or run when they are done: other processes share power, memory and links",
    )


def _vram(gpus: list[GpuEntry], rows: list[GpuEntry], absent: str) -> Check:
    def in_use(row: GpuEntry) -> list[str] | None:
        used = amd_smi.number(row, "mem_usage", "used_vram")
        total = amd_smi.number(row, "mem_usage", "total_vram")
        if used is None or not total:
            return None
        share = used / total
        return [f"GPU {row['gpu']}: {100 * share:.0f} %"] if share > IDLE_VRAM else []

    return _faults(
        "vram_baseline",
        gpus,
        {row["gpu"]: in_use(row) for row in rows},
        absent,
        fine=f"below {100 * IDLE_VRAM:.0f} % on all",
        want=f"below {100 * IDLE_VRAM:.0f} % of each GPU",
        fix="VRAM is in use: see gpu_processes; without a process a reset or a reboot frees it",
        source="InferenceX benchmarks/benchmark_lib.sh (wait_for_amd_gpu_clean)",
    )


def _ecc(gpus: list[GpuEntry], rows: list[GpuEntry], absent: str) -> Check:
    return _no_errors(
        "ecc",
        gpus,
        {row["gpu"]: amd_smi.number(row, "ecc", "total_uncorrectable_count") for row in rows},
        absent,
        "uncorrectable errors since the driver was loaded",
        "take the GPU out of service; do not trust its results",
    )


def _links(gpus: list[GpuEntry], rows: list[GpuEntry], absent: str) -> Check:
    def errors(row: GpuEntry) -> float | None:
        replays = amd_smi.number(row, "pcie", "replay_count")
        # Newer tools give N/A for xGMI on healthy nodes, so only PCIe is required.
        xgmi = amd_smi.leaf(row, "xgmi_err") not in (None, 0, "AMDSMI_XGMI_STATUS_NO_ERRORS")
        return (replays or 0) + xgmi if xgmi or replays is not None else None

    return _no_errors(
        "links",
        gpus,
        {row["gpu"]: errors(row) for row in rows},
        absent,
        "PCIe replays and xGMI errors",
        "reseat or service; see dmesg and amd-smi xgmi",
    )


def _bad_pages(gpus: list[GpuEntry], rows: list[GpuEntry], absent: str) -> Check:
    def pages(row: GpuEntry) -> float | None:
        key = "retired" if "retired" in row else "bad_pages"
        value, listed = row.get(key), amd_smi.entries(row, key)
        if listed or value == []:
            return len(listed)
        return 0 if str(value).lower().startswith("no bad pages") else None

    return _no_errors(
        "bad_pages",
        gpus,
        {row["gpu"]: pages(row) for row in rows},
        absent,
        "retired memory pages",
        "watch the GPU; have it serviced if the number grows",
    )


def _no_errors(
    id_: str, gpus: list[GpuEntry], counts: Mapping[int, float | None], absent: str, errors: str, fix: str
) -> Check:
    faults = {
        gpu: None if count is None else [f"GPU {gpu}: {count:.0f}"] if count > 0 else []
        for gpu, count in counts.items()
    }
    return _faults(id_, gpus, faults, absent, fine=f"no {errors}", want=f"0 {errors}", fix=fix)


def _faults(
    id_: str,
    gpus: list[GpuEntry],
    faults: Mapping[int, list[str] | None],
    absent: str,
    *,
    fine: str,
    want: str,
    fix: str,
    source: str = _HEALTH,
) -> Check:
    """Check that no GPU has a fault.

    Args:
        id_: of the check.
        gpus: the GPUs of the node.
        faults: GPU to its faults, each as text; None if the GPU does not report.
        absent: reason why no GPU could be queried; empty if they could.
        fine: the finding without faults.
        want: the expected value.
        fix: the remedy for the faults.
        source: of the check.
    """
    reported = {gpu: texts for gpu, texts in faults.items() if texts is not None}
    texts = [text for listed in reported.values() for text in listed]
    found = ", ".join(texts[:8]) or ("" if _missing(gpus, reported) else fine)
    return _per_gpu(
        id_, "must", gpus, reported, absent, wrong=bool(texts), found=found, want=want, fix=fix, source=source
    )


def _per_gpu(
    id_: str,
    need: Need,
    gpus: list[GpuEntry],
    values: Mapping[int, Any],
    absent: str,
    *,
    wrong: bool,
    found: str,
    want: str,
    fix: str,
    source: str,
) -> Check:
    """A check with one value for each GPU: failed if one is wrong, else unknown if one is missing."""
    missing = _missing(gpus, values)
    good = False if wrong else None if missing else True
    return judged(
        id_, need, good, _with_missing(found, missing, absent), want, fix if wrong else _ASK, source
    )


def _missing(gpus: list[GpuEntry], values: Mapping[int, Any]) -> str:
    """Text on the GPUs without a value; empty if all have one."""
    silent = [str(gpu["gpu"]) for gpu in gpus if gpu["gpu"] not in values]
    if not values or len(silent) == len(gpus):
        return "not reported"
    return f"not reported by GPU {', '.join(silent)}" if silent else ""


def _with_missing(found: str, missing: str, absent: str) -> str:
    """The finding and the missing GPUs; without a finding, the reason."""
    return "; ".join(filter(None, (found, missing))) if found else absent or missing


def _mec(gpus: list[GpuEntry], environ: Mapping[str, str], absent: str) -> Check:
    versions = _values(gpus, "mec_firmware")
    numbers = {
        gpu: int(match[0]) for gpu, version in versions.items() if (match := re.search(r"\d+$", version))
    }
    missing = _missing(gpus, numbers)
    reclaim = environ.get("HSA_NO_SCRATCH_RECLAIM") == "1"
    old = any(number < MEC_FIRMWARE for number in numbers.values())
    by_variable = reclaim and (not absent or bool(numbers))
    good = True if by_variable else False if old else None if missing else True
    found = _with_missing(", ".join(sorted(set(versions.values()))), missing, absent)
    return judged(
        "mec_firmware",
        "must",
        good,
        f"{found}{', HSA_NO_SCRATCH_RECLAIM=1' if reclaim else ''}",
        f"{MEC_FIRMWARE} or later, else HSA_NO_SCRATCH_RECLAIM=1",
        "export HSA_NO_SCRATCH_RECLAIM=1 for servers, or update the firmware",
        "rocm.docs.amd.com vLLM optimisation; InferenceX benchmark scripts",
    )


def _perf_level(gpus: list[GpuEntry], rows: list[GpuEntry], absent: str) -> Check:
    return _same(
        "perf_level",
        "record",
        gpus,
        {row["gpu"]: str(level) for row in rows if (level := amd_smi.leaf(row, "perf_level")) is not None},
        absent,
        want="the same on all; never mix runs with and without perf determinism",
        fix="reset all with rocm-smi --resetperfdeterminism (-r)",
        source="instinct.docs.amd.com system optimisation",
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
        "unset one of them: vLLM does not start if they differ",
        "v0.33.0 platforms/rocm.py",
    )
