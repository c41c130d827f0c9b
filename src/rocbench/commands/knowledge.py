"""`bench profiles`, `bench explain` and `bench rules`: profiles, and the flags that follow from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, get_args

import typer

from rocbench import textfile
from rocbench.commands import options
from rocbench.errors import InputError

profiles = typer.Typer(
    no_args_is_help=True, help="List, show and create profiles of models, hardware, workloads and sweeps."
)

KINDS = ("models", "hardware", "workloads", "sweeps")


@profiles.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help="models, hardware, workloads or sweeps. Default: all."),
    ] = None,
) -> None:
    """List profiles by kind."""
    from rocbench import console
    from rocbench.settings import catalog

    if kind is not None and kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}", fix=f"give one of {', '.join(KINDS)}")
    for listed in [kind] if kind else KINDS:
        rows = [[name, _line(listed, name)] for name in catalog.names(listed)]
        console.show_rows([listed, ""], rows)


def _line(kind: str, name: str) -> str:
    from rocbench.model import architecture
    from rocbench.settings import catalog
    from rocbench.units import parameters

    match kind:
        case "models":
            profile = catalog.model(name)
            arch = architecture.from_config(profile.config)
            total = profile.total_params or arch.total_params
            return f"{profile.hf_id}  {arch.family}  {parameters(total, 0)}  {profile.precision}"
        case "hardware":
            hardware = catalog.hardware(name)
            return f"{hardware.gpus} x {hardware.gpu.name}" if hardware.gpu else hardware.platform
        case "workloads":
            work = catalog.workload(name)
            images = f", {work.images.count} images" if work.images else ""
            return f"ISL {work.isl.mean}, OSL {work.osl.mean}{images}"
        case _:
            sweep, _ = catalog.sweep(name)
            return f"{len(sweep.models)} models, {len(sweep.workloads)} workloads, {sweep.server.kind}"


@profiles.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Profile of any kind.")],
) -> None:
    """Print the YAML of a profile."""
    from rocbench.settings import catalog

    for kind in KINDS:
        if name in catalog.names(kind):
            path = catalog.path_of(kind, name)
            typer.echo(f"# {kind}/{name}.yaml")
            typer.echo(textfile.read_text(path), nl=False)
            return
    catalog.path_of("models", name)
    raise InputError(f"no profile named {name!r}", fix="bench profiles list shows all names")


@profiles.command("new")
def new(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A Hugging Face config.json.")],
    name: Annotated[str | None, options.option("NAME", "Name the profile. Default: from the config.")] = None,
    out: Annotated[
        Path | None, options.option("FILE", "Write to this file. Default: standard output.")
    ] = None,
) -> None:
    """Create a model profile from a config.json, with a list of the facts that the config does not give."""
    from rocbench.newprofile import profile_text

    repeated: list[str] = []  # transformers silently takes the last of them
    data = textfile.read_json(config, fix="give a model's config.json", finite=False, repeated=repeated)
    if not isinstance(data, dict):
        raise InputError("not a config.json: it is not a JSON object", where=str(config))
    text = profile_text(data, name, repeated)
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists():
        raise InputError("the file exists", where=str(out), fix="choose another --out")
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=str(out)) from None
    typer.echo(f"written: {out}", err=True)


def explain(
    model: options.ModelName,
    vllm: options.AnyVllm = None,
    hardware: options.AnyHardware = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option("--diff", metavar="OLD NEW", help="Show the changes between two vLLM versions."),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="VLLM", help="Check the flags against this installed `vllm`."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Explain each flag and variable of a server: its value, reason, origin and source."""
    from rocbench.commands import asking, rulesshown
    from rocbench.rules.versions import release

    overrides = options.overrides(vllm, hardware, tp, aiter, set_)
    if diff is not None:
        for option, given in (("--vllm", vllm), ("--check", check)):
            if given is not None:
                raise InputError("cannot be combined with --diff, which names both versions", where=option)
        old, new = (asking.resolution(model, replace(overrides, vllm=version)) for version in diff)
        rulesshown.show_diff(model, diff, old, new, as_json=as_json)
        return
    installed = asking.installed_version(check) if check is not None else None
    resolved = asking.resolution(model, replace(overrides, vllm=vllm or installed))
    rulesshown.show_resolution(resolved, as_json=as_json)
    unknown = asking.check(resolved, check) if check is not None else ()
    if vllm and installed and release(vllm) != release(installed):
        typer.echo(f"warning: the flags are for vLLM {vllm} (--vllm), but {check} is {installed}", err=True)
    for line in unknown:
        typer.echo(f"not in the installed vLLM: {line}", err=as_json)
    if check is not None and not unknown:
        typer.echo("the installed vLLM knows every flag and variable", err=as_json)
    if resolved.contradictions or unknown:
        raise typer.Exit(2)


def rules(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Rule id; * and ? are wildcards.")] = "*",
    vllm: Annotated[
        str | None, options.option("VERSION", "Select rules for this vLLM version, such as 0.14.1.")
    ] = None,
    platform: Annotated[str | None, options.option("NAME", "Select rules for rocm or cpu.")] = None,
    severity: Annotated[
        str | None, options.option("NAME", "Select hard_error, performance, accuracy or method.")
    ] = None,
    text: Annotated[str, options.option("TEXT", "Select rules that contain this text.")] = "",
    historical: Annotated[
        bool | None,
        typer.Option("--historical/--current", help="Select only historical, or only current rules."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the rules: their versions, conditions, effects, sources, and whether vLLM's own code proved them."""
    from rocbench.commands import rulesshown
    from rocbench.rules import explain as explained
    from rocbench.rules.load import shipped
    from rocbench.rules.table import Platform, Severity

    for option, given, known in (
        ("--platform", platform, get_args(Platform)),
        ("--severity", severity, get_args(Severity)),
    ):
        if given is not None and given not in known:
            raise options.unreadable(given, option, f"one of {', '.join(known)}")
    matches = explained.list_rules(
        shipped(),
        name=name,
        platform=platform,
        vllm=vllm,
        severity=severity,
        historical=historical,
        text=text,
    )
    if not matches:
        raise InputError("no rule matches", fix="bench rules lists all")
    rulesshown.show_rules(matches, as_json=as_json)
