"""The conductor: for each server, for each cell: launch, load, probe, judge, store. One fault never ends a sweep."""

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
from rocbench.judgement import repeats
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
"""Codes that stand first in the row of a cell that no server would take, or that could not be loaded."""

Conduct = Callable[[Conductor, SignalGuard], None]
"""Makes every measurement that a run still lacks."""


@dataclass(frozen=True, slots=True)
class PlanPart:
    """What this run is a part of: a run whose servers are dealt out over nodes."""

    run_id: str
    node: str
    scratch: Path
    """Where this node keeps what it measures of that run."""
    rows: tuple[Row, ...] = ()
    """Measured elsewhere already; not made again."""
    servers: tuple[str, ...] = ()
    """Names of server folders that are taken."""
    late: frozenset[Key] = frozenset()
    """Measured there before, and invalid: made again after everything else."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says beside the plan."""

    out: Path | None = None
    """The run folder: new, or with `resume` the one to continue."""
    resume: bool = False
    client: ClientOptions = field(default_factory=ClientOptions)
    overrides: Overrides = field(default_factory=Overrides)
    """What the command line set above the YAML; kept, so that a resumed run has the same cells."""
    shard: str | None = None
    reap: bool = False
    """End servers that an earlier bench left behind."""
    despite_doctor: bool = False
    stands: frozenset[Key] = frozenset()
    """Invalid rows that a resumed run leaves as they are."""
    part: PlanPart | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    folder: Path
    cells: pd.DataFrame
    searches: list[dict[str, Any]]
    exit_code: Exit


def new_run_id(sweep: str) -> str:
    """`20260301-221530-quick-1f3a`."""
    at = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return f"{at}-{sweep}-{secrets.token_hex(2)}"


def one_by_one(conductor: Conductor, guard: SignalGuard) -> None:
    """Every launch on this node, in the plan's order: first what is missing, then what was invalid.

    A server that has both is started twice, but for the last that lacks something.
    """
    launches = conductor.plan.launches
    lacking = [one for one in launches if conductor.todo(one, with_late=False) or one.searches]
    for launch in lacking[:-1] if conductor.late else ():
        guard.check()
        conductor.launch(launch, guard, with_late=False)
    for launch in (*lacking[-1:], *launches) if conductor.late else launches:
        guard.check()
        conductor.launch(launch, guard)


def run_plan(plan: Plan, options: RunOptions, screen: Screen, elsewhere: Conduct | None = None) -> Outcome:
    """Run every launch of a plan and write the run folder.

    Args:
        plan: what to run.
        options: what the command line says beside it.
        screen: told as it goes.
        elsewhere: makes the measurements on other nodes; this one is then neither locked nor examined.

    Raises:
        InputError: the folder holds another run.
        ServerFault: the server that is to run already cannot be reached: nothing is written then.
        NodeFault: another bench writes it, holds the node, or left a server on it.
        Interrupted: after everything measured was written and every server was stopped.
    """
    _refuse_many_hosts(plan)
    with ExitStack() as stack:
        if plan.sweep.server.kind == "attached" and plan.groups and elsewhere is None:
            bind.reach_attached(plan.sweep.server)
        if _ours(plan) and elsewhere is None:
            stack.enter_context(node_lock())
        if elsewhere is None:
            _look_for_orphans(plan, options, screen)
        folder = _folder(plan, options, stack, screen)
        stack.enter_context(_resumable(folder))
        conductor = _conductor(plan, options, screen, folder)
        if elsewhere is None:
            _ask_for_what_is_not_kept(conductor)
        if elsewhere is None:
            _doctor(plan, options, screen, folder)
        screen.begin(plan, str(folder.path))
        try:
            with SignalGuard() as guard:
                (elsewhere or one_by_one)(conductor, guard)
        finally:
            _finish(folder, conductor)
    _say_wide(conductor, screen)
    if not plan.launches:
        screen.note(f"nothing of this plan falls to shard {folder.plan['shard']}")
        return Outcome(folder.path, folder.cells(), [], Exit.DONE)
    return Outcome(
        folder.path, folder.cells(), conductor.searches(), exit_code(folder.rows, conductor.answered())
    )


@contextmanager
def _resumable(folder: RunFolder) -> Iterator[None]:
    """What ends a run that nobody foresaw tells how to go on."""
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        error.add_note(f"what was measured is on disk; resume with: bench sweep --resume {folder.path}")
        raise


def _ask_for_what_is_not_kept(conductor: Conductor) -> None:
    """Refuse before anything is measured what no server of this run could be started with.

    Raises:
        InputError: a run folder keeps no secret, and this shell lacks the one that is needed.
    """
    for launch in conductor.plan.launches:
        if conductor.goal.todo(launch, conductor.folder.rows, conductor.redo):
            bind.settings_of(launch.group)


def _ours(plan: Plan) -> bool:
    """Whether the servers are real ones that this run starts on this node."""
    return plan.sweep.server.kind in {"process", "container"}


def _refuse_many_hosts(plan: Plan) -> None:
    """A server over several nodes is started here only where vLLM's Ray executor takes care of the other hosts.

    Raises:
        InputError: one needs a command on each host.
    """
    for group in plan.groups if _ours(plan) else ():
        found = group.resolution
        if found is not None and found.facts.nodes > 1 and not multinode.by_ray(found):
            raise InputError(
                f"{group.model} runs over {found.facts.nodes} nodes, each with a command of its own",
                fix="start what `bench plan` prints on each host and measure with --base-url, "
                "or serve with --set distributed-executor-backend=ray",
            )


def _look_for_orphans(plan: Plan, options: RunOptions, screen: Screen) -> None:
    """Find servers that an earlier bench left behind; end them if asked, else say so and refuse a shared node.

    Simulated servers of the run that is resumed are ended without being asked: nobody else can use them.

    Raises:
        NodeFault: one lives, and this run starts real servers.
    """
    resumed = options.part.scratch if options.part else options.out if options.resume else None
    mine = resumed.resolve() if resumed and not _ours(plan) else None
    for orphan in orphans.find():
        reap = options.reap or (mine is not None and mine in Path(orphan.folder).parents)
        if reap or _ours(plan) or orphan.doubt:
            orphans.end_or_refuse(orphan, reap_it=reap, tell=screen.note)
        else:
            screen.note(f"an earlier bench left a server behind: {orphan.text()}; end it with --reap")


def _folder(plan: Plan, options: RunOptions, stack: ExitStack, screen: Screen) -> RunFolder:
    """The run folder, new or resumed, held until the stack ends, with its plan and manifest.

    The manifest comes last: a folder that has one can be resumed.
    """
    if options.resume and options.out is not None:
        folder = RunFolder.open(options.out, to_go_on=True)
        folder.secrets = _secrets(plan)
        stack.enter_context(folder.held())
        _say_lost(folder, screen)
        resumed = [*folder.manifest.get("resumed", ()), {"at": now(), "node": environment.collect()}]
        folder.write_json("manifest.json", folder.manifest | {"resumed": resumed})
        folder.log(now(), "resume")
        return folder
    run_id = options.part.run_id if options.part else new_run_id(plan.sweep.name)
    folder = RunFolder.create(options.out or RESULTS / run_id)
    folder.secrets = _secrets(plan)
    stack.enter_context(folder.held())
    written = rows.plan_json(plan, options.overrides, options.shard) | {"client": asdict(options.client)}
    folder.write_json("plan.json", written)
    ceiling = calibrate.load()
    written = rows.manifest(plan, run_id, now(), environment.collect()) | {
        "plan_sha256": folder.sha256("plan.json"),
        "client_ceiling": asdict(ceiling) if ceiling else None,
    }
    folder.write_json("manifest.json", written)
    folder.log(now(), "begin", run_id=run_id)
    if options.part is not None:
        folder.take_over(options.part.rows, options.part.servers)
    return folder


def _say_lost(folder: RunFolder, screen: Screen) -> None:
    """Name the rows whose requests are gone: their figures stand, and cannot be checked any more.

    Raises:
        InputError: a part is damaged.
    """
    lost = [f"{row.get('key')} repeat {row['repeat']}" for row in folder.check_parts()]
    if lost:
        screen.note(
            f"parts/requests/ lacks the requests of {some(lost)}: the rows stand without "
            "them; one whose file in parts/cells/ is deleted too is measured again"
        )


def _conductor(plan: Plan, options: RunOptions, screen: Screen, folder: RunFolder) -> Conductor:
    """Ready to go on where the folder's rows end. An invalid row of a resumed run is measured again."""
    manifest = folder.manifest
    here = (manifest.get("resumed") or [manifest])[-1]["node"]
    node = None if plan.sweep.server.kind == "attached" else here.get("node")
    node = options.part.node if options.part else node
    conductor = Conductor(plan, options.client, screen, folder, manifest["run_id"], node, set())
    if options.resume:
        answered = conductor.answered()
        conductor.redo |= {
            key for key in remaining.invalid(folder.rows) - options.stands if key[0] not in answered
        }
    conductor.late = options.part.late if options.part else frozenset(conductor.redo)
    return conductor


def _finish(folder: RunFolder, conductor: Conductor) -> None:
    """Write what goes over all cells."""
    folder.finish()
    cells = folder.cells()
    if not cells.empty:
        folder.write_csv("summary.csv", repeats.summary(cells))
    if conductor.plan.sweep.search is not None:
        folder.write_json("search.json", conductor.searches())
    folder.log(now(), "end")


def _say_wide(conductor: Conductor, screen: Screen) -> None:
    """Name the cells whose interval is still too wide after the most repeats."""
    until = conductor.plan.sweep.until
    cells = [cell for group in conductor.plan.groups for cell in group.cells] if until else []
    wide = [cell.key for cell in cells if not conductor.goal.narrow(cell.cell_id, conductor.folder.rows)]
    if until and wide:
        screen.note(
            f"{until.metric} is not within +-{until.interval_half_width:.1%} after {until.max} repeats: "
            + ", ".join(wide)
        )


def _secrets(plan: Plan) -> tuple[str, ...]:
    """Values that must never reach a file: secret-named variables, here and in the servers' environments, the key, headers."""
    given = [group.resolution.environment() for group in plan.groups if group.resolution]
    found = bind.server_secrets(plan.sweep.server, *given, known=rows.called(plan))
    for group in plan.groups:
        for axis, value in group.axes.items():
            if redacted_data(value, found) != redacted_data(value):
                raise InputError(
                    "an axis takes the value of a secret variable, and its values stand in every key",
                    where=axis,
                    fix="take another axis; give a server its secret by a variable in `env`",
                )
    return found


def _doctor(plan: Plan, options: RunOptions, screen: Screen, folder: RunFolder) -> None:
    """Check the node before real servers are started on its GPUs, and keep the outcome in the manifest.

    Raises:
        NodeFault: a `must` check failed before a nightly.
    """
    hardware = plan.groups[0].hardware if plan.groups else None
    if plan.sweep.server.kind not in ("process", "container") or hardware is None or hardware.gpu is None:
        return
    checks = doctor.examine(gpus=hardware.gpus, environs=_environs(plan))
    manifest = folder.read_json("manifest.json")
    folder.write_json("manifest.json", manifest | {"doctor": doctor.as_json(checks)})
    failed = doctor.failed_musts(checks)
    for check in failed:
        screen.note(f"doctor: {check.id}: {check.found}")
    if failed and plan.sweep.nightly and not options.despite_doctor:
        names = ", ".join(check.id for check in failed)
        raise NodeFault(
            f"the node fails its checks: {names}", fix="bench doctor says what to do; or --despite-doctor"
        )


def _environs(plan: Plan) -> list[dict[str, str]]:
    """What each of the plan's servers is started with. A container inherits nothing that a check of the node reads."""
    inherited = dict(os.environ) if plan.sweep.server.kind == "process" else {}
    return [
        inherited | (group.resolution.environment() if group.resolution else {})
        for group in plan.groups
        if group.hardware is not None and group.hardware.gpu is not None
    ]


def exit_code(all_rows: Iterable[Row], answered: Collection[str] = ()) -> Exit:
    """0 when no row is invalid, 1 when one is or nothing was measured, 4 when no server took any cell at all.

    Args:
        all_rows: rows of the run.
        answered: cells of a search whose invalid row says that the server cannot take the load: no fault.
    """
    judged = [row for row in all_rows if not row.discarded]
    if judged and all(NOT_SERVED.intersection(row.codes[:1]) for row in judged):
        return Exit.ENVIRONMENT
    faults = [row for row in judged if row.valid is False and row["cell_id"] not in answered]
    return Exit.DONE_WITH_FAULTS if faults or not judged else Exit.DONE
