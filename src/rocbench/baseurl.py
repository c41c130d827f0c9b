"""A server's base URL, taken apart. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from socket import inet_aton
from urllib.parse import urlsplit

from rocbench.errors import InputError
from rocbench.redact import redacted

_PORTS = {"http": 80, "https": 443}


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
        return authority(self.host, self.port)

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


def parse(base_url: str) -> Endpoint:
    """The parts of a base URL, with or without `/v1` at its end.

    Raises:
        InputError: no request can be sent there, or it holds a user, a password or a query.
    """
    unusable = InputError(
        "is not the URL of a server",
        where=repr(redacted(base_url)),
        fix="give scheme, host and port: http://127.0.0.1:8000",
    )
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        raise unusable from None
    if parts.scheme not in _PORTS or not host or port == 0 or not parts.path.isascii():
        raise unusable
    if parts.username is not None or parts.query or parts.fragment:
        raise InputError(
            "must not contain a user, password or query",
            where="base_url",
            fix="name the variable that holds the key: api_key_env, --api-key-env",
        )
    return Endpoint(parts.scheme, host, port or _PORTS[parts.scheme], root_of(parts.path))


def root_of(base_url: str) -> str:
    """A URL without a trailing slash and without the `/v1` of OpenAI clients."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")


def authority(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A host as an address, also in a short form (`127.1`); None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(inet_aton(host)) if host[:1].isdigit() else None
    except OSError:
        return None
