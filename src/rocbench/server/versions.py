"""Versions of a server's vLLM, torch, AITER and Triton, from the Python of its environment or image."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from rocbench.probe.amd_smi import run
from rocbench.server.spec import RunningServer

_NAMES = "vllm torch triton amd-aiter aiter transformers flash-attn amdsmi tokenizers".split()
_ASK = (
    "import importlib.metadata as m, json\n"
    "versions = {}\n"
    f"for name in {_NAMES!r}:\n"
    "    try: versions[name] = m.version(name)\n"
    "    except m.PackageNotFoundError: pass\n"
    "print(json.dumps(versions))"
)


def interpreter(program: str, path: str | None) -> list[str]:
    """The Python of a script, found as by a shell: from its first line, else next to it; empty without one."""
    script = shutil.which(program, path=path)
    if script is None:
        return []
    with suppress(OSError), open(script, "rb") as file:
        first = file.readline(300).decode(errors="replace")
        if first.startswith("#!") and "python" in first:
            return first[2:].split()
    python = Path(script).with_name("python")
    return [str(python)] if python.exists() else []


def packages_of(running: RunningServer) -> dict[str, str]:
    """Package to version; empty if the server's Python is not accessible (attached, simulated).

    In a container, that Python is `python3`.
    """
    spec = running.spec
    if spec.kind == "process":
        argv = interpreter(spec.command[0], {**os.environ, **spec.env}.get("PATH"))
        argv = [*argv, "-c", _ASK] if argv else []
    elif spec.kind == "container" and running.container:
        argv = [spec.runtime, "exec", running.container, "python3", "-c", _ASK]
    else:
        argv = []
    out = run(argv, timeout_s=30.0) if argv else None
    try:
        versions = json.loads(out or "{}")
    except (ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}
