"""Conversion of planned values to inputs of the launcher and the load."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rocbench import private
from rocbench.errors import ConfigError, InputError, NodeFault, ServerFault
from rocbench.load.cpus import for_client
from rocbench.load.machine import choose_workers
from rocbench.load.spec import (
    Closed,
    Dataset,
    Images,
    Lengths,
    LoadSpec,
    Open,
    RequestPlan,
    Shape,
    Target,
    Trace,
    WindowPlan,
)
from rocbench.plan.estimate import max_requests
from rocbench.plan.expand import Cell, Group, Run
from rocbench.records import NONE, LoadResult
from rocbench.redact import MASK, marked, masked, redacted, usable_key
from rocbench.server import attached
from rocbench.server.lock import choose_gpus
from rocbench.server.preflight import hub_cache
from rocbench.server.secretvalues import secret_values
from rocbench.server.spec import RunningServer, ServerSpec, ready_timeout_s
from rocbench.server.visible import hiding, visible_gpus
from rocbench.settings import headers, schema
from rocbench.settings.schema import Server, Sweep

SIMULATOR = (sys.executable, "-m", "rocbench.sim", "serve")


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Client options of the command line, in addition to the sweep."""

    tokenizer: str | None = None
    vocab_size: int | None = None
    cpus: tuple[int, ...] | None = None
    load_hosts: int | None = None
    """Ray nodes that send the load; None for this machine."""
    ray_address: str | None = None


def server_spec(group: Group, sweep: Sweep, folder: Path, port: int | None = None) -> ServerSpec:
    """The server of a group, with its files in `folder`."""
    server = sweep.server
    profile = group.profile
    argv, env = settings_of(group)
    model, served = group.resolution.model if group.resolution else group.model, _served_name(group)
    command: tuple[str, ...] = ()
    if server.kind == "simulated":
        context = folder / "simulation.json"
        folder.mkdir(parents=True, exist_ok=True)
        private.write(context, json.dumps(simulation_context(group, sweep, folder.name), indent=2))
        env["ROCBENCH_SIM"] = str(context)
        command = (*SIMULATOR, *argv)
    elif starts_vllm(server):
        served = _local(model) if served == model else served
        model = _local(model)
        command = (*(server.command or ("vllm",)), "serve", model, *argv[1:])
    return ServerSpec(
        kind=server.kind,
        model=model,
        folder=folder,
        command=command,
        env=env,
        served_name=served,
        port=port,
        base_url=server.base_url,
        api_key=api_key(server),
        headers=headers.resolved(server.headers, os.environ),
        insecure=server.insecure,
        ready_timeout_s=server.ready_timeout_s or ready_timeout_s(profile.total_params if profile else None),
        gpus=_gpus(group, server, env),
        weight_bytes=profile.checkpoint.bytes if profile else None,
        image=group.image(sweep),
        runtime=server.runtime,
        dev_mode=server.dev_mode,
        gated=bool(profile and profile.gated and starts_vllm(server)),
    )


def starts_vllm(server: Server) -> bool:
    """True if bench starts vLLM on this node, as a process or in a container."""
    return server.kind in {"process", "container"}


def settings_of(group: Group) -> tuple[tuple[str, ...], dict[str, str]]:
    """Arguments after `vllm serve`, and environment variables, of a group's server; empty if it already runs.

    Raises:
        InputError: a value is masked in the resumed run folder, and this shell does not set it.
    """
    if group.resolution is None:
        return (), {}
    env = {name: _unmasked_value(name, value) for name, value in group.resolution.environment().items()}
    return _unmasked_argv(group.resolution.argv()), env


def reach_attached(group: Group, sweep: Sweep) -> None:
    """Check before the run that its server is reachable, because otherwise every cell would fail.

    Raises:
        ServerFault: the server is not reachable; secrets in the message are masked.
        InputError: its key or a variable of its headers is missing, or it expects another one.
    """
    spec = server_spec(group, sweep, Path())
    try:
        attached.reach(spec)
    except (ServerFault, InputError) as error:
        raise type(error)(redacted(error.what, server_secrets(sweep.server)), fix=error.fix) from None


def server_secrets(
    server: Server, *environments: Mapping[str, str], known: Iterable[str] = ()
) -> tuple[str, ...]:
    """Values that must not reach a file or the screen: of variables with secret names, the key and headers.

    Args:
        known: public text; none of its words is treated as a secret.
    """
    also = [api_key(server), *headers.secrets(server.headers, os.environ)]
    return secret_values(dict(os.environ), *environments, also=also, known=known)


def _gpus(group: Group, server: Server, env: Mapping[str, str]) -> tuple[int, ...]:
    """Indices of this node's GPUs for the server, among the visible ones; empty on a CPU.

    Raises:
        NodeFault: too few GPUs are visible or free.
    """
    if not starts_vllm(server) or group.resolution is None or group.hardware is None:
        return ()
    if group.hardware.gpu is None:
        return server.gpus or ()
    total, facts = group.hardware.gpus, group.resolution.facts
    environ = {**os.environ, **env}
    visible = visible_gpus(environ, total)
    needed = min(facts.gpus_needed // facts.nodes, total)
    if len(visible) < needed or not set(server.gpus or ()) <= set(visible):
        what = f"GPUs {', '.join(map(str, server.gpus))}" if server.gpus else f"{needed} GPUs"
        raise NodeFault(
            f"the plan needs {what}, {len(visible)} of {total} are visible ({hiding(environ)})",
            fix="unset the variable, or request GPUs that it lists",
        )
    return server.gpus or choose_gpus(needed, visible)


def _local(model: str) -> str:
    """Absolute path of a model's folder, which is the same in a container; else the model's id."""
    path = Path(model).expanduser()
    return str(path.absolute()) if model.startswith(("~", "./", "../")) or path.exists() else model


def _served_name(group: Group) -> str:
    """`--served-model-name` if set, else the argument after `serve`; for an attached server the given name."""
    if group.resolution is None:
        return group.model
    for entry in group.resolution.args:
        if entry.name == "--served-model-name":
            return str(entry.value)
    return group.resolution.model


def api_key(server: Server) -> str | None:
    """The API key, from the variable that the settings name.

    Raises:
        InputError: the variable is not set.
    """
    if server.api_key_env is None:
        return None
    key = os.environ.get(server.api_key_env, "").strip()
    if not key:
        raise InputError(
            f"${server.api_key_env} is not set", where="api_key_env", fix="export this variable with the key"
        )
    return usable_key(key, where=f"${server.api_key_env}")


def _unmasked_value(name: str, value: str) -> str:
    """A variable's value; if it is masked in the resumed run folder, the shell's value.

    Raises:
        InputError: the shell does not set it, or sets another value than the run started with.
    """
    if MASK not in value:
        return value
    if name not in os.environ:
        raise InputError(
            f"the value of {name} is not stored in a run folder",
            where=f"${name}",
            fix=f"export {name} to resume",
        )
    if value.startswith(f"{MASK}sha256:") and marked(name, os.environ[name]) != value:
        raise InputError(
            f"{name} differs from its value at the start of the run",
            where=f"${name}",
            fix="export the value that it had at the start, or start a new run",
        )
    return os.environ[name]


def _unmasked_argv(argv: tuple[str, ...]) -> tuple[str, ...]:
    """A server's arguments, unchanged.

    Raises:
        InputError: an argument is masked in the resumed run folder.
    """
    for before, word in zip(("", *argv), argv, strict=False):
        if MASK in word:
            raise InputError(
                "the value contains a secret, which a run folder does not store: this run cannot be resumed",
                where=before if before.startswith("-") else word.partition("=")[0],
                fix="start a new run",
            )
    return argv


def profile_json(profile: schema.ModelProfile) -> dict[str, Any]:
    """A profile as stored on disk: secret values of its variables are masked."""
    dumped = profile.model_dump(mode="json")
    return dumped | {"serve": masked(dumped["serve"])}


def simulation_context(group: Group, sweep: Sweep, start: str = "") -> dict[str, object]:
    """Input of the simulated server in addition to its argv; it reads it from the file in $ROCBENCH_SIM.

    Args:
        start: name of this start within the run; each start has its own noise.

    Raises:
        ConfigError: the vLLM version is unknown.
    """
    if group.vllm is None:
        raise ConfigError("the vLLM version is unknown", where=group.server_id, fix="give --vllm 0.33.0")
    return {
        "profile": profile_json(group.profile) if group.profile else None,
        "hardware": group.hardware.model_dump(mode="json") if group.hardware else None,
        "vllm": group.vllm,
        "simulation": sweep.simulation.model_dump(mode="json", exclude={"faults"}),
        "seed": zlib.crc32(f"{sweep.seed}/{start}".encode()),
        "faults": sweep.simulation.faults.get(group.model, {}),
    }


def load_spec(
    group: Group, sweep: Sweep, run: Run, running: RunningServer, run_id: str, client: ClientOptions
) -> LoadSpec:
    """The load of one cell on a running server."""
    target = Target(
        base_url=running.base_url,
        model=running.served_name,
        api_key=running.spec.api_key,
        headers=running.spec.headers,
        insecure=running.spec.insecure,
    )
    spec = load_on(with_tokens(target, group, sweep, run.cell.workload, client), sweep, run, run_id, client)
    if spec.cpus is not None:
        return spec
    server_pids = [process.pid for process in running.processes()]
    return replace(spec, cpus=for_client(choose_workers(spec), server_pids))


def with_tokens(
    target: Target, group: Group, sweep: Sweep, workload: schema.Workload, client: ClientOptions
) -> Target:
    """A target with its tokenizer and vocabulary size: the client's options, else the model's own."""
    return replace(
        target,
        vocab_size=client.vocab_size or _vocabulary(group),
        tokenizer=client.tokenizer or _own_tokenizer(group, sweep, workload),
    )


def _own_tokenizer(group: Group, sweep: Sweep, workload: schema.Workload) -> str | None:
    """Folder of the model's tokenizer, if prompts are text and a real server has it on this machine.

    Without it the number of text tokens is an estimate, and that of image tokens, the rest, has the same error.
    """
    text = workload.images is not None or workload.dataset is not None or workload.api == "chat"
    if not text or not starts_vllm(sweep.server) or group.resolution is None:
        return None
    model = group.resolution.model
    cached = hub_cache(os.environ) / f"models--{model.replace('/', '--')}" / "snapshots"
    folders = (Path(model).expanduser(), *sorted(cached.glob("*")))
    return next((str(folder) for folder in folders if (folder / "tokenizer.json").is_file()), None)


def load_on(target: Target, sweep: Sweep, run: Run, run_id: str, client: ClientOptions) -> LoadSpec:
    """The load of one cell on a target."""
    cell, load = run.cell, run.cell.load
    return LoadSpec(
        target=target,
        requests=request_plan(cell.workload),
        shape=_shape(cell),
        window=WindowPlan(
            duration_s=load.duration_s,
            max_duration_s=load.max_duration_s,
            min_requests_per_user=load.min_requests_per_user,
            max_requests=max_requests(cell.load, cell.level.concurrency),
            ramp_s=load.ramp_s,
            wave=load.wave,
            max_tail_s=load.max_tail_s,
            max_tail_requests=load.max_tail_requests,
            max_drain_s=load.max_drain_s,
        ),
        seed=sweep.seed,
        run_id=run_id,
        cell_id=cell.cell_id,
        # A discarded repeat must not fill the prefix cache for the repeat that counts.
        repeat=-run.repeat if run.discarded else run.repeat,
        transport=load.transport,
        cpus=client.cpus,
        keep_stamps=load.keep_stamps,
        request_timeout_s=load.request_timeout_s,
    )


def _vocabulary(group: Group) -> int | None:
    """Vocabulary size from the profile, else from the model's config; None if unknown."""
    if group.profile is None:
        return None
    config = group.profile.config
    text = config.get("text_config")
    size = group.profile.vocab_size or (text if isinstance(text, Mapping) else config).get("vocab_size")
    return size if isinstance(size, int) and size > 0 else None


def request_plan(workload: schema.Workload) -> RequestPlan:
    """A workload as input of the load generator."""
    images, dataset = workload.images, workload.dataset
    return RequestPlan(
        isl=_lengths(workload.isl),
        osl=_lengths(workload.osl),
        images=Images(images.count, images.width, images.height, images.format) if images else None,
        dataset=Dataset(dataset.path, dataset.shape, dataset.multi_turn, dataset.skip_bad)
        if dataset
        else None,
        api=workload.api,
        shared_prefix_ratio=workload.shared_prefix_ratio,
        prompt_pool=workload.prompt_pool,
        ignore_eos=workload.ignore_eos,
        temperature=workload.temperature,
        extra_body=workload.extra_body,
    )


def _lengths(length: schema.Length) -> Lengths:
    return Lengths(length.mean, length.kind, length.low, length.high, length.sigma)


def _shape(cell: Cell) -> Shape:
    match cell.load.shape:
        case schema.OpenLoop() as shape:
            return Open(cell.level.rate or 0.0, shape.arrival, shape.burstiness, shape.max_in_flight)
        case schema.TraceReplay() as shape:
            return Trace(shape.path, shape.speed, shape.unit, shape.skip_bad)
        case _:
            return Closed(cell.level.concurrency or 1)


def expected_hits(workload: schema.Workload, result: LoadResult) -> float:
    """Prompt tokens that the server can find in its prefix cache; 0 unless the workload shares a prefix."""
    if workload.dataset is not None and workload.dataset.multi_turn:
        return float("inf")
    prompts = result.requests["prompt_tokens"]
    return float(workload.shared_prefix_ratio * prompts[prompts != NONE].sum())
