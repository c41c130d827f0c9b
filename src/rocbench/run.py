"""The conductor: for each server, for each cell: launch, load, probe, judge, store. One fault never ends a sweep."""

from __future__ import annotations

import datetime
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd

from rocbench import bind, measure, rows, stats
from rocbench.bind import ClientOptions
from rocbench.errors import BenchError, EnvironmentFault, Exit, Interrupted
from rocbench.plan import Launch, Plan, Run
from rocbench.probe import environment
from rocbench.report.live import Screen
from rocbench.server import RunningServer, start
from rocbench.settings.schema import Repeats
from rocbench.store import Identity, RunFolder

RESULTS = Path("results")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says beside the plan."""

    out: Path | None = None
    resume: bool = False
    client: ClientOptions = field(default_factory=ClientOptions)


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

    def __enter__(self) -> Stopper:
        for number in (signal.SIGINT, signal.SIGTERM):
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
    folder, run_id = _folder(plan, options)
    conductor = _Conductor(plan, options, screen, folder, run_id)
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


def _folder(plan: Plan, options: RunOptions) -> tuple[RunFolder, str]:
    """The run folder, new or resumed, with its manifest and plan."""
    if options.resume and options.out is not None:
        folder = RunFolder.open(options.out)
        folder.log(_now(), "resume")
        return folder, str(folder.read_json("manifest.json")["run_id"])
    run_id = new_run_id(plan.sweep.name)
    folder = RunFolder.create(options.out or RESULTS / run_id)
    folder.write_json("plan.json", rows.plan_json(plan))
    folder.write_json("manifest.json", rows.manifest(plan, run_id, _now(), environment.collect()))
    folder.log(_now(), "begin", run_id=run_id)
    return folder, run_id


def exit_code(all_rows: list[dict[str, Any]]) -> Exit:
    """0 when every row is valid or unknown, 1 when one is invalid, failed, or nothing was measured."""
    judged = [row for row in all_rows if not row.get("discarded")]
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
                session = stack.enter_context(measure.session(launch.group, running, self.plan.sweep, folder))
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
        if any(row["repeat"] == run.repeat and bool(row.get("discarded")) == run.discarded for row in done):
            return False
        wanted = self.plan.sweep.repeats
        if isinstance(wanted, Repeats) and not run.discarded:
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
        self.folder.write_cell(identity, row, measured.parts(identity))
        self.folder.log(
            _now(), "cell", cell=run.cell.key, repeat=run.repeat, valid=row["valid"], reasons=row["reasons"]
        )
        self.screen.row(row)

    def _store_failed(self, launch: Launch, run: Run, server: str, error: BenchError) -> None:
        self.index += 1
        row = rows.failed_row(self.plan, launch, run, server, error)
        identity = Identity(self.run_id, run.cell.cell_id, run.repeat, run.discarded)
        self.folder.write_cell(identity, row, {})
        self.screen.row(row)
