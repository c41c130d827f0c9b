"""Execution of a launch: start the server, measure its missing runs and searches, and store each cell."""

from __future__ import annotations

import datetime
import errno
import re
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from rocbench.conduct import bind, measure, rows
from rocbench.conduct.bind import ClientOptions
from rocbench.conduct.interrupts import SignalGuard
from rocbench.conduct.remaining import Goal, key_of_run
from rocbench.errors import (
    BenchError,
    DiskFault,
    EnvironmentFault,
    Interrupted,
    RequestRefused,
    ServerFault,
    ServerUnreachable,
)
from rocbench.judgement import capacity, search
from rocbench.judgement.slo import Step
from rocbench.plan import expand, identity
from rocbench.plan.expand import Cell, Launch, Plan, Run
from rocbench.probe import causes
from rocbench.redact import redacted
from rocbench.report.live import Screen
from rocbench.server import RunningServer, start
from rocbench.server.failures import server_fault
from rocbench.settings.schema import Workload
from rocbench.store import writing
from rocbench.store.folder import RunFolder
from rocbench.tables import metrics
from rocbench.tables.parts import Identity
from rocbench.tables.row import Key, Row
from rocbench.verdict.codes import SPOILED

RESTARTS = 2
"""Maximum restarts of a server that is lost during the run: a large model takes half an hour to load."""
LOST = {
    "server_died": "the server died during the run",
    "server_unresponsive": "the server stopped answering during the run",
}
"""Text for a lost server, by the cause that ended the window. A server died only if its process ended."""
REPLACED = "another server answers at this address now"
"""Text for an attached server that changed: the remaining cells are measured on the server that answers now."""
DYING_S = 3.0
"""Time to watch the process after a broken connection, which may be the first sign of its end."""
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def now() -> str:
    """UTC, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


@dataclass(slots=True)
class Conductor:
    """A run in progress."""

    plan: Plan
    client: ClientOptions
    screen: Screen
    folder: RunFolder
    run_id: str
    node: str | None
    redo: set[Key]
    """Rows on disk that are measured again."""
    late: frozenset[Key] = frozenset()
    """Runs that come last: a resumed run measures missing rows before invalid ones."""
    goal: Goal = field(init=False)
    retries: int = field(init=False)
    """Number of retries left."""
    index: int = 0
    lost: str = ""
    """Why the latest server was lost; empty if it was not."""
    unchanged: int = 0
    """Number of measurements during which the server stayed the same."""
    shown: set[str] = field(default_factory=set)
    """Notes already shown, so that each is shown once."""

    def __post_init__(self) -> None:
        self.goal = Goal.of(self.plan)
        self.retries = self.plan.sweep.retries

    def todo(self, launch: Launch, *, with_late: bool = True) -> list[Run]:
        """The runs of a launch that are due now."""
        return self.goal.todo(launch, self.folder.rows, self.redo, self.late, with_late=with_late)

    def launch(self, launch: Launch, guard: SignalGuard, *, with_late: bool = True) -> None:
        """Start one server, and make its runs and searches. A server that fails affects only its own cells.

        A server that is lost during the run is restarted up to RESTARTS times for the remaining cells; an
        attached server is contacted again.

        Raises:
            DiskFault: results or the server's files cannot be written.
            Interrupted: raised again after the server was stopped.
        """
        restarts = 0
        while True:
            unchanged = self.unchanged
            todo = self.todo(launch, with_late=with_late)
            searches = [workload for workload in launch.searches if self._step(launch, workload).level]
            if not todo and not searches:
                return
            folder = self.folder.server_folder(launch.group.server_id)
            try:
                if self._serve(launch, folder, todo, searches, guard):
                    return
            except (Interrupted, DiskFault):
                raise
            except BenchError as error:
                self._fail(launch, folder, todo, searches, error)
                return
            except Exception as error:  # noqa: BLE001 - it costs only the cells of this server
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    raise writing.full(folder, error) from None
                self._fail(launch, folder, todo, searches, self._unexpected(error))
                return
            log = None if self.plan.sweep.server.kind == "attached" else folder / "server.log"
            lost = server_fault(f"{launch.group.model}: {self.lost}", log)
            if restarts == RESTARTS:
                self._fail(launch, folder, self.todo(launch, with_late=with_late), searches, lost)
                return
            restarts += self.lost != REPLACED or self.unchanged == unchanged
            self._note(lost.text())

    def _unexpected(self, error: Exception) -> EnvironmentFault:
        """An unexpected exception as the fault for which the server's cells fail."""
        self.folder.log(now(), "unforeseen", traceback=traceback.format_exception(error))
        text = redacted(f"{type(error).__name__}: {error}", self.folder.secrets)
        return EnvironmentFault(
            f"bench failed while it used this server: {text}",
            where=str(self.folder.path / "log.jsonl"),
            fix="report this bug with the traceback in this file",
        )

    def _serve(
        self, launch: Launch, folder: Path, todo: list[Run], searches: list[Workload], guard: SignalGuard
    ) -> bool:
        """Start the server and measure on it; False if it was lost and runs remain."""
        spec = bind.server_spec(launch.group, self.plan.sweep, folder)
        with ExitStack() as stack:
            running = stack.enter_context(
                start(spec, lambda text, share: self.screen.server(launch, text, share))
            )
            self.folder.log(now(), "server_ready", server=folder.name, seconds=running.ready_s)
            session = stack.enter_context(
                measure.session(launch.group, running, self.plan.sweep, self.folder)
            )
            for note in session.notes:
                self._note(note)
                self.folder.log(now(), "note", server=folder.name, text=note)
            return self._measure(launch, todo, session, guard) and all(
                self._search(launch, workload, session, guard, fresh=not todo) for workload in searches
            )

    def _fail(
        self, launch: Launch, folder: Path, todo: list[Run], searches: list[Workload], error: BenchError
    ) -> None:
        """Show the error, and store a row without figures for each run that cannot be measured."""
        self._note_once(error.text())
        self.folder.log(now(), "server_failed", server=folder.name, message=error.text())
        todo = todo + [run for workload in searches if (run := self._next(launch, workload)[1])]
        for run in todo:
            if not run.discarded and self._missing(run):
                self.index += 1
                self._store_failed(launch, run, folder.name, error)

    def _missing(self, run: Run) -> bool:
        return self.goal.missing(run, self.folder.rows, self.redo)

    def _measure(self, launch: Launch, todo: list[Run], session: measure.Session, guard: SignalGuard) -> bool:
        """Make the missing runs; False if the server was lost."""
        for run in todo:
            guard.check()
            # Checked again: after earlier repeats this one may no longer be needed.
            due = run.discarded or self._missing(run)
            if due and not self._run(launch, run, session, guard):
                return False
        return True

    def _run(self, launch: Launch, run: Run, session: measure.Session, guard: SignalGuard) -> bool:
        """Measure one cell and store it; False if the server was lost or replaced."""
        running = session.running
        attached = self.plan.sweep.server.kind == "attached"
        if attached and (changed := measure.replaced(session)):
            return self._replaced(run, changed)
        self.index += 1
        self.screen.cell(run, self.index, max(self.plan.runs, self.index))
        identity = self._identity(run)
        try:
            measure.check_length(running, run)
            measured = measure.cell(session, run, self._prompts(identity), self.client, self.screen)
        except Interrupted:
            # The cell stays missing: a resumed run measures it.
            self.folder.log(now(), "cell_cut_off", cell=run.cell.key, repeat=run.repeat)
            raise
        except EnvironmentFault as error:
            # The server was lost around the load, and later cells get a new one; or it refuses this cell but
            # may accept the next; or a load worker was lost.
            guard.check()
            return self._not_loaded(launch, run, running, error)
        row = self._store(
            identity,
            rows.columns(self.plan, launch, run, running, measured),
            measured.parts(identity),
        )
        self.folder.log(
            now(), "cell", cell=run.cell.key, repeat=run.repeat, valid=row.valid, reasons=row["reasons"]
        )
        self._note_errors(row, running.base_url)
        if row.get("metrics_note") and not measured.server:
            self._note_once(f"{run.cell.key}: no server metrics, {row['metrics_note']}", "metrics_note")
        for note in measured.result.notes:
            self.folder.log(now(), "note", cell=run.cell.key, repeat=run.repeat, text=note)
            self._note_once(note, metrics.kind_of(note))
        self.lost = LOST.get(measured.result.window.ended_by, "")
        if running.exit_code() is not None:
            self.lost = LOST["server_died"]
        if self.lost:
            return False
        if attached and row["server_restarted"]:
            return self._replaced(run, str(row.get("server_changes")))
        self.unchanged += 1
        codes = SPOILED.intersection(row.codes)
        if self.retries and codes and not run.discarded:
            self.retries -= 1
            self.index -= 1
            self.screen.note(
                f"{run.cell.key}: the client or the simulator was disturbed ({', '.join(sorted(codes))}); retrying"
            )
            return self._run(launch, run, session, guard)
        return True

    def _replaced(self, run: Run, changes: str) -> bool:
        """Report that another server answers now. Always False."""
        self.lost = REPLACED
        self.folder.log(now(), "server_changed", cell=run.cell.key, repeat=run.repeat, why=changes)
        self._note(f"{run.cell.key}: {REPLACED}: {changes}")
        return False

    def _not_loaded(self, launch: Launch, run: Run, running: RunningServer, error: EnvironmentFault) -> bool:
        """Store a failed row for a cell that could not be loaded; False if its server was lost."""
        by_server, unreachable = isinstance(error, ServerFault), isinstance(error, ServerUnreachable)
        deadline = time.monotonic() + (DYING_S if unreachable and running.pid else 0)
        while running.exit_code() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        died = running.exit_code() is not None
        self.lost = LOST["server_died"] if died else LOST["server_unresponsive"] if unreachable else ""
        if by_server and not self.lost:
            error = RequestRefused(error.what, fix=error.fix)
        elif by_server and running.log_path is not None:
            error = server_fault(error.what, running.log_path, running.log_start)
        self._note_once(error.text())
        self._store_failed(launch, run, running.spec.folder.name, error)
        return not self.lost

    def _note(self, text: str) -> None:
        self.screen.note(redacted(text, self.folder.secrets))

    def _note_once(self, text: str, kind: str = "") -> None:
        """Show a note once for many cells; notes of one `kind` count as the same."""
        text = redacted(text, self.folder.secrets)
        if (kind or text) not in self.shown:
            self.shown.add(kind or text)
            self.screen.note(text)

    def _note_errors(self, row: Row, base_url: str) -> None:
        """Show the most common error if too many requests failed, with the fix for its cause."""
        error = str(row.get("common_error") or "")
        if error and {"error_rate", "no_measurement"}.intersection(row.codes):
            status = re.match(r"(\d{3}): ", error)
            cause = causes.of_status(int(status[1]), error, base_url) if status else None
            count = f"{row['failed'] or row['common_error_count']} requests failed"
            fix = f"\n  fix: {cause.fix}" if cause else ""
            self._note_once(f"{row['key']}: {count}, most often with: {error}{fix}", metrics.kind_of(error))

    def _prompts(self, identity: Identity) -> str:
        """Seed name of a measurement's prompts: the server may still cache the prompts of an earlier attempt."""
        attempts = self.folder.attempts(identity) + len(self.folder.manifest.get("resumed", ()))
        return f"{self.run_id}.{attempts}" if attempts else self.run_id

    def _store_failed(self, launch: Launch, run: Run, server: str, error: BenchError) -> None:
        columns = rows.failed_columns(self.plan, launch, run, server, error, self.folder.secrets)
        self._store(self._identity(run), columns, {})

    def _store(self, identity: Identity, columns: Mapping[str, Any], parts: Mapping[str, pa.Table]) -> Row:
        """Write a cell to disk and show its row."""
        row = self.folder.write_cell(identity, {**columns, "node": self.node}, parts)
        self.redo.discard(row.key)
        self.screen.row(row)
        return row

    def _identity(self, run: Run) -> Identity:
        return Identity(self.run_id, *key_of_run(run))

    # --- searches

    def _search(
        self, launch: Launch, workload: Workload, session: measure.Session, guard: SignalGuard, *, fresh: bool
    ) -> bool:
        """Measure level after level until the search ends; False if the server was lost."""
        while True:
            guard.check()
            step, run = self._next(launch, workload)
            self.folder.write_json("search.json", self.searches())
            name = f"{launch.group.model}/{workload.name}"
            if run is None:
                best = "none" if step.best is None else f"{step.best:g}"
                self.screen.note(f"search {name}: the largest load that meets the SLO is {best}; {step.why}")
                return True
            self.screen.note(f"search {name}: {run.cell.level.label}, {step.why}")
            if fresh and self.plan.sweep.discard_first:
                discarded = Run(run.cell, run.repeat, discarded=True)
                if not self._run(launch, discarded, session, guard):
                    return False
            fresh = False
            if not self._run(launch, run, session, guard):
                return False
            if self.folder.rows[-1].codes == ("request_refused",):
                return True  # every other level would fail too

    def _next(self, launch: Launch, workload: Workload) -> tuple[Step, Run | None]:
        """The search's next step and its run; the run is None if the search has ended."""
        step = self._step(launch, workload)
        if step.level is None:
            return step, None
        sweep = self.plan.sweep
        cell = expand.cell_at(sweep, launch.group, workload, expand.level_of(sweep, step.level))
        assert isinstance(cell, Cell)  # the plan checked the lowest level, and the check ignores the level
        used = {
            int(row["repeat"]) for row in self._rows_of(launch, workload) if row["cell_id"] == cell.cell_id
        }
        return step, Run(cell, min(set(range(1, len(used) + 2)) - used))

    def _step(self, launch: Launch, workload: Workload) -> Step:
        settings = self.plan.sweep.search
        assert settings is not None
        listed = {cell.cell_id for cell in launch.group.cells}
        measured = self._rows_of(launch, workload)
        used = sum(row["cell_id"] not in listed for row in measured)
        return search.next_step(measured, settings, whole=self._whole, used=used)

    @property
    def _whole(self) -> bool:
        return self.plan.sweep.load.shape.kind == "closed"

    def _rows_of(self, launch: Launch, workload: Workload) -> list[Row]:
        """Rows on disk of one server and workload at all levels, without those that are measured again."""
        matches: list[Row] = []
        for row in self.folder.rows:
            if row.level is None or row.discarded or row.get("workload") != workload.name:
                continue
            level = expand.level_of(self.plan.sweep, row.level)
            cell_id = identity.cell_id(self.plan.sweep, launch.group, workload, level)
            if row["cell_id"] == cell_id and row.key not in self.redo:
                matches.append(row)
        return matches

    def searches(self) -> list[dict[str, Any]]:
        """The state of every search of the plan."""
        sweep = self.plan.sweep
        if sweep.search is None:
            return []
        return [
            {
                "server": launch.group.server_id,
                "model": launch.group.model,
                "axes": launch.group.axes,
                "workload": workload.name,
            }
            | search.report(
                self._rows_of(launch, workload),
                sweep.search,
                self._step(launch, workload),
                whole=self._whole,
                gain=sweep.saturation_gain,
            )
            for launch in self.plan.launches
            for workload in launch.searches
        ]

    def answered(self) -> set[str]:
        """Overloaded cells of searches: there overload is an answer, not a fault."""
        return {
            str(row["cell_id"])
            for launch in self.plan.launches
            for workload in launch.searches
            for row in self._rows_of(launch, workload)
            if capacity.meaning(row) == "overloaded"
        }
