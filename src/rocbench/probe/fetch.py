"""One HTTP request, blocking, without proxies: for health, metrics and control, never for load."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and whole body."""

    status: int
    body: bytes

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
) -> Iterator[http.client.HTTPResponse]:
    """Sends one request (`body` as JSON) on a connection of its own and gives the answer, unread.

    Raises:
        OSError: no connection, no answer in time, or an answer that is not HTTP.
    """
    url = urlsplit(base_url)
    host = url.hostname or ""
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, url.port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, url.port, timeout=timeout_s)
    sent = dict(headers or {})
    payload = None
    if body is not None:
        payload = json.dumps(body).encode()
        sent["Content-Type"] = "application/json"
    try:
        connection.request(method, url.path.rstrip("/") + path, body=payload, headers=sent)
        yield connection.getresponse()
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {error!r}") from error
    finally:
        connection.close()


def fetch(
    base_url: str,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    timeout_s: float = 5.0,
) -> Answer:
    """One request and its whole answer. Raises OSError as `exchange` does."""
    with exchange(base_url, path, method=method, headers=headers, body=body, timeout_s=timeout_s) as response:
        return Answer(response.status, response.read())
