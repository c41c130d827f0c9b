"""One HTTP request, blocking: for health, metrics, models and the load's probe, never for the load itself.

It goes the way that the load goes: by the same proxy or none, with the same check of the server's certificate.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rocbench.address import Place, Proxy, place, proxy_of, tls_context

CONNECT_S = 5.0
"""Seconds that a connection may take, TLS and the way through a proxy included."""


class NoConnection(OSError):
    """No connection to the server stands; the reason is the cause of this error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, whole body, and the headers by their names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def root_of(base_url: str) -> str:
    """The server's root: without a trailing slash and without the `/v1` that OpenAI clients want."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")


@contextmanager
def exchange(
    base_url: str,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    timeout_s: float = 5.0,
    insecure: bool = False,
) -> Iterator[http.client.HTTPResponse]:
    """Sends one request (`body` as JSON, or bytes as they are) on a connection of its own; the answer is unread.

    Args:
        timeout_s: for each wait for the answer; a connection has CONNECT_S, or less where this is less.
        insecure: take any certificate.

    Raises:
        NoConnection: no connection stands.
        OSError: no answer in time, or one that is not HTTP.
        InputError: the proxy of the environment cannot be used.
    """
    where = place(base_url)
    proxy = proxy_of(where)
    connection = _connection(where, proxy, insecure=insecure, timeout_s=min(CONNECT_S, timeout_s))
    target, sent = f"{where.path}{path}", dict(headers or {})
    if proxy is not None and where.scheme == "http":
        target = f"http://{where.authority}{target}"
        sent |= proxy.headers
    if body is not None:
        sent["Content-Type"] = "application/json"
    payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            raise NoConnection(str(error) or type(error).__name__) from error
        connection.sock.settimeout(timeout_s)
        connection.request(method, target, body=payload, headers=sent)
        yield connection.getresponse()
    except http.client.RemoteDisconnected:
        raise  # a connection that was reset
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {error!r}") from error
    finally:
        connection.close()


def _connection(
    where: Place, proxy: Proxy | None, *, insecure: bool, timeout_s: float
) -> http.client.HTTPConnection:
    """A connection to the server, or to the proxy before it, not yet made."""
    host, port = (proxy.host, proxy.port) if proxy else (where.host, where.port)
    if where.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    secure = http.client.HTTPSConnection(
        host, port, timeout=timeout_s, context=tls_context(insecure=insecure)
    )
    if proxy is not None:
        secure.set_tunnel(where.host, where.port, headers=proxy.headers)
    return secure


def fetch(
    base_url: str,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    timeout_s: float = 5.0,
    insecure: bool = False,
) -> Answer:
    """One request and its whole answer. Raises what `exchange` does."""
    with exchange(
        base_url, path, method=method, headers=headers, body=body, timeout_s=timeout_s, insecure=insecure
    ) as response:
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, response.read(), told)
