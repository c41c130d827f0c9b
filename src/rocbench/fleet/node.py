"""The work on a node: the same run as on one machine, in its own folder, sent cell by cell."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rocbench import __version__
from rocbench.conduct.run import PlanPart, RunOptions, run_plan
from rocbench.errors import BenchError, EnvironmentFault
from rocbench.fleet.messages import Begun, Job, Line, Measured, Message, NodeEnded, Note
from rocbench.load.spec import Progress
from rocbench.plan.planned import Launch, Plan, Run
from rocbench.report.live import Screen, progress_line, run_text
from rocbench.server.state import make_own
from rocbench.store.folder import RunFolder
from rocbench.tables.row import Key, Row
from rocbench.variables import show_more

LINE_EVERY_S = 1.0


class Reporter(Screen):
    """A screen that sends everything to the sender: rows with their parts, and occasional progress lines."""

    def __init__(self, node: str, send: Callable[[Message], None], known: set[Key]) -> None:
        self._node = node
        self._send = send
        self._known = known
        self._folder: Path | None = None
        self._key = ""
        self._sent_s = 0.0

    def begin(self, plan: Plan, folder: str) -> None:
        """Send the facts of this node."""
        self._folder = Path(folder)
        manifest = RunFolder.open(self._folder).manifest
        self._send(Begun(self._node, {name: manifest.get(name) for name in ("node", "doctor")}))

    def server(self, launch: Launch, text: str, share: float | None) -> None:
        """Report a server that starts."""
        done = "" if share is None else f" {share:.0%}"
        self._line(f"{launch.group.server_id[3:]}: {text}{done}")

    def cell(self, run: Run, index: int, total: int) -> None:
        """Report a cell that begins."""
        self._key = run_text(run)
        self._line(self._key, at_once=True)

    def load(self, progress: Progress) -> None:
        """Report the progress of the load."""
        self._line(f"{self._key}: {progress_line(progress)}")

    def row(self, row: Row) -> None:
        """Send every measurement that was not sent yet."""
        assert self._folder is not None
        folder = RunFolder.open(self._folder)
        for measured in folder.rows:
            if measured.key not in self._known:
                identity, parts = folder.measured(measured)
                self._send(Measured(identity, measured, parts))
                self._known.add(measured.key)

    def note(self, text: str) -> None:
        """Send a note."""
        self._send(Note(f"{self._node}: {text}"))

    def _line(self, text: str, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._sent_s >= LINE_EVERY_S:
            self._sent_s = now
            self._send(Line(text))


def work(job: Job, node: str, send: Callable[[Message], None]) -> None:
    """Run a job on this node. All measurements have been sent when this returns, even after an error."""
    show_more(job.shown)
    scratch = Path(tempfile.gettempdir()) / f"rocbench-{job.run_id}"
    out = scratch / f"{job.piece}.{job.attempt}"
    try:
        make_own(scratch, named_by="TMPDIR")  # its name can be guessed, and any user may write next to it
    except BenchError as fault:
        send(NodeEnded(fault, b"", ()))
        return
    reporter = Reporter(node, send, {row.key for row in job.rows})
    options = RunOptions(
        out=out,
        client=job.client,
        overrides=job.overrides,
        reap=job.reap,
        despite_doctor=job.despite_doctor,
        part=PlanPart(job.run_id, node, scratch, job.rows, job.servers, job.late),
    )
    error: BenchError | None = None
    try:
        if job.version != __version__:
            raise EnvironmentFault(
                f"{node} has rocbench {__version__}, but this machine has {job.version}",
                fix="install the same version on all nodes",
            )
        shutil.rmtree(out, ignore_errors=True)
        run_plan(job.plan, options, reporter)
    except BenchError as fault:
        error = fault
    try:
        folder = RunFolder(out)
        packed = folder.servers_packed(but=job.servers) if (out / "servers").is_dir() else b""
        send(NodeEnded(error, packed, tuple(folder.events())))
    finally:
        shutil.rmtree(out, ignore_errors=True)
