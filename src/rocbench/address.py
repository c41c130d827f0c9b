"""The address of a server and the way to it: its base URL in parts, its addresses, its proxy, its TLS checks.

The load and every other call (health, metrics, models) use the same rules.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from rocbench.errors import InputError, ServerUnreachable


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A base URL in its parts."""

    scheme: str
    """`http` or `https`."""
    host: str
    port: int
    path: str
    """The part before `/v1/...`, without a slash at its end."""

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """True for this machine's own addresses, which no proxy may capture."""
        name = self.host.rstrip(".").lower()
        if name == "localhost" or name.endswith(".localhost"):
            return True
        address = _ip(self.host)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address is not None and (address.is_loopback or address.is_unspecified)


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
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the proxy gets in addition to the request."""
        if self.credentials is None:
            return {}
        return {"Proxy-Authorization": "Basic " + base64.b64encode(self.credentials.encode()).decode()}


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a host as an address, in the short forms too (`127.1`); None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host[:1].isdigit() else None
    except OSError:
        return None


def proxy_of(where: Endpoint) -> Proxy | None:
    """Return the proxy that `http_proxy`, `https_proxy` and `no_proxy` name for a server; None if there is
    none.

    Loopback addresses and Unix sockets never have a proxy.

    Raises:
        InputError: its address cannot be used.
    """
    if where.loopback or urllib.request.proxy_bypass(f"{where.host}:{where.port}"):
        return None
    given = urllib.request.getproxies().get(where.scheme, "").strip()
    if not given:
        return None
    variable = f"{where.scheme}_proxy"
    unusable = InputError(
        "this is no address of a proxy", where=variable, fix="give http://HOST:PORT, or unset it"
    )
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise unusable from None
    if not host:
        raise unusable
    if parts.scheme != "http":
        raise InputError(
            f"a proxy that is reached by {parts.scheme}:// cannot be used",
            where=variable,
            fix="give one that is reached by http://HOST:PORT, or name the server in no_proxy",
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


def place(base_url: str) -> Endpoint:
    """Parse a base URL. Raises InputError if it is not valid."""
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
    return Endpoint(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), path)


def addresses(where: Endpoint) -> tuple[tuple[int, object], ...]:
    """(family, socket address) of each address of the name. Raises ServerUnreachable if it has none."""
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServerUnreachable(
            f"the name {where.host!r} does not resolve ({error.strerror or error})",
            fix="check its spelling, /etc/hosts and the DNS server of this machine",
        ) from None
    return tuple(dict.fromkeys((int(family), address) for family, _, _, _, address in found))
