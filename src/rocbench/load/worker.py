"""One worker process: `python -m rocbench.load.worker CONTROL_FD WORKERS` with a pickled WorkerSpec on stdin.

It writes its pickled WorkerReport to stdout. Its other output goes to stderr.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable

from rocbench.errors import BenchError
from rocbench.load.control import Command, Control, Count, Head
from rocbench.load.machine import raise_file_limit
from rocbench.load.spec import WorkerSpec
from rocbench.load.work import Work, WorkerReport


def run(spec: WorkerSpec, control: Control) -> WorkerReport:
    """Do one worker's share of a load. Raises InputError if its requests cannot be made."""
    raise_file_limit()
    if spec.cpu is not None and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {spec.cpu})
    work = Work(spec, control)
    work.queue.prepare()
    # Slow work is done before the worker is ready, so that it does not delay the first send.
    transport = _wire() if spec.transport == "wire" else _aiohttp()
    work.counters[Count.READY] = 1
    if _wait_for_go(work):
        transport(work)
    work.counters[Count.OVER] = 1
    return work.report()


def _wire() -> Callable[[Work], None]:
    from rocbench.load.wire import WireLoop  # needs epoll, which only Linux has

    # A request makes no reference cycles, so memory does not grow without the collector.
    gc.collect()
    gc.freeze()
    gc.disable()
    return lambda work: WireLoop(work).run()


def _aiohttp() -> Callable[[Work], None]:
    from rocbench.load.aio import run_aiohttp

    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # aiohttp does make cycles
    return run_aiohttp


def _wait_for_go(work: Work) -> bool:
    """Wait until the driver says run; return False if it says stop instead."""
    while (command := work.tick(0)) is Command.WAIT:
        time.sleep(0.002)
    if command is not Command.RUN:
        return False
    left = work.cells[Head.GO_NS] - time.time_ns()
    if left > 0:
        time.sleep(left / 1e9)
    return True


def main() -> None:
    """Read the spec, run, report."""
    # Ctrl-C and a scheduler's signals go to the whole process group; only the driver acts on them.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    control = Control(int(sys.argv[1]), int(sys.argv[2]))
    # The report has its own pipe: the output of libraries goes to stderr.
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    spec: WorkerSpec = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own parent wrote it
    try:
        out: WorkerReport | BenchError = run(spec, control)
    except BenchError as error:
        out = error
    with pipe:
        pipe.write(pickle.dumps(out, protocol=pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main()
