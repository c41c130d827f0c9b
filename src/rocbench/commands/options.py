"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

import math
import os
from typing import Annotated, Any

import typer

from rocbench import jsontext
from rocbench.errors import InputError

Vllm = Annotated[str | None, typer.Option(help="vLLM version the servers have, for example 0.14.1.")]
HardwareName = Annotated[str | None, typer.Option("--hardware", help="Hardware profile, for example mi325x.")]
Tp = Annotated[int | None, typer.Option(min=1, max=1024, help="Tensor parallel size.")]
AiterText = Annotated[str | None, typer.Option("--aiter", help="on, off, or parts: moe=off,mla=on.")]
SetText = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A serve flag or env.NAME; repeatable.")
]
Api = Annotated[
    str | None, typer.Option(help="completions (token ids, the default), or chat (text with its template).")
]
ExtraBody = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="Further fields of each request's body: '{\"top_p\": 0.9}'."),
]
Header = Annotated[
    list[str] | None,
    typer.Option(
        metavar="'NAME: VALUE'",
        help="A header of every request to --base-url, a secret by its variable: 'X-Api-Key: $MY_KEY'; repeatable.",
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Take any TLS certificate of --base-url; its rows say so.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on against hard errors of the rules; rows are marked.")
]


def aiter(text: str | None) -> Any:
    """`on`, `off` or `moe=off,mla=on` as a setting.

    Raises:
        InputError: it is none of these.
    """
    if text is None or text in ("on", "off"):
        return text
    parts: dict[str, str] = {}
    for item in text.split(","):
        part, _, value = item.partition("=")
        if value not in ("on", "off"):
            raise InputError(
                f"cannot read {text!r}", where="--aiter", fix="give on, off, or parts: moe=off,mla=on"
            )
        parts[part.strip()] = value
    return parts


def settings(items: list[str] | None) -> tuple[dict[str, Any], dict[str, str]]:
    """`--set` items as serve arguments and environment. `true`, `false`, `none`, numbers and JSON are read as such.

    Raises:
        InputError: an item is not KEY=VALUE, or its NAME is no variable's.
    """
    from rocbench.settings.strict import variable  # pydantic, which `bench --help` does without

    args: dict[str, Any] = {}
    env: dict[str, str] = {}
    for item in items or []:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise InputError(
                f"cannot read {item!r}", where="--set", fix="give KEY=VALUE, for example block_size=64"
            )
        if key.startswith("env."):
            try:
                env[variable(key[4:])] = text
            except ValueError as error:
                raise InputError(str(error), where=f"--set {key}") from None
        else:
            args[key] = value(text)
    return args, env


def requests(
    api: str | None, extra_body: str | None, header: list[str] | None, *, insecure: bool
) -> dict[str, Any]:
    """What a request is and how it is sent, as changes of a sweep; None where nothing was said.

    Raises:
        InputError: a value cannot be read.
    """
    from rocbench.server.secretvalues import secret_values
    from rocbench.settings import body, headers

    if api not in {None, "completions", "chat"}:
        raise InputError(f"no API {api!r}", where="--api", fix="give completions or chat")
    return {
        "api": api,
        "extra_body": None if extra_body is None else body.parse(extra_body),
        "headers": headers.parse(header, secret_values(dict(os.environ))) if header else None,
        "insecure": insecure or None,
    }


def value(text: str) -> Any:
    """A word as the value it stands for.

    Raises:
        InputError: it begins as JSON or is a number, and is out of bounds.
    """
    words: dict[str, Any] = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return jsontext.parse(text, finite=False)
    except InputError as error:
        if text.lstrip()[:1] in ("{", "[") or text.lstrip("-").isdecimal():
            raise InputError(f"cannot read {text!r:.60}: {error.what}", where="--set") from None
        return text


def int_list(text: str, option: str) -> tuple[int, ...]:
    """`1,64,1000` as positive integers.

    Raises:
        InputError: it is no such list.
    """
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or min(values) < 1:
        raise InputError(f"cannot read {text!r:.60}", where=option, fix="give positive numbers: 1,64,1000")
    return values


def float_list(text: str, option: str) -> tuple[float, ...]:
    """`0.5,2,8` as positive numbers.

    Raises:
        InputError: it is no such list.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value < math.inf for value in values):
        raise InputError(f"cannot read {text!r:.60}", where=option, fix="give positive numbers: 0.5,2,8")
    return values
