"""Keeps secrets out of everything that is written: argv, environment, logs, answers of servers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rocbench.errors import InputError

MASK = "***"

_SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:TOKEN|SECRETS?|PASSWORD|PASSWD|CREDENTIALS?|(?:API)?KEYS?|KEY_ID|AUTH)$"
    r"|[_-](?:PASS|PWD|PAT)$",  # PWD and OLDPWD are folders
    re.IGNORECASE,
)
_SECRET_FLAGS = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}
_SHORTEST = 6
"""Shorter values would mask ordinary text wherever they happen to occur."""


def is_secret(name: str) -> bool:
    """Whether a variable's name says that its value is a secret (HF_TOKEN, VLLM_API_KEY, ...)."""
    return _SECRET_NAME.search(name) is not None


def secret_values(*environments: Mapping[str, str], also: Iterable[str | None] = ()) -> tuple[str, ...]:
    """Values of secret-named variables and of `also`, longest first, so that no value is masked in part."""
    named = {v for env in environments for k, v in env.items() if is_secret(k)}
    values = {v for v in (v.strip() for v in named | {v for v in also if v}) if len(v) >= _SHORTEST}
    return tuple(sorted(values, key=lambda v: (-len(v), v)))


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text with each secret replaced by `***`."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def lift_secrets(command: Sequence[str], env: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Moves `--api-key X` and `--hf-token X` out of argv into VLLM_API_KEY and HF_TOKEN.

    argv is readable by every user of the node (`ps`), and vLLM logs its non-default arguments.
    """
    kept: list[str] = []
    lifted = dict(env)
    words = iter(command)
    for word in words:
        flag, equals, value = word.partition("=")
        variable = _SECRET_FLAGS.get(flag.replace("_", "-"))
        if variable is None:
            kept.append(word)
            continue
        lifted[variable] = value if equals else next(words, "")
    return tuple(kept), lifted


def lift_flags(
    args: Mapping[str, Any], env: Mapping[str, str], where: str = ""
) -> tuple[dict[str, Any], dict[str, str]]:
    """The same of flags by name, before anything is written or shown of them.

    Raises:
        InputError: several keys, of which the environment can hold one.
    """
    kept, lifted = dict(args), dict(env)
    for name, value in args.items():
        variable = _SECRET_FLAGS.get("--" + name.lstrip("-").replace("_", "-"))
        if variable is None:
            continue
        del kept[name]
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > 1:
            raise InputError(
                f"--{name.lstrip('-')} takes one value here", where=where, fix=f"set ${variable}"
            )
        if value is not None:
            lifted[variable] = str(values[0])
    return kept, lifted


def masked(value: Any) -> Any:
    """Nested settings with whatever stands under a secret's name masked."""
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: MASK if isinstance(held, str | int) and is_secret(str(name)) else masked(held)
        for name, held in value.items()
    }


def usable_key(key: str, where: str = "") -> str:
    """An API key without the line's end that files and CI secrets bring along.

    Raises:
        InputError: no header can carry it. The key is not told.
    """
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(
            "the API key holds characters that no HTTP header can carry",
            where=where,
            fix="give the key alone: one line of printable ASCII",
        )
    return key


def masked_environment(env: Mapping[str, str], secrets: Sequence[str]) -> dict[str, str]:
    """The environment with secret variables and secret values inside others masked."""
    return {k: MASK if is_secret(k) else redacted(v, secrets) for k, v in env.items()}
