"""How a server ended a connection of aiohttp's, which its exceptions do not tell."""

from __future__ import annotations

import asyncio
import errno
import functools
import select
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import LineTooLong

from rocbench.load.framing import HEAD_TOO_LARGE, MOST_HEAD
from rocbench.records import Resend


class Trip:
    """One request's way: which connection it got, whether that had been kept, and whether it has left."""

    __slots__ = ("kept", "left", "line", "ready")

    def __init__(self) -> None:
        self.kept = self.ready = self.left = False
        self.line: Line | None = None

    @property
    def answered(self) -> bool:
        """A byte of the answer came."""
        return self.line is not None and self.line.any_bytes

    @property
    def ended(self) -> Resend | None:
        """How the server ended the connection; None while it stands."""
        return self.line.ended if self.line is not None else None


TRIP: ContextVar[Trip] = ContextVar("trip")
"""The trip of the task that runs."""


class HeadTooLarge(aiohttp.ClientError):
    """The head of an answer, with whatever comes before it, has no end."""


def head_too_large(error: BaseException | None) -> bool:
    """Whether an answer failed for the size of its head."""
    while error is not None:
        if isinstance(error, HeadTooLarge | LineTooLong):
            return True
        error = error.__cause__
    return False


class Line(ResponseHandler):
    """aiohttp's end of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, idle_closed: Callable[[], None]) -> None:
        super().__init__(loop)
        self._idle_closed = idle_closed
        self.any_bytes = False
        self.ended: Resend | None = None
        self._bare = 0
        """Bytes since the answer's body last grew: its head, the size of a chunk, a trailer."""
        self._grown: tuple[Any, int] = (None, 0)
        """The body, and how many bytes of it there were."""

    @property
    def idle(self) -> bool:
        """It is kept: the last answer came whole, and nothing was asked since."""
        whole = self._payload is not None and self._payload.is_eof()
        return self.any_bytes and whole and not self._should_close and self.transport is not None

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be written."""
        self.any_bytes = False
        self._bare, self._grown = 0, self._body()
        TRIP.get().line = self
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.any_bytes = True
        super().data_received(data)
        before, self._grown = self._grown, self._body()
        self._bare = self._bare + len(data) if self._grown == before else 0
        if self._bare > MOST_HEAD and self.transport is not None:
            if self.exception() is None:
                self.set_exception(HeadTooLarge(HEAD_TOO_LARGE))
            self.transport.close()

    def set_exception(self, exc: Any, *cause: Any) -> None:
        """The connection has failed. A fault in a body's trailer aiohttp does not tell the reader of the body."""
        super().set_exception(exc, *cause)
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            error = aiohttp.ClientPayloadError(f"Response payload is not completed: {exc!r}")
            error.__cause__ = cause[0] if cause and isinstance(cause[0], Exception) else exc
            body.set_exception(error)

    def eof_received(self) -> None:
        """The server closed; what reaches a closed socket is thrown away: an end, then a reset (EPIPE)."""
        error = 0
        if (sock := self._socket()) is not None:
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.ended = Resend.UNREAD if error == errno.EPIPE else Resend.CLOSED
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        if exc is not None and self.ended is None:
            self.ended = Resend.RESET
        if self.idle:
            self._idle_closed()
        super().connection_lost(exc)

    def is_connected(self) -> bool:
        """Whether it can still be used: the server may have closed it, and the loop not have read so yet."""
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
        found: socket.socket | None = self.transport.get_extra_info("socket") if self.transport else None
        return found if found is not None and found.fileno() >= 0 else None


def _ended(fd: int) -> bool:
    """Whether the other side has closed or reset. Only Linux tells of a close that was not read yet."""
    if not hasattr(select, "POLLRDHUP"):
        return False
    poller = select.poll()
    poller.register(fd, select.POLLRDHUP)
    return bool(poller.poll(0))


class TcpConnector(aiohttp.TCPConnector):
    """Connections that tell how they ended."""

    def __init__(self, idle_closed: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(Line, loop=self._loop, idle_closed=idle_closed)  # type: ignore[assignment]
