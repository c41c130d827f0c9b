"""Checks of a node before a run: each passes, fails or is unknown, with a remedy. They change no setting.

Sources: AMD's system health check and MI300X/MI325X system acceptance guides, InferenceX's launch scripts,
vLLM's ROCm documentation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rocbench.probe import amd_smi, gpu_checks, host_checks
from rocbench.probe.checks import Check
from rocbench.settings import catalog


def examine(
    root: Path = Path("/"),
    *,
    left_servers: Check,
    gpus: int = 8,
    environs: Sequence[Mapping[str, str]] = (),
) -> list[Check]:
    """All checks, in the order of the table in docs/node.md.

    Args:
        root: folder of /proc, /sys, /dev and /opt; another folder in tests.
        left_servers: the check for servers that an earlier bench left (`server.orphans.check`).
        gpus: number of GPUs that the node should have.
        environs: environments of the servers to start; the worst result counts. Default: this process's.
    """
    has_device, has_tool = (root / "dev/kfd").exists(), amd_smi.available()
    answers = {question: amd_smi.ask(question) if has_tool else None for question in gpu_checks.QUESTIONS}
    outcomes = [
        gpu_checks.checks(
            answers,
            has_device=has_device,
            has_tool=has_tool,
            expected_gpus=gpus,
            environ=environ,
            profiles=profiles_of_gpus(),
        )
        for environ in environs or (os.environ,)
    ]
    severity = ("pass", "unknown", "fail")
    worst = [
        max(each, key=lambda check: severity.index(check.status)) for each in zip(*outcomes, strict=True)
    ]
    return [*worst, *host_checks.checks(root, left_servers)]


def profiles_of_gpus() -> dict[str, str]:
    """The shipped hardware profiles by PCI device id, and by the GPU's name in lower case."""
    found: dict[str, str] = {}
    for name in catalog.names("hardware"):
        gpu = catalog.hardware(name).gpu
        if gpu is not None:
            found |= dict.fromkeys([*gpu.device_ids, gpu.name.lower()], name)
    return found


def failed_musts(checks: Iterable[Check]) -> list[Check]:
    """Failed checks that stop a nightly run unless it is told to continue."""
    return [check for check in checks if check.need == "must" and check.status == "fail"]


def as_json(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """The checks for the manifest and for `bench doctor --json`."""
    return [asdict(check) for check in checks]
