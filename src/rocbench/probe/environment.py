"""Description of a node: all facts that can affect a result, by an allow-list, so that none can hold a secret."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rocbench import __version__
from rocbench.probe import amd_smi
from rocbench.probe.amd_smi import GpuEntry
from rocbench.redact import redacted_value
from rocbench.variables import shown

_PACKAGES = "aiohttp numpy orjson pandas pyarrow uvloop".split()  # of the client; the server reports its own

_CODE = (".py", ".yaml", ".jinja", ".html", ".css", ".js")

STATIC_KEYS = {
    # name in the manifest: places in a row of `amd-smi static`, by version
    "name": (("asic", "market_name"),),
    "gfx": (("asic", "target_graphics_version"),),
    "device_id": (("asic", "device_id"),),
    "compute_units": (("asic", "num_compute_units"),),
    "vbios": (("vbios", "version"), ("ifwi", "version"), ("vbios", "part_number"), ("ifwi", "part_number")),
    "power_cap_w": (
        ("limit", "socket_power"),
        ("limit", "ppt0", "socket_power_limit"),
        ("limit", "max_power"),
    ),
    "vram_mib": (("vram", "size"),),
    "compute_partition": (("partition", "compute_partition"), ("partition", "accelerator_partition")),
    "memory_partition": (("partition", "memory_partition"),),
    "numa_node": (("numa", "node"),),
    "driver": (("driver", "version"),),
    "pci": (("bus", "bdf"),),
}


def collect(root: Path = Path("/")) -> dict[str, Any]:
    """Description of this node for the manifest, without unreadable values.

    Args:
        root: folder of /proc, /sys and /opt; another folder in tests.
    """
    has_tool = amd_smi.available()
    firmware = mec_firmware(amd_smi.ask("firmware") if has_tool else None)
    gpus_ = gpus(amd_smi.ask("static") if has_tool else None, firmware)
    warnings = amd_smi.warnings()
    return {
        "node": socket.gethostname(),
        "rocbench": __version__,
        "code": code(),
        "python": platform.python_version(),
        "packages": _packages(),
        "host": host(root),
        "rocm": rocm(root),
        "gpus": gpus_,
        "environment": variables(os.environ),
    } | ({"amd_smi_says": warnings} if warnings else {})


def code(package: Path = Path(__file__).parents[1]) -> dict[str, Any]:
    """Version of rocbench: a hash of the package's files, and in a git checkout the commit."""
    digest = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.suffix in _CODE):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    version: dict[str, Any] = {"sha256": digest.hexdigest()}
    # An installed package can be inside another project's checkout.
    if package.parent.name == "src" and (package.parents[1] / ".git").exists():
        commit, changes = _git(package, "rev-parse", "HEAD"), _git(package, "status", "--porcelain", ".")
        version |= {"commit": commit} if commit else {}
        version |= {"changed": changes != ""} if changes is not None else {}
    return version


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that affect ROCm, RCCL, AITER, torch or vLLM, as listed in `rocbench.variables`. Pure."""
    return {name: redacted_value(value) for name, value in sorted(environ.items()) if shown(name)}


def host(root: Path = Path("/")) -> dict[str, Any]:
    """Kernel, CPU and memory."""
    cpu = text(root / "proc/cpuinfo")
    memory = re.search(r"^MemTotal:\s+(\d+) kB", text(root / "proc/meminfo"), re.MULTILINE)
    model = re.search(r"^model name\s*:\s*(.+)$", cpu, re.MULTILINE)
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)', text(root / "etc/os-release"), re.MULTILINE)
    facts: dict[str, Any] = {
        "kernel": text(root / "proc/sys/kernel/osrelease").strip(),
        "os": name[1] if name else None,
        "cpu": model[1].strip() if model else None,
        "cpus": len(re.findall(r"^processor\s*:", cpu, re.MULTILINE)),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory[1]) * 1024 if memory else None,
        "numa_nodes": len(list((root / "sys/devices/system/node").glob("node[0-9]*"))),
        "numa_balancing": text(root / "proc/sys/kernel/numa_balancing").strip(),
        "governor": text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        "transparent_hugepage": chosen(text(root / "sys/kernel/mm/transparent_hugepage/enabled")),
        "cmdline": _cmdline(text(root / "proc/cmdline")),
        "autogroup": text(root / "proc/sys/kernel/sched_autogroup_enabled").strip(),
        "container": (root / ".dockerenv").exists() or (root / "run/.containerenv").exists(),
    }
    return {key: value for key, value in facts.items() if value not in (None, "", 0) or value is False}


def rocm(root: Path = Path("/")) -> dict[str, str]:
    """Versions of ROCm, of the kernel driver and of RCCL."""
    header = text(root / "opt/rocm/include/rccl/rccl.h")
    rccl = [
        re.search(rf"^#define NCCL_{part}\s+(\d+)", header, re.MULTILINE)
        for part in ("MAJOR", "MINOR", "PATCH")
    ]
    versions = {
        "rocm": text(root / "opt/rocm/.info/version").strip(),
        "driver": text(root / "sys/module/amdgpu/version").strip(),
        "rccl": ".".join(match[1] for match in rccl if match),
    }
    return {key: value for key, value in versions.items() if value}


def gpus(static: list[GpuEntry] | None, mec: Mapping[int, str]) -> list[GpuEntry]:
    """One entry per GPU from `amd-smi static`; empty without it. Serial numbers are omitted. Pure."""
    entries = []
    for row in static or []:
        entry: GpuEntry = {"gpu": row["gpu"]}
        for name, places in STATIC_KEYS.items():
            value = amd_smi.first_leaf([row], places)
            if value is not None and not isinstance(value, dict):
                entry[name] = value
        if entry["gpu"] in mec:
            entry["mec_firmware"] = mec[entry["gpu"]]
        entries.append(entry)
    return entries


def mec_firmware(rows: list[GpuEntry] | None) -> dict[int, str]:
    """GPU to version of its compute firmware, from `amd-smi firmware`. Pure."""
    versions: dict[int, str] = {}
    for row in rows or []:
        for entry in amd_smi.entries(row, "fw_list"):
            name = str(entry.get("fw_id") or entry.get("fw_name") or "")
            version = amd_smi.leaf(entry, "fw_version")
            if version is not None and (name in ("CP_MEC1", "MEC1", "MEC") or name.endswith("_MEC")):
                versions[row["gpu"]] = str(version)
    return versions


def text(path: Path) -> str:
    """A small file's text; empty if it is missing or unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def chosen(switch: str) -> str:
    """The selected value of a sysfs switch: `madvise` of `always [madvise] never`. Pure."""
    match = re.search(r"\[(\w+)\]", switch)
    return match[1] if match else switch.strip()


def _cmdline(line: str) -> str:
    """The kernel parameters that affect GPUs and timing; others may be private."""
    names = "iommu amd_iommu pci numa_balancing processor transparent_hugepage amdgpu".split()
    return " ".join(word for word in line.split() if re.split("[.=]", word)[0] in names)


def _packages() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
