"""Is every lost request counted? Servers that reset, close, half-close or stall requests at random points.

    python benchmarks/faults.py --seeds 50

Each seed draws a share of 1 to 10 % and which faults there are: before the head of the answer, after it or during
the stream; on new connections before the request is read; on kept ones after the answer. Every third seed draws only
faults that lose no request: connections ended after the answer, and requests that are held for a while. The server
writes down every request that it read. Then completed + failed + resent + cut must be what it saw, and, where nothing
is void, the TTFT p99 what it wrote down from the first attempt to the first token. Every fifth load is stopped in its
window. Prints a line per seed and transport; exits with 1 if one does not hold.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from rocbench.load import drive, serverrecord
from rocbench.load.reference import (
    ClientConnection,
    ReferenceServer,
    Stream,
    plain_response,
    request_id,
    serve,
)
from rocbench.load.serverrecord import ServerRecord
from rocbench.load.spec import Closed, Lengths, LoadSpec, Progress, RequestPlan, Target, WindowPlan
from rocbench.records import FAILURES, NONE, Failure, LoadResult, Phase
from rocbench.tables import metrics
from rocbench.verdict.evidence import Evidence
from rocbench.verdict.judge import judge

HOWS = ("reset", "close", "half_close", "stall", "hold")
POINTS = ("new", "before_head", "after_head", "mid_stream", "idle")
HARMLESS = (
    ("reset", "idle"),
    ("close", "idle"),
    ("half_close", "idle"),
    ("hold", "before_head"),
    ("hold", "after_head"),
)
TIMEOUT_S = 0.4
HELD_STEPS = (2, 12)
VOIDING = frozenset(
    {"error_rate", "requests_resent", "client_saturated", "clock_stepped", "stamps_coalesced"}
)
"""Of these codes one voids a row here: a load of a second is too short for the others."""


class LosingServer(ReferenceServer):
    """The reference server, which loses a share of its requests; the seed draws how and when."""

    def __init__(self, step_ns: int, seed: int) -> None:
        super().__init__(step_ns)
        self.random = random.Random(seed)
        draw = random.Random(seed)
        self.share = draw.uniform(0.01, 0.10)
        possible = HARMLESS if seed % 3 == 2 else [(how, point) for how in HOWS for point in POINTS]
        chosen = [kind for kind in possible if draw.random() < 0.5]
        self.kinds = chosen or [possible[0]]
        self.held: list[tuple[int, Callable[[], object]]] = []
        """The actions of each step."""
        self.lost: dict[int, str] = {}
        """Of running streams, by id(): how each is to end."""
        self.arrivals: list[tuple[str, int]] = []
        """Every request that the server read."""
        self.unread = 0
        """Requests that were unread when their connection ended; the client opens a new connection for each."""
        self.idle_ends = 0
        self.loaded = False
        self.number = 0

    def draw(self, *points: str) -> tuple[str, str] | None:
        """The next request's fault, among those that happen at these points."""
        kinds = [kind for kind in self.kinds if kind[1] in points]
        return self.random.choice(kinds) if kinds and self.random.random() < self.share else None

    def step(self, number: int) -> None:
        """One engine step; streams that were held long enough continue."""
        self.number = number
        due = [act for at, act in self.held if at <= number]
        self.held = [(at, act) for at, act in self.held if at > number]
        for act in due:
            act()
        super().step(number)

    def hold(self, act: Callable[[], object]) -> None:
        """Schedule an action for a later step."""
        self.held.append((self.number + self.random.randint(*HELD_STEPS), act))

    def accept(self) -> None:
        """Take connections; some are ended before their request was read."""
        before = set(self.connections)
        super().accept()
        for fd in set(self.connections) - before:
            drawn = self.draw("new") if self.loaded else None
            if drawn is not None and drawn[0] in {"reset", "close"}:
                self.unread += 1
                self.lose(self.connections[fd], drawn[0])

    def begin(self, connection: ClientConnection, head: bytes, body: bytes) -> None:
        """Answer a request, or lose it."""
        if not head.startswith(b"POST "):
            super().begin(connection, head, body)
            return
        name = request_id(head)
        self.arrivals.append((name, connection.arrived_ns))
        drawn = None if "probe" in name else self.draw("before_head", "after_head", "mid_stream")
        self.loaded |= "probe" not in name
        if drawn is None:
            super().begin(connection, head, body)
            return
        how, point = drawn
        if point == "before_head" and how == "hold":
            self.hold(lambda: super(LosingServer, self).begin(connection, head, body))
            return
        if point == "before_head":
            self.lose(connection, how)
            return
        stream = self.stream(connection, head, json.loads(body))
        self.send(connection, stream.script.opening)
        if point == "after_head" and how == "hold":
            self.hold(lambda: self.waiting.append(stream))
            return
        if point == "after_head":
            self.lose(connection, how)
            return
        stream.last = self.random.randint(1, max(1, stream.last - 1))
        self.lost[id(stream)] = how
        self.waiting.append(stream)

    def end(self, stream: Stream) -> None:
        """End an answer, or lose it; an idle connection may be closed afterwards."""
        how = self.lost.pop(id(stream), None)
        if how is not None:
            self.ended.append(stream)
            self.lose(stream.connection, how)
            return
        super().end(stream)
        drawn = None if "probe" in stream.request_id else self.draw("idle")
        if drawn is not None and drawn[0] not in {"stall", "hold"}:
            self.idle_ends += 1
            self.unread += drawn[0] != "half_close" and _waits(stream.connection.sock)
            self.lose(stream.connection, drawn[0])

    def lose(self, connection: ClientConnection, how: str) -> None:
        """End a connection in this way. One that stalls, or is held during a stream, is never answered completely."""
        if connection.sock.fileno() < 0:
            return
        if how == "reset":
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close(connection)
        elif how == "close":
            self.close(connection)
        elif how == "half_close":
            with suppress(OSError):  # the client has closed it meanwhile
                connection.sock.shutdown(socket.SHUT_WR)

    def plain(self, connection: ClientConnection, path: bytes) -> None:
        """Also counts the requests that were read."""
        if path != b"/seen":
            super().plain(connection, path)
            return
        seen = {
            "arrivals": self.arrivals,
            "unread": self.unread,
            "idle_ends": self.idle_ends,
            "kinds": self.kinds,
        }
        self.send(connection, plain_response(json.dumps(seen).encode()))


def _waits(sock: socket.socket) -> bool:
    """True if the socket has unread bytes."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


def serve_faults(seed: int, step_ms: float) -> None:
    """Run the server until SIGTERM."""
    server = LosingServer(int(step_ms * 1e6), seed)

    def calm(*_: object) -> None:
        server.share = 0.0

    signal.signal(signal.SIGUSR1, calm)
    serve(server)


def serving(seed: int, step_ms: float) -> AbstractContextManager[tuple[str, subprocess.Popen[str]]]:
    """The server in a process; gives its base URL and the process, which SIGUSR1 makes faultless."""
    return serverrecord.serving(("--serve", str(seed), "--step-ms", str(step_ms)), (__file__,))


@dataclass(frozen=True, slots=True)
class Trial:
    """One load on one faulty server."""

    seed: int
    transport: str
    kinds: str
    row: dict[str, Any]
    seen: int
    """Requests that the server read, plus connections that it ended before reading their request."""
    counted: int
    """Completed, failed, resent and cut, of all phases."""
    cut: int
    """Of those cut: the server need not have read them."""
    idle_ends: int
    """Connections that the server ended after an answer; a request may have been on its way, seen by neither side."""
    p99_ms: float
    true_p99_ms: float
    codes: tuple[str, ...]

    @property
    def adds_up(self) -> bool:
        """Every request is counted once."""
        return 0 <= self.counted - self.seen <= self.cut + bool(self.idle_ends)

    @property
    def true(self) -> bool:
        """The TTFT p99 agrees with the server's record, unless the row is void."""
        return bool(self.codes) or abs(self.p99_ms - self.true_p99_ms) < 1

    def line(self) -> str:
        """One line for people."""
        off = self.p99_ms - self.true_p99_ms
        resent = "/".join(str(self.row[f"resent_{how}"]) for how in ("after_reset", "after_close", "unread"))
        return (
            f"{self.seed:3d} {self.transport:8s} completed {self.row['completed']:5d} failed {self.row['failed']:3d} "
            f"cut {self.row['unfinished']:2d} resent {resent:8s} idle closes {self.row['idle_closes']:3d} | "
            f"saw {self.seen:5d} counted {self.counted:5d} {'ok ' if self.adds_up else 'OFF'} | "
            f"TTFT p99 {self.p99_ms:6.2f} off {off:+.3f} ms {'ok ' if self.true else 'OFF'} "
            f"{','.join(self.codes) or 'sound'}"
        )


def counted(result: LoadResult) -> int:
    """Requests that reached the server, as in `requests_sent`, and connections that it ended at once."""
    row = metrics.summarise(result, gpus=None)
    refused = result.requests["failure"] == FAILURES.index(Failure.CONNECT)
    assert isinstance(row["requests_sent"], int)
    return row["requests_sent"] + int(refused.sum())


def true_ttft_ms(result: LoadResult, record: ServerRecord, arrivals: dict[str, int]) -> np.ndarray[Any, Any]:
    """From the first arrival to the first token, as the server wrote down, of completed measured requests."""
    rows = result.requests
    mine = rows[(rows["phase"] == Phase.MEASURED) & (rows["failure"] == NONE) & (rows["end_ns"] != NONE)]
    first = {}
    for name, chunks, start in zip(record.ids, record.chunks, record.starts, strict=True):
        if chunks:
            first[str(name)] = int(record.times_ns[start])
    names = {int(name.rsplit("-", 1)[1]): name for name in first if "probe" not in name}
    return np.array([(first[names[int(n)]] - arrivals[names[int(n)]]) / 1e6 for n in mine["request_id"]])


def trial(seed: int, transport: str, seconds: float, users: int, step_ms: float) -> Trial:
    """Load one faulty server and compare the row's counts with the server's."""
    with serving(seed, step_ms) as (url, server):
        spec = LoadSpec(
            target=Target(url, "reference", vocab_size=32_000),
            requests=RequestPlan(Lengths(20), Lengths(8)),
            shape=Closed(users),
            window=WindowPlan(duration_s=seconds, max_duration_s=seconds, min_requests_per_user=1),
            seed=seed,
            run_id=f"faults-{seed}",
            cell_id="cell",
            workers=1,
            transport=transport,  # type: ignore[arg-type]
            request_timeout_s=TIMEOUT_S,
        )
        stop = threading.Event()

        def watch(progress: Progress) -> None:
            if seed % 5 == 4 and progress.phase == "measure" and progress.elapsed_s > seconds / 2:
                stop.set()

        result = drive(spec, watch, stop)
        server.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
        record = ServerRecord.fetch(url)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        seen = json.load(opener.open(url + "/seen", timeout=10))
    row = metrics.summarise(result, gpus=None)
    judged = judge(Evidence.from_row(row, load_shape="closed", ignore_eos=True))
    ttft, true = row["p99_ttft_ms"], true_ttft_ms(result, record, dict(reversed(seen["arrivals"])))
    cut = int((result.requests["end_ns"] == NONE).sum())
    assert isinstance(ttft, float)
    return Trial(
        seed,
        transport,
        ",".join("-".join(kind) for kind in seen["kinds"]),
        row,
        len(seen["arrivals"]) + seen["unread"],
        counted(result),
        cut,
        seen["idle_ends"],
        ttft,
        float(np.percentile(true, 99)),
        tuple(code for code in judged.reasons if code in VOIDING),
    )


def main() -> int:
    """Run the seeds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--step-ms", type=float, default=4.0)
    parser.add_argument("--transport", choices=["wire", "aiohttp", "both"], default="both")
    parser.add_argument(
        "--sums-alone", action="store_true", help="for a machine that does other work: no claim on time"
    )
    parser.add_argument("--serve", type=int, metavar="SEED", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve_faults(options.serve, options.step_ms)
        return 0
    transports = ["wire", "aiohttp"] if options.transport == "both" else [options.transport]
    wrong = exact = 0
    for seed in range(options.first, options.first + options.seeds):
        for transport in transports:
            found = trial(seed, transport, options.seconds, options.users, options.step_ms)
            exact += found.seen == found.counted
            holds = found.adds_up and (options.sums_alone or found.true)
            wrong += not holds
            print(found.line(), flush=True)
            if not holds:
                print(f"    {found.kinds}", flush=True)
    print(f"{wrong} of {options.seeds * len(transports)} do not hold; the sums are equal in {exact}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
