"""Checks of the host: kernel, memory, limits, tools."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

from rocbench.probe.checks import Check, Need, judged
from rocbench.probe.environment import chosen, rocm, text
from rocbench.units import GIB, size

SHM_BYTES = 16 * GIB
OPEN_FILES = 65_536
"""1,000 users need one file each, on both sides."""
STACK_BYTES = 64 * 1024**2
_HEALTH = "rocm.docs.amd.com how-to/rocm-for-ai/system-health-check"
_STACK_SOURCE = "rocm.docs.amd.com vLLM container instructions"
_UNLIMITED = resource.RLIM_INFINITY
_UNREADABLE = "cannot be read"


def checks(root: Path, left_servers: Check) -> list[Check]:
    """All host checks, with the given one in its place."""
    return [
        _numa_balancing(root),
        _shared_memory(root),
        _memlock(),
        _hard_limit("stack", "stack", resource.RLIMIT_STACK, STACK_BYTES, size, _STACK_SOURCE),
        _hard_limit(
            "open_files", "nofile", resource.RLIMIT_NOFILE, OPEN_FILES, "{:,}".format, "ROCm/ATOM#1394"
        ),
        left_servers,
        _cmdline(root),
        _governor(root),
        _idle_states(root),
        _recorded(
            "transparent_hugepage",
            chosen(text(root / "sys/kernel/mm/transparent_hugepage/enabled")),
            _UNREADABLE,
        ),
        _recorded(
            "rocm",
            ", ".join(f"{name} {value}" for name, value in rocm(root).items()),
            "no ROCm under /opt/rocm",
        ),
        *_tools(),
    ]


def _numa_balancing(root: Path) -> Check:
    value = text(root / "proc/sys/kernel/numa_balancing").strip()
    return judged(
        "numa_balancing",
        "must",
        value == "0" if value else None,
        value or _UNREADABLE,
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
        "mount -o remount,size=32G /dev/shm; in a container, use --ipc=host or --shm-size 16g",
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
        "ulimit -l unlimited (limits.conf: memlock unlimited); in a container, use --ulimit memlock=-1",
        "InferenceX runners/launch_mi325x-tw.sh",
    )


def _hard_limit(
    id_: str, name: str, limit: int, minimum: int, shown: Callable[[int], str], source: str
) -> Check:
    """Check of a hard limit, up to which a process can raise its own limit."""
    _, hard = resource.getrlimit(limit)
    return judged(
        id_,
        "should",
        hard == _UNLIMITED or hard >= minimum,
        "unlimited" if hard == _UNLIMITED else f"at most {shown(hard)}",
        f"at least {shown(minimum)}",
        f"raise the hard limit of {name} (limits.conf); in a container, use --ulimit {name}={minimum}",
        source,
    )


def _cmdline(root: Path) -> Check:
    words = text(root / "proc/cmdline").split()
    expected = ("iommu=pt", "pci=realloc=off")
    missing = " ".join(word for word in expected if word not in words)
    return judged(
        "kernel_cmdline",
        "should",
        not missing if words else None,
        (f"without {missing}" if missing else "both present") if words else _UNREADABLE,
        " ".join(expected),
        "add the missing parameters to the kernel's command line (GRUB_CMDLINE_LINUX) and reboot",
        _HEALTH,
    )


def _governor(root: Path) -> Check:
    folder = root / "sys/devices/system/cpu"
    governors = {text(path).strip() for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""}
    return judged(
        "cpu_governor",
        "should",
        governors == {"performance"} if governors else None,
        ", ".join(sorted(governors)) or "no frequency scaling visible",
        "performance",
        "cpupower frequency-set -g performance",
        _HEALTH,
    )


def _idle_states(root: Path) -> Check:
    """Check of idle states: a CPU wakes slowly from C2."""
    folder = root / "sys/devices/system/cpu/cpu0/cpuidle"
    disabled = {
        text(state / "name").strip(): text(state / "disable").strip() for state in folder.glob("state[0-9]*")
    }
    c2 = "no C2" if "C2" not in disabled else "C2 enabled" if disabled["C2"] == "0" else "C2 off"
    return judged(
        "idle_c2",
        "should",
        c2 != "C2 enabled" if disabled else None,
        c2 if disabled else "no idle states visible",
        "C2 off",
        "cpupower idle-set -d 2",
        "instinct.docs.amd.com system optimisation",
    )


def _recorded(id_: str, value: str, absent: str) -> Check:
    """A value that is only recorded."""
    return judged(id_, "record", True if value else None, value or absent, "recorded", "")


def _tools() -> list[Check]:
    """Checks of tools. Bandwidth and stress tests take minutes and heat GPUs, so they are named and not run."""
    tools: tuple[tuple[str, Need, str, str, str, str], ...] = (
        (
            "rccl_tests",
            "should",
            "all_reduce_perf",
            "all_reduce_perf -b 8 -e 10G -f 2 -g 8",
            ": bandwidth as in earlier runs on this node",
            _HEALTH,
        ),
        (
            "transferbench",
            "should",
            "TransferBench",
            "TransferBench a2a",
            ": above 320 GB/s; peer-to-peer: 33.9 GB/s in one direction, 43.9 GB/s in both",
            "ROCm/cvs MI300 limits",
        ),
        ("rvs", "record", "rvs", "rvs -c gst_single.conf", " passes", _HEALTH),
    )
    return [
        Check(
            id_,
            need,
            "unknown",
            "installed, not run" if shutil.which(tool) else "not installed",
            command + result,
            f"run this command by hand when the node is new or has changed: {command}",
            source,
        )
        for id_, need, tool, command, result, source in tools
    ]
