"""HTTP/1.1 answers from recorded reads. Pure: bytes and stamps in, an `Answer` filled."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import httptools

from rocbench.load.answer import MOST_EVENT, Answer
from rocbench.records import Failure

SO_TIMESTAMPNS = 35
"""Linux socket option for kernel receive stamps; the socket module has no name for it."""
MOST_HEAD = 256 << 10
"""Bytes of an answer's head, and of the bytes between two pieces of its body or after the last piece."""
HEAD_TOO_LARGE = f"the headers of the answer are larger than {MOST_HEAD >> 10} KiB"
_unpack = struct.Struct("qq").unpack
_iter_unpack = struct.Struct("qq").iter_unpack


def stamp_ns(raw: bytes) -> int:
    """A kernel stamp (seconds, nanoseconds) as ns."""
    seconds, nanoseconds = _unpack(raw)
    return int(seconds * 1_000_000_000 + nanoseconds)


class Framing:
    """The answers of one connection, one after the other.

    httptools decides the end of a body, so text that looks like an end is only text. The parser lives as long
    as its connection: it and this object refer to each other, and the garbage collector is off in the window.
    """

    __slots__ = (
        "_bare",
        "_body_pieces",
        "_chunked",
        "_inflate",
        "_length",
        "_parser",
        "_pieces",
        "_plain",
        "answer",
        "any_bytes",
        "broken",
        "complete",
        "headers_complete",
        "keep_alive",
        "location",
        "on_body",
    )

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._body_pieces = 0
        self.begin(Answer())

    def begin(self, answer: Answer) -> None:
        """Expect the next answer."""
        self.answer = answer
        self.any_bytes = self.headers_complete = self.complete = self.keep_alive = False
        self._chunked = self._length = False
        self._plain = True
        self._bare = 0
        """Bytes since the last byte of the body."""
        self._inflate: zlib._Decompress | None = None
        self.broken = ""
        self.location = ""
        """Target of a redirect."""

    @property
    def streams(self) -> bool:
        """True if the rest of the body is chunked, so that its own bytes show its end."""
        return self.headers_complete and self._chunked

    @property
    def open_ended(self) -> bool:
        """True if only the connection's end will end the body."""
        return self.headers_complete and not self._chunked and not self._length

    def feed(self, reads: Sequence[bytes], stamps: Sequence[bytes]) -> None:
        """Take recorded reads, with the raw kernel stamp of each."""
        pieces, take = self._pieces, self._parser.feed_data
        self.any_bytes = True
        received: list[int] = []
        add, have, stamp, bare = received.append, 0, 0, self._bare
        try:
            for data, (seconds, nanoseconds) in zip(reads, _iter_unpack(b"".join(stamps)), strict=True):
                stamp = seconds * 1_000_000_000 + nanoseconds
                take(data)
                if len(pieces) == have + 1:
                    add(stamp)
                    have += 1
                    bare = 0
                else:
                    bare = bare + len(data) if len(pieces) == have else 0
                    received.extend([stamp] * (len(pieces) - have))
                    have = len(pieces)
                    if bare > MOST_HEAD:
                        self.answer.too_large(HEAD_TOO_LARGE)
                        break
                if self.complete:
                    break
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.broken = f"not HTTP: {error}"
            received.extend([stamp] * (len(pieces) - have))
        if self.complete:
            del pieces[self._body_pieces :], received[self._body_pieces :]
        if self._inflate is not None:
            self._expand(pieces)
        answer, self._bare = self.answer, bare
        answer.last_ns = stamp
        answer.take(pieces, received)
        pieces.clear()
        if answer.failure is not None and answer.failure is Failure.TOO_LARGE:
            self.broken = answer.error
        if self.complete:
            answer.end()

    def _expand(self, pieces: list[bytes]) -> None:
        """Decompress a body that was compressed without a request for it."""
        assert self._inflate is not None
        inflate = self._inflate
        try:
            pieces[:] = [inflate.decompress(piece, MOST_EVENT) for piece in pieces]
            if inflate.unconsumed_tail:
                self.answer.too_large(
                    f"a compressed part of the answer is larger than {MOST_EVENT >> 20} MiB after decompression"
                )
        except zlib.error as error:
            self.broken = f"the body is not compressed as its Content-Encoding header says: {error}"
            pieces[:] = [b""] * len(pieces)

    def eof(self) -> None:
        """Handle the server's close: it ends a complete body that has no other end."""
        if self.open_ended and not self.complete:
            self.answer.end()
            self.complete = self.answer.can_end

    # --- httptools' calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        lower = name.lower()
        if lower == b"transfer-encoding":
            self._chunked = b"chunked" in value.lower()
        elif lower == b"content-length":
            self._length = True
        elif lower == b"content-type":
            self._plain = b"event-stream" not in value.lower()
        elif lower == b"location":
            self.location = value.decode("latin-1")
        elif lower == b"content-encoding" and value.lower() in {b"gzip", b"x-gzip", b"deflate"}:
            self._inflate = zlib.decompressobj(47 if b"gzip" in value.lower() else zlib.MAX_WBITS)

    def on_headers_complete(self) -> None:
        """Note the end of the headers."""
        status = self._parser.get_status_code()
        if status < 200 or self.complete:
            return
        self.headers_complete = True
        self.answer.status = status
        self.answer.plain = self._plain or status != 200

    def on_message_complete(self) -> None:
        """Note the end of the answer, or of a 100 Continue."""
        if self.headers_complete and not self.complete:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()
            self._body_pieces = len(self._pieces)
