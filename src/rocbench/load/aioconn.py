"""The way in which a server ended an aiohttp connection; aiohttp's exceptions do not report it."""

from __future__ import annotations

import asyncio
import errno
import functools
import select
import socket
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import LineTooLong

from rocbench.load.framing import HEAD_TOO_LARGE, MOST_HEAD
from rocbench.records import Resend


@dataclass(slots=True)
class ConnectionState:
    """The connection of one request."""

    kept: bool = False
    """True if it served an earlier request."""
    ready: bool = False
    left: bool = False
    """True if the request was written."""
    connection: AioConnection | None = None

    @property
    def answered(self) -> bool:
        """True if a byte of the answer has arrived."""
        return self.connection is not None and self.connection.any_bytes

    @property
    def ended(self) -> Resend | None:
        """The way in which the server ended the connection; None while it is open."""
        return self.connection.ended if self.connection is not None else None


STATE: ContextVar[ConnectionState] = ContextVar("state")
"""The state of the running task."""


class HeadTooLarge(aiohttp.ClientError):
    """The answer's head, with the bytes before it, exceeds the limit."""


def head_too_large(error: BaseException | None) -> bool:
    """True if an answer failed because its head is too large."""
    while error is not None:
        if isinstance(error, HeadTooLarge | LineTooLong):
            return True
        error = error.__cause__
    return False


class AioConnection(ResponseHandler):
    """aiohttp's side of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, idle_closed: Callable[[], None]) -> None:
        super().__init__(loop)
        self._idle_closed = idle_closed
        self.any_bytes = False
        self.ended: Resend | None = None
        self._bare = 0
        """Bytes since the answer's body last grew: head, chunk sizes or trailer."""
        self._grown: tuple[Any, int] = (None, 0)
        """The body and its number of bytes at the last look."""

    @property
    def idle(self) -> bool:
        """True if the connection is kept: the last answer is complete, and no request followed."""
        whole = self._payload is not None and self._payload.is_eof()
        return self.any_bytes and whole and not self._should_close and self.transport is not None

    def set_response_params(self, **params: Any) -> None:
        """Prepare for a request that is about to be written."""
        self.any_bytes = False
        self._bare, self._grown = 0, self._body()
        STATE.get().connection = self
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Count received bytes."""
        self.any_bytes = True
        super().data_received(data)
        before, self._grown = self._grown, self._body()
        self._bare = self._bare + len(data) if self._grown == before else 0
        if self._bare > MOST_HEAD and self.transport is not None:
            if self.exception() is None:
                self.set_exception(HeadTooLarge(HEAD_TOO_LARGE))
            self.transport.close()

    def set_exception(self, exc: Any, *cause: Any) -> None:
        """Handle a failed connection. aiohttp hides a fault in a body's trailer from the body's reader."""
        super().set_exception(exc, *cause)
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            error = aiohttp.ClientPayloadError(f"Response payload is not completed: {exc!r}")
            error.__cause__ = cause[0] if cause and isinstance(cause[0], Exception) else exc
            body.set_exception(error)

    def eof_received(self) -> None:
        """Note that the server closed. A closed socket discards its input: an end, then a reset (EPIPE)."""
        error = 0
        if (sock := self._socket()) is not None:
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.ended = Resend.UNREAD if error == errno.EPIPE else Resend.CLOSED
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note that the connection is gone."""
        if exc is not None and self.ended is None:
            self.ended = Resend.RESET
        if self.idle:
            self._idle_closed()
        super().connection_lost(exc)

    def is_connected(self) -> bool:
        """True if the connection is usable; a close by the server may still be unread by the loop."""
        idle, connected = self.idle, super().is_connected()
        if idle and connected:
            connected = (sock := self._socket()) is None or not _ended(sock.fileno())
        if idle and not connected:
            self._idle_closed()
            self.force_close()
        return connected

    def _body(self) -> tuple[Any, int]:
        return self._payload, getattr(self._payload, "total_bytes", 0)

    def _socket(self) -> socket.socket | None:
        sock: socket.socket | None = self.transport.get_extra_info("socket") if self.transport else None
        return sock if sock is not None and sock.fileno() >= 0 else None


def _ended(fd: int) -> bool:
    """True if the other side has closed or reset. Only Linux reports a close that was not read yet."""
    if not hasattr(select, "POLLRDHUP"):
        return False
    poller = select.poll()
    poller.register(fd, select.POLLRDHUP)
    return bool(poller.poll(0))


class TcpConnector(aiohttp.TCPConnector):
    """A connector whose connections record how they ended."""

    def __init__(self, idle_closed: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(AioConnection, loop=self._loop, idle_closed=idle_closed)  # type: ignore[assignment]
