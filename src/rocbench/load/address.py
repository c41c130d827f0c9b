"""Where a server is: its base URL taken apart, its addresses."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from rocbench.errors import InputError, ServerFault


@dataclass(frozen=True, slots=True)
class Place:
    """A base URL in its parts."""

    scheme: str
    """`http`, `https` or `unix`."""
    host: str
    port: int
    path: str
    """What stands before `/v1/...`, without a slash at its end; the socket's file for `unix`."""

    @property
    def authority(self) -> str:
        """The Host header."""
        if self.scheme == "unix":
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def prefix(self) -> str:
        """What each request's path begins with."""
        return "" if self.scheme == "unix" else self.path

    @property
    def loopback(self) -> bool:
        """True for this machine's own addresses, which no proxy may capture."""
        if self.scheme == "unix" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def place(base_url: str) -> Place:
    """Take a base URL apart. Raises InputError if it is none."""
    if base_url.startswith("unix:"):
        return Place("unix", "", 0, "/" + base_url.removeprefix("unix:").lstrip("/"))
    parts = urlsplit(base_url if "://" in base_url else f"http://{base_url}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1:
        raise InputError(
            f"{base_url!r} is not a server's address", fix="give one such as http://127.0.0.1:8000"
        )
    path = parts.path.rstrip("/").removesuffix("/v1")
    return Place(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), path)


def addresses(where: Place) -> tuple[tuple[int, object], ...]:
    """(family, socket address) of each address the name has. Raises ServerFault if it has none."""
    if where.scheme == "unix":
        return ((int(socket.AF_UNIX), where.path),)
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServerFault(f"the name {where.host!r} does not resolve: {error}") from None
    return tuple(dict.fromkeys((int(family), address) for family, _, _, _, address in found))
