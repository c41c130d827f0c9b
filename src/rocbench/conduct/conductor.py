"""One launch after the other: start the server, measure missing runs, do the searches, store each cell."""

from __future__ import annotations

import datetime
import errno
import re
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from rocbench.redact import cut, redacted
from rocbench.report.live import Screen
from rocbench.server import RunningServer, start
from rocbench.server.failures import server_fault
from rocbench.settings.schema import Workload
from rocbench.store.folder import RunFolder
from rocbench.tables import metrics
from rocbench.tables.parts import Identity
from rocbench.tables.row import Key, Row
from rocbench.verdict.codes import SPOILED

MESSAGE_CHARS = 2000
"""Characters kept of the reason why a cell could not be measured."""
RESTARTS = 2
"""Maximum restarts of a server that is lost during the run: a large model takes half an hour to load."""
LOST = {
    "server_died": "the server died during the run",
    "server_unresponsive": "the server stopped answering during the run",
}
"""Text for a lost server, by the cause that ended the window. "Died" needs a process seen to have ended."""
REPLACED = "another server answers there than before"
"""Text for an attached server that changed: the remaining cells are measured on the one that answers now."""
DYING_S = 3.0
"""Seconds to watch the process after a broken connection, which may be the first sign of its end."""
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def now() -> str:
    """UTC, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


@dataclass(slots=True)
class Conductor:
    """A run in progress. `redo` holds the rows on disk that are measured again."""

    plan: Plan
    client: ClientOptions
    screen: Screen
    folder: RunFolder
    run_id: str
    node: str | None
    redo: set[Key]
    late: frozenset[Key] = frozenset()
    """Runs that come last: a resumed run measures missing rows before invalid ones."""
    goal: Goal = field(init=False)
    retries: int = field(init=False)
    """Number of retries left."""
    index: int = 0
    lost: str = ""
    """Loss of the latest server, in words."""
    held: int = 0
    """Number of measurements during which the server stayed the same."""
    said: set[str] = field(default_factory=set)
    """Notes already shown, so that each is shown once."""

    def __post_init__(self) -> None:
        self.goal = Goal.of(self.plan)
        self.retries = self.plan.sweep.retries

    def todo(self, launch: Launch, *, with_late: bool = True) -> list[Run]:
        """The runs of a launch that are due now."""
        return self.goal.todo(launch, self.folder.rows, self.redo, self.late, with_late=with_late)

    def launch(self, launch: Launch, guard: SignalGuard, *, with_late: bool = True) -> None:
        """Start one server, and make its runs and searches. A server that fails costs only its own cells.

        A server that is lost during the run is restarted a few times for the remaining cells; an attached
        server is contacted again.

        Raises:
            DiskFault: results or the server's files cannot be written.
            Interrupted: after the server was stopped.
        """
        try:
            self._launch(launch, guard, with_late=with_late)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise DiskFault(
                f"a server's files cannot be written: {error.strerror}", where=str(self.folder.path)
            ) from None

    def _launch(self, launch: Launch, guard: SignalGuard, *, with_late: bool) -> None:
        restarts = 0
        while True:
            held = self.held
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
            except Exception as error:
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    raise
                self._fail(launch, folder, todo, searches, self._unforeseen(error))
                return
            log = None if self.plan.sweep.server.kind == "attached" else folder / "server.log"
            lost = server_fault(f"{launch.group.model}: {self.lost}", log)
            if restarts == RESTARTS:
                self._fail(launch, folder, self.todo(launch, with_late=with_late), searches, lost)
                return
            restarts += self.lost != REPLACED or self.held == held
            self._note(lost.text())

    def _unforeseen(self, error: Exception) -> EnvironmentFault:
        """An unexpected exception as a fault of the server during which it occurred."""
        self.folder.log(now(), "unforeseen", traceback=traceback.format_exception(error))
        text = redacted(f"{type(error).__name__}: {error}", self.folder.secrets)
        return EnvironmentFault(
            f"bench itself failed around this server: {text}",
            where=str(self.folder.path / "log.jsonl"),
            fix="report it with the traceback that stands there",
        )

    def _serve(
        self, launch: Launch, folder: Path, todo: list[Run], searches: list[Workload], guard: SignalGuard
    ) -> bool:
        """Start the server and measure on it; False if it was lost and runs remain."""
        spec = bind.server_spec(launch.group, self.plan.sweep, folder)
        with ExitStack() as stack:
            tell = lambda text, share: self.screen.server(launch, text, share)  # noqa: E731
            running = stack.enter_context(start(spec, tell))
            self.folder.log(now(), "server_ready", server=folder.name, seconds=running.ready_s)
            session = stack.enter_context(
                measure.session(launch.group, running, self.plan.sweep, self.folder)
            )
            for note in session.notes:
                self._note(note)
                self.folder.log(now(), "note", server=folder.name, text=note)
            return self._measure(launch, todo, running, session, guard) and all(
                self._search(launch, workload, running, session, guard, fresh=not todo)
                for workload in searches
            )

    def _fail(
        self,
        launch: Launch,
        folder: Path,
        todo: list[Run],
        searches: list[Workload],
        error: BenchError,
    ) -> None:
        """Report the reason, and store a row without figures for each run that cannot be measured."""
        self._say(error.text())
        self.folder.log(now(), "server_failed", server=folder.name, message=error.text())
        todo = todo + [run for workload in searches if (run := self._next(launch, workload)[1])]
        for run in todo:
            if not run.discarded and self._missing(run):
                self.index += 1
                self._store_failed(launch, run, folder.name, error)

    def _missing(self, run: Run) -> bool:
        return self.goal.missing(run, self.folder.rows, self.redo)

    def _measure(
        self,
        launch: Launch,
        todo: list[Run],
        running: RunningServer,
        session: measure.Session,
        guard: SignalGuard,
    ) -> bool:
        """Make the missing runs; False if the server was lost meanwhile."""
        for run in todo:
            guard.check()
            # Checked again: earlier repeats may have made this one superfluous.
            wanted = run.discarded or self._missing(run)
            if wanted and not self._run(launch, run, running, session, guard):
                return False
        return True

    def _run(
        self, launch: Launch, run: Run, running: RunningServer, session: measure.Session, guard: SignalGuard
    ) -> bool:
        """Measure one cell and store it; False if the server was lost or replaced."""
        attached = self.plan.sweep.server.kind == "attached"
        if attached and (changed := measure.replaced(session)):
            return self._replaced(run, changed)
        self.index += 1
        self.screen.cell(run, self.index, max(self.plan.runs, self.index))
        identity = Identity(self.run_id, run.cell.cell_id, run.repeat, run.discarded)
        try:
            measure.check_length(running, run)
            measured = measure.cell(session, run, self._prompts(identity), self.client, self.screen)
        except Interrupted:
            # The cell stays missing, for a resumed run.
            self.folder.log(now(), "cell_cut_off", cell=run.cell.key, repeat=run.repeat)
            raise
        except EnvironmentFault as error:
            # The server was lost around the load, and later cells get a new one; or it refuses this cell but
            # may take the next; or a load worker was lost.
            guard.check()
            return self._not_loaded(launch, run, running, error)
        columns = rows.columns(self.plan, launch, run, running, measured) | {"node": self.node}
        row = self.folder.write_cell(identity, columns, measured.parts(identity))
        self.redo.discard(key_of_run(run))
        self.folder.log(
            now(), "cell", cell=run.cell.key, repeat=run.repeat, valid=row.valid, reasons=row["reasons"]
        )
        self.screen.row(row)
        self._say_errors(row, running.base_url)
        if row.get("metrics_note") and not measured.server:
            self._say(
                f"{run.cell.key}: no figures of the server's own, {row['metrics_note']}", "metrics_note"
            )
        for note in measured.result.notes:
            self.folder.log(now(), "note", cell=run.cell.key, repeat=run.repeat, text=note)
            self._say(note, metrics.kind_of(note))
        self.lost = LOST.get(measured.result.window.ended_by, "")
        if running.exit_code() is not None:
            self.lost = LOST["server_died"]
        if self.lost:
            return False
        if attached and row["server_restarted"]:
            return self._replaced(run, str(row.get("server_changes")))
        self.held += 1
        why = SPOILED.intersection(row.codes)
        if self.retries and why and not run.discarded:
            self.retries -= 1
            self.index -= 1
            self.screen.note(
                f"{run.cell.key}: the client or the simulator was disturbed ({', '.join(sorted(why))}); retrying"
            )
            return self._run(launch, run, running, session, guard)
        return True

    def _replaced(self, run: Run, why: str) -> bool:
        """Note that another server answers, so that the remaining cells identify it. Always False."""
        self.lost = REPLACED
        self.folder.log(now(), "server_changed", cell=run.cell.key, repeat=run.repeat, why=why)
        self._note(f"{run.cell.key}: another server answers than before: {why}")
        return False

    def _not_loaded(self, launch: Launch, run: Run, running: RunningServer, error: EnvironmentFault) -> bool:
        """Store the reason why a cell could not be loaded; False if its server was lost."""
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
        self._say(error.text())
        self._store_failed(launch, run, running.spec.folder.name, error)
        return not self.lost

    def _note(self, text: str) -> None:
        self.screen.note(redacted(text, self.folder.secrets))

    def _say(self, text: str, about: str = "") -> None:
        """Show a note once that is the same for many cells; `about` is the common part if they differ."""
        text = redacted(text, self.folder.secrets)
        if (about or text) not in self.said:
            self.said.add(about or text)
            self.screen.note(text)

    def _say_errors(self, row: Row, base_url: str) -> None:
        """Show the server's own words if more than a few requests failed, with the fix for their cause."""
        said = str(row.get("common_error") or "")
        if said and {"error_rate", "no_measurement"}.intersection(row.codes):
            status = re.match(r"(\d{3}): ", said)
            cause = causes.of_status(int(status[1]), said, base_url) if status else None
            count = f"{row['failed'] or row['common_error_count']} requests failed"
            fix = f"\n  fix: {cause.fix}" if cause else ""
            self._say(f"{row['key']}: {count}, most often with: {said}{fix}", metrics.kind_of(said))

    def _prompts(self, identity: Identity) -> str:
        """Name of a measurement's prompts: the server may still cache the prompts of an earlier attempt."""
        before = self.folder.attempts(identity) + len(self.folder.manifest.get("resumed", ()))
        return f"{self.run_id}.{before}" if before else self.run_id

    def _store_failed(self, launch: Launch, run: Run, server: str, error: BenchError) -> None:
        columns = rows.failed_columns(self.plan, launch, run, server, error) | {"node": self.node}
        columns["failure_message"] = cut(error.text(), MESSAGE_CHARS, self.folder.secrets)
        identity = Identity(self.run_id, run.cell.cell_id, run.repeat, run.discarded)
        row = self.folder.write_cell(identity, columns, {})
        self.redo.discard(key_of_run(run))
        self.screen.row(row)

    # --- searches

    def _search(
        self,
        launch: Launch,
        workload: Workload,
        running: RunningServer,
        session: measure.Session,
        guard: SignalGuard,
        *,
        fresh: bool,
    ) -> bool:
        """Measure level after level until the search has its answer; False if the server was lost."""
        while True:
            guard.check()
            step, run = self._next(launch, workload)
            self._write_searches()
            name = f"{launch.group.model}/{workload.name}"
            if run is None:
                best = "none" if step.best is None else f"{step.best:g}"
                self.screen.note(f"search {name}: largest load that meets the SLO is {best}; {step.why}")
                return True
            self.screen.note(f"search {name}: {run.cell.level.label}, {step.why}")
            if fresh and self.plan.sweep.discard_first:
                discarded = Run(run.cell, run.repeat, discarded=True)
                if not self._run(launch, discarded, running, session, guard):
                    return False
            fresh = False
            if not self._run(launch, run, running, session, guard):
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
        assert isinstance(cell, Cell)  # the plan tried the lowest level; the fit does not depend on it
        taken = {
            int(row["repeat"]) for row in self._rows_of(launch, workload) if row["cell_id"] == cell.cell_id
        }
        repeat = next(n for n in range(1, len(taken) + 2) if n not in taken)
        return step, Run(cell, repeat)

    def _step(self, launch: Launch, workload: Workload) -> Step:
        wanted = self.plan.sweep.search
        assert wanted is not None
        listed = {cell.cell_id for cell in launch.group.cells}
        mine = self._rows_of(launch, workload)
        used = sum(row["cell_id"] not in listed for row in mine)
        return search.next_step(mine, wanted, whole=self._whole, used=used)

    @property
    def _whole(self) -> bool:
        return self.plan.sweep.load.shape.kind == "closed"

    def _rows_of(self, launch: Launch, workload: Workload) -> list[Row]:
        """Rows on disk of one server and workload at all levels, without those to be measured again."""
        found: list[Row] = []
        for row in self.folder.rows:
            if row.level is None or row.discarded or row.get("workload") != workload.name:
                continue
            at = expand.level_of(self.plan.sweep, row.level)
            mine = identity.identity(self.plan.sweep, launch.group, workload, at)
            if row["cell_id"] == mine and row.key not in self.redo:
                found.append(row)
        return found

    def _write_searches(self) -> None:
        """Write the state of every search to disk."""
        self.folder.write_json("search.json", self.searches())

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
        """Cells of searches, in which an overloaded row is an answer, not a fault."""
        return {
            str(row["cell_id"])
            for launch in self.plan.launches
            for workload in launch.searches
            for row in self._rows_of(launch, workload)
            if capacity.meaning(row) == "overloaded"
        }
