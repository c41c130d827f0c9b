"""What is executed, and how it is written down: argv with its address, and a line that can be pasted. Pure."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rocbench.server.redact import is_secret, redacted
from rocbench.server.visible import binding


def flag_value(command: Sequence[str], flag: str) -> str | None:
    """Value of `--flag VALUE` or `--flag=VALUE`; the last one wins, as in argparse. None when absent."""
    found = None
    for index, word in enumerate(command):
        if word == flag and index + 1 < len(command):
            found = command[index + 1]
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def with_address(command: Sequence[str], host: str, port: int) -> tuple[str, ...]:
    """argv with `--host` and `--port` appended where it has none of its own."""
    extra: list[str] = []
    if flag_value(command, "--host") is None:
        extra += ["--host", host]
    if flag_value(command, "--port") is None:
        extra += ["--port", str(port)]
    return (*command, *extra)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address (`127.0.0.1`, `::1`, `localhost`)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def launch_environment(
    env: Mapping[str, str],
    *,
    host: str,
    dev_mode: bool,
    api_key: str | None,
    gpus: Sequence[int] = (),
    inherited: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """What is added to what the server inherits: the spec's, and what the launcher itself needs.

    Development mode opens endpoints that reset caches, so it is set on a loopback address only. Whatever
    the spec says wins, but for the GPUs: they were chosen among those that it lets the server see.
    """
    added: dict[str, str] = {}
    if dev_mode and is_loopback(host):
        added["VLLM_SERVER_DEV_MODE"] = "1"
    if api_key:
        added["VLLM_API_KEY"] = api_key
    return added | dict(env) | binding(gpus, {**inherited, **env})


def shell_line(command: Sequence[str], env: Mapping[str, str], secrets: Sequence[str] = ()) -> str:
    """`NAME=value ... word word`, quoted for a POSIX shell. A secret stands as `"$NAME"`, its value never."""
    assignments = [
        f'{name}="${name}"' if is_secret(name) else f"{name}={shlex.quote(redacted(value, secrets))}"
        for name, value in env.items()
    ]
    words = [shlex.quote(redacted(word, secrets)) for word in command]
    return " ".join(assignments + words)
