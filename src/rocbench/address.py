"""The way to a server: its addresses, its proxy, its TLS checks.

The load and every other call (health, metrics, models) use the same rules.
"""

from __future__ import annotations

import base64
import socket
import ssl
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from rocbench.baseurl import Endpoint, authority
from rocbench.errors import InputError, ServerUnreachable


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy between this machine and a server."""

    scheme: str
    host: str
    port: int
    credentials: str | None = field(default=None, repr=False)
    """`user:password`, from its URL."""

    @property
    def url(self) -> str:
        """Its URL without credentials."""
        return f"{self.scheme}://{authority(self.host, self.port)}"

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the proxy gets in addition to the request."""
        if self.credentials is None:
            return {}
        return {"Proxy-Authorization": "Basic " + base64.b64encode(self.credentials.encode()).decode()}


def proxy_of(where: Endpoint) -> Proxy | None:
    """The proxy for a server by `http_proxy`, `https_proxy` and `no_proxy`; None without one.

    Loopback addresses and Unix sockets never have a proxy.

    Raises:
        InputError: its address cannot be used.
    """
    if where.loopback or urllib.request.proxy_bypass(f"{where.host}:{where.port}"):
        return None
    value = urllib.request.getproxies().get(where.scheme, "").strip()
    if not value:
        return None
    variable = f"{where.scheme}_proxy"
    unusable = InputError(
        "is not the address of a proxy", where=variable, fix="give http://HOST:PORT, or unset the variable"
    )
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise unusable from None
    if not host:
        raise unusable
    if parts.scheme != "http":
        raise InputError(
            f"bench cannot use a {parts.scheme}:// proxy",
            where=variable,
            fix="give a proxy at http://HOST:PORT, or list the server in no_proxy",
        )
    credentials = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy("http", host, port or 80, credentials)


def tls_context(*, insecure: bool = False) -> ssl.SSLContext:
    """Return the TLS checks for a server: this machine's authorities and SSL_CERT_FILE, or no checks."""
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def addresses(where: Endpoint) -> tuple[tuple[int, object], ...]:
    """(family, socket address) of each address of the name. Raises ServerUnreachable if it has none."""
    try:
        infos = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServerUnreachable(
            f"the name {where.host!r} does not resolve ({error.strerror or error})",
            fix="check its spelling, /etc/hosts and the DNS server of this machine",
        ) from None
    return tuple(dict.fromkeys((int(family), address) for family, _, _, _, address in infos))
