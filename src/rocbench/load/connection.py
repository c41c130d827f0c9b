"""One socket of the wire transport and the answer read from it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from rocbench.load.framing import Framing
from rocbench.load.requestfactory import Request


class Connection:
    """One socket and the answer that it reads."""

    __slots__ = (
        "address",
        "careful",
        "connecting",
        "framing",
        "reads",
        "request",
        "served",
        "sock",
        "stamps",
        "unsent",
    )

    def __init__(self, sock: socket.socket, address: int) -> None:
        self.sock = sock
        self.address = address
        self.connecting = True
        self.request: Request | None = None
        self.framing = Framing()
        self.reads: list[bytes] = []
        self.stamps: list[bytes] = []
        self.careful = True
        """Each read may be the end: the head is incomplete, or the body is not chunked."""
        self.unsent: memoryview | None = None
        self.served = 0
        """Complete answers received."""

    def parse(self) -> bool:
        """Parse the recorded reads; return False if the answer is broken."""
        if self.reads:
            self.framing.feed(self.reads, self.stamps)
            self.reads.clear()
            self.stamps.clear()
        return not self.framing.broken


Entry = tuple[Callable[[int, int], Any], Callable[[bytes], None], Callable[[bytes], None], Connection]
"""(recvmsg, keep the bytes, keep the stamp, connection): the calls of the hot path, looked up once."""
