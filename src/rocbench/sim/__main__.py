"""`python -m rocbench.sim serve MODEL ...`: a vLLM server without a GPU, with the argv of `vllm serve`.

It reads everything else (model profile, hardware, vLLM version, simulation settings, faults) from the JSON
file named by the variable ROCBENCH_SIM.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import uvloop
from pydantic import ValidationError

from rocbench.errors import BenchError
from rocbench.httpd import serve
from rocbench.rules.load import shipped
from rocbench.sim import calibration, loglines
from rocbench.sim.argv import UsageError, parse
from rocbench.sim.faultplan import leave_orphan
from rocbench.sim.http import SimServer
from rocbench.sim.node import Context, Node, resolve
from rocbench.sim.refusals import Refusal


def log(line: str, level: str = "INFO") -> None:
    """Print a line in the format of vLLM's logger."""
    stamp = datetime.now().astimezone().strftime("%m-%d %H:%M:%S")
    print(f"{level} {stamp} [sim] {line}", flush=True)


def main(argv: Sequence[str]) -> int:
    """Serve until a signal arrives; return vLLM's exit code."""
    if not argv or argv[0] != "serve":
        print("usage: python -m rocbench.sim serve MODEL [flags of vllm serve]", file=sys.stderr)
        return 2
    try:
        context = Context.model_validate_json(Path(os.environ["ROCBENCH_SIM"]).read_bytes())
        table = shipped()
        parsed = parse(argv[1:], context.vllm, table.names)
        node = resolve(
            parsed, context, os.environ, table, calibration.read_calibration(context.simulation.calibration)
        )
    except KeyError:
        print(
            "ROCBENCH_SIM must name the simulation's JSON file (`bench simulate` writes it)", file=sys.stderr
        )
        return 2
    except UsageError as error:
        print(
            f"usage: vllm [-h] [-v] {{chat,complete,serve,bench,...}} ...\nvllm: error: {error}",
            file=sys.stderr,
        )
        return 2
    except (OSError, ValidationError, BenchError) as error:
        print(error, file=sys.stderr)
        return 2
    except Refusal as refusal:
        return _failed(refusal.line)
    if context.faults.orphan:
        leave_orphan()
    return _run(node, context)


def _failed(line: str) -> int:
    log(line, "ERROR")
    log(loglines.FAILED_LINE, "ERROR")
    return 1


def _run(node: Node, context: Context) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(node, context))


async def _serve(node: Node, context: Context) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        if not (context.faults.ignore_sigterm and number == signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        else:
            signal.signal(number, signal.SIG_IGN)
    loop.set_exception_handler(_crash)
    app = SimServer(node, context, os.environ, loop)
    host = node.argv.text("host") or "127.0.0.1"
    try:
        server = await serve(app.handle, host, node.argv.integer("port", 8000))
    except OSError as error:
        return _failed(f"OSError: [Errno {error.errno}] {os.strerror(error.errno or 0)}")
    log(f"Started server process [{os.getpid()}] on http://{host}:{server.port}")
    loading = asyncio.ensure_future(_load(app, context))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    failed = loading.done() and loading.result()
    if not failed:
        await stopping
        log("Shutting down")
        if context.faults.slow_stop_s:
            await asyncio.sleep(context.faults.slow_stop_s)
    await server.close()
    return int(failed)


def _crash(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """End at once on an error of the simulation itself, which must not look like a slow server."""
    loop.default_exception_handler(context)
    os._exit(1)


async def _load(app: SimServer, context: Context) -> int:
    """Wait for the configured load time, then open the server. Return 1 if it is configured to die."""
    faults, load_s = context.faults, context.simulation.load_s
    for line in loglines.before_load(app.node):
        log(line)
    for line in loglines.warnings(app.node):
        log(line, "WARNING")
    await asyncio.sleep(load_s)
    if faults.oom_at_load is not None:
        return _failed(faults.oom_at_load or loglines.OOM_LINE)
    if faults.die_at_load:
        return _failed("RuntimeError: simulated death at load")
    if faults.hang_at_load:
        await asyncio.Event().wait()
    for line in loglines.after_load(app.node, load_s):
        log(line)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    app.ready()
    log(loglines.SUCCESS_LINE)
    if faults.jit_line_after_s is not None:
        asyncio.get_running_loop().call_later(faults.jit_line_after_s, log, loglines.JIT_LINE)
    _flood(faults.log_flood_bytes)
    return 0


def _flood(size: int) -> None:
    line = "DEBUG " + "x" * 1017 + "\n"
    for _ in range(size // len(line)):
        sys.stdout.write(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
