"""`bench sweep` and `bench plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rocbench.commands import options
from rocbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from rocbench.conduct.bind import ClientOptions
    from rocbench.conduct.run import Outcome, RunOptions
    from rocbench.fleet.executor import FleetOptions
    from rocbench.plan.expand import Overrides, Plan
    from rocbench.report.live import Screen

SweepFile = Annotated[str | None, typer.Argument(metavar="[SWEEP]", help="A sweep's name or YAML file.")]
Only = Annotated[
    str | None, typer.Option(help="Only cells that match MODEL or MODEL/WORKLOAD/LEVEL (wildcards).")
]


def plan(
    sweep: SweepFile = None,
    vllm: options.Vllm = None,
    hardware: options.HardwareName = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
    only: Only = None,
    force: options.Force = False,
) -> None:
    """Print every cell in order, the exact server commands, and what they will cost. Starts nothing."""
    from rocbench import console
    from rocbench.commands import planning
    from rocbench.conduct.bind import ClientOptions
    from rocbench.conduct.inputs import examined

    made = planning.plan(sweep, _overrides(vllm, hardware, tp, aiter, set_, only, force))
    made = examined(made, ClientOptions())
    console.show_plan(made)
    _refuse(made)


def sweep(
    sweep: SweepFile = None,
    out: Annotated[Path | None, typer.Option(help="The run folder itself; default results/<run-id>.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    only: Only = None,
    vllm: options.Vllm = None,
    hardware: options.HardwareName = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
    force: options.Force = False,
    base_url: Annotated[str | None, typer.Option(help="Measure a server that runs already.")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name at --base-url.")] = None,
    concurrency: Annotated[str | None, typer.Option(help="Users: 1,64,1000.")] = None,
    rate: Annotated[str | None, typer.Option(help="Open loop instead: requests/s, 0.5,2,8.")] = None,
    isl: Annotated[int | None, typer.Option(min=1, help="Input tokens.")] = None,
    osl: Annotated[int | None, typer.Option(min=1, help="Output tokens.")] = None,
    images: Annotated[
        str | None, typer.Option(help="Images a request: 1x512x512 (count, width, height).")
    ] = None,
    api: options.Api = None,
    extra_body: options.ExtraBody = None,
    header: options.Header = None,
    insecure: options.Insecure = False,
    duration: Annotated[
        float | None, typer.Option(min=0.1, help="Minimum window length, in seconds.")
    ] = None,
    max_duration: Annotated[
        float | None, typer.Option(min=0.1, help="Maximum window length, in seconds.")
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(min=1, help="Bound by count instead of duration.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Measurements of each cell.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of prompts, order and arrivals.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="tokenizer.json, or a folder that has it.")] = None,
    vocab_size: Annotated[
        int | None, typer.Option(min=100, max=10_000_000, help="Vocabulary, for token-id prompts.")
    ] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Variable that holds the server's API key.")] = None,
    transport: Annotated[str | None, typer.Option(help="auto, wire or aiohttp.")] = None,
    client_cpus: Annotated[str | None, typer.Option(help="CPUs for the load workers: 0-3,8.")] = None,
    keep_stamps: Annotated[bool, typer.Option("--keep-stamps", help="Keep every token's stamp.")] = False,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run folder: what is missing or invalid.")
    ] = None,
    shard: Annotated[str | None, typer.Option(help="Run part I of N of the plan: 2/4.")] = None,
    reap: Annotated[
        bool, typer.Option("--reap", help="End servers that an earlier bench left behind.")
    ] = False,
    despite_doctor: Annotated[
        bool, typer.Option("--despite-doctor", help="Start a nightly on a node that fails its checks.")
    ] = False,
    executor: Annotated[
        str, typer.Option(help="local, or ray: each server on a node of a Ray cluster.")
    ] = "local",
    address: Annotated[str | None, typer.Option(help="HOST:PORT of the Ray cluster's head.")] = None,
    resource: Annotated[
        str | None, typer.Option(help="Ray resource that a server asks for: mi325x_node.")
    ] = None,
    load_hosts: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Send the load from so many nodes of a Ray cluster.")
    ] = None,
    aa_nodes: Annotated[
        bool,
        typer.Option(
            "--aa-nodes", help="A/A test: measure everything on every Ray node, to compare the nodes."
        ),
    ] = False,
) -> None:
    """Run a sweep: launch each server, load it, judge each row, write the run folder."""
    from rocbench.conduct.bind import ClientOptions
    from rocbench.conduct.run import RunOptions
    from rocbench.fleet.executor import FleetOptions

    fleet = (
        FleetOptions(address, resource, aa_nodes)
        if _on_ray(executor, address, resource, aa_nodes, load_hosts)
        else None
    )
    changes: dict[str, Any] = {
        "isl": isl,
        "osl": osl,
        "images": images,
        "duration_s": duration,
        "max_duration_s": max_duration,
        "max_requests": max_requests,
        "transport": transport,
        "keep_stamps": keep_stamps or None,
        "repeats": repeats,
        "seed": seed,
        "api_key_env": api_key_env,
        **options.requests(api, extra_body, header, insecure=insecure),
    }
    asked = _Asked(
        sweep=sweep,
        base_url=base_url,
        model=model,
        level=_level(concurrency, rate),
        changes=changes,
        overrides=_overrides(vllm, hardware, tp, aiter, set_, only, force),
        resume=resume,
        shard=shard,
    )
    client = ClientOptions(
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        cpus=_cpus(client_cpus),
        load_hosts=load_hosts,
        ray_address=address if load_hosts is not None else None,
    )
    run_options = RunOptions(
        out=resume or out,
        resume=resume is not None,
        client=client,
        overrides=asked.overrides,
        shard=shard,
        reap=reap,
        despite_doctor=despite_doctor,
    )
    if resume is not None and out is not None:
        raise _beside_resume()
    _sweep(asked, run_options, fleet, dry_run=dry_run)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What shall be measured, as the command line names it."""

    sweep: str | None
    base_url: str | None
    model: str | None
    level: Mapping[str, Any]
    changes: Mapping[str, Any]
    """Values that stand above those of the YAML."""
    overrides: Overrides
    resume: Path | None
    shard: str | None


def _sweep(asked: _Asked, run_options: RunOptions, fleet: FleetOptions | None, *, dry_run: bool) -> None:
    """Plan and run what is asked for, here or on a Ray cluster, and show what came of it."""
    from rocbench import console
    from rocbench.conduct.inputs import examined
    from rocbench.plan import shards

    made, client = _planned(asked, run_options.client)
    if asked.shard is not None:
        made = shards.shard(made, *shards.parse(asked.shard))
    if fleet is None and run_options.client.load_hosts is None:  # else other machines open the files
        _check_client(client)
        made = examined(made, client)
    if dry_run:
        console.show_plan(made)
    _refuse(made)
    if dry_run:
        return
    with console.screen() as screen:
        for note in made.notes:
            screen.note(note)
        outcome = _run(made, replace(run_options, client=client), fleet, screen)
    console.show_cells(outcome.cells, outcome.folder)
    console.show_capacity(outcome.cells, outcome.searches, made.sweep.saturation_gain)
    if fleet is not None and fleet.aa_nodes:
        _show_between_nodes(outcome.cells)
    raise typer.Exit(int(outcome.exit_code))


def _planned(asked: _Asked, client: ClientOptions) -> tuple[Plan, ClientOptions]:
    """The plan, and the client's options, of which a run that is resumed keeps its own."""
    from rocbench.commands import planning
    from rocbench.plan.planned import Overrides

    if asked.resume is not None:
        given = [asked.sweep, asked.base_url, asked.model, asked.shard, *asked.level, *asked.changes.values()]
        if any(value is not None for value in given) or asked.overrides != Overrides():
            raise _beside_resume()
        return planning.resumed(asked.resume, client)
    if asked.base_url is not None:
        if asked.sweep is not None:
            raise InputError(
                "a SWEEP and --base-url exclude each other", fix="put base_url under `server:` instead"
            )
        made = planning.adhoc(asked.base_url, asked.model, asked.level, asked.changes, asked.overrides)
        return made, client
    if asked.model is not None:
        raise InputError("--model goes with --base-url", fix="name models in the sweep, or use --only")
    return planning.plan(asked.sweep, asked.overrides, {**asked.level, **asked.changes}), client


def _beside_resume() -> InputError:
    return InputError(
        "--resume takes the plan from the run folder",
        fix="give nothing beside it but --reap, --client-cpus, --despite-doctor",
    )


def _on_ray(
    executor: str, address: str | None, resource: str | None, aa_nodes: bool, load_hosts: int | None
) -> bool:
    """Whether the sweep runs on a Ray cluster."""
    if executor not in {"local", "ray"}:
        raise InputError(f"no executor {executor!r}", where="--executor", fix="local or ray")
    if executor == "local" and (resource or aa_nodes or (address and load_hosts is None)):
        raise InputError("--address, --resource and --aa-nodes go with --executor ray")
    if executor == "ray" and load_hosts is not None:
        raise InputError(
            "--load-hosts and --executor ray exclude each other",
            fix="load hosts are nodes of their own: run that sweep from the server's node",
        )
    return executor == "ray"


def _run(made: Plan, run_options: RunOptions, fleet: FleetOptions | None, screen: Screen) -> Outcome:
    """Run a plan here, or on the nodes of a Ray cluster."""
    from rocbench.conduct.run import run_plan
    from rocbench.fleet import cluster
    from rocbench.fleet.executor import run_on_ray

    if fleet is None and run_options.client.load_hosts is not None:
        with cluster.joined(run_options.client.ray_address):
            return run_plan(made, run_options, screen)
    if fleet is None:
        return run_plan(made, run_options, screen)
    return run_on_ray(made, run_options, fleet, screen)


def _show_between_nodes(cells: pd.DataFrame) -> None:
    """How unlike the nodes are: each against the first, with the same verdicts as any comparison."""
    from rocbench.judgement import compare, render

    names = sorted(set(cells["node"].dropna().astype(str)))
    settings = compare.Settings(allow=frozenset({"node"}))
    for other in names[1:]:
        a, b = compare.split(cells, "node", names[0], other)
        typer.echo(f"\nbetween nodes {names[0]} and {other}:")
        typer.echo(render.comparison(compare.compare(a, b, settings), names=(names[0], other)), nl=False)


def _overrides(
    vllm: str | None,
    hardware: str | None,
    tp: int | None,
    aiter: str | None,
    set_: list[str] | None,
    only: str | None,
    force: bool,
) -> Overrides:
    from rocbench.plan.expand import Overrides

    args, env = options.settings(set_)
    return Overrides(
        vllm=vllm,
        hardware=hardware,
        tp=tp,
        aiter=options.aiter(aiter),
        args=args,
        env=env,
        force=force,
        only=only,
    )


def _level(concurrency: str | None, rate: str | None) -> dict[str, Any]:
    if concurrency is not None and rate is not None:
        raise InputError(
            "--concurrency and --rate exclude each other", fix="closed loop or open loop, not both"
        )
    if concurrency is not None:
        return {"concurrency": options.int_list(concurrency, "--concurrency")}
    if rate is not None:
        return {"rate": options.float_list(rate, "--rate")}
    return {}


def _cpus(text: str | None) -> tuple[int, ...] | None:
    """`0-3,8` as CPU numbers."""
    from rocbench.load.cpus import cpu_list

    if text is None:
        return None
    try:
        cpus = cpu_list(text)
    except ValueError:
        cpus = []
    if not cpus or min(cpus) < 0:
        raise InputError(f"cannot read {text!r}", where="--client-cpus", fix="give CPU numbers: 0-3,8")
    return tuple(cpus)


def _check_client(client: ClientOptions) -> None:
    """Refuse before any server starts what no load worker of this machine can use."""
    from rocbench.load import cpus

    usable = cpus.usable()
    if missing := sorted(set(client.cpus or ()) - usable):
        raise InputError(
            f"this process may not run on CPU {', '.join(map(str, missing))}",
            where="--client-cpus",
            fix=f"name some of its {len(usable)} CPUs, {min(usable)} to {max(usable)}",
        )


def _refuse(made: Plan) -> None:
    """Say all faults at once and stop with the exit code of bad input."""
    from rocbench.plan.faults import raise_faults

    raise_faults(made)
