"""Servers of every kind as context managers: up inside the `with`, proved gone after it.

with server.start(spec, on_progress) as running:
    drive(running.base_url, ...)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rocbench.errors import Interrupted
from rocbench.server.attached import AttachedServer
from rocbench.server.launched import Launched
from rocbench.server.lock import gpu_locks
from rocbench.server.preflight import check_model
from rocbench.server.process import LocalServer
from rocbench.server.ready import wait_until_ready
from rocbench.server.spec import OnProgress, RunningServer, ServerSpec, StopReport
from rocbench.server.vram import wait_idle

__all__ = ["RunningServer", "ServerSpec", "start"]


@contextmanager
def start(spec: ServerSpec, on_progress: OnProgress | None = None) -> Iterator[RunningServer]:
    """Starts a server (or attaches to one), waits until it answers, and always stops it.

    Args:
        spec: the server, and the folder for its files.
        on_progress: receives the loading steps read from its log, with the share done if known.

    Raises:
        EnvironmentFault: the model is not available, or the container runtime is missing.
        NodeFault: port or GPUs are taken, GPU memory does not come back, or the disk is too small.
        ServerFault: it died, hung, or could not be stopped; with cause, fix and log.
    """
    if spec.kind != "attached" and spec.api_key is None and os.environ.get("VLLM_API_KEY"):
        spec = replace(spec, api_key=os.environ["VLLM_API_KEY"])  # the server inherits it, and asks for it
    launched = _launcher(spec)
    running: RunningServer | None = None
    if spec.kind in ("process", "container"):
        check_model(spec)
    with gpu_locks(spec.gpus):
        if spec.kind in ("process", "container"):
            wait_idle(spec.gpus, on_progress)
        try:
            launched.launch()
            running = wait_until_ready(launched, on_progress)
            yield running
        finally:
            report = _stop(launched)
            if running is not None:
                running.stopped = report


def _stop(launched: Launched) -> StopReport:
    """Stops it even if an interrupt arrives during the stop; raises the interrupt afterwards."""
    try:
        return launched.stop()
    except (KeyboardInterrupt, Interrupted):
        launched.stop()
        raise


def _launcher(spec: ServerSpec) -> Launched:
    match spec.kind:
        case "simulated" | "process":
            return LocalServer(spec)
        case "container":
            from rocbench.server.container import ContainerServer

            return ContainerServer(spec)
        case "attached":
            return AttachedServer(spec)
