"""Options and arguments that several commands share, and the values of their texts."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from rocbench import jsontext
from rocbench.errors import InputError

if TYPE_CHECKING:
    from rocbench.plan.planned import Overrides
    from rocbench.store.folder import RunFolder

RESULTS = Path("results")


def option(metavar: str, text: str, **bounds: float) -> Any:
    """Declare an option with the name of its value, its help, and its bounds `min` and `max`."""
    return typer.Option(metavar=metavar, help=text, **bounds)  # type: ignore[arg-type]


SweepFile = Annotated[
    str | None, typer.Argument(metavar="SWEEP", help="Sweep: a name or a YAML file. Default: quick.")
]
ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="Model profile; `bench profiles list models` lists them.")
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run folder, run id, or latest.")]
Vllm = Annotated[
    str | None,
    option(
        "VERSION",
        "Derive flags for this vLLM version, such as 0.14.1. Default: the version in the sweep, if any.",
    ),
]
AnyVllm = Annotated[
    str | None,
    option("VERSION", "Derive flags for this vLLM version, such as 0.14.1. Default: an unknown version."),
]
"""For commands without a sweep."""
HardwareName = Annotated[
    str | None,
    typer.Option(
        "--hardware",
        metavar="NAME",
        help="Use this hardware profile. Default: the profile in the sweep, or mi325x.",
    ),
]
AnyHardware = Annotated[
    str | None, typer.Option("--hardware", metavar="NAME", help="Use this hardware profile. Default: mi325x.")
]
"""For commands without a sweep."""
Tp = Annotated[
    int | None, option("GPUS", "Set the tensor parallel size. Default: the profile's.", min=1, max=1024)
]
AiterText = Annotated[
    str | None,
    typer.Option(
        "--aiter",
        metavar="SWITCH",
        help="Switch all of AITER (on, off) or single parts, for example moe=off,mla=on. Default: by profile and rules.",
    ),
]
SetText = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a flag of `vllm serve` (block_size=64) or an environment variable (env.NAME=1). Repeatable.",
    ),
]
Only = Annotated[
    str | None, option("PATTERN", "Select cells by MODEL or MODEL/WORKLOAD/LEVEL; * and ? are wildcards.")
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Continue although a rule reports that the configuration cannot work.",
    ),
]
Effect = Annotated[
    str | None, option("SHARE", "Say how many repeats tell a change of this size, for example 3%.")
]
Cov = Annotated[
    str | None,
    option(
        "SHARE",
        "Assume this CoV of repeats, for example 1%. Default: that of earlier runs of the same cells.",
    ),
]
Reap = Annotated[bool, typer.Option("--reap", help="Stop servers that an earlier bench left running.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="COLUMN",
        help="Show this column of cells.csv. Repeatable. Default: output_throughput, median_ttft_ms, "
        "median_tpot_ms, p99_e2el_ms.",
    ),
]
IncludeInvalid = Annotated[bool, typer.Option("--include-invalid", help="Include invalid rows.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Number = TypeVar("Number", int, float)


def overrides(
    vllm: str | None,
    hardware: str | None,
    tp: int | None,
    aiter: str | None,
    set_: list[str] | None,
    *,
    only: str | None = None,
    force: bool = False,
) -> Overrides:
    """Return the values of the options that override the YAML.

    Raises:
        InputError: `--aiter` or `--set` cannot be read.
    """
    from rocbench.plan.planned import Overrides

    args, env = settings(set_)
    return Overrides(
        vllm=vllm,
        hardware=hardware,
        tp=tp,
        aiter=aiter_switch(aiter),
        args=args,
        env=env,
        force=force,
        only=only,
    )


def aiter_switch(text: str | None) -> Any:
    """Parse `on`, `off` or `moe=off,mla=on`.

    Raises:
        InputError: the text has another form.
    """
    if text is None or text in ("on", "off"):
        return text
    parts: dict[str, str] = {}
    for item in text.split(","):
        part, _, switch = item.partition("=")
        if switch not in ("on", "off"):
            raise unreadable(text, "--aiter", "on, off, or parts: moe=off,mla=on")
        parts[part.strip()] = switch
    return parts


def settings(items: list[str] | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Parse `--set` items as serve arguments and environment. Values are read as by `value`.

    Raises:
        InputError: an item is not KEY=VALUE, or NAME cannot be the name of a variable.
    """
    from rocbench.settings.strict import variable  # pydantic, which `bench --help` does without

    args: dict[str, Any] = {}
    env: dict[str, str] = {}
    for item in items or []:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise unreadable(item, "--set", "KEY=VALUE, for example block_size=64")
        if key.startswith("env."):
            try:
                env[variable(key[4:])] = text
            except ValueError as error:
                raise InputError(str(error), where=f"--set {key}") from None
        else:
            args[key] = value(text)
    return args, env


def value(text: str) -> Any:
    """Parse `true`, `false`, `none`, a number or JSON; any other word is text.

    Raises:
        InputError: a number or JSON is out of bounds or malformed.
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


def requests(
    api: str | None, extra_body: str | None, header: list[str] | None, *, insecure: bool
) -> dict[str, Any]:
    """Return the options that shape requests, as changes of a sweep; None for those not given.

    Raises:
        InputError: a value cannot be read.
    """
    from rocbench.server.secretvalues import secret_values
    from rocbench.settings import body, headers

    if api not in {None, "completions", "chat"}:
        raise InputError(f"unknown API {api!r}", where="--api", fix="give completions or chat")
    return {
        "api": api,
        "extra_body": None if extra_body is None else body.parse(extra_body),
        "headers": headers.parse(header, secret_values(dict(os.environ))) if header else None,
        "insecure": insecure or None,
    }


def positive(text: str, option: str, kind: type[Number], example: str) -> tuple[Number, ...]:
    """Parse `1,64,1000` as positive numbers.

    Raises:
        InputError: the text is not such a list.
    """
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < number < math.inf for number in values):
        raise unreadable(text, option, f"positive numbers: {example}")
    return values


def unreadable(text: str, option: str, expected: str) -> InputError:
    """Return the error for an option's text of another form than expected."""
    return InputError(f"cannot read {text!r:.60}", where=option, fix=f"give {expected}")


def runs(names: list[str]) -> list[RunFolder]:
    """Return the run folders of RUN arguments, each once.

    Raises:
        InputError: a name matches no run.
    """
    from rocbench.store.runs import find

    by_path: dict[Path, RunFolder] = {}
    for name in names:
        if name == "latest" and not Path(name).exists():
            folders = find(RESULTS, skipped)[-1:]
        else:
            path = next((path for path in (Path(name), RESULTS / name) if path.is_dir()), None)
            if path is None:
                raise InputError(
                    "no such run", where=name, fix=f"give a run folder, or a run id under {RESULTS}/"
                )
            folders = find(path, skipped)
        by_path |= {folder.path.resolve(): folder for folder in folders}
    return list(by_path.values())


def one_run(name: str) -> RunFolder:
    """Return the run folder of a RUN argument.

    Raises:
        InputError: the name matches no run, or several.
    """
    folders = runs([name])
    if len(folders) > 1:
        raise InputError("this folder holds several runs", where=name, fix="name one of them")
    return folders[0]


def skipped(error: InputError) -> None:
    """Warn of a damaged run among several; the others are still read."""
    typer.echo(f"bench: this run is left out: {error.text()}", err=True)
