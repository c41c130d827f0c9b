"""Findings about settings outside the rule table: unknown versions, flags, variables and AITER parts."""

from __future__ import annotations

from collections.abc import Iterable

from rocbench.rules.flags import Names, missing, newer
from rocbench.rules.resolution import Finding
from rocbench.rules.table import RuleTable
from rocbench.rules.versions import is_development, release

ROCM_ONLY = ("VLLM_ROCM_", "AITER_", "AMDGCN_", "HIP_", "HSA_", "ROCR_")
ARG_UTILS, ENVS = "vllm/engine/arg_utils.py", "vllm/envs.py"


def version(vllm: str | None, names: Names) -> list[Finding]:
    """Findings on a version that is unknown, unchecked, in development, too old or too new."""
    first, last = names.releases[0], names.releases[-1]
    if vllm is None:
        what = "the vLLM version is unknown, so rules and defaults that depend on the version are not applied"
        return [_finding("version", what, "", "give the version with --vllm, or let bench ask the server")]
    findings: list[Finding] = []
    check = "check with bench explain --check"
    if is_development(vllm):
        findings.append(_development(vllm))
    if newer(vllm, names):
        what = (
            f"vLLM {vllm} is newer than {last}, the last release whose source was read: the names, rules and defaults "
            f"of {last} are assumed"
        )
        findings.append(_finding("version", what, fix=check))
    elif release(vllm) < release(first):
        what = f"vLLM {vllm} is older than {first}, the first release whose source was read"
        findings.append(_finding("version", what))
    elif release(vllm) not in map(release, names.releases):
        what = (
            f"the source of vLLM {vllm} was not read: its flags may differ from those of the nearest releases that "
            "were read"
        )
        findings.append(_finding("version", what, fix=check))
    return findings


def _development(vllm: str) -> Finding:
    """A development version; with a patch number above 0 it can be of two branches."""
    what = f"{vllm} is a development version; the rules for {release(vllm)} apply"
    major, minor, patch, *_ = (*release(vllm).release, 0, 0)
    if not patch:
        return _finding("version", what)
    after, next_ = f"{major}.{minor}.{patch - 1}", f"{major}.{minor + 1}.0"
    what += (
        f", as for a candidate of that patch. A build of vLLM's main branch after {after} has the same number, and "
        f"carries what became {next_}: then these rules can be wrong"
    )
    return _finding(
        "version", what, fix=f"for a build of main, read bench explain --diff {release(vllm)} {next_} too"
    )


def _finding(rule: str, what: str, source: str = "", fix: str = "") -> Finding:
    return Finding(rule, "method", what, fix, source)


def unknown_names(flags: Iterable[str], env: Iterable[str], vllm: str | None, names: Names) -> list[Finding]:
    """Flags and VLLM_ variables that this version does not have."""
    findings: list[Finding] = []
    version_text = f"vLLM {vllm}" if vllm else "any vLLM"
    for root in dict.fromkeys(flag.partition(".")[0] for flag in flags):
        if (hint := missing(root, vllm, names)) is not None:
            what = f"--{root} is not a known flag of {version_text}"
            if (variable := root.replace("-", "_").upper()) in names.env:
                what += f"; to set the variable {variable}, write env.{variable}"
            findings.append(_finding("unknown-flag", what + hint, ARG_UTILS))
    for name in env:
        if not name.isupper() and name.upper() in names.env:
            what = f"{name} has no effect: the variable is {name.upper()}, and case matters"
            findings.append(_finding("unknown-env", what, ENVS))
        if name.startswith("VLLM_") and (hint := missing(name, vllm, names)) is not None:
            what = f"{name} is not a variable of {version_text}{hint}: it has no effect"
            findings.append(_finding("unknown-env", what, ENVS))
    return findings


def missing_part(part: str, table: RuleTable, vllm: str | None) -> Finding:
    """An AITER part that this version does not have."""
    variable = table.parts[part].env
    hint = missing(variable, vllm, table.names) or ""
    return _finding(
        "aiter-part",
        f"aiter: {part}: vLLM {vllm} does not have {variable}{hint}, so bench does not set this variable",
        ENVS,
    )


def idle_parts(switched_on: Iterable[str], table: RuleTable) -> list[Finding]:
    """Parts turned on while the master switch is off."""
    on = set(switched_on)
    return [
        _finding(
            "aiter-part",
            f"{part.env} is on but has no effect: a part of AITER has an effect only while VLLM_ROCM_USE_AITER is on",
            ENVS,
            "set VLLM_ROCM_USE_AITER=1, or leave the part unset",
        )
        for part in table.parts.values()
        if part.env in on
    ]


def idle_off_rocm(env: Iterable[str], platform: str) -> list[Finding]:
    """ROCm variables given on a platform without ROCm."""
    idle = [name for name in env if name.startswith(ROCM_ONLY)]
    what = f"{', '.join(idle)}: no effect on platform {platform}, because only ROCm reads such variables"
    return [_finding("unknown-env", what, ENVS)] if idle and platform != "rocm" else []


def aiter_off_rocm(platform: str) -> Finding:
    """AITER requested on a platform without it."""
    return _finding("aiter-part", f"aiter has no effect on platform {platform}, so bench does not set it")
