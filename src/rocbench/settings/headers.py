"""User-defined headers for a running server. What is secret stands in a variable, and only its name in a file. Pure.

A value may hold `$NAME` or `${NAME}`, which is read from the environment when a request is made; `$$` is a dollar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from rocbench.errors import InputError
from rocbench.variables import is_secret

OURS = frozenset(
    "accept accept-encoding connection content-encoding content-length content-type expect host te trailer "
    "transfer-encoding upgrade x-request-id".split()
)
"""Headers that each request has already, and that decide how it is read."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"\$(?:\$|(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\}|(?P<wrong>))")
_SECRET = re.compile(
    r"authorization|cookie|token|secret|password|credential|session|api[-_]?key|(?:^|[-_])(?:auth|key)$",
    re.IGNORECASE,
)
_SCHEMES = re.compile(r"^\s*(?:bearer|basic|digest|negotiate|apikey|token)\s+\S", re.IGNORECASE)


def check(headers: Mapping[str, str]) -> None:
    """Refuse what no request can carry, and secrets that stand in plain text. The value is never told.

    Raises:
        ValueError: which header, and why.
    """
    seen: set[str] = set()
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError("a header's name is letters, digits and dashes: `Name: value`")
        if name.lower() in seen:
            raise ValueError(f"header {name!r} is given twice")
        seen.add(name.lower())
        if name.lower() in OURS:
            raise ValueError(f"header {name!r} is the load's own: leave it out")
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the value of header {name!r} holds characters that no header can carry")
        if any(found.lastgroup == "wrong" for found in _VARIABLE.finditer(value)):
            raise ValueError(
                f"the value of header {name!r} holds a `$` without a variable's name: write $$ for a dollar"
            )
        if not variables({name: value}) and (_is_secret(name) or _SCHEMES.match(value)):
            raise ValueError(
                f"the value of header {name!r} is a secret, which would stand in files and in the list of "
                f"processes: put it in a variable and write '{name}: $VARIABLE', in single quotes in a shell"
            )


def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None or is_secret(name)


def parse(items: Iterable[str], known: Sequence[str] = ()) -> dict[str, str]:
    """`Name: value`, once each.

    Args:
        items: as they were typed.
        known: secrets of the environment: one that a shell has put in, for want of single quotes, is told.

    Raises:
        InputError: one is no header, or stands twice.
    """
    found: dict[str, str] = {}
    for item in items:
        name, colon, value = item.partition(":")
        name = name.strip()
        if not colon or not _NAME.fullmatch(name):  # the text may hold a secret
            raise InputError(
                "this is no header",
                where="--header",
                fix="give 'Name: value', or 'Name: $VARIABLE' for a secret",
            )
        if name.lower() in {other.lower() for other in found}:
            raise InputError(f"{name!r} is given twice", where="--header", fix="give each header once")
        if any(secret in value for secret in known):
            raise InputError(
                f"the value of {name!r} is that of a secret variable: the shell has put it in",
                where="--header",
                fix=f"write '{name}: $VARIABLE' in single quotes",
            )
        found[name] = value.strip()
    return found


def variables(headers: Mapping[str, str]) -> list[str]:
    """Names of the variables that the values are read from."""
    found = (match for value in headers.values() for match in _VARIABLE.finditer(value))
    return [name for match in found if (name := match["name"] or match["braced"])]


def resolved(headers: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The headers as they are sent.

    Raises:
        InputError: a variable is not set, or holds what no header can carry. Its value is not told.
    """
    return {
        name: _VARIABLE.sub(partial(_read, header=name, environ=environ), value)
        for name, value in headers.items()
    }


def _read(found: re.Match[str], header: str, environ: Mapping[str, str]) -> str:
    name = found["name"] or found["braced"]
    if name is None:
        return "$"
    value = environ.get(name, "").strip()
    if not value:
        raise InputError(f"${name} is not set", where=f"header {header}", fix="export it with the value")
    if not (value.isascii() and value.isprintable()):
        raise InputError(
            f"${name} holds characters that no header can carry",
            where=f"header {header}",
            fix="give one line of printable ASCII",
        )
    return value


def secrets(headers: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """Values that must reach no file and no screen: of every variable, and of the headers that hold one."""
    filled = resolved(headers, environ)
    read = [environ[name].strip() for name in variables(headers)]
    return read + [filled[name] for name, value in headers.items() if variables({name: value})]
