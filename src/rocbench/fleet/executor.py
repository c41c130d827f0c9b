"""A run over the nodes of a Ray cluster: hand out pieces, collect measurements, move the work of a dead node.

Ray decides where a piece runs. Messages come back through an inbox on this node: a measurement counts when it
is in the inbox, and is on disk here before its piece is handed out again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rocbench import __version__
from rocbench.conduct.conductor import Conductor, now
from rocbench.conduct.interrupts import INTERRUPTED, SignalGuard
from rocbench.conduct.run import Outcome, RunOptions, run_plan
from rocbench.errors import BenchError, EnvironmentFault, InputError, Interrupted, NodeFault
from rocbench.fleet import cluster
from rocbench.fleet.cluster import Node
from rocbench.fleet.messages import Begun, Envelope, Job, Line, Measured, Message, NodeEnded, Note
from rocbench.plan import shards
from rocbench.plan.planned import Plan
from rocbench.redact import cut, redacted
from rocbench.report.live import Screen
from rocbench.units import one_line
from rocbench.variables import more

LOOK_EVERY_S = 0.25
ATTEMPTS = 4
"""Maximum number of nodes that may die while they run a piece."""
AFTER_ENDED_S = 10.0
"""Maximum time for the last messages of a task that has ended."""


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """The cluster, and the resources that a server needs there."""

    address: str | None = None
    resource: str | None = None
    aa_nodes: bool = False
    """A/A test: every node measures everything, to compare the nodes."""


@dataclass(slots=True)
class Piece:
    """Servers that stay on one node, and their progress."""

    name: str
    plan: Plan
    node: Node | None = None
    """The only node that may run it; None lets Ray choose."""
    attempt: int = 0
    task: Any = None
    at: str = ""
    """Name of the node that runs it."""
    line: str = "waiting for a node"
    ended: NodeEnded | None = None
    moves: list[str] = field(default_factory=list)
    """Nodes that ended before the piece was done, with the reasons."""
    sick: set[str] = field(default_factory=set)
    """Nodes that refused it."""
    known: set[str] = field(default_factory=set)
    """Server folders that are already here."""


def run_on_ray(plan: Plan, options: RunOptions, fleet: FleetOptions, screen: Screen) -> Outcome:
    """Run a plan on the nodes of a Ray cluster, into one local run folder.

    Raises:
        InputError: no node has the resources that the servers need.
        EnvironmentFault: Ray is missing, no cluster answers, or a piece could not be run anywhere.
        Interrupted: after every node has stopped its server and returned its measurements.
    """
    if fleet.aa_nodes and options.resume:
        raise InputError("--aa-nodes cannot be resumed", fix="start a new run")
    with cluster.joined(fleet.address):
        nodes = cluster.nodes()
        demand = cluster.demand(plan, fleet.resource, nodes)
        fitting = [node for node in nodes if _fits(node, demand)]
        pieces = _on_every_node(plan, fitting) if fleet.aa_nodes else _pieces(plan)
        screen.note(
            f"{len(pieces)} pieces of the plan run on {len(fitting)} nodes: {', '.join(node.name for node in fitting)}"
        )
        executor = Executor(options, screen, pieces, demand, {node.node_id: node.name for node in nodes})
        outcome = run_plan(plan, options, screen, executor.run)
        executor.raise_failed()
        return outcome


def _fits(node: Node, demand: dict[str, Any]) -> bool:
    needed = {"CPU": demand.get("num_cpus", 0), "GPU": demand.get("num_gpus", 0)} | demand.get(
        "resources", {}
    )
    return all(node.resources.get(name, 0) >= amount for name, amount in needed.items())


def _pieces(plan: Plan) -> list[Piece]:
    grouped = shards.together(plan)
    return [
        Piece(name, shards.part(plan, [group.server_id for group in grouped[name]]))
        for name in shards.longest_first(plan)
    ]


def _on_every_node(plan: Plan, nodes: Sequence[Node]) -> list[Piece]:
    """Return the whole plan for each node; their repeats are numbered consecutively, so each measurement is unique."""
    most = max((run.repeat for launch in plan.launches for run in launch.runs), default=0)
    if plan.sweep.until is not None or plan.sweep.search is not None:
        raise InputError(
            "--aa-nodes needs a fixed number of repeats", fix="remove `until` and `search`, and set `repeats`"
        )
    pieces = []
    for index, node in enumerate(nodes):
        groups = {g.server_id: replace(g, server_id=f"{g.server_id}-n{index + 1}") for g in plan.groups}
        launches = tuple(
            replace(
                launch,
                group=groups[launch.group.server_id],
                runs=tuple(replace(run, repeat=run.repeat + index * most) for run in launch.runs),
            )
            for launch in plan.launches
        )
        on_node = replace(plan, groups=tuple(groups.values()), launches=launches)
        pieces.append(Piece(f"aa-{index + 1}", on_node, node))
    return pieces


class Executor:
    """The side that hands out pieces and collects messages."""

    def __init__(
        self,
        options: RunOptions,
        screen: Screen,
        pieces: Sequence[Piece],
        demand: dict[str, Any],
        names: dict[str, str],
    ) -> None:
        self._ray = cluster.ray()
        self._options = options
        self._screen = screen
        self._pieces = {piece.name: piece for piece in pieces}
        self._demand = demand
        self._names = names
        self._inbox = _inbox(self._ray)
        self._failed: list[BenchError] = []
        self._stopping = False
        self._conductor: Conductor

    def run(self, conductor: Conductor, guard: SignalGuard) -> None:
        """Hand out every incomplete piece, and continue until all have ended."""
        self._conductor = conductor
        with guard.draining() as stop:
            for piece in sorted(
                self._pieces.values(), key=lambda piece: not self._incomplete(piece, with_late=False)
            ):
                if self._incomplete(piece):
                    self._hand_out(piece)
            while tasks := [piece.task for piece in self._pieces.values() if piece.task is not None]:
                done, _ = self._ray.wait(tasks, num_returns=1, timeout=LOOK_EVERY_S, fetch_local=False)
                self._receive_all()
                for piece in [piece for piece in self._pieces.values() if piece.task in done]:
                    self._end(piece)
                self._show()
                if stop.is_set() and not self._stopping:
                    self._stop()
        self._ray.kill(self._inbox)
        if self._stopping:
            raise Interrupted(INTERRUPTED)

    def raise_failed(self) -> None:
        """Raise if a piece could not be run anywhere; its measurements are on disk.

        Raises:
            EnvironmentFault: a piece could not be run.
        """
        if self._failed:
            raise EnvironmentFault(
                "\n".join(error.text() for error in self._failed),
                fix=f"the measurements so far are in {self._conductor.folder.path}; continue with --resume when the nodes work again",
            )

    # --- handing out

    def _incomplete(self, piece: Piece, *, with_late: bool = True) -> bool:
        conductor = self._conductor
        return any(
            launch.searches or conductor.todo(launch, with_late=with_late) for launch in piece.plan.launches
        )

    def _hand_out(self, piece: Piece) -> None:
        folder, redo = self._conductor.folder, self._conductor.redo
        models = {group.model for group in piece.plan.groups}
        measured = [row for row in folder.rows if row.get("model") in models and row.key not in redo]
        job = Job(
            piece=piece.name,
            attempt=piece.attempt,
            version=__version__,
            run_id=self._conductor.run_id,
            plan=piece.plan,
            client=self._options.client,
            overrides=self._options.overrides,
            names=self._names,
            rows=tuple(measured),
            servers=folder.server_names(),
            late=frozenset(redo),
            reap=self._options.reap,
            despite_doctor=self._options.despite_doctor,
            shown=more(),
        )
        piece.ended, piece.at, piece.line = None, "", "waiting for a node"
        options = {**self._demand, "max_retries": 0, "name": f"rocbench {piece.name}"}
        node = piece.node or self._other_node(piece)
        if node is not None:
            options["scheduling_strategy"] = cluster.on_node(node.node_id)
        piece.task = self._ray.remote(_task).options(**options).remote(job, self._inbox)

    def _other_node(self, piece: Piece) -> Node | None:
        """Return a node that has not refused the piece, if another one has."""
        if not piece.sick:
            return None
        return next((n for n in cluster.nodes() if n.name not in piece.sick and _fits(n, self._demand)), None)

    def _stop(self) -> None:
        """Ask every node to stop as Ctrl-C would: loads drain, servers end, measurements are returned."""
        self._stopping = True
        self._screen.note("stopping every node and collecting its measurements")
        for piece in self._pieces.values():
            if piece.task is not None:
                self._ray.cancel(piece.task, force=False)

    # --- collecting

    def _receive_all(self) -> None:
        for envelope in self._ray.get(self._inbox.take.remote()):
            piece = self._pieces[envelope.piece]
            if envelope.attempt == piece.attempt:
                self._receive(piece, envelope)

    def _receive(self, piece: Piece, envelope: Envelope) -> None:
        folder = self._conductor.folder
        match envelope.message:
            case Begun(node, manifest):
                piece.at = node
                folder.log(now(), "piece_begun", piece=piece.name, node=node, attempt=piece.attempt + 1)
                nodes = folder.manifest.get("nodes", {}) | {node: manifest}
                folder.write_json("manifest.json", folder.manifest | {"nodes": nodes})
            case Line(text):
                piece.line = text
            case Note(text):
                self._screen.note(redacted(text, folder.secrets))
            case Measured(identity, row, parts):
                row = folder.write_cell(identity, row | {"moved": "; ".join(piece.moves) or None}, parts)
                self._conductor.redo.discard(row.key)
                facts = {name: row.get(name) for name in ("node", "valid", "reasons")}
                folder.log(now(), "cell", cell=row["key"], repeat=row["repeat"], **facts)
                self._screen.row(row)
            case NodeEnded() as ended:
                piece.ended = ended

    def _end(self, piece: Piece) -> None:
        """Handle the end of a piece's task: its work is done, or its node died."""
        reason = self._reason(piece)
        if reason is None:
            until = time.monotonic() + AFTER_ENDED_S
            while piece.ended is None and time.monotonic() < until:
                self._receive_all()
        self._receive_all()
        piece.task = None
        if piece.ended is None:
            self._died(piece, reason or "the task ended without a message")
            return
        folder = self._conductor.folder
        if piece.ended.servers:
            folder.unpack_servers(piece.ended.servers)
        for event in piece.ended.events:
            if event["event"] not in {"begin", "cell", "end"}:
                facts = {name: value for name, value in event.items() if name not in {"at", "event", "node"}}
                folder.log(event["at"], event["event"], **facts, node=piece.at)
        folder.log(now(), "piece_ended", piece=piece.name, node=piece.at)
        piece.line = "done"
        error = piece.ended.error
        if isinstance(error, NodeFault) and not self._stopping:
            self._refused(piece, error)
        elif error is not None and not isinstance(error, Interrupted):
            self._failed.append(error)

    def _reason(self, piece: Piece) -> str | None:
        """Return the reason for which a task ended before its work was done; None if it was done."""
        try:
            self._ray.get(piece.task)
        except self._ray.exceptions.TaskCancelledError:
            return None if piece.ended else "the task was stopped"
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
            text = cut(" ".join(lines), 600, self._conductor.folder.secrets)
            return f"{type(cause).__name__}: {text}"
        return None

    def _died(self, piece: Piece, reason: str) -> None:
        """Hand out the rest of a piece again, or give it up."""
        node = piece.at or "a node"
        self._conductor.folder.log(now(), "node_died", piece=piece.name, node=node, reason=reason)
        piece.moves.append(f"{node} died")
        if self._stopping:
            return
        self._screen.note(f"{node} died while it ran {piece.name} ({one_line(reason, 160)})")
        if piece.node is not None or piece.attempt + 1 >= ATTEMPTS:
            self._failed.append(EnvironmentFault(f"{node} died while it ran {piece.name}: {reason}"))
            piece.line = "given up"
            return
        piece.attempt += 1
        if self._incomplete(piece):
            self._hand_out(piece)

    def _refused(self, piece: Piece, error: NodeFault) -> None:
        """Try another node after a busy or sick node refused the piece, else give up."""
        self._conductor.folder.log(now(), "node_refused", node=piece.at, reason=error.text())
        self._screen.note(f"{piece.at} refuses {piece.name}: {error.text()}")
        piece.sick.add(piece.at)
        piece.attempt += 1
        if piece.node is None and self._other_node(piece) is not None and piece.attempt < ATTEMPTS:
            piece.moves.append(f"{piece.at} refused")
            self._hand_out(piece)
        else:
            self._failed.append(error)

    def _show(self) -> None:
        lines = {
            f"{piece.at or '-'} {piece.name}": piece.line
            for piece in self._pieces.values()
            if piece.task is not None
        }
        self._screen.group(lines)


def _inbox(library: Any) -> Any:
    """Return the actor on this node that keeps messages until they are fetched."""
    options = {"num_cpus": 0, "max_concurrency": 1, "scheduling_strategy": cluster.on_node(cluster.own_id())}
    return library.remote(Inbox).options(**options).remote()


class Inbox:
    """Messages that were sent and not yet fetched."""

    def __init__(self) -> None:
        self._messages: list[Envelope] = []

    def put(self, envelope: Envelope) -> None:
        """Keep a message."""
        self._messages.append(envelope)

    def take(self) -> list[Envelope]:
        """Return all messages so far, in order of arrival."""
        envelopes, self._messages = self._messages, []
        return envelopes


def _task(job: Job, inbox: Any) -> None:
    """Run a job on a node; called by Ray."""
    from rocbench.fleet import node

    library = cluster.ray()
    node_id = cluster.own_id()

    def send(message: Message) -> None:
        sent = inbox.put.remote(Envelope(job.piece, job.attempt, message))
        if not isinstance(message, Line):
            library.get(sent)  # a measurement counts once it has arrived

    node.work(job, job.names.get(node_id, node_id[:8]), send)
