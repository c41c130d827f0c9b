"""`bench serve` and `bench simulate`: one server in the foreground."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rocbench.commands import options
from rocbench.errors import ServerFault

if TYPE_CHECKING:
    from rocbench.plan.expand import Overrides, Plan

PASS_THROUGH: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}

Port = Annotated[
    int, options.option("PORT", "Listen on this port of the loopback address.", min=1, max=65535)
]
Log = Annotated[
    Path | None,
    options.option("DIR", "Write command, environment and log to this folder. Default: a temporary one."),
]


def serve(
    model: options.ModelName,
    vllm: options.AnyVllm = None,
    hardware: options.AnyHardware = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
    force: options.Force = False,
    port: Port = 8000,
    command: Annotated[
        str, options.option("PATH", "Run this `vllm`, for example /opt/venv/bin/vllm.")
    ] = "vllm",
    image: Annotated[
        str | None, options.option("IMAGE", "Run the server in this container image instead of as a process.")
    ] = None,
    path: Annotated[
        str | None,
        options.option(
            "DIR", "Serve the model in this local folder. Default: the profile's Hugging Face id."
        ),
    ] = None,
    log: Log = None,
    reap: options.Reap = False,
) -> None:
    """Launch one server in the foreground until Ctrl-C, with the flags that profile and rules choose."""
    server: dict[str, Any] = {"kind": "process", "command": (command,)}
    if image is not None:
        server = {"kind": "container", "image": image}
    overrides = options.overrides(vllm, hardware, tp, aiter, set_, force=force)
    plan = _one_server(overrides, {"models": [{"profile": model, "path": path}], "server": server})
    with _on_this_node(reap=reap):
        _foreground(plan, port, log)


def simulate(
    context: typer.Context,
    model: options.ModelName,
    vllm: Annotated[str, options.option("VERSION", "Simulate this vLLM version.")] = "0.14.1",
    hardware: options.AnyHardware = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
    force: options.Force = False,
    port: Port = 8000,
    load_s: Annotated[
        float, options.option("SECONDS", "Take this long to load the model (simulated).", min=0, max=1e6)
    ] = 1.0,
    noise_cv: Annotated[
        float, options.option("CV", "Set the coefficient of variation of step times.", min=0, max=10)
    ] = 0.0,
    speed: Annotated[
        float, options.option("FACTOR", "Divide all step times by this number.", min=1e-6, max=1e6)
    ] = 1.0,
    log: Log = None,
) -> None:
    """Run the simulated server alone: vLLM's HTTP API without a GPU. Flags of `vllm serve` can follow after `--`."""
    flags = [*(set_ or []), *_extra(context.args)]
    overrides = options.overrides(vllm, hardware, tp, aiter, flags, force=force)
    simulation = {"load_s": load_s, "noise_cv": noise_cv, "speed": speed}
    plan = _one_server(overrides, {"models": [model], "simulation": simulation})
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


def _one_server(overrides: Overrides, settings: dict[str, Any]) -> Plan:
    from rocbench.commands import planning
    from rocbench.plan import expand as planner
    from rocbench.plan.faults import raise_faults
    from rocbench.settings.schema import Sweep

    sweep = Sweep.model_validate({"name": "serve", "workloads": ["short"], "concurrency": [1], **settings})
    plan = planner.expand(sweep, planning.sources(sweep, overrides), overrides)
    raise_faults(plan)
    return plan


@contextmanager
def _on_this_node(*, reap: bool) -> Iterator[None]:
    """Lock this node against runs, which would measure this server's load too; other servers may run."""
    from rocbench import console
    from rocbench.server import orphans
    from rocbench.server.lock import node_lock

    with node_lock(shared=True):
        for orphan in orphans.find():
            orphans.end_or_refuse(orphan, reap_it=reap, tell=console.say)
        yield


@contextmanager
def _files(log: Path | None) -> Iterator[Path]:
    """Yield the folder for a server's files. A temporary folder is kept if the server failed, for its log."""
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
    """Start the plan's only server, print its URL, wait for its exit or Ctrl-C, stop it."""
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
                    sleep(0.2)
            except KeyboardInterrupt:
                console.say("stopping")
                return
        raise server_fault(
            f"the server exited by itself with exit code {running.exit_code()}",
            running.log_path,
            running.log_start,
        )
