"""`bench profiles`: what the tool knows of models, hardware and workloads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from rocbench import textfile
from rocbench.commands import options
from rocbench.errors import InputError

profiles = typer.Typer(
    no_args_is_help=True, help="Models, hardware, workloads and sweeps that the tool knows."
)

KINDS = ("models", "hardware", "workloads", "sweeps")


@profiles.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="models, hardware, workloads or sweeps.")] = None,
) -> None:
    """List profiles by kind."""
    from rocbench import console
    from rocbench.settings import catalog

    if kind is not None and kind not in KINDS:
        raise InputError(f"no kind named {kind!r}", fix=f"one of {', '.join(KINDS)}")
    for one in [kind] if kind else KINDS:
        rows = [[name, _line(one, name)] for name in catalog.names(one)]
        console.show_rows([one, ""], rows)


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
def show(name: str) -> None:
    """Print a profile's YAML."""
    from rocbench.settings import catalog

    for kind in KINDS:
        if name in catalog.names(kind):
            path = catalog.path_of(kind, name)
            typer.echo(f"# {kind}/{name}.yaml")
            typer.echo(textfile.read_text(path), nl=False)
            return
    catalog.path_of("models", name)
    raise InputError(f"no profile named {name!r}", fix="bench profiles list")


@profiles.command("new")
def new(
    config: Annotated[Path, typer.Argument(help="A Hugging Face config.json.")],
    name: Annotated[str | None, typer.Option(help="The profile's name; default from the config.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of standard output.")] = None,
) -> None:
    """Make a model profile from a config.json, and say what it couldn't tell."""
    from rocbench.newprofile import profile_text

    repeated: list[str] = []  # transformers takes the last of them without a word
    data = textfile.read_json(config, fix="give a model's config.json", finite=False, repeated=repeated)
    if not isinstance(data, dict):
        raise InputError("not a config.json: it holds no object", where=str(config))
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
    model: Annotated[str, typer.Argument(help="A model profile, see bench profiles list.")],
    vllm: options.Vllm = None,
    hardware: options.HardwareName = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option("--diff", metavar="OLD NEW", help="What changes between two versions."),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="VLLM", help="Hold the flags against this installed `vllm`."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Each flag and variable of a server: its value, why, who set it, and the source."""
    from rocbench.commands import asking, rulesshown
    from rocbench.rules.versions import release

    if diff is not None:
        for option, given in (("--vllm", vllm), ("--check", check)):
            if given is not None:
                raise InputError("has no meaning beside --diff, which names both versions", where=option)
        one = asking.resolution(model, diff[0], hardware, tp, options.aiter(aiter), set_)
        other = asking.resolution(model, diff[1], hardware, tp, options.aiter(aiter), set_)
        rulesshown.show_diff(model, diff, one, other, as_json=as_json)
        return
    installed = asking.installed_version(check)
    resolved = asking.resolution(model, vllm or installed, hardware, tp, options.aiter(aiter), set_)
    rulesshown.show_resolution(resolved, as_json=as_json)
    missing = asking.check(resolved, check) if check is not None else ()
    if vllm and installed and release(vllm) != release(installed):
        typer.echo(f"warning: the flags are for vLLM {vllm} (--vllm), but {check} is {installed}", err=True)
    for line in missing:
        typer.echo(f"not in the installed vLLM: {line}", err=as_json)
    if check is not None and not missing:
        typer.echo("every flag and variable is known to the installed vLLM", err=as_json)
    if resolved.contradictions or missing:
        raise typer.Exit(2)


def rules(
    name: Annotated[str, typer.Argument(help="A rule id or pattern.")] = "*",
    vllm: options.Vllm = None,
    platform: Annotated[str | None, typer.Option(help="rocm or cpu.")] = None,
    severity: Annotated[str | None, typer.Option(help="hard_error, performance, accuracy or method.")] = None,
    text: Annotated[str, typer.Option(help="A word in any part of the rule.")] = "",
    historical: Annotated[
        bool | None, typer.Option("--historical/--current", help="Only (not) historical.")
    ] = None,
) -> None:
    """List the rules: when each holds, what it does, and its source."""
    from rocbench.commands import rulesshown
    from rocbench.rules import explain as explained
    from rocbench.rules.load import shipped
    from rocbench.rules.table import Platform, Severity

    for option, given, known in (
        ("--platform", platform, get_args(Platform)),
        ("--severity", severity, get_args(Severity)),
    ):
        if given is not None and given not in known:
            raise InputError(f"cannot use {given!r}", where=option, fix=f"one of {', '.join(known)}")
    found = explained.list_rules(
        shipped(),
        name=name,
        platform=platform,
        vllm=vllm,
        severity=severity,
        historical=historical,
        text=text,
    )
    if not found:
        raise InputError("no rule matches", fix="bench rules lists all")
    rulesshown.show_rules(found)
