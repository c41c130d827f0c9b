"""The executed command and its written form: argv with its address, and a line to paste. Pure."""

from __future__ import annotations

import ipaddress
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from rocbench.redact import MASK, masked_argv, redacted_value
from rocbench.server.spec import ServerSpec
from rocbench.server.visible import binding
from rocbench.variables import shown


def flag_value(command: Sequence[str], flag: str) -> str | None:
    """Value of `--flag VALUE` or `--flag=VALUE`; the last one wins, as in argparse. None when absent."""
    value = None
    for index, word in enumerate(command):
        if word == flag and index + 1 < len(command):
            value = command[index + 1]
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def with_address(command: Sequence[str], host: str, port: int) -> tuple[str, ...]:
    """argv with `--host` and `--port` appended if it has none."""
    extra: list[str] = []
    if flag_value(command, "--host") is None:
        extra += ["--host", host]
    if flag_value(command, "--port") is None:
        extra += ["--port", str(port)]
    return (*command, *extra)


def is_loopback(host: str) -> bool:
    """True if only this machine can reach an address (`127.0.0.1`, `::1`, `localhost`)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def launch_environment(
    spec: ServerSpec, host: str, inherited: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The variables added to the server's environment: the spec's, and those that the launcher needs.

    Development mode opens endpoints that reset caches, so it is set on a loopback address only. The spec's
    values win, except for the GPUs: they were chosen among those that the spec makes visible.

    Args:
        host: address to which the server's port is bound or published.
        inherited: environment that the server gets as well.
    """
    added: dict[str, str] = {}
    if spec.dev_mode and is_loopback(host):
        added["VLLM_SERVER_DEV_MODE"] = "1"
    if spec.api_key:
        added["VLLM_API_KEY"] = spec.api_key
    return added | dict(spec.env) | binding(spec.gpus, {**inherited, **spec.env})


def shell_line(command: Sequence[str], env: Mapping[str, str], secrets: Sequence[str] = ()) -> str:
    """`NAME=value ... word word`, quoted for a POSIX shell.

    The value of a secret variable becomes `"${NAME?}"`, and a secret inside a word `"${SECRET_1?}"`: the user
    who pastes the line sets them, and the shell names the missing ones.
    """
    count = itertools.count(1)
    assignments = [
        f"{name}={_quoted(redacted_value(value, secrets), value, name, count)}"
        if shown(name)
        else _required(name)
        for name, value in env.items()
    ]
    masked, flags = masked_argv(command, secrets), ["", *command]
    words = [
        _quoted(word, given, flag, count) for word, given, flag in zip(masked, command, flags, strict=False)
    ]
    return " ".join(assignments + words)


_NAME = re.compile(r"--[\w-]{1,60}|[A-Z][A-Z0-9_]{1,60}")
"""Name of a flag or a variable."""


def _required(name: str) -> str:
    return f'{name}="${{{name}?set {name}: its value is not stored}}"'


def _quoted(masked: str, given: str, where: str, count: Iterator[int]) -> str:
    """A word for the shell, with a variable in place of each secret that was masked in it."""
    if masked == given:
        return shlex.quote(given)
    first, *rest = masked.split(MASK)
    flag = (given if given.startswith("-") else where).partition("=")[0]
    what = flag if _NAME.fullmatch(flag) else "this command"
    variables = [
        f'"${{SECRET_{next(count)}?set it: a secret of {what} is not stored}}"' + _part(part) for part in rest
    ]
    return _part(first) + "".join(variables)


def _part(text: str) -> str:
    return shlex.quote(text) if text else ""
