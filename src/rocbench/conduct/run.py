"""A run: launch each server, and load, probe, judge and store each of its cells. A failed server does not end it."""

from __future__ import annotations

import datetime
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rocbench.conduct import bind, remaining, rows
from rocbench.conduct.bind import ClientOptions
from rocbench.conduct.conductor import Conductor, now
from rocbench.conduct.interrupts import SignalGuard
from rocbench.errors import BenchError, Exit, InputError, NodeFault
from rocbench.judgement import promise, repeats
from rocbench.load import calibrate
from rocbench.plan.expand import Overrides, Plan
from rocbench.probe import doctor, environment
from rocbench.redact import redacted_data
from rocbench.report.live import Screen
from rocbench.rules import multinode
from rocbench.server import orphans
from rocbench.server.lock import node_lock
from rocbench.store.folder import RunFolder
from rocbench.tables.row import Key, Row
from rocbench.units import some

RESULTS = Path("results")
NOT_SERVED = frozenset({"server_failed", "request_refused", "load_failed"})
"""First reason codes of a cell that no server accepted, or that could not be loaded."""

Conduct = Callable[[Conductor, SignalGuard], None]
"""Function that makes all missing measurements of a run."""


@dataclass(frozen=True, slots=True)
class PlanPart:
    """This run as a part of a larger run whose servers are distributed over nodes."""

    run_id: str
    node: str
    scratch: Path
    """Folder in which this node stores its measurements of the larger run."""
    rows: tuple[Row, ...] = ()
    """Rows already measured elsewhere, which are not measured again."""
    servers: tuple[str, ...] = ()
    """Names of server folders that are in use."""
    late: frozenset[Key] = frozenset()
    """Keys of invalid rows measured elsewhere; they are measured again after everything else."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of the command line in addition to the plan."""

    out: Path | None = None
    """The run folder: new, or with `resume` the folder to resume."""
    resume: bool = False
    client: ClientOptions = field(default_factory=ClientOptions)
    overrides: Overrides = field(default_factory=Overrides)
    """Command-line settings that override the YAML; stored, so that a resumed run has the same cells."""
    shard: str | None = None
    reap: bool = False
    """Stop servers that an earlier bench left running."""
    despite_doctor: bool = False
    accepted: frozenset[Key] = frozenset()
    """Keys of invalid rows that a resumed run does not measure again."""
    part: PlanPart | None = None
    promises: tuple[promise.Promise, ...] = ()
    """The changes that the plan's repeats can tell, for plan.json."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run."""

    folder: Path
    cells: pd.DataFrame
    searches: list[dict[str, Any]]
    exit_code: Exit
    held: tuple[str, ...] = ()
    """What came of the promises, one sentence each."""


def new_run_id(sweep: str) -> str:
    """A new run id: `20260301-221530-quick-1f3a`."""
    at = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return f"{at}-{sweep}-{secrets.token_hex(2)}"


def one_by_one(conductor: Conductor, guard: SignalGuard) -> None:
    """Make every launch on this node, in the plan's order: first missing rows, then invalid ones.

    A server with both is started twice, except the last one with missing rows.
    """
    launches = conductor.plan.launches
    incomplete = [launch for launch in launches if conductor.todo(launch, with_late=False) or launch.searches]
    for launch in incomplete[:-1] if conductor.late else ():
        guard.check()
        conductor.launch(launch, guard, with_late=False)
    for launch in (*incomplete[-1:], *launches) if conductor.late else launches:
        guard.check()
        conductor.launch(launch, guard)


def run_plan(plan: Plan, options: RunOptions, screen: Screen, elsewhere: Conduct | None = None) -> Outcome:
    """Run every launch of a plan and write the run folder.

    Args:
        plan: the plan to run.
        options: options of the command line.
        screen: receives the progress.
        elsewhere: makes the measurements on other nodes; this node is then neither locked nor checked.

    Raises:
        InputError: the folder holds another run.
        ServerFault: a server that should already run is not reachable; nothing was written.
        NodeFault: another bench writes the folder, holds the node, or left a server on it.
        Interrupted: all measured cells were written, and every server was stopped.
    """
    _refuse_many_hosts(plan)
    with ExitStack() as stack:
        if elsewhere is None:
            if plan.sweep.server.kind == "attached" and plan.groups:
                bind.reach_attached(plan.groups[0], plan.sweep)
            if bind.starts_vllm(plan.sweep.server):
                stack.enter_context(node_lock())
            _look_for_orphans(plan, options, screen)
        folder = _folder(plan, options, stack, screen)
        stack.enter_context(_resumable(folder))
        conductor = _conductor(plan, options, screen, folder)
        if elsewhere is None:
            _require_secrets(conductor)
            _doctor(plan, options, screen, folder)
        screen.begin(plan, str(folder.path))
        try:
            with SignalGuard() as guard:
                (elsewhere or one_by_one)(conductor, guard)
        finally:
            _finish(folder, conductor)
    _report_goal(conductor, screen)
    if not plan.launches:
        screen.note(f"shard {folder.plan['shard']} contains no cell of this plan")
        return Outcome(folder.path, folder.cells(), [], Exit.DONE)
    return Outcome(
        folder.path,
        folder.cells(),
        conductor.searches(),
        exit_code(folder.rows, conductor.answered()),
        tuple(promise.held((folder.read_json("plan.json") or {}).get("promises") or (), folder.rows)),
    )


@contextmanager
def _resumable(folder: RunFolder) -> Iterator[None]:
    """Add a note with the command that resumes the run to an unexpected exception."""
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        error.add_note(f"all measured cells are on disk; resume with: bench sweep --resume {folder.path}")
        raise


def _require_secrets(conductor: Conductor) -> None:
    """Check before the first measurement that the shell has every secret that a server needs to start.

    Raises:
        InputError: a secret is missing; a run folder does not store secrets.
    """
    for launch in conductor.plan.launches:
        if conductor.goal.todo(launch, conductor.folder.rows, conductor.redo):
            bind.settings_of(launch.group)


def _refuse_many_hosts(plan: Plan) -> None:
    """Refuse a server over several nodes, unless vLLM's Ray executor starts it on the other hosts.

    Raises:
        InputError: a server needs a command on each host.
    """
    for group in plan.groups if bind.starts_vllm(plan.sweep.server) else ():
        resolution = group.resolution
        if resolution is not None and resolution.facts.nodes > 1 and not multinode.by_ray(resolution):
            raise InputError(
                f"{group.model} needs {resolution.facts.nodes} nodes, but bench cannot start a separate command on each node",
                fix="start the commands that `bench plan` prints, each on its host, and measure with --base-url; "
                "or serve through Ray with --set distributed-executor-backend=ray",
            )


def _look_for_orphans(plan: Plan, options: RunOptions, screen: Screen) -> None:
    """Find servers that an earlier bench left behind; stop them if requested, else report them or refuse.

    Simulated servers of the resumed run are stopped without `--reap`: nothing else can use them.

    Raises:
        NodeFault: such a server runs, and this run starts real servers.
    """
    resumed = options.part.scratch if options.part else options.out if options.resume else None
    own_folder = resumed.resolve() if resumed and not bind.starts_vllm(plan.sweep.server) else None
    for orphan in orphans.find():
        reap = options.reap or (own_folder is not None and own_folder in Path(orphan.record.folder).parents)
        if reap or bind.starts_vllm(plan.sweep.server) or orphan.doubt:
            orphans.end_or_refuse(orphan, reap_it=reap, tell=screen.note)
        else:
            screen.note(f"an earlier bench left a server behind: {orphan.text()}; stop it with --reap")


def _folder(plan: Plan, options: RunOptions, stack: ExitStack, screen: Screen) -> RunFolder:
    """The run folder, new or resumed, held until the stack ends, with its plan and manifest.

    The manifest is written last: a folder with a manifest can be resumed.
    """
    if options.resume and options.out is not None:
        folder = RunFolder.open(options.out, resume=True)
        folder.secrets = _secrets(plan)
        stack.enter_context(folder.locked())
        _report_missing_requests(folder, screen)
        resumed = [*folder.manifest.get("resumed", ()), {"at": now(), "node": environment.collect()}]
        folder.write_json("manifest.json", folder.manifest | {"resumed": resumed})
        folder.log(now(), "resume")
        return folder
    run_id = options.part.run_id if options.part else new_run_id(plan.sweep.name)
    folder = RunFolder.create(options.out or RESULTS / run_id)
    folder.secrets = _secrets(plan)
    stack.enter_context(folder.locked())
    plan_json = rows.plan_json(plan, options.overrides, options.shard) | {"client": asdict(options.client)}
    if options.promises:
        plan_json["promises"] = [asdict(each) for each in options.promises]
    folder.write_json("plan.json", plan_json)
    ceiling = calibrate.load()
    manifest = rows.manifest(plan, run_id, now(), environment.collect()) | {
        "plan_sha256": folder.sha256("plan.json"),
        "client_ceiling": asdict(ceiling) if ceiling else None,
    }
    folder.write_json("manifest.json", manifest)
    folder.log(now(), "begin", run_id=run_id)
    if options.part is not None:
        folder.take_over(options.part.rows, options.part.servers)
    return folder


def _report_missing_requests(folder: RunFolder, screen: Screen) -> None:
    """List the rows whose requests are missing: their figures remain, but can no longer be checked.

    Raises:
        InputError: a part is damaged.
    """
    missing = [f"{row.get('key')} repeat {row['repeat']}" for row in folder.check_parts()]
    if missing:
        screen.note(
            f"the requests of {some(missing)} are missing in parts/requests/: the rows are kept without requests; "
            "to measure a row again, delete its file in parts/cells/"
        )


def _conductor(plan: Plan, options: RunOptions, screen: Screen, folder: RunFolder) -> Conductor:
    """A conductor that continues after the folder's rows. A resumed run measures invalid rows again."""
    manifest = folder.manifest
    description = (manifest.get("resumed") or [manifest])[-1]["node"]
    node = None if plan.sweep.server.kind == "attached" else description.get("node")
    node = options.part.node if options.part else node
    conductor = Conductor(plan, options.client, screen, folder, manifest["run_id"], node, set())
    if options.resume:
        answered = conductor.answered()
        conductor.redo |= {
            key for key in remaining.invalid(folder.rows) - options.accepted if key[0] not in answered
        }
    conductor.late = options.part.late if options.part else frozenset(conductor.redo)
    return conductor


def _finish(folder: RunFolder, conductor: Conductor) -> None:
    """Write the files that cover all cells."""
    folder.finish()
    cells = folder.cells()
    if not cells.empty:
        folder.write_csv("summary.csv", repeats.summary(cells))
    if conductor.plan.sweep.search is not None:
        folder.write_json("search.json", conductor.searches())
    folder.log(now(), "end")


def _report_goal(conductor: Conductor, screen: Screen) -> None:
    """List the cells that did not reach the goal of `until`."""
    until = conductor.plan.sweep.until
    if until is None:
        return
    reached = conductor.goal.reached([row for row in conductor.folder.rows if not row.discarded])
    cells = [cell for group in conductor.plan.groups for cell in group.cells]
    missed = ", ".join(cell.key for cell in cells if cell.cell_id not in reached)
    if missed and until.told is not None:
        screen.note(
            f"not every effect of at least {until.told:.1%} is told after {until.max} repeats: {missed}"
        )
    elif missed:
        screen.note(
            f"the 95 % interval of {until.metric} is still wider than +-{until.interval_half_width:.1%} after "
            f"{until.max} repeats: {missed}"
        )


def _secrets(plan: Plan) -> tuple[str, ...]:
    """Values that must not reach a file: of variables with secret names, here and of servers, key and headers.

    Raises:
        InputError: an axis has a secret value.
    """
    environments = [group.resolution.environment() for group in plan.groups if group.resolution]
    secrets_ = bind.server_secrets(plan.sweep.server, *environments, known=rows.public_names(plan))
    for group in plan.groups:
        for axis, value in group.axes.items():
            if redacted_data(value, secrets_) != redacted_data(value):
                raise InputError(
                    "this axis sets a secret, but the keys of cells show the values of all axes",
                    where=axis,
                    fix="remove this axis; pass a secret to the server with a variable in `env`",
                )
    return secrets_


def _doctor(plan: Plan, options: RunOptions, screen: Screen, folder: RunFolder) -> None:
    """Check the node before real servers start on its GPUs, and store the results in the manifest.

    Raises:
        NodeFault: a `must` check failed before a nightly run.
    """
    hardware = plan.groups[0].hardware if plan.groups else None
    if not bind.starts_vllm(plan.sweep.server) or hardware is None or hardware.gpu is None:
        return
    checks = doctor.examine(left_servers=orphans.check(), gpus=hardware.gpus, environs=_environs(plan))
    manifest = folder.read_json("manifest.json")
    folder.write_json("manifest.json", manifest | {"doctor": doctor.as_json(checks)})
    failed = doctor.failed_musts(checks)
    for check in failed:
        screen.note(f"doctor: {check.id}: {check.found}")
    if failed and plan.sweep.nightly and not options.despite_doctor:
        names = ", ".join(check.id for check in failed)
        raise NodeFault(
            f"the node fails its checks: {names}",
            fix="fix what `bench doctor` reports, or run with --despite-doctor",
        )


def _environs(plan: Plan) -> list[dict[str, str]]:
    """Environment of each server of the plan. A container inherits no variable that a check reads."""
    inherited = dict(os.environ) if plan.sweep.server.kind == "process" else {}
    return [
        inherited | (group.resolution.environment() if group.resolution else {})
        for group in plan.groups
        if group.hardware is not None and group.hardware.gpu is not None
    ]


def exit_code(all_rows: Iterable[Row], answered: Collection[str] = ()) -> Exit:
    """0 if no row is invalid, 1 if a row is or nothing was measured, 4 if no server accepted a cell.

    Args:
        all_rows: rows of the run.
        answered: cells of a search; there an overloaded server is an answer, not a fault.
    """
    counted = [row for row in all_rows if not row.discarded]
    if counted and all(NOT_SERVED.intersection(row.codes[:1]) for row in counted):
        return Exit.ENVIRONMENT
    faults = [row for row in counted if row.valid is False and row["cell_id"] not in answered]
    return Exit.DONE_WITH_FAULTS if faults or not counted else Exit.DONE
