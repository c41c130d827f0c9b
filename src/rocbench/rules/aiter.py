"""AITER's switches: a setting (`on`, `off`, or a map of parts) as the variables of one vLLM version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rocbench.errors import InputError
from rocbench.rules.flags import Names, lives, nearest
from rocbench.rules.truth import truthy
from rocbench.rules.versions import Range

RULED_GFX = ("gfx90a", "gfx942", "gfx950")
"""Architectures that the rules were read for. The architecture of other GPUs counts as unknown, so that a rule which
depends on it is undecided instead of applied by accident."""

MASTER = "VLLM_ROCM_USE_AITER"


@dataclass(frozen=True, slots=True)
class AiterPart:
    """One switch below the master: its variable and, per version range, whether it is on by default."""

    name: str
    env: str
    defaults: tuple[tuple[Range, bool], ...]
    off_at: tuple[str, ...] = ()
    """Values that mean off, for a variable that names a mode. Empty: the variable is a boolean."""

    def default(self, vllm: str | None) -> bool | None:
        """The default state; None if it depends on the version and that is unknown."""
        values = {value for _, value in self.defaults}
        if len(values) == 1:
            return values.pop()
        if vllm is None:
            return None
        return next((value for span, value in self.defaults if span.holds(vllm)), None)

    def read(self, text: str) -> bool:
        """True if this text of the variable turns the part on."""
        return text.strip().lower() not in self.off_at if self.off_at else truthy(text)


def translate(
    setting: Any, vllm: str | None, parts: Mapping[str, AiterPart], names: Names
) -> tuple[dict[str, str], list[str]]:
    """Variables for a setting, and the parts that this version does not have.

    A map sets its parts and turns AITER itself on: a part acts only if the master switch is on.

    Raises:
        InputError: the setting is neither on, off nor a map, or names an unknown part.
    """
    setting = _checked(setting)
    if isinstance(setting, str):
        return {MASTER: "1" if setting == "on" else "0"}, []
    variables = {MASTER: "0" if setting and set(setting.values()) == {"off"} and "all" in setting else "1"}
    missing: list[str] = []
    for name, value in setting.items():
        if name == "all":
            variables[MASTER] = "1" if value == "on" else "0"
            continue
        key = name.lower().replace("-", "_").removeprefix("vllm_rocm_use_aiter_")
        if key not in parts:
            raise InputError(
                f"aiter: {name!r} is not a part of AITER{nearest(key, parts)}",
                fix=f"the parts are {', '.join(sorted(parts))}",
            )
        if lives(parts[key].env, vllm, names):
            variables[parts[key].env] = "1" if value == "on" else "0"
        else:
            missing.append(key)
    return variables, missing


def _checked(setting: Any) -> str | dict[str, str]:
    """The setting with `on` and `off` for booleans."""
    words = {True: "on", False: "off", "on": "on", "off": "off"}
    wrong = InputError(
        f"aiter: {setting!r} is not a valid value", fix="give on, off, or a map such as {moe: off, mla: on}"
    )
    if isinstance(setting, Mapping):
        if not setting or not all(isinstance(v, bool | str) and v in words for v in setting.values()):
            raise wrong
        return {str(key): words[value] for key, value in setting.items()}
    if isinstance(setting, bool | str) and setting in words:
        return words[setting]
    raise wrong


def effective(
    env: Mapping[str, str], vllm: str | None, parts: Mapping[str, AiterPart], names: Names
) -> dict[str, bool | None]:
    """The effective state of each part: its variable or default, if the master is on. None if unknown."""
    master = truthy(env.get(MASTER))
    states: dict[str, bool | None] = {}
    for name, part in parts.items():
        if not master or not lives(part.env, vllm, names):
            states[name] = False
        elif part.env in env:
            states[name] = part.read(env[part.env])
        else:
            states[name] = part.default(vllm)
    return states
