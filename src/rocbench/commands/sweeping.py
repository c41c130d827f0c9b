"""`bench sweep` and `bench plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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


def plan(
    sweep: options.SweepFile = None,
    vllm: options.Vllm = None,
    hardware: options.HardwareName = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
    only: options.Only = None,
    force: options.Force = False,
    effect: options.Effect = None,
    cov: options.Cov = None,
    earlier: Annotated[
        Path, typer.Option("--earlier", metavar="DIR", help="Folder with earlier runs, for their CoV.")
    ] = Path("results"),
) -> None:
    """Print the planned measurements in order, the exact server commands, and the expected run time. Starts nothing."""
    from rocbench import console
    from rocbench.commands import planning
    from rocbench.conduct.bind import ClientOptions
    from rocbench.conduct.inputs import examined
    from rocbench.plan.faults import raise_faults

    overrides = options.overrides(vllm, hardware, tp, aiter, set_, only=only, force=force)
    planned = planning.plan(sweep, overrides, {"effect": effect, "cov": cov})
    planned = examined(planned, ClientOptions())
    console.show_plan(planned)
    console.show_promises(planning.promises(planned, earlier))
    raise_faults(planned)


def sweep(
    sweep: options.SweepFile = None,
    out: Annotated[
        Path | None, options.option("DIR", "Write this run folder. Default: results/<run id>.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    only: options.Only = None,
    vllm: options.Vllm = None,
    hardware: options.HardwareName = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
    force: options.Force = False,
    base_url: Annotated[
        str | None, options.option("URL", "Measure this running server instead of launching servers.")
    ] = None,
    model: Annotated[
        str | None, options.option("NAME", "Send requests for this model name to the server at --base-url.")
    ] = None,
    concurrency: Annotated[
        str | None, options.option("N,...", "Set the numbers of users (closed loop). Default: the sweep's.")
    ] = None,
    rate: Annotated[
        str | None,
        options.option("R,...", "Set the arrival rates (open loop), in requests/s. Default: the sweep's."),
    ] = None,
    isl: Annotated[
        int | None,
        options.option("TOKENS", "Set the input length. Default: the workload's, else 512.", min=1),
    ] = None,
    osl: Annotated[
        int | None,
        options.option("TOKENS", "Set the output length. Default: the workload's, else 128.", min=1),
    ] = None,
    images: Annotated[
        str | None,
        options.option("NxWxH", "Send N images of W x H pixels with each request, for example 1x512x512."),
    ] = None,
    api: Annotated[
        str | None,
        options.option(
            "API",
            "Use the completions API (prompts are token ids) or the chat API (text; the server applies its chat template). Default: the workload's.",
        ),
    ] = None,
    extra_body: Annotated[
        str | None,
        options.option("JSON", "Add these fields to each request's body, for example '{\"top_p\": 0.9}'."),
    ] = None,
    header: Annotated[
        list[str] | None,
        options.option(
            "'NAME: VALUE'",
            "Add this header to each request to --base-url; for a secret, name its variable: "
            "'X-Api-Key: $MY_KEY'. Repeatable.",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Accept any TLS certificate of --base-url; rows get a note."),
    ] = False,
    duration: Annotated[
        float | None,
        options.option(
            "SECONDS", "Set the minimum measurement time. Default: the sweep's, else 30.", min=0.1
        ),
    ] = None,
    max_duration: Annotated[
        float | None,
        options.option(
            "SECONDS", "Set the maximum measurement time. Default: the sweep's, else 1800.", min=0.1
        ),
    ] = None,
    max_requests: Annotated[
        int | None,
        options.option(
            "N", "Measure this many requests instead of a duration; rows get the code count_bound.", min=1
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        options.option("N", "Measure each cell this many times. Default: the sweep's, else 1.", min=1),
    ] = None,
    effect: options.Effect = None,
    cov: options.Cov = None,
    seed: Annotated[
        int | None,
        options.option("N", "Set the seed of prompts, order and arrivals. Default: the sweep's, else 0."),
    ] = None,
    tokenizer: Annotated[
        str | None, options.option("PATH", "Use this tokenizer.json, or the one in this folder.")
    ] = None,
    vocab_size: Annotated[
        int | None,
        options.option(
            "N",
            "Draw the token ids of prompts from a vocabulary of this size. Default: the profile's.",
            min=100,
            max=10_000_000,
        ),
    ] = None,
    api_key_env: Annotated[
        str | None, options.option("VARIABLE", "Read the server's API key from this environment variable.")
    ] = None,
    transport: Annotated[
        str | None,
        options.option(
            "NAME",
            "Read answers with wire (kernel timestamps), aiohttp (timestamps in user space), or auto (wire, if possible). Default: auto.",
        ),
    ] = None,
    client_cpus: Annotated[
        str | None,
        options.option(
            "LIST", "Run the load workers on these CPUs, for example 0-3,8. Default: chosen by bench."
        ),
    ] = None,
    keep_stamps: Annotated[
        bool, typer.Option("--keep-stamps", help="Store the timestamp of every token.")
    ] = False,
    resume: Annotated[
        Path | None, options.option("DIR", "Resume this run folder: measure missing and invalid rows.")
    ] = None,
    shard: Annotated[
        str | None, options.option("I/N", "Run part I of N of the plan, for example 2/4.")
    ] = None,
    reap: options.Reap = False,
    despite_doctor: Annotated[
        bool, typer.Option("--despite-doctor", help="Start a nightly on a node that fails its checks.")
    ] = False,
    executor: Annotated[
        str, options.option("NAME", "Run servers on this node (local) or on a Ray cluster (ray).")
    ] = "local",
    address: Annotated[
        str | None, options.option("HOST:PORT", "Connect to the head of this Ray cluster.")
    ] = None,
    resource: Annotated[
        str | None,
        options.option("NAME", "Request this Ray resource for each server, for example mi325x_node."),
    ] = None,
    load_hosts: Annotated[
        int | None,
        options.option("N", "Send the load from this many nodes of a Ray cluster.", min=1, max=1000),
    ] = None,
    aa_nodes: Annotated[
        bool,
        typer.Option(
            "--aa-nodes", help="A/A test: measure everything on every Ray node, to compare the nodes."
        ),
    ] = False,
) -> None:
    """Run a sweep: start each server, send it load, check each result, write the run folder."""
    from rocbench.commands import planning
    from rocbench.conduct.bind import ClientOptions
    from rocbench.conduct.run import RunOptions
    from rocbench.fleet.executor import FleetOptions

    on_ray = _on_ray(executor, address, resource, aa_nodes, load_hosts)
    levels = _levels(concurrency, rate)
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
        "effect": effect,
        "cov": cov,
        "api_key_env": api_key_env,
        **options.requests(api, extra_body, header, insecure=insecure),
    }
    overrides = options.overrides(vllm, hardware, tp, aiter, set_, only=only, force=force)
    client = ClientOptions(
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        cpus=_cpus(client_cpus),
        load_hosts=load_hosts,
        ray_address=address if load_hosts is not None else None,
    )
    if resume is not None:
        _check_resume([out, sweep, base_url, model, shard, *levels, *changes.values()], overrides)
        planned, client = planning.resumed(resume, client)
    else:
        planned = _planned(sweep, base_url, model, levels, changes, overrides)
    run_options = RunOptions(
        out=resume or out,
        resume=resume is not None,
        client=client,
        overrides=overrides,
        shard=shard,
        reap=reap,
        despite_doctor=despite_doctor,
    )
    fleet = FleetOptions(address, resource, aa_nodes) if on_ray else None
    _sweep(planned, run_options, fleet, dry_run=dry_run)


def _check_resume(conflicting: list[Any], overrides: Overrides) -> None:
    """Refuse options that would change the plan of a resumed run."""
    from rocbench.plan.planned import Overrides

    if any(value is not None for value in conflicting) or overrides != Overrides():
        raise InputError(
            "--resume takes the plan from the run folder",
            fix="with --resume, give only --reap, --client-cpus or --despite-doctor",
        )


def _planned(
    sweep: str | None,
    base_url: str | None,
    model: str | None,
    levels: Mapping[str, Any],
    changes: Mapping[str, Any],
    overrides: Overrides,
) -> Plan:
    from rocbench.commands import planning

    if base_url is None:
        if model is not None:
            raise InputError("--model needs --base-url", fix="name models in the sweep, or use --only")
        return planning.plan(sweep, overrides, {**levels, **changes})
    if sweep is not None:
        raise InputError(
            "a SWEEP and --base-url exclude each other", fix="put base_url under `server:` in the sweep"
        )
    return planning.adhoc(base_url, model, levels, changes, overrides)


def _sweep(planned: Plan, run_options: RunOptions, fleet: FleetOptions | None, *, dry_run: bool) -> None:
    """Run a plan here or on a Ray cluster, and show its results."""
    from rocbench import console
    from rocbench.commands import planning
    from rocbench.conduct.inputs import examined
    from rocbench.plan import shards
    from rocbench.plan.faults import raise_faults

    if run_options.shard is not None:
        planned = shards.shard(planned, *shards.parse(run_options.shard))
    if fleet is None and run_options.client.load_hosts is None:  # else other machines open the files
        _check_client(run_options.client)
        planned = examined(planned, run_options.client)
    if dry_run:
        console.show_plan(planned)
    raise_faults(planned)
    promises = () if run_options.resume else planning.promises(planned, _earlier(run_options.out))
    if dry_run:
        console.show_promises(promises)
        return
    run_options = replace(run_options, promises=promises)
    with console.screen() as screen:
        asked = planned.sweep.power.effect is not None
        power = [line for each in promises if each.change or asked for line in each.lines()]
        for note in (*planned.notes, *power):
            screen.note(note)
        outcome = _run(planned, run_options, fleet, screen)
    console.show_cells(outcome.cells, outcome.folder)
    console.show_held(outcome.held)
    console.show_capacity(outcome.cells, outcome.searches, planned.sweep.saturation_gain)
    if fleet is not None and fleet.aa_nodes:
        _show_between_nodes(outcome.cells)
    raise typer.Exit(int(outcome.exit_code))


def _earlier(out: Path | None) -> Path:
    """Folder of earlier runs: where this run is written."""
    from rocbench.conduct.run import RESULTS

    return out.parent if out is not None else RESULTS


def _on_ray(
    executor: str, address: str | None, resource: str | None, aa_nodes: bool, load_hosts: int | None
) -> bool:
    """Return True if the sweep runs on a Ray cluster."""
    if executor not in {"local", "ray"}:
        raise InputError(f"unknown executor {executor!r}", where="--executor", fix="give local or ray")
    if executor == "local" and (resource or aa_nodes or (address and load_hosts is None)):
        raise InputError("--address, --resource and --aa-nodes need --executor ray")
    if executor == "ray" and load_hosts is not None:
        raise InputError(
            "--load-hosts and --executor ray exclude each other",
            fix="for --load-hosts, run bench on the server's node without --executor ray; the load hosts are other nodes",
        )
    return executor == "ray"


def _run(plan: Plan, run_options: RunOptions, fleet: FleetOptions | None, screen: Screen) -> Outcome:
    from rocbench.conduct.run import run_plan
    from rocbench.fleet import cluster
    from rocbench.fleet.executor import run_on_ray

    if fleet is not None:
        return run_on_ray(plan, run_options, fleet, screen)
    if run_options.client.load_hosts is None:
        return run_plan(plan, run_options, screen)
    with cluster.joined(run_options.client.ray_address):
        return run_plan(plan, run_options, screen)


def _show_between_nodes(cells: pd.DataFrame) -> None:
    """Compare each node with the first, with the same verdicts as `bench compare`."""
    from rocbench.judgement import compare, render
    from rocbench.judgement.verdicts import Settings

    names = sorted(set(cells["node"].dropna().astype(str)))
    settings = Settings(allow=frozenset({"node"}))
    for other in names[1:]:
        a, b = compare.split(cells, "node", names[0], other)
        typer.echo(f"\nbetween nodes {names[0]} and {other}:")
        typer.echo(render.comparison(compare.compare(a, b, settings), names=(names[0], other)), nl=False)


def _levels(concurrency: str | None, rate: str | None) -> dict[str, Any]:
    if concurrency is not None and rate is not None:
        raise InputError(
            "--concurrency and --rate exclude each other", fix="give one: closed loop or open loop"
        )
    if concurrency is not None:
        return {"concurrency": options.positive(concurrency, "--concurrency", int, "1,64,1000")}
    if rate is not None:
        return {"rate": options.positive(rate, "--rate", float, "0.5,2,8")}
    return {}


def _cpus(text: str | None) -> tuple[int, ...] | None:
    """Parse `0-3,8` as CPU numbers."""
    from rocbench.load.cpus import cpu_list

    if text is None:
        return None
    try:
        cpus = cpu_list(text)
    except ValueError:
        cpus = []
    if not cpus or min(cpus) < 0:
        raise options.unreadable(text, "--client-cpus", "CPU numbers: 0-3,8")
    return tuple(cpus)


def _check_client(client: ClientOptions) -> None:
    """Refuse CPUs that this process may not use, before any server starts."""
    from rocbench.load import cpus

    usable = cpus.usable()
    if missing := sorted(set(client.cpus or ()) - usable):
        raise InputError(
            f"this process may not run on CPU {', '.join(map(str, missing))}",
            where="--client-cpus",
            fix=f"choose from the {len(usable)} CPUs that this process may use, numbered {min(usable)} to {max(usable)}",
        )
