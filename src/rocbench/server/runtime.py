"""Commands of a container runtime."""

from __future__ import annotations

import subprocess
from contextlib import suppress

from rocbench.server.spec import Runtime

_CALL_S = 60.0


def call(runtime: Runtime, *words: str, timeout_s: float = _CALL_S) -> str | None:
    """Standard output of a command; None if it failed or hung."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [runtime, *words], capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode == 0:
            return done.stdout.strip()
    return None


def stop(runtime: Runtime, container: str, grace_s: float) -> None:
    """Stops a container: SIGTERM, the grace, SIGKILL."""
    call(runtime, "stop", "-t", f"{grace_s:.0f}", container, timeout_s=grace_s + _CALL_S)


def remove(runtime: Runtime, container: str) -> None:
    """Removes a container by force."""
    call(runtime, "rm", "-f", container)


def exists(runtime: Runtime, container: str) -> bool:
    """True if the runtime lists the container, running or not."""
    return bool(call(runtime, "ps", "-aq", "--filter", f"name=^/?{container}$"))
