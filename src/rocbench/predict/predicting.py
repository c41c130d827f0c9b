"""The conductor of predictions: run a plan's cells in virtual time, without HTTP, into rows of a run folder.

The scheduler, the lengths, the windows, the metrics and the verdict are those of a run on the simulated
server; only the clock is missing. A row depends on the calibration, which it names.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rocbench.conduct import bind, rows, run
from rocbench.conduct.bind import ClientOptions
from rocbench.conduct.measure import Measured
from rocbench.conduct.remaining import key_of_run
from rocbench.errors import BenchError, ConfigError, InputError
from rocbench.load.spec import LoadSpec, Target
from rocbench.plan.expand import Group, Launch, Overrides, Plan, Run, Sources, expand
from rocbench.predict import intervals
from rocbench.predict.points import Point, point
from rocbench.probe import environment
from rocbench.rules.load import shipped
from rocbench.settings.schema import Server, Sweep
from rocbench.sim import calibration, predict
from rocbench.sim.argv import UsageError, parse
from rocbench.sim.calibration import Calibration, When
from rocbench.sim.node import Context, Node, resolve
from rocbench.sim.predict import Client, Prediction
from rocbench.sim.refusals import Refusal
from rocbench.store.folder import RunFolder
from rocbench.tables.parts import Identity
from rocbench.tables.row import Key, Row

KIND = "predicted"
RUN_ID = "predicted"
"""Replaces the run id in random draws, so that a prediction is the same each time."""
WORLD = Client()
TARGET = Target(base_url="http://127.0.0.1", model=KIND)

Columns = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Predicted:
    """One cell and repeat, judged; `measured` is None where the server would not start."""

    launch: Launch
    run: Run
    row: Row
    measured: Measured | None


def plan(sweep: Sweep, sources: Sources, overrides: Overrides | None = None, name: str | None = None) -> Plan:
    """Return the sweep's plan on the simulated server, with the calibration `name` instead of the sweep's."""
    simulation = sweep.simulation
    if name is not None:
        simulation = simulation.model_copy(update={"calibration": name, "efficiency": None})
    server = Server(kind="simulated")
    return expand(sweep.model_copy(update={"server": server, "simulation": simulation}), sources, overrides)


def predictions(plan_: Plan, client: Client = WORLD, known: Collection[Key] = ()) -> Iterator[Predicted]:
    """Yield every run of a plan in order, except `known` ones. A server that refuses to start gives failed rows.

    Raises:
        InputError: a load that needs real prompts or a clock.
        ConfigError: there is no such calibration.
    """
    cal = calibration.read_calibration(plan_.sweep.simulation.calibration)
    for number, launch in enumerate(plan_.launches):
        runs = [run_ for run_ in launch.runs if key_of_run(run_) not in known]
        seed = _seed(plan_.sweep.seed, launch.group.server_id, number)
        try:
            node = node_of(launch.group, plan_.sweep, cal, seed)
        except BenchError as error:
            for run_ in runs:
                columns = rows.failed_columns(plan_, launch, run_, launch.group.server_id, error)
                yield Predicted(launch, run_, Row(columns | _marks(launch, run_)), None)
            continue
        for run_ in runs:
            yield _one(plan_, launch, run_, node, cal, client)


def _one(plan_: Plan, launch: Launch, run_: Run, node: Node, cal: Calibration, client: Client) -> Predicted:
    spec = load_of(plan_.sweep, run_)
    seed = _seed(plan_.sweep.seed, run_.cell.cell_id, run_.repeat)
    prediction = predict.drive(spec, node, client=client, seed=seed)
    measured = Measured(
        result=prediction.load,
        columns=_columns(node, prediction),
        prefix_caching=node.engine.prefix_caching,
        expected_hits=bind.expected_hits(run_.cell.workload, prediction.load),
        server=(),
        gpus=(),
    )
    columns = rows.judged(plan_, launch, run_, measured, _marks(launch, run_))
    columns["started_at"] = None  # virtual time has no date
    in_flight = columns.get("achieved_concurrency")
    if in_flight is not None:
        at = point(node, prediction, in_flight)
        columns |= _intervals(plan_.sweep, cal, when(launch.group), at, columns)
    return Predicted(launch, run_, Row(columns), measured)


def _intervals(sweep: Sweep, cal: Calibration, facts: When, at: Point, columns: Columns) -> Columns:
    """Return the columns of the prediction intervals; none if the sweep changes the speed that was calibrated."""
    simulation = sweep.simulation
    if simulation.efficiency is not None or simulation.speed != 1 or simulation.slowdown != 1:
        return {"predicted_intervals_from": "no interval: the sweep sets the speed of steps itself"}
    return intervals.columns(cal, facts, at, columns)


def when(group: Group) -> When:
    """Return the facts by which a calibration's fit applies to this server."""
    facts = group.resolution.facts if group.resolution else None
    if facts is None:
        return When(model=group.model)
    return When(model=group.model, aiter=facts.aiter, backend=facts.backend, gpu=facts.gpu)


def load_of(sweep: Sweep, run_: Run) -> LoadSpec:
    """Return the load of one cell, as a client would drive it."""
    return replace(bind.load_on(TARGET, sweep, run_, RUN_ID, ClientOptions()), probe=False)


def node_of(group: Group, sweep: Sweep, cal: Calibration, seed: int = 0) -> Node:
    """Return the simulated server of a group, resolved from the argv that a real server would get.

    Raises:
        ConfigError: vLLM of that version would refuse these flags.
    """
    if group.resolution is None:
        raise ConfigError("bench cannot predict a running server", where=group.server_id)
    context = Context.model_validate(bind.simulation_context(group, sweep) | {"seed": seed})
    table = shipped()
    try:
        argv = parse(group.resolution.argv(), context.vllm, table.names)
        return resolve(argv, context, group.resolution.environment(), table, cal)
    except (Refusal, UsageError) as error:
        raise ConfigError(str(error), where=group.server_id) from None


def _marks(launch: Launch, run_: Run) -> Columns:
    return {
        "run_id": RUN_ID,
        "cell_id": run_.cell.cell_id,
        "repeat": run_.repeat,
        "server_kind": KIND,
        "simulated": True,
        "predicted": True,
        "server_id": launch.group.server_id,
    }


def _columns(node: Node, prediction: Prediction) -> Columns:
    """Return the columns of the server's own view and of the proof after start."""
    server = prediction.server
    return {
        "plan_differences": "",
        "kv_capacity_tokens": node.kv_tokens,
        "attention_backend": node.backend,
        "model_runner": node.runner,
        "block_size": node.engine.block_size,
        "kv_cache_dtype": node.kv_cache_dtype,
        "weights_gib_per_rank": node.weights_gib,
        "server_running_max": prediction.running_peak,
        "server_waiting_max": prediction.waiting_peak,
        "server_waiting_median": prediction.waiting_median,
        "server_kv_usage_max": prediction.kv_peak,
        "server_output_tokens": server.generation_tokens,
        "server_prompt_tokens": server.prompt_tokens,
        "prefix_cache_hits": server.prefix_hits if node.engine.prefix_caching else None,
        "prefix_cache_queries": server.prefix_queries if node.engine.prefix_caching else None,
        "external_prefix_cache_hits": server.external_hits if node.engine.offload_blocks else None,
        "preemptions": server.preemptions,
        "server_restarted": False,
        "health_failures": 0,
    }


def _seed(*parts: object) -> int:
    """Return a seed that follows from its purpose."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "little")


def write(plan_: Plan, out: Path | None, overrides: Overrides | None = None) -> RunFolder:
    """Predict a plan into a run folder with the tables of a measured run.

    Raises:
        InputError: the folder already holds a run.
    """
    if out is not None and RunFolder.is_run(out):
        raise InputError("this folder already contains a run", where=str(out), fix="choose another --out")
    run_id = run.new_run_id(plan_.sweep.name)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    folder = RunFolder.create(out or run.RESULTS / run_id)
    cal = calibration.read_calibration(plan_.sweep.simulation.calibration)
    folder.write_json("plan.json", rows.plan_json(plan_, overrides or Overrides(), None))
    manifest: Mapping[str, Any] = rows.manifest(plan_, run_id, now, environment.collect())
    marks = {KIND: True, "calibration": cal.model_dump(mode="json")}
    folder.write_json("manifest.json", dict(manifest) | marks)
    folder.log(now, "begin", run_id=run_id)
    return resume(plan_, folder)


def resume(plan_: Plan, folder: RunFolder) -> RunFolder:
    """Predict the missing runs of an unfinished folder."""
    run_id = folder.manifest["run_id"]
    for predicted in predictions(plan_, known={row.key for row in folder.rows}):
        run_ = predicted.run
        identity = Identity(run_id, run_.cell.cell_id, run_.repeat, run_.discarded)
        parts = predicted.measured.parts(identity) if predicted.measured else {}
        folder.write_cell(identity, predicted.row, parts, tables=False)
    folder.finish()
    return folder
