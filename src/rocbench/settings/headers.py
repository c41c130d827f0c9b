"""User-defined headers for a running server. A file names the variable that holds a secret, never its value. Pure.

A value may hold `$NAME` or `${NAME}`, which is read from the environment when a request is sent; `$$` is a dollar.
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
"""Headers that bench sets itself: they decide how a request is read."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"\$(?:\$|(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\}|(?P<wrong>))")
_SECRET = re.compile(
    r"authorization|cookie|token|secret|password|credential|session|api[-_]?key|(?:^|[-_])(?:auth|key)$",
    re.IGNORECASE,
)
_SCHEMES = re.compile(r"^\s*(?:bearer|basic|digest|negotiate|apikey|token)\s+\S", re.IGNORECASE)


def check(headers: Mapping[str, str]) -> None:
    """Refuse headers that no request can carry, and secrets in plain text. Messages never show a value.

    Raises:
        ValueError: names the header and the reason.
    """
    seen: set[str] = set()
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError("a header name consists of letters, digits and dashes: `Name: value`")
        if name.lower() in seen:
            raise ValueError(f"header {name!r} is given twice")
        seen.add(name.lower())
        if name.lower() in OURS:
            raise ValueError(f"header {name!r} is set by bench: leave it out")
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the value of header {name!r} has characters that are not allowed in a header")
        if any(match.lastgroup == "wrong" for match in _VARIABLE.finditer(value)):
            raise ValueError(
                f"the value of header {name!r} has a `$` without a variable name: write $$ for a dollar sign"
            )
        if not variables({name: value}) and (_is_secret(name) or _SCHEMES.match(value)):
            raise ValueError(
                f"the value of header {name!r} is a secret and would appear in files and in the process "
                f"list: put it in an environment variable and write '{name}: $VARIABLE' (in a shell, in single quotes)"
            )


def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None or is_secret(name)


def parse(items: Iterable[str], known: Sequence[str] = ()) -> dict[str, str]:
    """Parse `Name: value` items.

    Args:
        items: the texts of `--header`.
        known: secret values of the environment, to detect one that the shell inserted for want of single quotes.

    Raises:
        InputError: an item is not a header, is repeated, or holds a secret.
    """
    headers: dict[str, str] = {}
    for item in items:
        name, colon, value = item.partition(":")
        name = name.strip()
        if not colon or not _NAME.fullmatch(name):  # the text may hold a secret
            raise InputError(
                "this is not a header",
                where="--header",
                fix="give 'Name: value', or 'Name: $VARIABLE' for a secret",
            )
        if name.lower() in {other.lower() for other in headers}:
            raise InputError(f"{name!r} is given twice", where="--header", fix="give each header once")
        if any(secret in value for secret in known):
            raise InputError(
                f"header {name!r} contains the value of a secret variable: the shell inserted it",
                where="--header",
                fix=f"write '{name}: $VARIABLE' in single quotes",
            )
        headers[name] = value.strip()
    return headers


def variables(headers: Mapping[str, str]) -> list[str]:
    """Return the names of the variables in the values."""
    matches = (match for value in headers.values() for match in _VARIABLE.finditer(value))
    return [name for match in matches if (name := match["name"] or match["braced"])]


def resolved(headers: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the headers to send.

    Raises:
        InputError: a variable is not set, or has characters that a header cannot carry; without its value.
    """
    return {
        name: _VARIABLE.sub(partial(_read, header=name, environ=environ), value)
        for name, value in headers.items()
    }


def _read(match: re.Match[str], header: str, environ: Mapping[str, str]) -> str:
    name = match["name"] or match["braced"]
    if name is None:
        return "$"
    value = environ.get(name, "").strip()
    if not value:
        raise InputError(f"${name} is not set", where=f"header {header}", fix="export it")
    if not (value.isascii() and value.isprintable()):
        raise InputError(
            f"${name} has characters that are not allowed in a header",
            where=f"header {header}",
            fix="give one line of printable ASCII",
        )
    return value


def secrets(headers: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """Return the values that no file or screen may show: of every variable, and of the headers that use one."""
    sent = resolved(headers, environ)
    values = [environ[name].strip() for name in variables(headers)]
    return values + [sent[name] for name, value in headers.items() if variables({name: value})]
