"""Secret values of this process's environment to mask in texts; values in ordinary text do not count."""

from __future__ import annotations

import base64
import getpass
import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote, unquote

from rocbench.redact import bare_userinfo, written_forms
from rocbench.server.spec import ServerSpec
from rocbench.variables import is_secret, names_a_place, shown

SHORTEST = 8
"""Minimum length in characters: shorter values would mask ordinary text."""
_NUMBER = re.compile(r"[\d.:/-]{1,15}")
_USERINFO = re.compile(r"://(\S*)@")
_OWN = (".py", ".yaml", ".md", ".html", ".jinja")


def secret_values(
    *environments: Mapping[str, str], also: Iterable[str | None] = (), known: Iterable[str] = ()
) -> tuple[str, ...]:
    """Secret values, longest first, so that no value is masked in part.

    They are the values of variables with a secret's name, users and passwords of URLs in any variable, and
    `also`. A value that is short or part of ordinary text (a word of this program, a number, the host's name) is
    not one: it is not masked, and its variable is not written.

    Args:
        known: further ordinary text, such as the names of a run.
    """
    candidates = {value for value in also if value}
    for name, value in (item for env in environments for item in env.items()):
        candidates.update(part for match in _USERINFO.finditer(value) for part in _of_user(match[1]))
        if shown(name):
            candidates.update(part for user in bare_userinfo(value) for part in _of_user(user))
        if is_secret(name) and not names_a_place(name) and not shown(name):
            candidates.update(_parts(value))
    ordinary = "\n".join(known)
    values = {value.strip() for value in candidates}
    searched = {form for value in values if _is_searched(value, ordinary) for form in _forms(value)}
    return tuple(sorted(searched, key=lambda value: (-len(value), value)))


def of_server(spec: ServerSpec, *environments: Mapping[str, str]) -> tuple[str, ...]:
    """Secrets that a server must not repeat: those of its environment, its key, and its headers."""
    return secret_values(spec.env, os.environ, *environments, also=[spec.api_key, *spec.headers.values()])


def _is_searched(value: str, ordinary: str) -> bool:
    return (
        len(value) >= SHORTEST
        and not _NUMBER.fullmatch(value)
        and not _is_address(value)
        and value not in ordinary
        and value not in _own_text()
        and value not in _local_names()
    )


def _is_address(value: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(value.strip("[]"))
        return True
    return False


def _parts(value: str) -> Iterator[str]:
    """The value, its lines, and the entries of a list."""
    yield value
    yield from value.splitlines()
    yield from re.split(r"[,;\s]+", value)


def _of_user(written: str) -> Iterator[str]:
    """User with password, `written` as one, and the password alone."""
    yield written
    for user in {written, unquote(written)}:
        # As in a proxy's header, without the end, which may be cut.
        yield base64.b64encode(user.encode(errors="surrogateescape")).decode().rstrip("=")
    password = written.partition(":")[2]
    yield password
    yield unquote(password)


def _forms(value: str) -> Iterator[str]:
    """The value as written in text, in JSON, in Python and in a URL."""
    yield from written_forms(value)
    yield quote(value, safe="")


@cache
def _own_text() -> str:
    """This program's own text: its words are not secrets, and masking one would damage the output."""
    package = Path(__file__).parents[1]
    files = sorted(path for path in package.rglob("*") if path.suffix in _OWN)
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)


def _local_names() -> str:
    """The names of this machine, its user and this folder."""
    names = [os.sep, socket.gethostname(), str(Path.home())]
    with suppress(OSError):
        names.append(str(Path.cwd()))
    with suppress(OSError, KeyError):
        names.append(getpass.getuser())
    return "\n".join(names)
