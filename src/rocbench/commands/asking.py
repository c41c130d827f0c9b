"""Resolve one model's server, and query an installed vLLM for its flags and variables."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

from rocbench import jsontext
from rocbench.errors import EnvironmentFault
from rocbench.plan.estimate import cannot_start, kv_capacity, shape_doubts
from rocbench.plan.planned import Overrides
from rocbench.redact import lift_flags
from rocbench.rules import explain
from rocbench.rules.load import shipped
from rocbench.rules.resolve import Finding, Resolution, ServeRequest, resolve
from rocbench.settings import catalog

_ENVS = "import json, vllm.envs as e; print(json.dumps(sorted(e.environment_variables)))"
_TIMEOUT_S = 180.0


def resolution(model: str, overrides: Overrides) -> Resolution:
    """Return the resolution of a model's profile and the command line; it warns if GPU memory is too small."""
    args, env = lift_flags(overrides.args, overrides.env, where="--set")
    profile, node = catalog.model(model), catalog.hardware(overrides.hardware or "mi325x")
    resolved = resolve(
        ServeRequest(
            profile=profile,
            hardware=node,
            vllm=overrides.vllm,
            tp=overrides.tp,
            aiter=overrides.aiter,
            user_args={name.replace("_", "-"): value for name, value in args.items()},
            user_env=env,
            nodes=profile.nodes,
        )
    )
    if node.announced and node.gpu is not None:
        told = f"the figures of {node.gpu.name} are announced, not from a data sheet; they may change"
        notice = Finding("announced", "method", told, "", "docs/physics.md")
        resolved = replace(resolved, warnings=(*resolved.warnings, notice))
    reason = cannot_start(profile, kv_capacity(profile, node, resolved), resolved)
    if reason is None:
        return resolved
    doubts = shape_doubts(profile, node)
    if doubts:
        reason += f"; but the shape of this model or node is not fully known ({'; '.join(doubts)})"
    too_small = Finding("gpu-memory", "method" if doubts else "hard_error", reason, "", "docs/physics.md")
    return replace(resolved, warnings=(*resolved.warnings, too_small))


def installed_version(vllm: str) -> str | None:
    """Return the version that `vllm --version` prints; None if it prints none."""
    match = re.search(r"\d+\.\d+[\w.+]*", _run([vllm, "--version"]))
    return match[0] if match else None


def check(resolved: Resolution, vllm: str) -> tuple[str, ...]:
    """Return the flags and variables of a resolution that the vLLM at this path does not know."""
    help_text = _run([vllm, "serve", "--help=all"])
    python = Path(vllm).parent / "python"
    last_line = _run([str(python), "-c", _ENVS]).strip().rpartition("\n")[2]
    names = jsontext.parse(last_line, str(python), fix="give the path of an installed `vllm`")
    return explain.check_installed(resolved, help_text, names, shipped().names)


def _run(argv: list[str]) -> str:
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
            env=os.environ | {"VLLM_NO_USAGE_STATS": "1", "COLUMNS": "200"},
        )
    except FileNotFoundError:
        raise EnvironmentFault(
            f"no such program: {argv[0]}", fix="give the path of an installed `vllm`"
        ) from None
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(f"{' '.join(argv)} did not exit within {_TIMEOUT_S:.0f} s") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:] or ["no message"]
        raise EnvironmentFault(f"{' '.join(argv)} failed: {last[0]}") from None
    return done.stdout
