"""What a server is before it runs, and what it is while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rocbench.redact import lift_secrets, usable_key

Kind = Literal["simulated", "process", "container", "attached"]
Runtime = Literal["docker", "podman"]
"""What a container may be run by: nothing else is ever executed for one."""

OnProgress = Callable[[str, float | None], None]
"""Told what the server is doing (`loading weights 5/11`) and the share done, from 0 to 1, where known."""

GRACE_S = 45.0
"""Seconds a server gets after SIGTERM. vLLM's engine core takes up to 15 s and its workers 9 s more
(v0.33.0 v1/engine/utils.py:44-71), so less than 45 s would kill a server that is stopping well."""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """Everything that decides a server. The launcher adds `--host`, `--port` and nothing else to `command`."""

    kind: Kind
    model: str
    """What stands after `vllm serve`: a Hugging Face id or a path."""
    folder: Path
    """Its folder in the run folder, `servers/<id>/`; made when missing."""
    command: tuple[str, ...] = ()
    """Full argv, first word an executable (kind container: found inside the image). Empty when attached."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Only what is added to the launcher's own environment."""
    served_name: str = ""
    """Name in requests; empty takes the server's first model."""
    host: str = "127.0.0.1"
    port: int | None = None
    """None chooses a free one."""
    base_url: str | None = None
    """Kind attached: where it is, http or https, with or without `/v1`."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as a bearer token. A launched server is given it as VLLM_API_KEY, never in argv."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Kind attached: further headers of every request to it; they may hold secrets."""
    insecure: bool = False
    """Kind attached: take any TLS certificate."""
    ready_timeout_s: float = 3600.0
    grace_s: float = GRACE_S
    gpus: tuple[int, ...] = ()
    """GPU indices this server is bound to; empty binds nothing (CPU, simulated)."""
    image: str | None = None
    runtime: Runtime = "docker"
    dev_mode: bool = True
    """Set VLLM_SERVER_DEV_MODE=1 where the host is a loopback address."""
    gated: bool = False
    """The model needs HF_TOKEN to download."""
    weight_bytes: float | None = None
    """Bytes to download when the model is not in the cache; None when unknown."""

    def __post_init__(self) -> None:
        # A key in argv would be seen by `ps`, by whoever prints this, and in vLLM's log of its arguments.
        command, env = lift_secrets(self.command, self.env)
        key = self.api_key or env.get("VLLM_API_KEY")
        if key:
            key = usable_key(key)
        if "VLLM_API_KEY" in env and key:
            env["VLLM_API_KEY"] = key  # the server would ask for the line's end too
        object.__setattr__(self, "command", command)
        object.__setattr__(self, "env", env)
        object.__setattr__(self, "api_key", key)

    @property
    def request_headers(self) -> dict[str, str]:
        """Headers that every request to it needs."""
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return key | dict(self.headers)


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be confused with a later one of the same pid."""

    pid: int
    started: int
    """Start time in clock ticks since boot: unlike seconds since the epoch it never shifts with the clock."""


@dataclass(frozen=True, slots=True)
class StopReport:
    """How a server ended."""

    how: Literal["already_gone", "terminated", "killed", "left_running"]
    """`left_running`: an attached server, which is not ours to stop."""
    seconds: float
    exit_code: int | None = None
    killed: tuple[int, ...] = ()
    """pids that had to be killed after the leader was gone or its grace was over."""


@dataclass(slots=True)
class RunningServer:
    """A server that answers. `pid` and `log_path` are None for an attached one."""

    spec: ServerSpec
    base_url: str
    """Without a trailing slash and without `/v1`."""
    served_name: str
    pid: int | None
    log_path: Path | None
    version: str | None
    """What `/version` said; None where it has none."""
    ready_s: float
    """Seconds from launch to the first completed answer."""
    first_completion_s: float | None
    """None for an attached server, of which none is asked."""
    models: tuple[str, ...] = ()
    max_model_len: int | None = None
    image_digest: str | None = None
    container: str = ""
    """Its name, where it runs in one."""
    log_start: int = 0
    """Offset of this start's lines in the log."""
    health_path: str = "/health"
    """What says at no cost that it is well; empty where nothing does."""
    notes: list[str] = field(default_factory=list)
    exit_code: Callable[[], int | None] = field(default=lambda: None, repr=False)
    """None while it runs (always for an attached server)."""
    processes: Callable[[], tuple[ProcessIdentity, ...]] = field(default=lambda: (), repr=False)
    """The server's processes on this machine, leader first."""
    stopped: StopReport | None = None
    """Set once the context has ended."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers that every request to it needs."""
        return self.spec.request_headers

    @property
    def simulated(self) -> bool:
        """Whether its figures come from the simulated server."""
        return self.spec.kind == "simulated"


def ready_timeout_s(total_params: float | None) -> float:
    """Seconds a server may take to be ready: 600 s (vLLM's default) and 3 s per billion parameters.

    3,600 s for 1T, what vLLM's recipes set for models of that size; the same where the size is unknown.
    """
    if total_params is None:
        return 3600.0
    return 600.0 + 3.0 * total_params / 1e9
