"""The aiohttp transport: for https, proxies and systems other than Linux. The records are the same.

User space takes the stamps: a stamp is taken when the event loop hands over the bytes, so it is late while
the loop is busy. `LoadResult.transport` names the transport.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import aiohttp

from rocbench import baseurl
from rocbench.address import proxy_of, tls_context
from rocbench.load import bodies
from rocbench.load.aioconn import STATE, ConnectionState, TcpConnector, head_too_large
from rocbench.load.answer import Answer
from rocbench.load.clock import realtime_ns
from rocbench.load.control import Command
from rocbench.load.pacing import Pacing
from rocbench.load.requestfactory import Request
from rocbench.load.spec import Closed
from rocbench.load.tally import FinishedRequest
from rocbench.load.work import Work
from rocbench.records import Failure, Resend

_TICK_NS = 10_000_000
_CONNECT_S = 30.0
_MOST_LINE, _MOST_HEADERS = 1 << 16, 1 << 16
"""Maximum bytes in an answer's head; `aioconn` bounds the whole head as its bytes arrive."""


class AioLoop:
    """Drives one worker's requests with aiohttp."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.spec = work.spec.load
        self.where = baseurl.parse(self.spec.target.base_url)
        is_chat = work.queue.factory.is_chat
        self.url = f"{self.where.scheme}://{self.where.authority}{bodies.path(self.where, is_chat=is_chat)}"
        self.headers = bodies.headers(self.spec.target)
        proxy = proxy_of(self.where)
        self.way: dict[str, Any] = {"allow_redirects": False}
        """aiohttp options of each request: no redirects, and the environment's proxy if there is one."""
        if proxy is not None:
            user, _, password = (proxy.credentials or "").partition(":")
            auth = aiohttp.BasicAuth(user, password, "utf-8") if proxy.credentials else None
            self.way |= {"proxy": proxy.url, "proxy_auth": auth}
        if self.where.scheme == "https":
            self.way["ssl"] = tls_context(insecure=self.spec.target.insecure)
        self.running: dict[asyncio.Task[None], tuple[Request, Answer]] = {}
        self.pacing = Pacing(work, self.start)
        self.session: aiohttp.ClientSession | None = None
        self.fresh: aiohttp.ClientSession | None = None
        self.fault: BaseException | None = None

    async def run(self) -> None:
        """Send and receive until the drain is over or the load is aborted."""
        async with self.open_session() as self.session, self.open_session(fresh=True) as self.fresh:
            while await self.turn():
                pass

    def open_session(self, *, fresh: bool = False) -> aiohttp.ClientSession:
        """Open a session without limits of its own; a `fresh` one keeps no connection."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self.connected)
        trace.on_connection_reuseconn.append(self.reused)
        trace.on_request_chunk_sent.append(self.written)
        kept = {"force_close": True} if fresh else {"keepalive_timeout": 3600.0}
        return aiohttp.ClientSession(
            connector=TcpConnector(self.idle_closed, limit=0, **kept),
            timeout=aiohttp.ClientTimeout(
                total=self.spec.request_timeout_s, sock_connect=min(_CONNECT_S, self.spec.request_timeout_s)
            ),
            trace_configs=[trace],
            read_bufsize=1 << 17,
            max_line_size=_MOST_LINE,
            max_field_size=_MOST_LINE,
            max_headers=_MOST_HEADERS,
        )

    async def turn(self) -> bool:
        """Run one turn: due sends, the driver's command, deferred work; return False when all is done."""
        work, pacing = self.work, self.pacing
        if self.fault is not None:
            raise self.fault
        began = time.monotonic_ns()
        pacing.start_due(began)
        at = realtime_ns()
        work.planned = pacing.planned
        command = work.tick(at)
        if work.in_tail(at):
            work.outstanding(request for request, _ in self.running.values())
        if command is Command.ABORT:
            await self.abort()
            return False
        if command is Command.DRAIN:
            pacing.stop()
            if not work.in_flight:
                return False
        until = began + _TICK_NS
        while time.monotonic_ns() < until and work.ended:
            work.tally.add(work.ended.popleft())
            await asyncio.sleep(0)
        if pacing.sending:
            work.queue.stock()
        wake = min(until, pacing.next_due())
        wait_s = max(0.0, (wake - time.monotonic_ns()) / 1e9)
        await asyncio.sleep(wait_s)
        work.pause(wake, time.monotonic_ns())
        return True

    def start(self, request: Request) -> None:
        """Begin a request as its own task."""
        answer = Answer()
        task = asyncio.get_running_loop().create_task(self.request(request, answer))
        self.running[task] = (request, answer)
        task.add_done_callback(self.done)

    def done(self, task: asyncio.Task[None]) -> None:
        """Take an ended task; an unexpected error becomes the worker's fault, so that no user waits forever."""
        self.running.pop(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self.fault = self.fault or fault

    async def abort(self) -> None:
        """Cut all requests in flight."""
        cut = [under_way for task, under_way in self.running.items() if task.cancel()]
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self.running, return_exceptions=True)
        for request, answer in cut:  # before this it is unknown which of them were written
            self.work.cut(request, answer)

    # --- one request

    async def request(self, request: Request, answer: Answer) -> None:
        """Send a request, read its answer, and let its user continue."""
        state = ConnectionState()
        STATE.set(state)
        started = realtime_ns()
        complete, failure, error = False, None, ""
        try:
            complete = await self.exchange(request, answer, state)
        except TimeoutError:
            if answer.done:
                # The answer is complete; only the end of the body is missing.
                answer.end()
                complete = True
            else:
                failure = Failure.TIMEOUT if state.ready else Failure.CONNECT
                error = f"the answer did not end within {self.spec.request_timeout_s:g} s"
        except aiohttp.ClientConnectorError as fault:
            failure, error = Failure.CONNECT, str(fault)
        except (aiohttp.ClientError, OSError) as fault:
            if state.kept and state.ended and not state.answered and self.once_more(request, state):
                self.start(request)
                return
            failure, error = Failure.TOO_LARGE if head_too_large(fault) else _broken(state), str(fault)
        if answer.failure is not None or answer.status not in {200, -1}:
            failure, error = None, ""
        if not state.left:
            self.note_sent(request, started)
            self.work.talking -= failure is Failure.CONNECT
        end_ns = answer.last_ns if complete else realtime_ns()
        self.pacing.request_ended(
            FinishedRequest(request, answer, request.sent_ns, end_ns, complete, failure, error)
        )

    def once_more(self, request: Request, state: ConnectionState) -> bool:
        """True if a request is sent again: its kept connection ended before any byte of the answer."""
        if not state.left:
            self.idle_closed()
            return True
        if not self.work.may_resend(request):
            return False
        assert state.ended is not None
        self.work.resend(request, state.ended)
        return True

    def idle_closed(self) -> None:
        """Count a kept connection that the server closed."""
        self.work.idle_closes += 1

    async def exchange(self, request: Request, answer: Answer, state: ConnectionState) -> bool:
        """Do one POST; return True if the body came to its end. Raises what aiohttp raises."""
        session = self.fresh if request.resent else self.session
        assert session is not None
        headers = {**self.headers, "X-Request-Id": request.name}
        async with session.post(
            self.url, data=request.payload, headers=headers, trace_request_ctx=(state, request), **self.way
        ) as response:
            answer.status = response.status
            answer.plain = response.status != 200 or "event-stream" not in response.headers.get(
                "content-type", ""
            )
            request.payload = b""
            open_ended = not {"content-length", "transfer-encoding"} & {
                name.lower() for name in response.headers
            }
            while not (open_ended and answer.done):
                data = await response.content.readany()
                stamp = realtime_ns()
                if not data:
                    break
                answer.last_ns = stamp
                answer.take((data,), (stamp,))
                self.work.reads += 1
                if answer.failure is Failure.TOO_LARGE:
                    response.close()
                    return False
            else:
                response.close()  # only the server's close would end this body
            answer.end()
        return True

    def note_sent(self, request: Request, sent_ns: int) -> None:
        """Record the send time of a request that is about to be written."""
        self.work.talking += 1
        self.work.sent(request, sent_ns, clocked=not isinstance(self.work.queue.shape, Closed))

    async def connected(self, session: Any, context: Any, params: Any) -> None:
        """Note that aiohttp opened a connection for a request."""
        self.work.opened += 1
        context.trace_request_ctx[0].ready = True

    async def reused(self, session: Any, context: Any, params: Any) -> None:
        """Note that aiohttp took a kept connection for a request."""
        state: ConnectionState = context.trace_request_ctx[0]
        state.kept = state.ready = True

    async def written(self, session: Any, context: Any, params: Any) -> None:
        """Note that aiohttp is about to write a request; the head goes with the first piece of the body."""
        state, request = context.trace_request_ctx
        if not state.left:
            state.left = True
            self.note_sent(request, realtime_ns())


def _broken(state: ConnectionState) -> Failure:
    """Classify a broken answer: none came, a reset, an orderly close, or bytes that are not HTTP."""
    if not state.ready:
        return Failure.CONNECT
    if not state.answered or state.ended is Resend.RESET:
        return Failure.RESET
    return Failure.TRUNCATED


def run_aiohttp(work: Work) -> None:
    """Run a worker's load on uvloop if it is installed, else on the asyncio loop."""
    loop_factory: Any = None
    with suppress(ImportError):
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(AioLoop(work).run())
