"""HTTP/1.1 answers out of recorded reads. Pure: bytes and stamps in, an `Answer` filled."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import httptools

from rocbench.load.answer import Answer

_unpack = struct.Struct("qq").unpack


def stamp_ns(raw: bytes) -> int:
    """A kernel stamp (seconds, nanoseconds) as ns."""
    seconds, nanoseconds = _unpack(raw)
    return int(seconds * 1_000_000_000 + nanoseconds)


class Framing:
    """The answers of one connection, one after the other.

    httptools decides where a body ends, so text that looks like an end is only text. The parser lives as long
    as its connection: it and this object refer to one another, and the collector is off in the window.
    """

    __slots__ = (
        "_chunked",
        "_length",
        "_parser",
        "_plain",
        "_stamp",
        "answer",
        "any_bytes",
        "broken",
        "complete",
        "headers_complete",
        "keep_alive",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._stamp = 0
        self.begin(Answer())

    def begin(self, answer: Answer) -> None:
        """Expect the next answer."""
        self.answer = answer
        self.any_bytes = self.headers_complete = self.complete = self.keep_alive = False
        self._chunked = self._length = False
        self._plain = True
        self.broken = ""

    @property
    def streams(self) -> bool:
        """The rest of the body is chunked, so that its end shows in the bytes' own end."""
        return self.headers_complete and self._chunked

    def feed(self, reads: Sequence[bytes], stamps: Sequence[bytes]) -> None:
        """Take recorded reads, with the raw kernel stamp of each."""
        answer, take = self.answer, self._parser.feed_data
        self.any_bytes = True
        for data, raw in zip(reads, stamps, strict=True):
            seconds, nanoseconds = _unpack(raw)
            self._stamp = answer.last_ns = seconds * 1_000_000_000 + nanoseconds
            before = len(answer.stamps)
            try:
                take(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                self.broken = f"not HTTP: {error}"
                return
            if len(answer.stamps) > before + 1:
                answer.coalesced += len(answer.stamps) - before
                answer.coalesced_reads += 1
            if self.complete:
                return

    def eof(self) -> None:
        """The server closed: that ends a body that has no other end."""
        if self.headers_complete and not self.complete and not self._chunked and not self._length:
            self.answer.end()
            self.complete = True

    # --- httptools' calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        lower = name.lower()
        if lower == b"transfer-encoding":
            self._chunked = b"chunked" in value.lower()
        elif lower == b"content-length":
            self._length = True
        elif lower == b"content-type":
            self._plain = b"event-stream" not in value.lower()

    def on_headers_complete(self) -> None:
        """All headers are there."""
        status = self._parser.get_status_code()
        if status < 200 or self.complete:
            return
        self.headers_complete = True
        self.answer.status = status
        self.answer.plain = self._plain or status != 200

    def on_body(self, data: bytes) -> None:
        """A piece of the body, chunk framing taken off."""
        if not self.complete:
            self.answer.piece(data, self._stamp)

    def on_message_complete(self) -> None:
        """The answer is whole (or a 100 Continue was)."""
        if self.headers_complete and not self.complete:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()
            self.answer.end()
