"""One socket of the wire transport and the answer read from it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rocbench.load.framing import Framing
from rocbench.load.requestfactory import Request


@dataclass(slots=True, eq=False)
class Connection:
    """One socket and the answer that it reads."""

    sock: socket.socket
    address: int
    """Index of the server's address."""
    connecting: bool = True
    request: Request | None = None
    framing: Framing = field(default_factory=Framing)
    reads: list[bytes] = field(default_factory=list)
    stamps: list[bytes] = field(default_factory=list)
    careful: bool = True
    """Each read may be the end: the head is incomplete, or the body is not chunked."""
    unsent: memoryview | None = None
    served: int = 0
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
