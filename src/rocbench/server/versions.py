"""Which vLLM, torch, AITER and Triton a server runs with: asked of its own Python, in its environment or image."""

from __future__ import annotations

import json
from pathlib import Path

from rocbench.probe.amd_smi import run
from rocbench.server.spec import RunningServer

_NAMES = (
    "vllm",
    "torch",
    "triton",
    "amd-aiter",
    "aiter",
    "transformers",
    "flash-attn",
    "amdsmi",
    "tokenizers",
)
_ASK = (
    "import importlib.metadata as m, json\n"
    "found = {}\n"
    f"for name in {_NAMES!r}:\n"
    "    try: found[name] = m.version(name)\n"
    "    except m.PackageNotFoundError: pass\n"
    "print(json.dumps(found))"
)


def packages_of(running: RunningServer) -> dict[str, str]:
    """Package to version; empty where the server's Python cannot be asked (attached, simulated).

    The interpreter stands beside the `vllm` script of a virtual environment; in a container it is `python3`.
    """
    spec = running.spec
    if spec.kind == "process":
        script = Path(spec.command[0])
        python = script.with_name("python")
        argv = [str(python), "-c", _ASK] if script.parent != Path() and python.exists() else []
    elif spec.kind == "container" and running.container:
        argv = [spec.runtime, "exec", running.container, "python3", "-c", _ASK]
    else:
        argv = []
    out = run(argv, timeout_s=30.0) if argv else None
    try:
        found = json.loads(out or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return {}
    return {str(name): str(version) for name, version in found.items()}
