"""The conductor: for each server, for each cell: launch, load, probe, judge, store. One fault never ends a sweep."""

from __future__ import annotations

import datetime
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pandas as pd

from rocbench import bind, measure, rows, stats
from rocbench.bind import ClientOptions
from rocbench.errors import BenchError, EnvironmentFault, Exit, Interrupted, NodeFault
from rocbench.plan import Launch, Overrides, Plan, Run
from rocbench.probe import doctor, environment
from rocbench.report.live import Screen
from rocbench.server import RunningServer, orphans, start
from rocbench.server.lock import node_lock
from rocbench.server.redact import secret_values
from rocbench.server.spec import GRACE_S
from rocbench.store import Identity, RunFolder

RESULTS = Path("results")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says beside the plan."""

    out: Path | None = None
    """The run folder: new, or with `resume` the one to go on with."""
    resume: bool = False
    client: ClientOptions = field(default_factory=ClientOptions)
    overrides: Overrides = field(default_factory=Overrides)
    """What the command line set above the YAML; kept, so that a resumed run has the same cells."""
    shard: str | None = None
    reap: bool = False
    """End servers that an earlier bench left behind."""
    despite_doctor: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    folder: Path
    cells: pd.DataFrame
    exit_code: Exit


class Stopper:
    """Ctrl-C or SIGTERM once: drain and stop. Twice: stop at once.

    While a load drains by itself (inside `draining`) the first signal only sets the event; anywhere else it
    raises, so that a start or a wait ends too.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._draining = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.event.is_set()
        self.event.set()
        if again or not self._draining:
            raise Interrupted("interrupted; what was measured is on disk")

    @contextmanager
    def draining(self) -> Iterator[threading.Event]:
        """A stretch in which the load sees the event and ends by itself."""
        self._draining = True
        try:
            yield self.event
        finally:
            self._draining = False

    def check(self) -> None:
        """Raise if a stop was asked for."""
        if self.event.is_set():
            raise Interrupted("interrupted; what was measured is on disk")


def new_run_id(sweep: str) -> str:
    """`20260301-221530-quick-1f3a`."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return f"{now}-{sweep}-{secrets.token_hex(2)}"


def run_plan(plan: Plan, options: RunOptions, screen: Screen) -> Outcome:
    """Run every launch of a plan and write the run folder.

    Raises:
        InputError: the folder holds another run.
        Interrupted: after everything measured was written and every server was stopped.
    """
    with ExitStack() as stack:
        if plan.sweep.server.kind in ("process", "container"):
            stack.enter_context(node_lock(f"bench sweep {plan.sweep.name}"))
        _look_for_orphans(plan, options, screen)
        folder, run_id = _folder(plan, options)
        _doctor(plan, options, screen, folder)
        conductor = _Conductor(plan, options, screen, folder, run_id, redo=_to_redo(folder, options))
        screen.begin(plan, str(folder.path))
        try:
            with Stopper() as stopper:
                for launch in plan.launches:
                    stopper.check()
                    conductor.launch(launch, stopper)
        finally:
            folder.finish()
            folder.log(_now(), "end")
    cells = folder.cells()
    return Outcome(folder.path, cells, exit_code(folder.rows))


def _look_for_orphans(plan: Plan, options: RunOptions, screen: Screen) -> None:
    """Find servers that an earlier bench left behind; end them if asked, else say so and refuse a shared node.

    Raises:
        NodeFault: one lives, and this run starts real servers.
    """
    for orphan in orphans.find():
        if options.reap:
            screen.note(f"ending a server that an earlier bench left behind: {orphan.text()}")
            orphans.reap(orphan, grace_s=GRACE_S)
        elif plan.sweep.server.kind in ("process", "container"):
            raise NodeFault(
                f"an earlier bench left a server behind: {orphan.text()}", fix="end it with --reap"
            )
        else:
            screen.note(f"an earlier bench left a server behind: {orphan.text()}; end it with --reap")


def _folder(plan: Plan, options: RunOptions) -> tuple[RunFolder, str]:
    """The run folder, new or resumed, with its manifest and plan."""
    if options.resume and options.out is not None:
        folder = RunFolder.open(options.out)
        folder.secrets = _secrets(plan)
        folder.log(_now(), "resume")
        return folder, str(folder.read_json("manifest.json")["run_id"])
    run_id = new_run_id(plan.sweep.name)
    folder = RunFolder.create(options.out or RESULTS / run_id)
    folder.secrets = _secrets(plan)
    folder.write_json("plan.json", rows.plan_json(plan, options.overrides, options.shard))
    folder.write_json("manifest.json", rows.manifest(plan, run_id, _now(), environment.collect()))
    folder.log(_now(), "begin", run_id=run_id)
    return folder, run_id


def _secrets(plan: Plan) -> tuple[str, ...]:
    """Values that must never reach a file: secret-named variables, here and in the servers' environments, and the key."""
    given = [group.resolution.environment() for group in plan.groups if group.resolution]
    return secret_values(dict(os.environ), *given, also=[bind.api_key(plan.sweep.server)])


def _doctor(plan: Plan, options: RunOptions, screen: Screen, folder: RunFolder) -> None:
    """Check the node before real servers are started on its GPUs, and keep the outcome in the manifest.

    Raises:
        NodeFault: a `must` check failed before a nightly.
    """
    hardware = plan.groups[0].hardware if plan.groups else None
    if plan.sweep.server.kind not in ("process", "container") or hardware is None or hardware.gpu is None:
        return
    checks = doctor.examine(gpus=hardware.gpus)
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


def _to_redo(folder: RunFolder, options: RunOptions) -> set[Key]:
    """Rows of a resumed run that are invalid: they are measured once more."""
    if not options.resume:
        return set()
    return {_key(row) for row in folder.rows if row.get("valid") is False}


Key = tuple[str, int, bool]


def _key(row: Mapping[str, Any]) -> Key:
    return str(row["cell_id"]), int(row["repeat"]), bool(row.get("discarded"))


def exit_code(all_rows: list[dict[str, Any]]) -> Exit:
    """0 when no row is invalid, 1 when one is or nothing was measured, 4 when no server could be had at all."""
    judged = [row for row in all_rows if not row.get("discarded")]
    if judged and all(str(row.get("reasons")).startswith("server_failed") for row in judged):
        return Exit.ENVIRONMENT
    if not judged or any(row.get("valid") is False for row in judged):
        return Exit.DONE_WITH_FAULTS
    return Exit.DONE


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


@dataclass(slots=True)
class _Conductor:
    plan: Plan
    options: RunOptions
    screen: Screen
    folder: RunFolder
    run_id: str
    redo: set[Key] = field(default_factory=set)
    index: int = 0

    def launch(self, launch: Launch, stopper: Stopper) -> None:
        """One server's life with its runs. A server that fails costs its own cells only."""
        todo = [run for run in launch.runs if self._missing(run)]
        if not todo:
            return
        folder = self.folder.server_folder(launch.group.server_id)
        try:
            spec = bind.server_spec(launch.group, self.plan.sweep, folder)
            with ExitStack() as stack:
                tell = lambda text, share: self.screen.server(launch, text, share)  # noqa: E731
                running = stack.enter_context(start(spec, tell))
                self.folder.log(_now(), "server_ready", server=folder.name, seconds=running.ready_s)
                session = stack.enter_context(
                    measure.session(launch.group, running, self.plan.sweep, self.folder)
                )
                for note in session.notes:
                    self.screen.note(note)
                for run in todo:
                    stopper.check()
                    if self._missing(run):
                        self._run(launch, run, running, session, stopper)
        except Interrupted:
            raise
        except BenchError as error:
            if isinstance(error, EnvironmentFault) and not self.folder.writable():
                raise
            self.screen.note(error.text())
            self.folder.log(_now(), "server_failed", server=folder.name, message=error.text())
            for run in todo:
                if self._missing(run):
                    self._store_failed(launch, run, folder.name, error)

    def _missing(self, run: Run) -> bool:
        """Whether a run still has to be made: not on disk, and its cell's interval not narrow enough yet."""
        done = [row for row in self.folder.rows if row["cell_id"] == run.cell.cell_id]
        mine = (run.cell.cell_id, run.repeat, run.discarded)
        if any(_key(row) == mine for row in done):
            return mine in self.redo
        wanted = self.plan.sweep.until
        if wanted is not None and not run.discarded:
            values = [
                float(row[wanted.metric])
                for row in done
                if row.get("valid") is not False
                and not row.get("discarded")
                and row.get(wanted.metric) is not None
            ]
            return not stats.narrow_enough(values, wanted.interval_half_width)
        return True

    def _run(
        self, launch: Launch, run: Run, running: RunningServer, session: measure.Session, stopper: Stopper
    ) -> None:
        self.index += 1
        self.screen.cell(run, self.index, self.plan.runs)
        identity = Identity(self.run_id, run.cell.cell_id, run.repeat, run.discarded)
        with stopper.draining() as stop:
            measured = measure.cell(session, run, self.run_id, self.options.client, self.screen, stop)
        if stop.is_set():
            # A cut-off cell's figures are not used; its cell stays missing, to be resumed.
            self.folder.log(_now(), "cell_cut_off", cell=run.cell.key, repeat=run.repeat)
            stopper.check()
        row = rows.row(self.plan, launch, run, running, measured)
        self.folder.write_cell(identity, row, measured.parts(identity, self.folder.secrets))
        self.redo.discard((run.cell.cell_id, run.repeat, run.discarded))
        self.folder.log(
            _now(), "cell", cell=run.cell.key, repeat=run.repeat, valid=row["valid"], reasons=row["reasons"]
        )
        self.screen.row(row)

    def _store_failed(self, launch: Launch, run: Run, server: str, error: BenchError) -> None:
        self.index += 1
        row = rows.failed_row(self.plan, launch, run, server, error)
        identity = Identity(self.run_id, run.cell.cell_id, run.repeat, run.discarded)
        self.folder.write_cell(identity, row, {})
        self.redo.discard((run.cell.cell_id, run.repeat, run.discarded))
        self.screen.row(row)
