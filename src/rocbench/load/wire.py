"""The wire transport: one epoll loop over plain sockets, receive stamps by the kernel.

During a burst only (bytes, stamp) is kept for each read; framing, SSE and JSON are parsed in the pauses, and
only what may be the end of an answer is looked at once, so that its user's next request leaves in time. A
loop that runs late stamps nothing late: SO_TIMESTAMPNS gives the time at which the kernel received the last
packet of a read.
"""

from __future__ import annotations

import errno
import heapq
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from rocbench.load.answer import Answer
from rocbench.load.control import Command, Head
from rocbench.load.framing import Framing
from rocbench.load.schedule import SO_TIMESTAMPNS
from rocbench.load.source import Prepared
from rocbench.load.spec import Closed
from rocbench.load.tally import Ended
from rocbench.load.work import Work, realtime_ns
from rocbench.records import Failure

_READ = 65536
_TICK_NS = 10_000_000
_SCAN_NS = 50_000_000
_PARSE_FROM = 16
"""Reads of a running answer that are worth parsing in one go."""
_BACKLOG_BYTES = 64 << 20
"""Unparsed bytes beyond which parsing no longer waits for a pause."""
_CONNECT_S = 30.0
_BROKEN = select.EPOLLERR | select.EPOLLHUP


class Connection:
    """One socket and the answer it is reading."""

    __slots__ = (
        "address",
        "careful",
        "connecting",
        "framing",
        "prepared",
        "reads",
        "sent_ns",
        "served",
        "sock",
        "stamps",
        "unsent",
    )

    def __init__(self, sock: socket.socket, address: int) -> None:
        self.sock = sock
        self.address = address
        self.connecting = True
        self.prepared: Prepared | None = None
        self.framing = Framing()
        self.reads: list[bytes] = []
        self.stamps: list[bytes] = []
        self.careful = True
        """Each read may be the end: the head is not complete, or the body is not chunked."""
        self.unsent: memoryview | None = None
        self.sent_ns = 0
        self.served = 0
        """Answers received whole."""

    def parse(self) -> None:
        """Work through the recorded reads."""
        if self.reads:
            self.framing.feed(self.reads, self.stamps)
            self.reads.clear()
            self.stamps.clear()


Entry = tuple[Callable[[int, int], Any], Callable[[bytes], None], Callable[[bytes], None], Connection]


class WireLoop:
    """Drives one worker's requests until the driver says stop."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.feed = work.feed
        self.poller = select.epoll()
        self.table: dict[int, Entry] = {}
        self.idle: list[Connection] = []
        self.timers: list[tuple[int, int, Prepared]] = []
        self.order = count()
        self.deadlines: deque[tuple[int, Connection, Prepared]] = deque()
        self.connect_deadlines: deque[tuple[int, Connection, Prepared]] = deque()
        self.timeout_ns = round(work.spec.load.request_timeout_s * 1e9)
        self.connect_ns = round(min(work.spec.load.request_timeout_s, _CONNECT_S) * 1e9)
        self.sending = True
        self.backlog = 0
        self.scan: Iterator[Entry] | None = None
        self.next_scan_ns = 0
        self.go_ns = 0
        """Start of the load on CLOCK_REALTIME, and `go_mono_ns` on CLOCK_MONOTONIC."""
        self.go_mono_ns = 0

    # --- the loop

    def run(self) -> None:
        """Send and receive until the drain is over or the load is aborted."""
        self.begin()
        poll, clock, work = self.poller.poll, time.monotonic_ns, self.work
        next_tick = 0
        busy = True
        called = clock()
        while True:
            wait_s = 0.0 if busy else self.wait_s(clock(), next_tick)
            called = clock()
            events = poll(wait_s)
            woke = clock()
            work.pause(called + round(wait_s * 1e9), woke)
            if events:
                self.receive(events)
            now = clock()
            self.start_due(now)
            if now >= next_tick:
                next_tick = now + _TICK_NS
                if not self.tick(now):
                    return
            busy = bool(events) or self.use_pause(now)
            if self.backlog > _BACKLOG_BYTES:
                self.parse_all()
            work.pause(woke, clock())

    def begin(self) -> None:
        """Set the clocks and plan the users' starts."""
        self.go_ns = self.work.cells[Head.GO_NS]
        self.go_mono_ns = time.monotonic_ns() + self.go_ns - realtime_ns()
        for offset, prepared in self.feed.firsts:
            self.at(self.go_mono_ns + offset, prepared)
        self.feed.firsts = []

    def wait_s(self, now: int, next_tick: int) -> float:
        """How long the poll may block: to the next tick, or just short of the next send.

        epoll counts in whole milliseconds; the last part before a send is slept exactly.
        """
        arrival = self.next_arrival()
        due = min(
            (at for at in (self.timers[0][0] if self.timers else None, arrival) if at is not None),
            default=next_tick + 1,
        )
        left = min(due, next_tick) - now
        if left <= 0:
            return 0.0
        if left >= 1_000_000:
            return left // 1_000_000 / 1e3
        if due < next_tick:
            time.sleep(left / 1e9)
            return 0.0
        return 0.001

    def next_arrival(self) -> int | None:
        """When the next request is due by the clock; None under closed loop."""
        if isinstance(self.feed.shape, Closed) or not self.sending:
            return None
        at = self.feed.next_at_ns()
        return None if at is None else self.go_mono_ns + at

    def tick(self, now: int) -> bool:
        """Talk to the driver and look after timeouts; False when the work is done."""
        at = realtime_ns()
        self.work.planned = len(self.timers)
        command = self.work.tick(at)
        for deadlines, connecting in ((self.deadlines, False), (self.connect_deadlines, True)):
            while deadlines and deadlines[0][0] <= now:
                _, connection, prepared = deadlines.popleft()
                if connection.prepared is prepared and connection.connecting == connecting:
                    self.timed_out(connection)
        if self.work.in_tail(at):
            running = (entry[3].prepared for entry in self.table.values())
            self.work.outstanding(prepared for prepared in running if prepared is not None)
        if command is Command.ABORT:
            self.abort()
            return False
        if command is Command.DRAIN:
            self.sending = False
            return self.work.in_flight > 0
        return True

    def use_pause(self, now: int) -> bool:
        """Do one piece of the work that could wait; False when there is none."""
        work = self.work
        if work.ended:
            work.tally.add(work.ended.popleft())
            return True
        if self.sending and self.feed.stock():
            return True
        if self.scan is None:
            if now < self.next_scan_ns:
                return False
            self.next_scan_ns = now + _SCAN_NS
            self.scan = iter(tuple(self.table.values()))
        for entry in self.scan:
            if len(entry[3].reads) >= _PARSE_FROM:
                entry[3].parse()
                return True
        self.scan = None
        self.backlog = sum(len(entry[3].reads) for entry in self.table.values()) * 512
        return False

    def parse_all(self) -> None:
        """Parse without waiting for a pause: memory is bounded first."""
        for entry in self.table.values():
            entry[3].parse()
        self.work.settle()
        self.backlog = 0

    # --- receiving

    def receive(self, events: list[tuple[int, int]]) -> None:
        """Record what came. The hot path: everything else waits."""
        table, ready = self.table, select.EPOLLIN
        size = 0
        for fd, event in events:
            entry = table.get(fd)
            if entry is None:
                continue
            receive, keep, keep_stamp, connection = entry
            if event != ready and not self.unusual(connection, event):
                continue
            try:
                data, ancillary, _, _ = receive(_READ, 64)
            except BlockingIOError:
                continue
            except OSError as error:
                self.lost(connection, error)
                continue
            if not data:
                self.lost(connection, None)
                continue
            keep(data)
            if ancillary:
                keep_stamp(ancillary[0][2])
            else:
                keep_stamp(self.user_stamp())
            size += len(data)
            if connection.careful or data[-4:] == b"\r\n\r\n" or len(data) < 4:
                self.check(connection)
        self.backlog += size
        self.work.reads += len(events)

    def user_stamp(self) -> bytes:
        """A stamp in place of a missing one of the kernel's (the first packets after it was asked for)."""
        if self.work.spec.addresses[0][0] == socket.AF_UNIX:
            self.work.user_stamps = True
        return struct.pack("qq", *divmod(realtime_ns(), 1_000_000_000))

    def unusual(self, connection: Connection, event: int) -> bool:
        """A poll result other than plain input; True when there may be something to read."""
        if connection.connecting:
            error = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error or event & _BROKEN:
                self.unreachable(connection, error or errno.ECONNREFUSED)
            else:
                self.connected(connection)
            return False
        if event & select.EPOLLOUT:
            self.send_rest(connection)
        return bool(event & ~select.EPOLLOUT) and connection.sock.fileno() >= 0

    def check(self, connection: Connection) -> None:
        """See whether the answer is complete."""
        if connection.prepared is None:
            self.close(connection)  # nothing was asked
            return
        connection.parse()
        framing = connection.framing
        if framing.complete:
            self.complete(connection)
        elif framing.broken:
            self.fail(connection, Failure.TRUNCATED, framing.broken)
        else:
            connection.careful = not framing.streams

    def complete(self, connection: Connection) -> None:
        """The answer is whole: free the connection and let the user go on."""
        prepared, framing = connection.prepared, connection.framing
        assert prepared is not None
        answer = framing.answer
        ended = Ended(prepared, answer, connection.sent_ns, answer.last_ns, complete=True)
        connection.prepared = None
        connection.served += 1
        if framing.keep_alive and connection.unsent is None:
            self.idle.append(connection)
        else:
            self.close(connection)
        self.over(ended, failed=answer.status != 200, unreachable=False)

    def fail(self, connection: Connection, failure: Failure, message: str) -> None:
        """The answer failed: close the connection and let the user go on."""
        prepared = connection.prepared
        assert prepared is not None
        answer = connection.framing.answer
        ended = Ended(
            prepared,
            answer,
            connection.sent_ns,
            realtime_ns(),
            complete=False,
            failure=failure,
            error=message,
        )
        if failure is Failure.TRUNCATED and not connection.framing.broken:
            # What the answer itself said (an error, broken JSON) is the better reason.
            ended.failure, ended.error = None, ""
        connection.prepared = None
        self.close(connection)
        self.over(ended, failed=True, unreachable=failure is Failure.CONNECT)

    def over(self, ended: Ended, *, failed: bool, unreachable: bool) -> None:
        """Refill first, book-keep later."""
        work, before = self.work, ended.prepared
        work.in_flight -= 1
        delay = work.backoff_ns(before.user, failed=failed, unreachable=unreachable)
        work.over(ended)
        if not self.sending:
            return
        prepared = self.feed.after(before)
        if prepared is None:
            if work.waiting and work.in_flight < work.room:
                late = work.waiting.popleft()
                late.payload = self.feed.source.again(late)
                self.start(late)
        elif delay:
            self.at(time.monotonic_ns() + delay, prepared)
        else:
            self.start(prepared)

    def lost(self, connection: Connection, error: OSError | None) -> None:
        """The server closed (error None) or reset the connection."""
        prepared = connection.prepared
        if prepared is None:
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
        elif not framing.any_bytes and connection.served and not prepared.retried:
            # The server had closed the idle connection before it saw the request: not a failure.
            prepared.retried = True
            connection.prepared = None
            self.close(connection)
            if not prepared.payload:
                prepared.payload = self.feed.source.again(prepared)
            self.connect(prepared, 0)
        elif error is not None or not framing.any_bytes:
            self.fail(connection, Failure.RESET, str(error or "the server closed before it answered"))
        else:
            self.fail(connection, Failure.TRUNCATED, "the connection ended inside the answer")

    def timed_out(self, connection: Connection) -> None:
        """No end in time; an answer that said [DONE] and left its body open is complete all the same."""
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
            self.fail(connection, Failure.TIMEOUT, f"no end of the answer after {limit:g} s")

    # --- sending

    def at(self, due_mono_ns: int, prepared: Prepared) -> None:
        """Plan a send."""
        heapq.heappush(self.timers, (due_mono_ns, next(self.order), prepared))

    def start_due(self, now: int) -> None:
        """Send what is due."""
        while self.timers and self.timers[0][0] <= now and self.sending:
            self.start(heapq.heappop(self.timers)[2])
        if isinstance(self.feed.shape, Closed):
            return
        work = self.work
        while (at := self.next_arrival()) is not None and at <= now:
            due = self.feed.take()
            assert due is not None
            due.intended_ns += self.go_ns
            if work.in_flight < work.room and not work.waiting:
                self.start(due)
            else:
                due.payload = b""
                work.waiting.append(due)

    def start(self, prepared: Prepared) -> None:
        """Send a request on a kept connection, else on a new one."""
        self.work.in_flight += 1
        if self.idle:
            self.transmit(self.idle.pop(), prepared)
        else:
            self.connect(prepared, 0)

    def connect(self, prepared: Prepared, address: int) -> None:
        """Open a connection for a request, to the server's address of that index."""
        family, where = self.work.spec.addresses[address]
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self.never_connected(prepared, error.errno or 0)
            return
        connection = Connection(sock, address)
        connection.prepared = prepared
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.table[sock.fileno()] = (
            sock.recvmsg,
            connection.reads.append,
            connection.stamps.append,
            connection,
        )
        self.poller.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        self.connect_deadlines.append((time.monotonic_ns() + self.connect_ns, connection, prepared))
        error_number = sock.connect_ex(where)  # type: ignore[arg-type]
        if error_number not in {0, errno.EINPROGRESS}:
            self.unreachable(connection, error_number)

    def connected(self, connection: Connection) -> None:
        """The connection stands: send its request."""
        prepared = connection.prepared
        assert prepared is not None
        connection.connecting = False
        self.work.opened += 1
        self.poller.modify(connection.sock.fileno(), select.EPOLLIN)
        self.transmit(connection, prepared)

    def unreachable(self, connection: Connection, error_number: int) -> None:
        """One address does not answer: try the next, or give up."""
        prepared, address = connection.prepared, connection.address + 1
        assert prepared is not None
        connection.prepared = None
        self.close(connection)
        if address < len(self.work.spec.addresses):
            self.connect(prepared, address)
        else:
            self.never_connected(prepared, error_number)

    def never_connected(self, prepared: Prepared, error_number: int) -> None:
        """A request that reached no server."""
        now, text = realtime_ns(), f"{errno.errorcode.get(error_number, error_number)}: cannot connect"
        if isinstance(self.feed.shape, Closed):
            prepared.intended_ns = now
        self.work.began(prepared.intended_ns)
        ended = Ended(prepared, Answer(), now, now, complete=False, failure=Failure.CONNECT, error=text)
        self.over(ended, failed=True, unreachable=True)

    def transmit(self, connection: Connection, prepared: Prepared) -> None:
        """Send a request. Nothing stands between the stamp and the send."""
        connection.prepared = prepared
        connection.careful = True
        connection.framing.begin(Answer())
        data, send = prepared.payload, connection.sock.send
        sent_ns = realtime_ns()
        try:
            sent = send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            connection.sent_ns = sent_ns
            self.book(connection, prepared)
            self.lost(connection, error)
            return
        connection.sent_ns = sent_ns
        if sent != len(data):
            connection.unsent = memoryview(data)[sent:]
            self.poller.modify(connection.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        self.book(connection, prepared)

    def book(self, connection: Connection, prepared: Prepared) -> None:
        """What may follow a send."""
        if isinstance(self.feed.shape, Closed) or prepared.turn:
            prepared.intended_ns = connection.sent_ns
        if connection.unsent is None:
            prepared.payload = b""
        if not prepared.retried:
            self.work.began(prepared.intended_ns)
        self.deadlines.append((time.monotonic_ns() + self.timeout_ns, connection, prepared))

    def send_rest(self, connection: Connection) -> None:
        """Go on with a body that did not fit the socket's buffer."""
        if connection.unsent is None:
            return
        try:
            sent = connection.sock.send(connection.unsent)
        except BlockingIOError:
            return
        except OSError as error:
            connection.unsent = None
            self.lost(connection, error)
            return
        connection.unsent = connection.unsent[sent:]
        if not connection.unsent:
            connection.unsent = None
            self.poller.modify(connection.sock.fileno(), select.EPOLLIN)
            if connection.prepared is not None:
                connection.prepared.payload = b""

    def close(self, connection: Connection) -> None:
        """Close a connection and forget it."""
        fd = connection.sock.fileno()
        if fd >= 0:
            self.table.pop(fd, None)
            connection.sock.close()
        if connection in self.idle:
            self.idle.remove(connection)

    def abort(self) -> None:
        """Cut everything that is in flight."""
        for _, _, _, connection in tuple(self.table.values()):
            if connection.prepared is not None:
                connection.parse()
                self.work.tally.cut(connection.framing.answer)
                self.work.cut += 1
            connection.prepared = None
            self.close(connection)
