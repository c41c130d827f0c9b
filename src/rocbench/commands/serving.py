"""`bench serve` and `bench simulate`: one server in the foreground."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rocbench.commands import options
from rocbench.errors import ServerFault

if TYPE_CHECKING:
    from rocbench.plan.expand import Plan

PASS_THROUGH: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}

Port = Annotated[int, typer.Option(min=1, max=65535, help="Port on the loopback address.")]


def serve(
    model: Annotated[str, typer.Argument(help="A model profile, see bench profiles list.")],
    vllm: options.Vllm = None,
    hardware: options.HardwareName = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
    force: options.Force = False,
    port: Port = 8000,
    command: Annotated[str, typer.Option(help="The `vllm` to run, for example /opt/venv/bin/vllm.")] = "vllm",
    image: Annotated[str | None, typer.Option(help="Run in this container image instead.")] = None,
    path: Annotated[str | None, typer.Option(help="A local folder that holds the model.")] = None,
    log: Annotated[Path | None, typer.Option(help="Folder for command, environment and log.")] = None,
    reap: Annotated[
        bool, typer.Option("--reap", help="End servers that an earlier bench left behind.")
    ] = False,
) -> None:
    """Launch one server with derived flags and stay in the foreground until Ctrl-C."""
    server: dict[str, Any] = {"kind": "process", "command": (command,)}
    if image is not None:
        server = {"kind": "container", "image": image}
    plan = _one_server(model, vllm, hardware, tp, aiter, set_, force, server, {}, path)
    with _on_this_node(reap=reap):
        _foreground(plan, port, log)


def simulate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model profile, see bench profiles list.")],
    vllm: options.Vllm = None,
    hardware: options.HardwareName = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
    force: options.Force = False,
    port: Port = 8000,
    load_s: Annotated[float, typer.Option(min=0, max=1e6, help="Seconds that loading lasts.")] = 1.0,
    noise_cv: Annotated[
        float, typer.Option(min=0, max=10, help="Coefficient of variation of step times.")
    ] = 0.0,
    speed: Annotated[float, typer.Option(min=1e-6, max=1e6, help="Divide all step times.")] = 1.0,
    log: Annotated[Path | None, typer.Option(help="Folder for command, environment and log.")] = None,
) -> None:
    """Run the simulated server alone: vLLM's HTTP without a GPU. Serve flags can follow after `--`."""
    simulation = {"load_s": load_s, "noise_cv": noise_cv, "speed": speed}
    args = _extra(context.args)
    plan = _one_server(
        model,
        vllm or "0.14.1",
        hardware,
        tp,
        aiter,
        [*(set_ or []), *args],
        force,
        {"kind": "simulated"},
        simulation,
    )
    _foreground(plan, port, log)


def _extra(words: list[str]) -> list[str]:
    """`--block-size 1 --enforce-eager` as `--set` items."""
    items: list[str] = []
    for word in words:
        if word.startswith("--"):
            items.append(word[2:] if "=" in word else f"{word[2:]}=true")
        elif items:
            items[-1] = f"{items[-1].removesuffix('=true')}={word}"
    return items


def _one_server(
    model: str,
    vllm: str | None,
    hardware: str | None,
    tp: int | None,
    aiter: str | None,
    set_: list[str] | None,
    force: bool,
    server: dict[str, Any],
    simulation: dict[str, Any],
    path: str | None = None,
) -> Plan:
    from rocbench.commands import planning
    from rocbench.plan import expand as planner
    from rocbench.plan.faults import raise_faults
    from rocbench.settings.schema import Sweep

    args, env = options.settings(set_)
    overrides = planner.Overrides(
        vllm=vllm, hardware=hardware, tp=tp, aiter=options.aiter(aiter), args=args, env=env, force=force
    )
    sweep = Sweep.model_validate(
        {
            "name": "serve",
            "models": [{"profile": model, "path": path}],
            "workloads": ["short"],
            "concurrency": [1],
            "server": server,
            "simulation": simulation,
        }
    )
    made = planner.expand(sweep, planning.sources(sweep, overrides), overrides)
    raise_faults(made)
    return made


@contextmanager
def _on_this_node(*, reap: bool) -> Iterator[None]:
    """Held against runs, which would measure this server's load with theirs; other servers may stand beside it."""
    from rocbench import console
    from rocbench.server import orphans
    from rocbench.server.lock import node_lock

    with node_lock(shared=True):
        for orphan in orphans.find():
            orphans.end_or_refuse(orphan, reap_it=reap, tell=console.say)
        yield


@contextmanager
def _files(log: Path | None) -> Iterator[Path]:
    """Where a server's files go. A temporary folder outlives a server that failed: its log says why."""
    if log is not None:
        yield log
        return
    folder = Path(tempfile.mkdtemp(prefix="rocbench-serve-"))
    failed = False
    try:
        yield folder
    except ServerFault:
        failed = True
        raise
    finally:
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)


def _foreground(plan: Plan, port: int, log: Path | None) -> None:
    """Start the plan's only server, say where it is, wait for its end or Ctrl-C, stop it."""
    from rocbench import console
    from rocbench.conduct import bind
    from rocbench.server import start
    from rocbench.server.failures import server_fault

    group = plan.groups[0]
    with _files(log) as folder:
        spec = bind.server_spec(group, plan.sweep, folder, port=port)
        for finding in group.resolution.warnings if group.resolution else ():
            console.say(f"{finding.severity}: {finding.message} ({finding.rule})")
        with start(spec, on_progress=lambda text, _share: console.say(text)) as running:
            mark = "SIMULATED server" if running.simulated else "server"
            console.say(
                f"{mark} ready after {running.ready_s:.1f} s at {running.base_url}  (Ctrl-C stops it)"
            )
            try:
                while running.exit_code() is None:
                    _wait()
            except KeyboardInterrupt:
                console.say("stopping")
                return
        raise server_fault(
            f"the server ended by itself with exit code {running.exit_code()}",
            running.log_path,
            running.log_start,
        )


def _wait() -> None:
    import time

    time.sleep(0.2)
