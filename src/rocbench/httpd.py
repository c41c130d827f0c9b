r"""A small asyncio HTTP/1.1 server for servers that stream: httptools for parsing, no framework.

    async def handle(exchange: Exchange) -> None:      # or a plain function
        if exchange.path == "/health":
            exchange.respond(200)
            return
        exchange.begin_stream()                        # 200, text/event-stream, chunked
        exchange.write(b"data: {}\n\n")                 # one HTTP chunk
        exchange.end()

    server = await serve(handle, "127.0.0.1", 0)
    server.port; await server.close()

The handler is called once the whole body is there. It may return at once and keep the exchange, to answer
later by plain calls without await. Connections are kept alive; a second request on a
connection waits until the first is answered. It runs on asyncio's own loop and on uvloop's.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast

import httptools

REASONS = {status.value: status.phrase for status in HTTPStatus}

Handler = Callable[["Exchange"], Awaitable[None] | None]


class Exchange:
    """One request and the means to answer it: `respond`, or `begin_stream`, `write`..., `end`.

    Once the client has gone, `closed` is true, `on_close` has been called, and writes do nothing.
    """

    __slots__ = (
        "_connection",
        "body",
        "closed",
        "headers",
        "method",
        "on_close",
        "path",
        "query",
        "streaming",
    )

    def __init__(self, connection: _Connection, method: str, target: str, headers: dict[str, str]) -> None:
        self._connection = connection
        self.streaming = False
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        """Header names in lower case."""
        self.body = b""
        self.closed = False
        """True if the answer is complete, or the client has gone."""
        self.on_close: Callable[[], None] | None = None
        """Called once if the client goes before the answer is complete."""

    def json(self) -> Any:
        """Return the body as JSON; raise ValueError if it is not."""
        return json.loads(self.body)

    def respond(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Send a whole answer, with a Content-Length."""
        length = ("Content-Length", str(len(body)))
        self._send(_head(status, (("Content-Type", content_type), length, *headers)) + body)
        self._finish()

    def respond_json(self, status: int, value: object) -> None:
        """Send a value as JSON."""
        self.respond(status, json.dumps(value).encode())

    def begin_stream(self) -> None:
        """Send the head of a chunked stream of events."""
        self.streaming = True
        kind = ("Content-Type", "text/event-stream; charset=utf-8")
        self._send(_head(200, (kind, ("Transfer-Encoding", "chunked"))))

    def write(self, data: bytes) -> None:
        """Send one HTTP chunk (an empty one would end the answer, so it is left out)."""
        if data:
            self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def write_raw(self, data: bytes) -> None:
        """Send bytes unchanged, for answers that are already framed, or broken on purpose."""
        self._send(data)

    def end(self) -> None:
        """End a chunked answer; the connection is free for its next request."""
        if self.streaming:
            self._send(b"0\r\n\r\n")
        self._finish()

    def close(self) -> None:
        """Send the written bytes, then close the connection (a FIN), even if more was promised."""
        self._connection.drop()

    def abort(self) -> None:
        """Drop the connection at once, as a crash does: unsent bytes are lost."""
        self._connection.abort()

    def reset(self) -> None:
        """Drop the connection at once with a RST, so that the client's next read fails."""
        self._connection.reset()

    def _send(self, data: bytes) -> None:
        if not self.closed:
            self._connection.send(data)

    def _finish(self) -> None:
        if not self.closed:
            self.closed = True
            self._connection.answered(self)

    def lost(self) -> None:
        """Handle a client that has gone."""
        if not self.closed:
            self.closed = True
            if self.on_close is not None:
                self.on_close()


class _Connection(asyncio.Protocol):
    """One client's connection: parses requests and hands them to the handler in turn."""

    def __init__(self, handler: Handler, open_connections: set[_Connection]) -> None:
        self._handler = handler
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._target: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._current: Exchange | None = None
        self._waiting: deque[tuple[Exchange, bool]] = deque()
        self._keep_alive = True
        self._tasks: set[asyncio.Task[None]] = set()

    # --- asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.drop()
        except httptools.HttpParserError:
            self.send(_head(400, (("Content-Length", "0"), ("Connection", "close"))))
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._open.discard(self)
        if self._current is not None:
            self._current.lost()
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    # --- httptools' calls

    def on_message_begin(self) -> None:
        self._target, self._headers, self._body = [], {}, []

    def on_url(self, url: bytes) -> None:
        self._target.append(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode("ascii")
        exchange = Exchange(self, method, b"".join(self._target).decode("latin-1"), self._headers)
        exchange.body = b"".join(self._body)
        self._body = []
        keep = self._parser.should_keep_alive()
        if self._current is None:
            self._handle(exchange, keep)
        else:
            self._waiting.append((exchange, keep))

    # --- for Exchange

    def send(self, data: bytes) -> None:
        """Write bytes, unless the client has gone."""
        if self._transport is not None:
            self._transport.write(data)

    def answered(self, exchange: Exchange) -> None:
        """Handle a complete exchange: take the next one, or close if the client asked for that."""
        if exchange is not self._current:
            return
        self._current = None
        if not self._keep_alive:
            self.drop()
        elif self._waiting:
            self._handle(*self._waiting.popleft())

    def drop(self) -> None:
        """Close the connection politely."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Close the connection at once with a RST."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.abort()

    def _handle(self, exchange: Exchange, keep_alive: bool) -> None:
        self._current, self._keep_alive = exchange, keep_alive
        try:
            result = self._handler(exchange)
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way; the client gets a 500
            self._failed(exchange, error)
            return
        if inspect.isawaitable(result):
            task = asyncio.ensure_future(self._await(exchange, result))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _await(self, exchange: Exchange, result: Awaitable[None]) -> None:
        try:
            await result
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way; the client gets a 500
            self._failed(exchange, error)

    def _failed(self, exchange: Exchange, error: Exception) -> None:
        """Answer 500 if nothing was sent; else break the stream off, so that it cannot look complete."""
        if exchange.closed:
            return
        if exchange.streaming:
            exchange.abort()
        else:
            exchange.respond_json(
                500, {"error": {"message": f"{type(error).__name__}: {error}", "code": 500}}
            )


class Server:
    """A listening server. `close` ends it and all its connections."""

    def __init__(self, server: asyncio.Server, connections: set[_Connection]) -> None:
        self._server = server
        self._connections = connections
        self.port = int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        self._server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.sleep(0)


async def serve(
    handler: Handler, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None
) -> Server:
    """Listen on host and port (0: any free one, read it from `Server.port`). Raises OSError if taken."""
    loop = asyncio.get_running_loop()
    connections: set[_Connection] = set()
    server = await loop.create_server(
        lambda: _Connection(handler, connections), host, port, backlog=4096, ssl=tls
    )
    return Server(server, connections)


def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
