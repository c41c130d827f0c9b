"""Checks of the host: kernel, memory, limits, tools."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

from rocbench.probe.checks import Check, judged
from rocbench.probe.environment import chosen, rocm, text
from rocbench.units import GIB, size

SHM_BYTES = 16 * GIB
OPEN_FILES = 65_536
STACK_BYTES = 64 * 1024**2
_HEALTH = "rocm.docs.amd.com how-to/rocm-for-ai/system-health-check"
_UNLIMITED = resource.RLIM_INFINITY


def checks(root: Path, left_servers: Check) -> list[Check]:
    """All host checks, with the given one in its place."""
    return [
        _numa_balancing(root),
        _shared_memory(root),
        _memlock(),
        _stack(),
        _open_files(),
        left_servers,
        _cmdline(root),
        _governor(root),
        _idle_states(root),
        _huge_pages(root),
        _versions(root),
        *_tools(),
    ]


def _numa_balancing(root: Path) -> Check:
    value = text(root / "proc/sys/kernel/numa_balancing").strip()
    return judged(
        "numa_balancing",
        "must",
        value == "0" if value else None,
        value or "cannot be read",
        "0",
        "sudo sysctl kernel.numa_balancing=0 (automatic balancing can hang GPUs)",
        _HEALTH,
    )


def _shared_memory(root: Path) -> Check:
    folder = root / "dev/shm"
    total = shutil.disk_usage(folder).total if folder.exists() else None
    return judged(
        "shared_memory",
        "must",
        None if total is None else total >= SHM_BYTES,
        "no /dev/shm" if total is None else size(total),
        f"{size(SHM_BYTES)} or more",
        "mount -o remount,size=32G /dev/shm; in a container --ipc=host or --shm-size 16g",
        "v0.33.0 docs, ROCm installation",
    )


def _memlock() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return judged(
        "memlock",
        "must",
        soft == _UNLIMITED,
        "unlimited" if soft == _UNLIMITED else size(soft),
        "unlimited",
        "ulimit -l unlimited (limits.conf: memlock unlimited); in a container --ulimit memlock=-1",
        "InferenceX runners/launch_mi325x-tw.sh",
    )


def _stack() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    good = hard == _UNLIMITED or hard >= STACK_BYTES
    return judged(
        "stack",
        "should",
        good,
        "unlimited"
        if soft == _UNLIMITED
        else f"{size(soft)}, at most {'unlimited' if hard == _UNLIMITED else size(hard)}",
        f"{size(STACK_BYTES)} can be set",
        "raise the hard limit; in a container --ulimit stack=67108864",
        "rocm.docs.amd.com vLLM container instructions",
    )


def _open_files() -> Check:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    good = hard == _UNLIMITED or hard >= OPEN_FILES
    return judged(
        "open_files",
        "should",
        good,
        "unlimited" if hard == _UNLIMITED else f"at most {hard:,}",
        f"{OPEN_FILES:,}",
        "raise the hard limit of nofile: 1,000 users cost a file each on both sides",
        "ROCm/ATOM#1394",
    )


def _cmdline(root: Path) -> Check:
    words = text(root / "proc/cmdline").split()
    wanted = ("iommu=pt", "pci=realloc=off")
    missing = [word for word in wanted if word not in words]
    return judged(
        "kernel_cmdline",
        "should",
        not missing if words else None,
        "both present"
        if words and not missing
        else f"without {' '.join(missing)}"
        if words
        else "cannot be read",
        " ".join(wanted),
        "add them to the kernel's command line (GRUB_CMDLINE_LINUX) and reboot",
        _HEALTH,
    )


def _governor(root: Path) -> Check:
    folder = root / "sys/devices/system/cpu"
    found = {text(path).strip() for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""}
    return judged(
        "cpu_governor",
        "should",
        found == {"performance"} if found else None,
        ", ".join(sorted(found)) or "no frequency scaling visible",
        "performance",
        "cpupower frequency-set -g performance",
        _HEALTH,
    )


def _idle_states(root: Path) -> Check:
    """Check of idle states. C2 is slow to wake from: `cpupower idle-set -d 2` switches it off."""
    folder = root / "sys/devices/system/cpu/cpu0/cpuidle"
    states = {
        text(state / "name").strip(): text(state / "disable").strip() for state in folder.glob("state[0-9]*")
    }
    enabled = states.get("C2") == "0"
    return judged(
        "idle_c2",
        "should",
        not enabled if states else None,
        _idle_words(states),
        "C2 off",
        "cpupower idle-set -d 2",
        "instinct.docs.amd.com system optimisation",
    )


def _idle_words(states: dict[str, str]) -> str:
    if not states:
        return "no idle states visible"
    if "C2" not in states:
        return "no C2"
    return "C2 enabled" if states["C2"] == "0" else "C2 off"


def _huge_pages(root: Path) -> Check:
    value = chosen(text(root / "sys/kernel/mm/transparent_hugepage/enabled"))
    return judged(
        "transparent_hugepage", "record", True if value else None, value or "cannot be read", "recorded", ""
    )


def _versions(root: Path) -> Check:
    found = rocm(root)
    told = ", ".join(f"{name} {value}" for name, value in found.items())
    return judged(
        "rocm", "record", True if found else None, told or "no ROCm under /opt/rocm", "recorded", ""
    )


def _tools() -> list[Check]:
    """Checks of tools. Bandwidth and stress tests take minutes and heat GPUs, so they are only named."""
    tools = {
        "rccl_tests": (
            "all_reduce_perf",
            "all_reduce_perf -b 8 -e 10G -f 2 -g 8, stable against its own history",
        ),
        "transferbench": (
            "TransferBench",
            "TransferBench a2a above 320 GB/s, p2p 33.9 one way, 43.9 both ways",
        ),
        "rvs": ("rvs", "rvs -c gst_single.conf passes"),
    }
    return [
        Check(
            id_,
            "should" if id_ != "rvs" else "record",
            "unknown",
            "installed, not run" if shutil.which(tool) else "not installed",
            want,
            f"run it by hand when the node is new or has changed: {want.partition(',')[0]}",
            "ROCm/cvs MI300 limits" if id_ == "transferbench" else _HEALTH,
        )
        for id_, (tool, want) in tools.items()
    ]
