"""The specification of a server, and the server while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rocbench.processes import ProcessIdentity
from rocbench.redact import lift_secrets, usable_key

Kind = Literal["simulated", "process", "container", "attached"]
Runtime = Literal["docker", "podman"]
"""Container runtimes; bench executes no other program for a container."""

OnProgress = Callable[[str, float | None], None]
"""Callback with the current step (`loading weights 5/11`) and the share done, from 0 to 1, if known."""

GRACE_S = 45.0
"""Seconds a server gets after SIGTERM. vLLM's engine core takes up to 15 s and its workers 9 s more
(v0.33.0 v1/engine/utils.py:44-71), so less than 45 s would kill a server that is stopping as it should."""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """All settings of a server. The launcher adds `--host`, `--port` and nothing else to `command`."""

    kind: Kind
    model: str
    """The argument of `vllm serve`: a Hugging Face id or a path."""
    folder: Path
    """Its folder in the run folder, `servers/<id>/`; created if missing."""
    command: tuple[str, ...] = ()
    """Full argv, first word an executable (kind container: inside the image). Empty when attached."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Only the variables added to the launcher's own environment."""
    served_name: str = ""
    """Name in requests; empty selects the server's first model."""
    host: str = "127.0.0.1"
    port: int | None = None
    """TCP port; None chooses a free one."""
    base_url: str | None = None
    """Kind attached: its URL, http or https, with or without `/v1`."""
    api_key: str | None = field(default=None, repr=False)
    """Bearer token. A launched server gets it as VLLM_API_KEY, never in argv."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Kind attached: further headers for every request; they may hold secrets."""
    insecure: bool = False
    """Kind attached: accept any TLS certificate."""
    ready_timeout_s: float = 3600.0
    grace_s: float = GRACE_S
    gpus: tuple[int, ...] = ()
    """GPU indices this server is bound to; empty binds nothing (CPU, simulated)."""
    image: str | None = None
    runtime: Runtime = "docker"
    dev_mode: bool = True
    """Set VLLM_SERVER_DEV_MODE=1 if the host is a loopback address."""
    gated: bool = False
    """The model needs HF_TOKEN to download."""
    weight_bytes: float | None = None
    """Bytes to download if the model is not in the cache; None if unknown."""

    def __post_init__(self) -> None:
        # A key in argv would be visible in `ps`, in a printed spec, and in vLLM's log of its arguments.
        command, env = lift_secrets(self.command, self.env)
        key = self.api_key or env.get("VLLM_API_KEY")
        if key:
            key = usable_key(key)
        if "VLLM_API_KEY" in env and key:
            env["VLLM_API_KEY"] = key  # the server would expect the line's end too
        object.__setattr__(self, "command", command)
        object.__setattr__(self, "env", env)
        object.__setattr__(self, "api_key", key)

    @property
    def request_headers(self) -> dict[str, str]:
        """Headers for every request to it."""
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return key | dict(self.headers)


@dataclass(frozen=True, slots=True)
class StopReport:
    """The way a server ended."""

    how: Literal["already_gone", "terminated", "killed", "left_running"]
    """`left_running`: an attached server, which bench does not stop."""
    seconds: float
    exit_code: int | None = None
    killed: tuple[int, ...] = ()
    """pids killed after the leader was gone or its grace was over."""


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
    """The answer of `/version`; None without one."""
    ready_s: float
    """Seconds from launch to the first completed answer."""
    max_model_len: int | None = None
    image_digest: str | None = None
    container: str = ""
    """Name of its container; empty without one."""
    log_start: int = 0
    """Offset of this start's lines in the log."""
    health_path: str = "/health"
    """Path of a health check that costs nothing; empty without one."""
    notes: list[str] = field(default_factory=list)
    exit_code: Callable[[], int | None] = field(default=lambda: None, repr=False)
    """Exit code; None while it runs (always for an attached server)."""
    processes: Callable[[], tuple[ProcessIdentity, ...]] = field(default=lambda: (), repr=False)
    """The server's processes on this machine, leader first."""
    stopped: StopReport | None = None
    """Set once the context has ended."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers for every request to it."""
        return self.spec.request_headers

    @property
    def simulated(self) -> bool:
        """True if its figures come from the simulated server."""
        return self.spec.kind == "simulated"


def ready_timeout_s(total_params: float | None) -> float:
    """Maximum seconds until a server is ready: 600 s (vLLM's default) plus 3 s per billion parameters.

    This gives 3,600 s for 1T, as in vLLM's recipes for models of that size; the same if the size is unknown.
    """
    if total_params is None:
        return 3600.0
    return 600.0 + 3.0 * total_params / 1e9
