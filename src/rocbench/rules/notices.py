"""Findings about settings outside the rule table: unknown versions, flags, variables and AITER parts."""

from __future__ import annotations

from collections.abc import Iterable

from rocbench.rules.flags import Name, Names, lives, nearest
from rocbench.rules.resolution import Finding
from rocbench.rules.table import RuleTable
from rocbench.rules.versions import is_development, release

ROCM_ONLY = ("VLLM_ROCM_", "AITER_", "AMDGCN_", "HIP_", "HSA_", "ROCR_")
ARG_UTILS, ENVS = "vllm/engine/arg_utils.py", "vllm/envs.py"


def version(vllm: str | None, names: Names) -> list[Finding]:
    """Findings on a version that is unknown, unchecked, in development, too old or too new."""
    first, last = names.releases[0], names.releases[-1]
    if vllm is None:
        what = "the vLLM version is unknown: rules and defaults that hang on it are left undecided"
        return [Finding("version", "method", what, "state it with --vllm, or let the server be asked", "")]
    found: list[Finding] = []
    if is_development(vllm):
        what = f"{vllm} is a development version; rules are taken as for {release(vllm)}"
        found.append(Finding("version", "method", what, "", ""))
    if release(vllm) > release(last):
        what = f"vLLM {vllm} is newer than {last}, the last whose source was read: rules may have changed"
        found.append(Finding("version", "method", what, "check with bench explain --check", ""))
    if release(first) < release(vllm) < release(last) and not _read(vllm, names):
        what = (
            f"the source of vLLM {vllm} was not read: what is first seen in a later release may be there already, "
            "what is last seen in an earlier one may be gone"
        )
        found.append(Finding("version", "method", what, "check with bench explain --check", ""))
    if release(vllm) < release(first):
        what = f"vLLM {vllm} is older than {first}, the first whose source was read"
        found.append(Finding("version", "method", what, "", ""))
    return found


def _read(vllm: str, names: Names) -> bool:
    """True if a release of the same minor version was checked."""
    minor = release(vllm).release[:2]
    return any(release(one).release[:2] == minor for one in names.releases)


def unknown_names(flags: Iterable[str], env: Iterable[str], vllm: str | None, names: Names) -> list[Finding]:
    """Flags and VLLM_ variables that this version does not have."""
    found: list[Finding] = []
    for root in dict.fromkeys(flag.partition(".")[0] for flag in flags):
        if not lives(root, vllm, names):
            what = f"--{root} is not a flag this tool knows for vLLM {vllm or 'of any version'}"
            if (variable := root.replace("-", "_").upper()) in names.env:
                what += f"; the variable {variable} is set as env.{variable}"
            found.append(
                Finding(
                    "unknown-flag",
                    "method",
                    what + _span(names.flags.get(root)) + _near(root, names.flags),
                    "",
                    ARG_UTILS,
                )
            )
    for name in env:
        if not name.isupper() and name.upper() in names.env:
            what = f"{name} has no effect: the variable is {name.upper()}, and case counts"
            found.append(Finding("unknown-env", "method", what, "", ENVS))
        if name.startswith("VLLM_") and not lives(name, vllm, names):
            what = f"{name} is not a variable of vLLM {vllm or 'of any version'}: it has no effect"
            found.append(
                Finding(
                    "unknown-env",
                    "method",
                    what + _span(names.env.get(name)) + _near(name, names.env),
                    "",
                    ENVS,
                )
            )
    return found


def _span(name: Name | None) -> str:
    if name is None:
        return ""
    if name.since is not None and name.until is not None:
        return f" (it is in {name.since} to {name.until})"
    return f" (it is there from {name.since} on)" if name.since else f" (last in {name.until})"


def _near(name: str, known_names: Iterable[str]) -> str:
    return "" if name in set(known_names) else nearest(name, known_names)


def missing_part(part: str, table: RuleTable, vllm: str | None) -> Finding:
    """An AITER part that this version does not have."""
    variable = table.parts[part].env
    what = f"aiter: {part}: {variable} is not in vLLM {vllm}: not set{_span(table.names.env[variable])}"
    return Finding("aiter-part", "method", what, "", ENVS)


def idle_parts(switched_on: Iterable[str], table: RuleTable) -> list[Finding]:
    """Parts turned on while the master switch is off."""
    on = set(switched_on)
    return [
        Finding(
            "aiter-part",
            "method",
            f"{part.env} is on but has no effect: VLLM_ROCM_USE_AITER is off, and a part acts only below it",
            "VLLM_ROCM_USE_AITER=1, or leave the part unset",
            ENVS,
        )
        for part in table.parts.values()
        if part.env in on
    ]


def idle_off_rocm(env: Iterable[str], platform: str) -> list[Finding]:
    """ROCm variables given on a platform without ROCm."""
    idle = [name for name in env if name.startswith(ROCM_ONLY)]
    what = f"only ROCm reads {', '.join(idle)}: no effect on platform {platform}"
    return [Finding("unknown-env", "method", what, "", ENVS)] if idle and platform != "rocm" else []


def aiter_off_rocm(platform: str) -> Finding:
    """AITER requested on a platform without it."""
    return Finding("aiter-part", "method", f"aiter has no meaning on platform {platform}: not set", "", "")
