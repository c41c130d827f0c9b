"""Identity of configurations and cells: a readable name, and a hash of everything that decides. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rocbench.plan.planned import Axes, Group, Level
from rocbench.redact import marked_environment, masked_argv, masked_axis
from rocbench.settings.schema import CELL_AXES, Sweep, Workload


def configuration_name(model: str, axes: Axes) -> str:
    """Return a model with the axis values of its server; secret values are masked."""
    shown = ",".join(f"{k}={masked_axis(k, _plain(v))}" for k, v in axes.items() if k not in CELL_AXES)
    return f"{model}@{shown}" if shown else model


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "+".join(f"{k}:{v}" for k, v in value.items())
    return str(value)


_NOT_DECIDING = {
    "ready_timeout_s",
    "api_key_env",
    "gpus",
    "command",
    "base_url",
    "headers",
    "insecure",
}
"""Settings of how this node reaches and starts a server; its flags and version decide its identity."""


def cell_id(sweep: Sweep, group: Group, workload: Workload, level: Level) -> str:
    """Hash everything that decides a cell's result; the same cell has the same id in every run."""
    profile = group.profile
    decides = {
        "model": profile.hf_id if profile else group.model,
        "revision": profile.revision if profile else None,
        # Without the first word: the model, or the folder that holds it on this node.
        "argv": masked_argv(group.resolution.argv()[1:]) if group.resolution else None,
        "env": marked_environment(group.resolution.environment()) if group.resolution else None,
        "vllm": group.vllm,
        "hardware": group.hardware.name if group.hardware else None,
        "server": _stated(sweep.server.model_dump(mode="json", exclude=_NOT_DECIDING)),
        "workload": _stated(workload.model_dump(mode="json", exclude={"note"})),
        "load": _stated(sweep.load.model_dump(mode="json")),
        "level": [level.concurrency, level.rate],
        "seed": sweep.seed,
        "simulation": _stated(sweep.simulation.model_dump(mode="json", exclude={"faults"}))
        if sweep.server.kind == "simulated"
        else None,
    }
    text = json.dumps(decides, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _stated(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without absent, false or empty values: a key added later, off unless set, changes no id."""
    kept = {name: _stated(value) if isinstance(value, dict) else value for name, value in settings.items()}
    return {
        name: value
        for name, value in kept.items()
        if value is not None and value is not False and value not in ("", [], {})
    }
