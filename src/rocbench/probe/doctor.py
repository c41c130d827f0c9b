"""Checks of a node before a run: each passes, fails or is unknown, with a remedy. They change nothing.

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
        environs: environments that servers will be started with; the worst result counts. Empty takes
            this process's.
    """
    there = (root / "dev/kfd").exists()
    tool = amd_smi.available()
    asked = {name: amd_smi.ask(*words) if tool else None for name, words in gpu_checks.QUESTIONS.items()}
    outcomes = [
        gpu_checks.checks(asked, there=there, tool=tool, wanted=gpus, environ=environ)
        for environ in environs or (os.environ,)
    ]
    worst = [max(each, key=_severity) for each in zip(*outcomes, strict=True)]
    return [*worst, *host_checks.checks(root, left_servers)]


def _severity(check: Check) -> int:
    return ("pass", "unknown", "fail").index(check.status)


def failed_musts(checks: Iterable[Check]) -> list[Check]:
    """Failed checks that stop a nightly run unless it is told to continue."""
    return [check for check in checks if check.need == "must" and check.status == "fail"]


def as_json(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """The checks for the manifest and for `bench doctor --json`."""
    return [asdict(check) for check in checks]
