"""Checks of the GPUs, from amd-smi's answers. Pure.

A missing value of one GPU makes its check unknown, unless another GPU fails the check.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    profiles: Mapping[str, str],
) -> list[Check]:
    """All GPU checks.

    Args:
        answers: amd-smi's answer to each of QUESTIONS; None if there is none.
        has_device: True if /dev/kfd exists.
        has_tool: True if amd-smi is on PATH.
        expected_gpus: number of GPUs that the node should have.
        environ: the environment of the servers to start.
        profiles: hardware profiles by PCI device id and by the GPU's name, in lower case.
    """
    absent = ""
    if not has_device:
        absent = "no AMD GPU (/dev/kfd is missing)"
    elif not has_tool:
        absent = "no amd-smi on PATH"
    elif answers["static"] is None:
        absent = "amd-smi does not answer"
    gpus = environment.gpus(answers["static"], environment.mec_firmware(answers["firmware"]))
    node = _Node(gpus, {question: rows or [] for question, rows in answers.items()}, absent)
    results = [
        _device(has_device),
        _count(node, expected_gpus),
        _profile(node, profiles),
        _same(node, "gfx", "must", node.values("gfx")),
        _same(node, "vbios", "must", node.values("vbios")),
        _same(node, "power_cap", "must", node.values("power_cap_w")),
        _partitions(node),
        _processes(node),
        _vram(node),
        _ecc(node),
        _bad_pages(node),
        _links(node),
        _mec(node, environ),
        _perf_level(node),
        _visible(environ),
    ]
    if not absent:
        return results
    remedy = "install amd-smi (ROCm) and check that it answers" if has_device else "see the check kfd"
    return [replace(check, fix=remedy) if check.status == "unknown" else check for check in results]


@dataclass(frozen=True, slots=True)
class _Node:
    """The GPUs of a node, and amd-smi's answers."""

    gpus: list[GpuEntry]
    answers: Mapping[str, list[GpuEntry]]
    absent: str
    """Reason why no GPU could be queried; empty if they could."""

    def values(self, name: str) -> dict[int, str]:
        """GPU to a value of `environment.gpus`."""
        return {gpu["gpu"]: str(gpu[name]) for gpu in self.gpus if name in gpu}

    def missing(self, values: Mapping[int, Any]) -> str:
        """Text on the GPUs without a value; empty if all have one."""
        silent = [str(gpu["gpu"]) for gpu in self.gpus if gpu["gpu"] not in values]
        if not values or len(silent) == len(self.gpus):
            return "not reported"
        return f"not reported by GPU {', '.join(silent)}" if silent else ""

    def found(self, finding: str, missing: str) -> str:
        """The finding and the missing GPUs; without a finding, the reason."""
        return "; ".join(filter(None, (finding, missing))) if finding else self.absent or missing


def _device(has_device: bool) -> Check:
    return judged(
        "kfd",
        "must",
        has_device,
        "/dev/kfd exists" if has_device else "/dev/kfd is missing",
        "present",
        "install the amdgpu driver (dkms) and check that `lsmod | grep amdgpu` lists it; in a container, add --device /dev/kfd",
    )


def _count(node: _Node, expected: int) -> Check:
    names = Counter(str(gpu.get("name", "?")) for gpu in node.gpus)
    return judged(
        "gpus",
        "must",
        None if node.absent else len(node.gpus) == expected,
        node.absent or ", ".join(f"{count} x {name}" for name, count in names.items()) or "none",
        f"{expected}",
        "check whether a GPU fell off the bus (dmesg | grep amdgpu), or whether GPUs are partitioned",
        _HEALTH,
    )


def _profile(node: _Node, profiles: Mapping[str, str]) -> Check:
    """Recognise the GPUs, by device id or else by name."""
    ids, names = node.values("device_id"), node.values("name")
    known = {
        gpu: profile
        for gpu in {*ids, *names}
        if (profile := profiles.get(ids.get(gpu, "").lower()) or profiles.get(names.get(gpu, "").lower()))
    }
    found = "".join(sorted(set(known.values()))) if len(set(known.values())) == 1 else ""
    complete = len(known) == len(node.gpus) and bool(found)
    models = Counter(f"{names.get(gpu, '?')} ({ids.get(gpu, '?')})" for gpu in {*ids, *names} - {*known})
    other = f"no hardware profile for {_tally(models)}" if models else "not reported"
    mixed = ", ".join(sorted(set(known.values())))
    return judged(
        "profile",
        "record",
        True if complete else None,
        node.absent or (found if complete else mixed if len(set(known.values())) > 1 else other),
        "GPUs of one hardware profile",
        "use a profile of the same GPU in the sweep, or write one (docs/reference/hardware.md)",
        "vLLM v0.33.0 platforms/rocm.py:77-93",
    )


def _same(
    node: _Node,
    id_: str,
    need: Need,
    values: Mapping[int, str],
    want: str = "the same on all GPUs",
    fix: str = "use GPUs of one model with the same firmware and settings, because one slow GPU slows all ranks",
    source: str = _HEALTH,
) -> Check:
    """Check that all GPUs have the same value."""
    counts = Counter(values.values())
    wrong = len(counts) > 1
    return _per_gpu(
        node, id_, need, values, wrong, _tally(counts) if wrong else "".join(counts), want, fix, source
    )


def _partitions(node: _Node) -> Check:
    memory = node.values("memory_partition")
    modes = {
        gpu: f"{mode}/{memory[gpu]}"
        for gpu, mode in node.values("compute_partition").items()
        if gpu in memory
    }
    return _per_gpu(
        node,
        "partitions",
        "must",
        modes,
        bool(set(modes.values()) - {"SPX/NPS1"}),
        _tally(Counter(modes.values())),
        "SPX/NPS1 on all GPUs",
        "sudo amd-smi set --compute-partition SPX; sudo amd-smi set --memory-partition NPS1",
        "instinct.docs.amd.com GPU partitioning",
    )


def _tally(counts: Mapping[str, int]) -> str:
    """`gfx90a (1), gfx942 (7)`."""
    return ", ".join(f"{value} ({count})" for value, count in counts.items())


def _processes(node: _Node) -> Check:
    listed = amd_smi.processes_of(node.answers["process"])
    return _no_faults(
        node,
        "gpu_processes",
        {
            gpu: [f"{amd_smi.process_text(pid, name)} on GPU {gpu}" for pid, name in processes]
            for gpu, processes in listed.items()
        },
        "none",
        "none",
        "stop these processes, or run bench after they end: they take power, memory and link bandwidth from the server",
    )


def _vram(node: _Node) -> Check:
    def in_use(row: GpuEntry) -> list[str] | None:
        used = amd_smi.number(row, "mem_usage", "used_vram")
        total = amd_smi.number(row, "mem_usage", "total_vram")
        if used is None or not total:
            return None
        share = used / total
        return [f"GPU {row['gpu']}: {100 * share:.0f} %"] if share > IDLE_VRAM else []

    return _no_faults(
        node,
        "vram_baseline",
        {row["gpu"]: in_use(row) for row in node.answers["metric"]},
        f"below {100 * IDLE_VRAM:.0f} % on all GPUs",
        f"below {100 * IDLE_VRAM:.0f} % of each GPU",
        "end the processes listed by the check gpu_processes; if none is listed, reset the GPU or reboot to free the VRAM",
        "InferenceX benchmarks/benchmark_lib.sh (wait_for_amd_gpu_clean)",
    )


def _ecc(node: _Node) -> Check:
    return _no_errors(
        node,
        "ecc",
        {
            row["gpu"]: amd_smi.number(row, "ecc", "total_uncorrectable_count")
            for row in node.answers["metric"]
        },
        "uncorrectable errors since the driver was loaded",
        "take the GPU out of service; do not trust its results",
    )


def _links(node: _Node) -> Check:
    def errors(row: GpuEntry) -> float | None:
        replays = amd_smi.number(row, "pcie", "replay_count")
        # Newer tools give N/A for xGMI on healthy nodes, so only PCIe is required.
        xgmi = amd_smi.leaf(row, "xgmi_err") not in (None, 0, "AMDSMI_XGMI_STATUS_NO_ERRORS")
        return (replays or 0) + xgmi if xgmi or replays is not None else None

    return _no_errors(
        node,
        "links",
        {row["gpu"]: errors(row) for row in node.answers["metric"]},
        "PCIe replays and xGMI errors",
        "reseat the GPU or have it serviced; see dmesg and amd-smi xgmi",
    )


def _bad_pages(node: _Node) -> Check:
    def pages(row: GpuEntry) -> float | None:
        key = "retired" if "retired" in row else "bad_pages"
        value, listed = row.get(key), amd_smi.entries(row, key)
        if listed or value == []:
            return len(listed)
        return 0 if str(value).lower().startswith("no bad pages") else None

    return _no_errors(
        node,
        "bad_pages",
        {row["gpu"]: pages(row) for row in node.answers["bad-pages"]},
        "retired memory pages",
        "watch the GPU; have it serviced if the number grows",
    )


def _no_errors(node: _Node, id_: str, counts: Mapping[int, float | None], errors: str, fix: str) -> Check:
    faults = {
        gpu: None if count is None else [f"GPU {gpu}: {count:.0f}"] if count > 0 else []
        for gpu, count in counts.items()
    }
    return _no_faults(node, id_, faults, f"no {errors}", f"0 {errors}", fix)


def _no_faults(
    node: _Node,
    id_: str,
    faults: Mapping[int, list[str] | None],
    fine: str,
    want: str,
    fix: str,
    source: str = _HEALTH,
) -> Check:
    """Check that no GPU has a fault.

    Args:
        node: the node.
        id_: of the check.
        faults: GPU to its faults, each as text; None if the GPU does not report.
        fine: the finding without faults.
        want: the expected value.
        fix: the remedy for the faults.
        source: of the check.
    """
    reported = {gpu: texts for gpu, texts in faults.items() if texts is not None}
    texts = [text for listed in reported.values() for text in listed]
    found = ", ".join(texts[:8]) or ("" if node.missing(reported) else fine)
    return _per_gpu(node, id_, "must", reported, bool(texts), found, want, fix, source)


def _per_gpu(
    node: _Node,
    id_: str,
    need: Need,
    values: Mapping[int, Any],
    wrong: bool,
    finding: str,
    want: str,
    fix: str,
    source: str,
) -> Check:
    """A check with one value for each GPU: failed if one is wrong, else unknown if one is missing."""
    missing = node.missing(values)
    good = False if wrong else None if missing else True
    return judged(id_, need, good, node.found(finding, missing), want, fix if wrong else _ASK, source)


def _mec(node: _Node, environ: Mapping[str, str]) -> Check:
    versions = node.values("mec_firmware")
    numbers = {
        gpu: int(match[0]) for gpu, version in versions.items() if (match := re.search(r"\d+$", version))
    }
    missing = node.missing(numbers)
    reclaim = environ.get("HSA_NO_SCRATCH_RECLAIM") == "1"
    old = any(number < MEC_FIRMWARE for number in numbers.values())
    by_variable = reclaim and (not node.absent or bool(numbers))
    found = node.found(", ".join(sorted(set(versions.values()))), missing)
    return judged(
        "mec_firmware",
        "must",
        True if by_variable else False if old else None if missing else True,
        f"{found}{', HSA_NO_SCRATCH_RECLAIM=1' if reclaim else ''}",
        f"{MEC_FIRMWARE} or later, else HSA_NO_SCRATCH_RECLAIM=1",
        "export HSA_NO_SCRATCH_RECLAIM=1 for servers, or update the firmware",
        "rocm.docs.amd.com vLLM optimisation; InferenceX benchmark scripts",
    )


def _perf_level(node: _Node) -> Check:
    levels = {row["gpu"]: amd_smi.leaf(row, "perf_level") for row in node.answers["metric"]}
    return _same(
        node,
        "perf_level",
        "record",
        {gpu: str(level) for gpu, level in levels.items() if level is not None},
        "the same on all GPUs; do not mix runs with and without perf determinism",
        "reset all GPUs with rocm-smi --resetperfdeterminism (-r)",
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
        "unset one of these variables: vLLM does not start if they differ",
        "v0.33.0 platforms/rocm.py",
    )
