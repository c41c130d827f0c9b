"""One blocking HTTP request: for health, metrics, models and the load's probe, never for the load itself.

It uses the same proxy and the same check of the server's certificate as the load. Every exchange is bounded in
time and bytes, whatever the server does.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rocbench import baseurl
from rocbench.address import Proxy, proxy_of, tls_context
from rocbench.baseurl import Endpoint

CONNECT_S = 5.0
"""Time limit for a connection, including TLS and a proxy."""
MOST_BYTES = 8 << 20
"""Maximum bytes of an answer and its head: vLLM's metrics are 60 kB per engine, a gateway's model list <1 MB."""
_PIECE = 1 << 16


class NoConnection(OSError):
    """No connection to the server; the reason is the `__cause__` of this error."""


class TooLarge(OSError):
    """The answer is larger than any valid answer and was not read to its end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, whole body, and the headers by their names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """The body as JSON; None if it is not usable JSON: nested too deeply, or text that is not Unicode."""
        return read_json(self.body)


def read_json(data: bytes) -> Any:
    """A server's bytes as JSON; None if they are not JSON, nested too deeply, or hold half a surrogate pair. Pure."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


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
    most_bytes: int = MOST_BYTES,
) -> Iterator[http.client.HTTPResponse]:
    """Send one request on a new connection, and yield its answer, not read yet.

    Args:
        body: bytes are sent unchanged, anything else as JSON.
        timeout_s: limit for the whole exchange; connecting takes at most CONNECT_S of it.
        insecure: accept any certificate.
        most_bytes: maximum size of the answer and its head.

    Raises:
        NoConnection: no connection could be made.
        TooLarge: the answer has more bytes than `most_bytes`.
        TimeoutError: it did not end in time.
        OSError: no answer, or one that is not HTTP.
        InputError: the environment's proxy cannot be used.
    """
    where = baseurl.parse(base_url)
    proxy = proxy_of(where)
    connection = _connection(where, proxy, insecure=insecure, timeout_s=min(CONNECT_S, timeout_s))
    bounds = _Bounds(time.monotonic() + timeout_s, most_bytes)
    connection.response_class = bounds.response  # type: ignore[assignment]
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
        connection.sock.settimeout(left_s(bounds.until_s))
        connection.request(method, target, body=payload, headers=sent)
        yield connection.getresponse()
    except http.client.RemoteDisconnected:
        raise  # a connection that was reset
    except http.client.LineTooLong as error:
        raise TooLarge(f"the headers of the answer are too large: {error}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"not an HTTP answer: {error!r}") from error
    finally:
        connection.close()


def _connection(
    where: Endpoint, proxy: Proxy | None, *, insecure: bool, timeout_s: float
) -> http.client.HTTPConnection:
    """A connection to the server, or to its proxy, not yet opened."""
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
    timeout_s: float = 5.0,
    insecure: bool = False,
) -> Answer:
    """One request without a body, and its whole answer of at most MOST_BYTES. Raises as `exchange`."""
    request = exchange(base_url, path, method=method, headers=headers, timeout_s=timeout_s, insecure=insecure)
    with request as response:
        by_name = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, read_body(response), by_name)


def read_body(response: http.client.HTTPResponse) -> bytes:
    """The rest of an answer, read in pieces: memory grows with received bytes, not with the announced length.

    Raises IncompleteRead, with the received bytes in `partial`, if the connection ended before the body.
    """
    pieces: list[bytes] = []
    try:
        while piece := response.read(_PIECE):
            pieces.append(piece)
    except http.client.IncompleteRead as error:
        raise http.client.IncompleteRead(b"".join([*pieces, error.partial])) from None
    if response.length:
        raise http.client.IncompleteRead(b"".join(pieces), response.length)
    return b"".join(pieces)


def left_s(until_s: float) -> float:
    """Seconds until the answer's deadline, by the monotonic clock. Raises TimeoutError if none are left."""
    left = until_s - time.monotonic()
    if left <= 0:
        raise TimeoutError("the answer did not end in time")
    return left


class _Bounds:
    """Remaining time and bytes of an exchange, for any reader of its answer."""

    def __init__(self, until_s: float, most_bytes: int) -> None:
        self.until_s = until_s
        self._most = self._left = most_bytes

    def received(self, count: int) -> None:
        """Count received bytes. Raises TooLarge if there are too many."""
        self._left -= count
        if self._left < 0:
            raise TooLarge(f"the answer is larger than {self._most / (1 << 20):g} MiB")

    def response(self, sock: socket.socket, *rest: Any, **more: Any) -> http.client.HTTPResponse:
        """An HTTP response that is read within the bounds."""
        return http.client.HTTPResponse(_Reader(sock, self), *rest, **more)  # type: ignore[arg-type]


class _Reader(io.RawIOBase):
    """A file over a socket's bytes within bounds, for http.client."""

    def __init__(self, sock: socket.socket, bounds: _Bounds) -> None:
        self._sock, self._bounds = sock, bounds
        self._file = sock.makefile("rb", buffering=0)  # keeps the socket open when its connection releases it

    def makefile(self, mode: str) -> io.BufferedReader:
        """A buffered file, as from a socket."""
        return io.BufferedReader(self, _PIECE)

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read available bytes; wait at most the remaining time."""
        self._sock.settimeout(left_s(self._bounds.until_s))
        count = self._file.readinto(buffer) or 0
        self._bounds.received(count)
        return count

    def close(self) -> None:
        """Release the socket."""
        self._file.close()
        super().close()
