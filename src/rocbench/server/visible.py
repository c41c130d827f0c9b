"""GPUs that a process sees by ROCm's variables, and the binding of a server to some of them. Pure.

ROCR_VISIBLE_DEVICES selects from the node's GPUs. HIP_VISIBLE_DEVICES (CUDA_VISIBLE_DEVICES if that is empty)
selects from that result, counted from 0. A list ends at its first entry that is not a GPU (ROCm documentation,
"GPU isolation techniques").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rocbench.errors import InputError

_ROCR, _HIP = "ROCR_VISIBLE_DEVICES", ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


def visible_gpus(env: Mapping[str, str], gpus: int) -> tuple[int, ...]:
    """GPUs, by node index, that a process with this environment sees on a node with this number of GPUs.

    Raises:
        InputError: a GPU is given by its UUID.
    """
    seen = _picked(range(gpus), env, _ROCR)
    return _picked(seen, env, next((name for name in _HIP if env.get(name)), ""))


def hiding(env: Mapping[str, str]) -> str:
    """The variables that hide GPUs, for a message."""
    return ", ".join(f"{name}={env[name]}" for name in (_ROCR, *_HIP) if env.get(name))


def binding(gpus: Sequence[int], env: Mapping[str, str]) -> dict[str, str]:
    """Variables that bind a server with this environment to GPUs of the node.

    Both are set: vLLM refuses to start if they differ (v0.33.0 platforms/rocm.py).
    """
    seen = _picked(range(max(gpus, default=-1) + 1), env, _ROCR)
    return dict.fromkeys(_HIP, ",".join(str(seen.index(gpu)) for gpu in gpus)) if gpus else {}


def _picked(gpus: Sequence[int], env: Mapping[str, str], name: str) -> tuple[int, ...]:
    """The `gpus` that a variable selects by position; all if it is not set."""
    picked: list[int] = []
    for word in env[name].split(",") if env.get(name) else ():
        if word.strip().startswith("GPU-"):
            raise InputError(
                f"the GPU {word.strip()} is given by its UUID",
                where=f"${name}",
                fix="use GPU indices in this variable",
            )
        if not word.strip().isdigit() or int(word) >= len(gpus):
            return tuple(picked)
        picked.append(gpus[int(word)])
    return tuple(picked) if env.get(name) else tuple(gpus)
