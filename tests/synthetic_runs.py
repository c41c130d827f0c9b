"""Run folders made up by a formula: test data for whatever reads runs. Nothing in them was measured, anywhere.

The plan, its rules and its physics are the real ones; only what a server and a load would have given is made up:
closed-loop users who send one request after the other, at about half the roofline bound, with noise from a seed.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from rocbench.commands import planning
from rocbench.conduct import rows
from rocbench.conduct.measure import Measured
from rocbench.plan import expand as planner
from rocbench.plan.faults import raise_faults
from rocbench.plan.planned import Launch, Overrides, Plan, Run
from rocbench.records import (
    NONE,
    REQUEST_DTYPE,
    GpuSample,
    Histogram,
    LoadResult,
    Phase,
    ServerSample,
    Window,
    WorkerStats,
)
from rocbench.server.spec import RunningServer, ServerSpec
from rocbench.settings.schema import Sweep
from rocbench.store import folder as run_folder
from rocbench.store.folder import RunFolder
from rocbench.tables.parts import Identity, parts_of

START_NS = 1_767_225_600 * 10**9
"""2026-01-01: every stamp of the first cell is near it."""
NODE = {"node": "made-up", "python": "3.11.0", "host": {"cpu": "made-up CPU", "cpus": 128, "os": "none"}}

FOUR_MODELS: dict[str, Any] = {
    "name": "made-up",
    "vllm": "0.14.1",
    "models": [
        "deepseek-v3.2",
        {"profile": "kimi-k2.5", "vllm": "0.16.0"},
        "llama-3.1-405b",
        "qwen3-vl-235b",
    ],
    "workloads": ["text-2048-512"],
    "concurrency": [1, 16, 64, 256],
    "repeats": 3,
    "slo": {"ttft_ms": 2000, "tpot_ms": 60},
}


@dataclass(frozen=True)
class World:
    """What the made-up servers do."""

    seed: int = 0
    efficiency: float = 0.5
    """Share of the roofline bound that throughput reaches."""
    noise: float = 0.01
    requests_per_user: int = 6
    knee: float = 64.0
    """Users from which on throughput falls behind its bound."""
    invalid: frozenset[str] = frozenset()
    """Keys of cells in which other requests' tokens were found in the prefix cache."""
    failing: frozenset[str] = frozenset()
    """Models whose server does not start."""
    faster: Mapping[str, float] | None = None
    """Factor on throughput for servers whose id contains the text."""
    day: int = 0
    """Days after the first run."""
    simulated: bool = True


def plan_of(sweep: Mapping[str, Any]) -> Plan:
    """The real plan of a sweep given as a mapping."""
    model = Sweep.model_validate(sweep)
    overrides = Overrides()
    return planner.expand(model, planning.sources(model, overrides), overrides)


def write_run(path: Path, sweep: Mapping[str, Any] | None = None, world: World | None = None) -> RunFolder:
    """A complete run folder of a sweep, FOUR_MODELS by default."""
    write_tables = RunFolder._write_cells
    with (
        patch.object(run_folder, "REBUILD_BYTES", 0),
        patch.object(RunFolder, "_write_cells"),
    ):  # once, at the end
        folder = _write_run(path, sweep or FOUR_MODELS, world or World())
    write_tables(folder)
    return folder


def _write_run(path: Path, sweep: Mapping[str, Any], world: World) -> RunFolder:
    plan = plan_of(sweep)
    raise_faults(plan)
    folder = RunFolder.create(path)
    run_id = path.name
    at = START_NS + world.day * 86_400 * 10**9
    begun = datetime.datetime.fromtimestamp(at / 1e9, datetime.UTC).isoformat(timespec="milliseconds")
    folder.write_json("plan.json", rows.plan_json(plan, Overrides(), None))
    folder.write_json(
        "manifest.json", rows.manifest(plan, run_id, begun, NODE) | {"simulated": world.simulated}
    )
    for index, launch in enumerate(plan.launches):
        server = folder.server_folder(launch.group.server_id)
        running = _running(launch, server, world)
        for number, run in enumerate(launch.runs):
            identity = Identity(run_id, run.cell.cell_id, run.repeat, run.discarded)
            if launch.group.model in world.failing:
                from rocbench.errors import ServerFault

                error = ServerFault("the server did not start", where=str(server), code="out_of_memory")
                folder.write_cell(identity, rows.failed_columns(plan, launch, run, server.name, error), {})
                continue
            rng = np.random.default_rng([world.seed, index, number, world.day])
            measured = synthetic(launch, run, world, rng, at)
            row = rows.columns(plan, launch, run, running, measured)
            row["simulated"] = world.simulated
            folder.write_cell(
                identity, row, parts_of(identity, measured.result, measured.server, measured.gpus)
            )
            at = measured.result.window.end_ns + 20 * 10**9
    folder.finish()
    return folder


def _running(launch: Launch, folder: Path, world: World) -> RunningServer:
    kind = "simulated" if world.simulated else "process"
    spec = ServerSpec(kind=kind, model=launch.group.model, folder=folder)
    return RunningServer(spec, "http://127.0.0.1:1", launch.group.model, None, None, launch.group.vllm, 1.0)


def synthetic(launch: Launch, run: Run, world: World, rng: np.random.Generator, at: int) -> Measured:
    """What one cell would have given, from its roofline bound."""
    cell = run.cell
    users = cell.level.concurrency or 1
    osl, isl = cell.workload.osl.mean, cell.workload.isl.mean
    bound = cell.estimate.roofline_output_throughput or 1000.0
    factor = next((f for name, f in (world.faster or {}).items() if name in launch.group.server_id), 1.0)
    rate = bound * world.efficiency * factor / (1 + users / world.knee) ** 0.35
    rate *= float(rng.normal(1.0, world.noise))
    latency_s = users * osl / rate
    result = load_result(users, isl, osl, latency_s, world, rng, at)
    prompt = int(np.maximum(result.requests["prompt_tokens"], 0).sum())
    output = int(np.maximum(result.requests["output_tokens"], 0).sum())
    capacity = cell.estimate.kv_capacity_tokens or 1e6
    server = server_samples(result.window, users, users * (isl + osl) / capacity, rng)
    gpus = gpu_samples(result.window, users, launch.group.hardware.gpus if launch.group.hardware else 0, rng)
    columns: dict[str, Any] = {
        "server_running_max": users,
        "server_waiting_max": 0,
        "server_waiting_median": 0,
        "server_kv_usage_max": users * (isl + osl) / capacity,
        "server_output_tokens": output,
        "server_prompt_tokens": prompt,
        "prefix_cache_hits": prompt // 2 if cell.key in world.invalid else 0,
        "prefix_cache_queries": prompt,
        "preemptions": 0,
        "jit_lines": 0,
        "compile_lines": 0,
        "error_lines": 0,
        "health_failures": 0,
        "server_restarted": False,
        "counters_fell": "",
        "metrics_lost": False,
        "plan_differences": "",
        "kv_capacity_tokens": cell.estimate.kv_capacity_tokens,
        "simulated": world.simulated,
        "simulator_late_share": 0.0 if world.simulated else None,
        "mean_power_w": 8 * 620.0 if gpus else None,
        "peak_power_w": 8 * 700.0 if gpus else None,
        "energy_j": 8 * 620.0 * result.window.seconds if gpus else None,
        "joules_per_output_token": 8 * 620.0 * result.window.seconds / result.output_tokens_in_window,
        "energy_source": "integral" if gpus else None,
        "throttled": False,
    }
    return Measured(result, columns, prefix_caching=True, expected_hits=0.0, server=server, gpus=gpus)


def load_result(
    users: int, isl: int, osl: int, latency_s: float, world: World, rng: np.random.Generator, at: int
) -> LoadResult:
    """Users who send one request after the other, each of about `latency_s`; the window begins after one."""
    each = world.requests_per_user + 4
    lasting = latency_s * rng.lognormal(-0.00125, 0.05, (users, each))
    ttft = np.minimum(lasting * 0.2 * rng.lognormal(0, 0.3, (users, each)), lasting * 0.9)
    begin = np.cumsum(lasting, axis=1) - lasting - (rng.random((users, 1)) * latency_s)
    sent = at + (begin * 1e9).astype(np.int64)
    window = Window(
        at + int(latency_s * 1e9), at + int((world.requests_per_user + 1.2) * latency_s * 1e9), "requests"
    )
    requests = np.full(users * each, NONE).astype(REQUEST_DTYPE)
    requests["user"] = np.repeat(np.arange(users), each)
    requests["worker"] = requests["user"] % 2
    requests["turn"] = 0
    requests["sent_ns"] = requests["intended_ns"] = sent.ravel()
    requests["first_token_ns"] = requests["first_chunk_ns"] = (sent + (ttft * 1e9).astype(np.int64)).ravel()
    requests["last_token_ns"] = requests["end_ns"] = (sent + (lasting * 1e9).astype(np.int64)).ravel()
    requests["isl_asked"] = requests["prompt_tokens"] = isl
    requests["osl_asked"] = requests["output_tokens"] = requests["chunks"] = osl
    requests["images"] = requests["zero_gaps"] = requests["coalesced"] = requests["cached_tokens"] = 0
    requests["http_status"] = 200
    requests = np.sort(requests, order="sent_ns")
    requests["request_id"] = np.arange(len(requests))
    inside = (requests["sent_ns"] >= window.start_ns) & (requests["sent_ns"] < window.end_ns)
    requests["phase"] = np.where(
        inside, Phase.MEASURED, np.where(requests["sent_ns"] < window.start_ns, Phase.WARMUP, Phase.TAIL)
    )
    share = np.clip(requests["last_token_ns"], window.start_ns, window.end_ns) - np.clip(
        requests["first_token_ns"], window.start_ns, window.end_ns
    )
    spans = requests["last_token_ns"] - requests["first_token_ns"]
    tokens = int((osl * share / np.maximum(spans, 1)).sum())
    seconds = max(1, int(window.seconds))
    per_second = (tokens / window.seconds * rng.normal(1, 0.01, seconds)).astype(np.int64)
    gaps = (latency_s * 0.8 / osl * 1e9 * rng.lognormal(0, 0.25, 4000)).astype(np.int64)
    itl, icl = Histogram(), Histogram()
    itl.add(gaps, np.full(len(gaps), max(1, int(inside.sum()) * osl // len(gaps))))
    icl.add(gaps)
    workers = tuple(
        WorkerStats(n, "made-up", 0.2 * window.seconds, window.seconds, 3.0, users, 0, 0, tokens // 2, 0.0)
        for n in range(2)
    )
    return LoadResult(
        requests,
        {},
        window,
        itl,
        icl,
        tokens,
        int(inside.sum()) * isl,
        0,
        per_second,
        users,
        "wire",
        workers,
        0,
        65536,
    )


def server_samples(
    window: Window, users: int, kv: float, rng: np.random.Generator
) -> tuple[ServerSample, ...]:
    """Readings a second apart, at least 20 of them."""
    step = min(10**9, (window.end_ns - window.start_ns) // 20)
    return tuple(
        ServerSample(
            int(at),
            {
                "num_requests_running": float(users),
                "num_requests_waiting": 0.0,
                "kv_cache_usage_perc": kv * float(rng.uniform(0.85, 1.0)),
            },
        )
        for at in range(window.start_ns - 2 * step, window.end_ns + 2 * step, step)
    )


def gpu_samples(window: Window, users: int, gpus: int, rng: np.random.Generator) -> tuple[GpuSample, ...]:
    """Readings of each GPU, as the server's."""
    step = min(10**9, (window.end_ns - window.start_ns) // 20)
    watts = 450 + 250 * min(1.0, users / 200)
    return tuple(
        GpuSample(int(at), gpu, power_w=watts * float(rng.normal(1, 0.03)), throttled=False)
        for at in range(window.start_ns - 2 * step, window.end_ns + 2 * step, step)
        for gpu in range(gpus)
    )
