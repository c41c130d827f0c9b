"""Choose a free TCP port, or name the holder of a port in use."""

from __future__ import annotations

import socket

import psutil

from rocbench import processes
from rocbench.errors import NodeFault
from rocbench.server.command import flag_value
from rocbench.server.spec import ServerSpec


def free_port(host: str) -> int:
    """A port without a listener at this moment, chosen by the kernel."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def choose_port(spec: ServerSpec) -> int:
    """The spec's port, else the command's own `--port`, else a free one."""
    own = flag_value(spec.command, "--port")
    return spec.port or (int(own) if own and own.isdigit() else free_port(spec.host))


def check_port(host: str, port: int) -> None:
    """Checks that a port can be bound.

    Raises:
        NodeFault: it is in use; the message names its holder if the kernel shows it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Servers set it too; without it, a port in TIME_WAIT of the last server would seem to be in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NodeFault(
                f"port {port} on {host} cannot be bound ({error.strerror}); {holder(port)}",
                fix="stop that process, or omit the port: bench then chooses a free port",
            ) from error


def holder(port: int) -> str:
    """`held by pid 123 (python -m http.server)`, or a note that the holder is unknown."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "only root can see which process uses the port"
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is None:
                return "held by another user's process"
            return f"held by pid {connection.pid} ({_command(connection.pid)})"
    return "no listening process is visible"


def _command(pid: int) -> str:
    return processes.command_line(pid)[:120] or "gone"
