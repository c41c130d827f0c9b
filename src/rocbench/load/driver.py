"""`drive`: probes the server, starts the workers, watches them, and merges their reports.

    connect -> warm-up -> measure -> tail -> drain

Warm-up lasts until every user has ended a request (open loop: until the ended requests reach the maximum
in flight). The tail keeps the load full, unmeasured, until the last request that began in the window is over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from rocbench import baseurl
from rocbench.address import addresses
from rocbench.load.control import Control
from rocbench.load.dialect import Learned, learn
from rocbench.load.hosts import AHEAD_NS as HOSTS_AHEAD_NS
from rocbench.load.hosts import Agent, HostsCrew, spread
from rocbench.load.machine import choose_transport, choose_workers, needed_workers, raise_file_limit
from rocbench.load.merge import merge
from rocbench.load.spec import Closed, Dialect, LoadSpec, Open, Progress, WorkerSpec
from rocbench.load.tally import Tally
from rocbench.load.watch import AHEAD_NS, Watch
from rocbench.load.work import WorkerReport
from rocbench.load.workerpool import WorkerPool
from rocbench.records import LoadResult, RequestArray, Window

_SPARE_FILES = 64
"""Open files that a process needs in addition to its connections."""


def drive(
    spec: LoadSpec,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    agents: Sequence[Agent] = (),
) -> LoadResult:
    """Load a server as `spec` says and return the measurements.

    Args:
        spec: the load.
        on_progress: called four times a second from this thread.
        stop: when set, the load ends within seconds and the measurements are returned
            (`window.ended_by` is "interrupted"); so does KeyboardInterrupt.
        agents: load hosts that send the load in place of this machine.

    Raises InputError for a spec, dataset or tokenizer that cannot be used, ServerFault if nothing answers at
    the target or it does not serve the model, LoadFault if a worker process dies or hangs.
    """
    limit = raise_file_limit()
    transport = choose_transport(spec)
    if spec.probe:
        learned = learn(spec, transport)
    else:
        known = addresses(baseurl.parse(spec.target.base_url)) if transport == "wire" else ()
        learned = Learned(Dialect(), known, None, (), ())
    workers = spread(agents, spec.workers, needed_workers(spec)) if agents else choose_workers(spec)
    specs = [_worker_spec(spec, index, workers, transport, learned) for index in range(workers)]
    control = Control.create(workers)
    try:
        probes = _probe_rows(learned, control)
        with HostsCrew(specs, control, agents) if agents else WorkerPool(specs, control) as pool:
            watch = Watch(spec, control, pool, on_progress, stop, HOSTS_AHEAD_NS if agents else AHEAD_NS)
            window = watch.run()
            reports = pool.reports()
            hosts = pool.hosts() if isinstance(pool, HostsCrew) else ()
            late = pool.notes() if isinstance(pool, HostsCrew) else []
    finally:
        control.close()
    return merge(
        spec,
        reports,
        probes,
        _to_last_answer(window, reports),
        transport=transport,
        clock_step_ns=watch.clock.step_ns,
        open_file_limit=limit,
        notes=[*learned.notes, *watch.rule.notes, *late, *_notes(spec, limit, reports)],
        hosts=hosts,
    )


def _worker_spec(
    spec: LoadSpec, index: int, workers: int, transport: Literal["wire", "aiohttp"], learned: Learned
) -> WorkerSpec:
    return WorkerSpec(
        load=spec,
        index=index,
        workers=workers,
        transport=transport,
        dialect=learned.dialect,
        addresses=learned.addresses,
        text_cost=learned.text_cost,
        cpu=spec.cpus[index % len(spec.cpus)] if spec.cpus else None,
        parent_pid=os.getpid(),
    )


def _probe_rows(learned: Learned, control: Control) -> RequestArray:
    """The rows of the probes, as warm-up of worker 0."""
    spare = memoryview(bytearray(8 * 32)).cast("q")
    tally = Tally(0, control.cells, spare, ignore_eos=False, keep_stamps=False)
    for ended in learned.ended:
        tally.add(ended)
    return tally.rows()


def _to_last_answer(window: Window, reports: list[WorkerReport]) -> Window:
    """End a window that is bound by count at the last answer."""
    if window.ended_by != "count":
        return window
    ends = [int(report.rows["end_ns"].max()) for report in reports if len(report.rows)]
    return replace(window, end_ns=max(ends, default=window.start_ns) + 1)


def _notes(spec: LoadSpec, limit: int, reports: list[WorkerReport]) -> list[str]:
    notes = []
    if spec.target.insecure:
        notes.append("the server's TLS certificate was not checked (insecure)")
    match spec.shape:
        case Closed(asked) | Open(max_in_flight=int(asked)):
            pass
        case _:
            asked = 0  # nothing limits the requests in flight
    needed = asked // max(1, len(reports)) + _SPARE_FILES
    if needed > limit:
        notes.append(
            f"a load worker needs {needed} open files for {asked} users, but its limit is {limit}: raise the hard limit "
            "(ulimit -Hn) or use more workers"
        )
    cut = sum(report.cut for report in reports)
    if cut:
        notes.append(
            f"{cut} requests were still in flight at the end and were cut off: their rows have no end time"
        )
    never = sum(report.never_sent for report in reports)
    if never:
        notes.append(
            f"{never} requests were not sent when they were due, because the limit of requests in flight was reached"
        )
    return notes
