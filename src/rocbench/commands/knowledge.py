"""`bench profiles`: what the tool knows of models, hardware and workloads."""

from __future__ import annotations

from typing import Annotated

import typer

from rocbench.errors import InputError

profiles = typer.Typer(no_args_is_help=True, help="Models, hardware, workloads and sweeps that the tool knows.")

KINDS = ("models", "hardware", "workloads", "sweeps")


@profiles.command("list")
def list_(kind: Annotated[str | None, typer.Argument(help="models, hardware, workloads or sweeps.")] = None) -> None:
    """List profiles by kind."""
    from rocbench import console
    from rocbench.settings import catalog

    if kind is not None and kind not in KINDS:
        raise InputError(f"no kind named {kind!r}", fix=f"one of {', '.join(KINDS)}")
    for one in [kind] if kind else KINDS:
        rows = [[name, _line(one, name)] for name in catalog.names(one)]
        console.show_rows([one, ""], rows)


def _line(kind: str, name: str) -> str:
    from rocbench import architecture
    from rocbench.settings import catalog

    match kind:
        case "models":
            profile = catalog.model(name)
            arch = architecture.from_config(profile.config)
            total = profile.total_params or arch.total_params
            return f"{profile.hf_id}  {arch.family}  {total / 1e9:,.0f}B  {profile.precision}"
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
            typer.echo(path.read_text(), nl=False)
            return
    catalog.path_of("models", name)
    raise InputError(f"no profile named {name!r}", fix="bench profiles list")
