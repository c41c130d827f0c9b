"""`bench sweep` in virtual time: the real conductor, plan, rows and store, with a predicted server and load.

What is replaced is the start of a server and the driving of a load; both take no time. A run is repeated to the last
digit by its seed, and two runs in folders of other names have noise of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from rocbench.commands import planning
from rocbench.conduct import bind, conductor, measure, run
from rocbench.conduct.bind import ClientOptions
from rocbench.conduct.measure import Measured
from rocbench.conduct.run import Outcome, RunOptions
from rocbench.plan.expand import Group, Overrides, Plan, Run
from rocbench.plan.expand import expand as expand_plan
from rocbench.predict import predicting
from rocbench.records import NONE, LoadResult
from rocbench.report.live import PlainScreen
from rocbench.server.spec import RunningServer, ServerSpec
from rocbench.settings.schema import Sweep
from rocbench.sim import calibration, predict
from rocbench.store.folder import RunFolder

SMALL: dict[str, Any] = {
    "name": "small",
    "vllm": "0.14.1",
    "models": ["llama-3.1-405b"],
    "workloads": ["short"],
    "concurrency": [2, 8],
    "load": {"duration_s": 8, "max_duration_s": 60},
    "simulation": {"noise_cv": 0.02, "run_cv": 0.004, "load_s": 0},
}
"""Two cells on one server, whose repeats vary by about 0.4 %."""


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@dataclass
class World:
    """What happens, and what was seen of it."""

    before_cell: Callable[[Run], None] = lambda _: None
    """Called before a cell is measured; may raise."""
    before_start: Callable[[str], None] = lambda _: None
    """Called before a server starts, with its folder's name; may raise."""
    change: Callable[[Run, dict[str, Any]], None] = lambda *_: None
    """May change the columns that the server's and the client's side give."""
    starts: list[str] = field(default_factory=list)
    """Folders of the servers that were started."""
    joined: bool = False
    """Write the tables after each cell, as a real run does; else at the end, which is quicker."""
    runs: list[tuple[str, int, bool]] = field(default_factory=list)
    """Level, repeat and discarded of every measurement, in order."""
    prompts: list[str] = field(default_factory=list)
    """What the prompts of every measurement are drawn by, beside its cell and repeat."""


def plan_of(sweep: Mapping[str, Any], overrides: Overrides | None = None) -> Plan:
    """The plan of a sweep given as a mapping."""
    model, overrides = Sweep.model_validate(sweep), overrides or Overrides()
    return expand_plan(model, planning.sources(model, overrides), overrides)


def bench(
    out: Path, sweep: Mapping[str, Any] | None = None, world: World | None = None, **options: Any
) -> Outcome:
    """Run a sweep in virtual time into `out`; without a sweep, resume what is there."""
    world = world or World()
    if sweep is None:
        plan, client = planning.resumed(out, ClientOptions())
        given = RunOptions(out=out, resume=True, client=client, **options)
    else:
        plan, given = plan_of(sweep), RunOptions(out=out, **options)
    with ExitStack() as stack:
        for target, name, value in (
            (conductor, "start", _starter(world)),
            (measure, "session", _session(out.name)),
            (measure, "cell", _cell(world)),
            (run.orphans, "find", lambda: ()),
            (RunFolder, "write_cell", partialmethod(RunFolder.write_cell, tables=world.joined)),
        ):
            stack.enter_context(patch.object(target, name, value))
        return run.run_plan(plan, given, _Silent())


class _Silent(PlainScreen):
    def _print(self, text: str) -> None:
        pass


def _starter(world: World) -> Any:
    @contextmanager
    def start(spec: ServerSpec, tell: object) -> Iterator[RunningServer]:
        (spec.folder / "command.sh").write_text(" ".join(spec.command))
        world.before_start(spec.folder.name)
        world.starts.append(spec.folder.name)
        yield RunningServer(spec, "http://127.0.0.1:1", spec.model, None, None, None, 0.0)

    return start


def _session(run_name: str) -> Any:
    @contextmanager
    def session(group: Group, running: RunningServer, sweep: Sweep, folder: RunFolder) -> Iterator[Any]:
        seed = predicting._seed(sweep.seed, run_name, running.spec.folder.name)
        node = predicting.node_of(group, sweep, calibration.read_calibration("default"), seed)
        yield SimpleNamespace(node=node, sweep=sweep, running=running, notes=[])

    return session


def _cell(world: World) -> Any:
    def cell(session: Any, run_: Run, run_id: str, client: object, screen: object) -> Measured:
        world.before_cell(run_)
        spec = predicting.load_of(session.sweep, run_)
        found = predict.drive(spec, session.node, seed=predicting._seed(run_.cell.cell_id, run_.repeat))
        world.prompts.append(run_id)
        world.runs.append((run_.cell.level.label, run_.repeat, run_.discarded))
        _move(found.load, len(world.runs) * 10**12)
        columns = predicting._columns(session.node, found) | {"predicted": True}
        world.change(run_, columns)
        hits = bind.expected_hits(run_.cell.workload, found.load)
        return Measured(found.load, columns, session.node.engine.prefix_caching, hits, (), ())

    return cell


def _move(load: LoadResult, by_ns: int) -> None:
    """Let a load happen later: each begins at the same virtual time, and one run's come one after the other."""
    load.window = replace(
        load.window, start_ns=load.window.start_ns + by_ns, end_ns=load.window.end_ns + by_ns
    )
    for name in load.requests.dtype.names or ():
        if name.endswith("_ns"):
            column = load.requests[name]
            column[column != NONE] += by_ns


def keys(folder: Path) -> list[tuple[str, int, bool]]:
    """Cell id, repeat and discarded of every row, sorted."""
    rows = RunFolder.open(folder).rows
    return sorted((row["cell_id"], row["repeat"], bool(row["discarded"])) for row in rows)


def json_of(folder: Path, name: str) -> Any:
    """A JSON file of a run folder."""
    return json.loads((folder / name).read_text())
