"""The sockets of one worker: connections, sending and reading.

Everything is non-blocking and edge-triggered. `over` gets the outcome of each request once.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator

from rocbench.load.answer import Answer
from rocbench.load.clock import realtime_ns
from rocbench.load.connection import Connection, Entry
from rocbench.load.framing import SO_TIMESTAMPNS
from rocbench.load.requestfactory import Request
from rocbench.load.spec import Closed
from rocbench.load.tally import FinishedRequest
from rocbench.load.work import Work
from rocbench.records import NONE, Failure, Resend

_READ = 65536
_AT_ONCE = 4
"""Maximum reads of one socket in one turn; other sockets wait meanwhile."""
_CONNECT_S = 30.0
_BROKEN = select.EPOLLERR | select.EPOLLHUP
_WATCH = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
"""Edge-triggered: the kernel reports a read socket only after new input, so each must be read to its end."""


class Sockets:
    """All connections of a worker.

    Args:
        work: the worker's state.
        over: called with each finished request.
    """

    def __init__(self, work: Work, over: Callable[[FinishedRequest], None]) -> None:
        self.work = work
        self.request_ended = over
        self.poller = select.epoll()
        self.table: dict[int, Entry] = {}
        self.idle: list[Connection] = []
        self.deadlines: deque[tuple[int, Connection, Request]] = deque()
        self.connect_deadlines: deque[tuple[int, Connection, Request]] = deque()
        self.timeout_ns = round(work.spec.load.request_timeout_s * 1e9)
        self.connect_ns = round(min(work.spec.load.request_timeout_s, _CONNECT_S) * 1e9)
        self.closed_loop = isinstance(work.spec.load.shape, Closed)
        self.backlog = 0
        """Approximate bytes received and not yet parsed."""

    def connections(self) -> Iterator[Connection]:
        """Every open connection."""
        return (entry[3] for entry in tuple(self.table.values()))

    def running(self) -> Iterator[Request]:
        """Every request in flight."""
        return (entry[3].request for entry in self.table.values() if entry[3].request is not None)

    def measure_backlog(self) -> None:
        """Measure the bytes that wait to be parsed."""
        self.backlog = sum(len(data) for connection in self.connections() for data in connection.reads)

    def expire(self, now: int) -> None:
        """Fail requests that exceeded their time limit."""
        for deadlines, connecting in ((self.deadlines, False), (self.connect_deadlines, True)):
            while deadlines and deadlines[0][0] <= now:
                _, connection, request = deadlines.popleft()
                if connection.request is request and connection.connecting == connecting:
                    self.timed_out(connection)

    # --- receiving

    def receive(self, events: list[tuple[int, int]]) -> None:
        """Record received bytes. The hot path: all other work waits."""
        table, ready = self.table, select.EPOLLIN
        size = 0
        for fd, event in events:
            entry = table.get(fd)
            if entry is None:
                continue
            receive, keep, keep_stamp, connection = entry
            if event != ready:
                self.unusual(connection, event)
                continue
            try:
                data, ancillary, _, _ = receive(_READ, 64)
            except OSError as error:
                self.read_failed(connection, error)
                continue
            keep(data)
            keep_stamp(ancillary[0][2] if ancillary else self.user_space_stamp())
            length = len(data)
            size += length
            if connection.careful or data[-4:] == b"\r\n\r\n" or length < 4:
                self.check(connection)
            if length == _READ or not length:
                self.drain(connection)
        self.backlog += size
        self.work.reads += len(events)

    def drain(self, connection: Connection) -> None:
        """Read a socket to its end: it had more than one read's worth, or the server has closed.

        A socket that does not come to its end lets the others go first: the poll reports it again.
        """
        for _ in range(_AT_ONCE):
            if connection.sock.fileno() < 0:
                return
            try:
                data, ancillary, _, _ = connection.sock.recvmsg(_READ, 64)
            except OSError as error:
                self.read_failed(connection, error)
                return
            if not data:
                self.lost(connection, None)
                return
            connection.reads.append(data)
            connection.stamps.append(ancillary[0][2] if ancillary else self.user_space_stamp())
            self.backlog += len(data)
            self.check(connection)
        if connection.sock.fileno() >= 0:
            events = _WATCH if connection.unsent is None else _WATCH | select.EPOLLOUT
            self.poller.modify(connection.sock.fileno(), events)

    def read_failed(self, connection: Connection, error: OSError) -> None:
        """Handle a failed read: no data after all, or the connection is gone."""
        if not isinstance(error, BlockingIOError):
            self.lost(connection, error)

    def user_space_stamp(self) -> bytes:
        """A user-space stamp in place of a missing kernel stamp (the first packets after it is enabled)."""
        return struct.pack("qq", *divmod(realtime_ns(), 1_000_000_000))

    def unusual(self, connection: Connection, event: int) -> None:
        """Handle a poll result other than plain input."""
        if connection.connecting:
            if not event & select.EPOLLOUT:
                return  # an event of a closed socket with this number: every end of connecting is writable
            error = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error or event & _BROKEN:
                self.unreachable(connection, error or errno.ECONNREFUSED)
            else:
                self.connected(connection)
            return
        if event & select.EPOLLOUT:
            self.send_rest(connection)
        if event & ~select.EPOLLOUT:
            self.drain(connection)

    def check(self, connection: Connection) -> None:
        """Check whether the answer is complete."""
        if connection.request is None:
            self.lost(connection, None)  # there was no request: the input says why the server closes
            return
        connection.parse()
        framing = connection.framing
        if framing.complete:
            self.complete(connection)
        elif framing.broken:
            self.fail(connection, Failure.TRUNCATED, framing.broken)
        elif framing.open_ended and framing.answer.done:
            # Only the server's close would end this body, and the answer is complete.
            framing.answer.end()
            self.complete(connection)
        else:
            connection.careful = not framing.streams

    def complete(self, connection: Connection) -> None:
        """Finish a whole answer: free the connection and let the user continue."""
        request, framing = connection.request, connection.framing
        assert request is not None
        answer = framing.answer
        ended = FinishedRequest(request, answer, request.sent_ns, answer.last_ns, complete=True)
        connection.request = None
        connection.served += 1
        if framing.keep_alive and connection.unsent is None:
            self.idle.append(connection)
        else:
            self.close(connection)
        self.request_ended(ended)

    def fail(self, connection: Connection, failure: Failure, message: str) -> None:
        """Fail the answer: close the connection and let the user continue."""
        request = connection.request
        assert request is not None
        answer = connection.framing.answer
        ended = FinishedRequest(
            request,
            answer,
            request.sent_ns,
            realtime_ns(),
            complete=False,
            failure=failure,
            error=message,
        )
        if answer.failure is not None or answer.status not in {200, NONE}:
            # The answer's own fault (an error, broken JSON, a status) is the better reason.
            ended.failure, ended.error = None, ""
        connection.request = None
        self.close(connection)
        self.request_ended(ended)

    def lost(self, connection: Connection, error: OSError | None) -> None:
        """Handle a connection that the server closed (error None) or reset."""
        request = connection.request
        if request is None:
            self.work.idle_closes += connection.sock.fileno() >= 0
            self.close(connection)
            return
        if connection.connecting:
            self.unreachable(connection, error.errno if error and error.errno else errno.ECONNREFUSED)
            return
        connection.parse()
        framing = connection.framing
        if error is None:
            framing.eof()
        if framing.complete:
            framing.keep_alive = False
            self.complete(connection)
        elif connection.served and not framing.any_bytes and self.work.may_resend(request):
            self.work.resend(request, _reason(connection, error))
            connection.request = None
            self.close(connection)
            self.connect(request, 0)
        elif error is not None or not framing.any_bytes:
            self.fail(
                connection, Failure.RESET, str(error or "the server closed the connection before it answered")
            )
        else:
            self.fail(connection, Failure.TRUNCATED, "the connection ended inside the answer")

    def timed_out(self, connection: Connection) -> None:
        """Handle a time-out; an answer that said [DONE] and left its body open is complete all the same."""
        if connection.connecting:
            self.unreachable(connection, errno.ETIMEDOUT)
            return
        connection.parse()
        framing = connection.framing
        if framing.answer.done:
            framing.answer.end()
            framing.keep_alive = False
            self.complete(connection)
        else:
            limit = self.work.spec.load.request_timeout_s
            self.fail(connection, Failure.TIMEOUT, f"the answer did not end within {limit:g} s")

    # --- sending

    def start(self, request: Request) -> None:
        """Send a request on a kept connection that is still open, else on a new one."""
        while self.idle:
            connection = self.idle.pop()
            if _is_open(connection.sock):
                self.transmit(connection, request)
                return
            self.lost(connection, None)
        self.connect(request, 0)

    def connect(self, request: Request, address: int) -> None:
        """Open a connection for a request, to the server's address with that index."""
        family, where = self.work.spec.addresses[address]
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self.never_connected(request, error.errno or 0)
            return
        connection = Connection(sock, address)
        connection.request = request
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.table[sock.fileno()] = (
            sock.recvmsg,
            connection.reads.append,
            connection.stamps.append,
            connection,
        )
        self.poller.register(sock.fileno(), _WATCH | select.EPOLLOUT)
        self.connect_deadlines.append((time.monotonic_ns() + self.connect_ns, connection, request))
        error_number = sock.connect_ex(where)  # type: ignore[arg-type]
        if error_number not in {0, errno.EINPROGRESS}:
            self.unreachable(connection, error_number)

    def connected(self, connection: Connection) -> None:
        """Send the request on its new connection."""
        request = connection.request
        assert request is not None
        connection.connecting = False
        self.work.opened += 1
        self.poller.modify(connection.sock.fileno(), _WATCH)
        self.transmit(connection, request)

    def unreachable(self, connection: Connection, error_number: int) -> None:
        """Handle an address that does not answer: try the next, or give up."""
        request, address = connection.request, connection.address + 1
        assert request is not None
        connection.request = None
        self.close(connection)
        if address < len(self.work.spec.addresses):
            self.connect(request, address)
        else:
            self.never_connected(request, error_number)

    def never_connected(self, request: Request, error_number: int) -> None:
        """Fail a request that reached no server."""
        now, text = realtime_ns(), f"{errno.errorcode.get(error_number, error_number)}: cannot connect"
        self.work.sent(request, now, clocked=not self.closed_loop)
        sent_ns = request.sent_ns
        ended = FinishedRequest(
            request, Answer(), sent_ns, now, complete=False, failure=Failure.CONNECT, error=text
        )
        self.request_ended(ended)

    def transmit(self, connection: Connection, request: Request) -> None:
        """Send a request. The stamp directly precedes the send."""
        connection.request = request
        connection.careful = True
        connection.framing.begin(Answer())
        data, send = request.payload, connection.sock.send
        sent_ns = realtime_ns()
        try:
            sent = send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if connection.served:  # nothing was sent
                connection.request = None
                self.lost(connection, error)
                self.start(request)
            else:
                self.record_send(connection, request, sent_ns)
                self.lost(connection, error)
            return
        if sent != len(data):
            connection.unsent = memoryview(data)[sent:]
            self.poller.modify(connection.sock.fileno(), _WATCH | select.EPOLLOUT)
        self.record_send(connection, request, sent_ns)

    def record_send(self, connection: Connection, request: Request, sent_ns: int) -> None:
        """Do the bookkeeping after a send."""
        if connection.unsent is None:
            request.payload = b""
        self.work.talking += 1
        self.work.sent(request, sent_ns, clocked=not self.closed_loop)
        self.deadlines.append((time.monotonic_ns() + self.timeout_ns, connection, request))

    def send_rest(self, connection: Connection) -> None:
        """Send more of a body that did not fit the socket's buffer."""
        if connection.unsent is None:
            return
        try:
            while connection.unsent:
                connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            connection.unsent = None
            self.lost(connection, error)
            return
        connection.unsent = None
        self.poller.modify(connection.sock.fileno(), _WATCH)
        if connection.request is not None:
            connection.request.payload = b""

    def close(self, connection: Connection) -> None:
        """Close a connection and forget it."""
        fd = connection.sock.fileno()
        if fd >= 0:
            self.table.pop(fd, None)
            connection.sock.close()
        if connection in self.idle:
            self.idle.remove(connection)

    def abort(self) -> None:
        """Cut all requests in flight."""
        for _, _, _, connection in tuple(self.table.values()):
            if connection.request is not None:
                connection.parse()
                self.work.cut(connection.request, connection.framing.answer)
            connection.request = None
            self.close(connection)


def _is_open(sock: socket.socket) -> bool:
    """False if the server closed a kept connection, or sent something unrequested (a 408)."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _reason(connection: Connection, error: OSError | None) -> Resend:
    """The way in which a connection was lost. Input to a closed socket is dropped: an end, then a reset."""
    if isinstance(error, BrokenPipeError):
        return Resend.UNREAD
    if error is not None:
        return Resend.RESET
    pending = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return Resend.UNREAD if pending == errno.EPIPE else Resend.CLOSED
