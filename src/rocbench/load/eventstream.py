"""Server-sent events out of the bytes of a body: where one ends, what its lines say, and whether a body has any. Pure."""

from __future__ import annotations

import re

BOM = b"\xef\xbb\xbf"
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z))(?:\r\n|\n|\r(?!\n|\Z))")
_BLANK_BYTES = 3
"""Of a blank line that more bytes make whole, so many can have come before."""
_FIELDS = (b"data", b"event", b"id", b"retry")
_MOST_BLANKS = 4096
"""Bytes of white space that a body may begin with while it is not known what it is."""


def blocks(rest: bytearray, data: bytes) -> list[bytes]:
    """The events that `data` makes whole, as blocks of lines; `rest` keeps what is left, for the next call.

    What was kept was looked through already, so time is linear however the bytes are cut: only the end of it can be
    the beginning of a blank line.
    """
    found, at = [], 0
    if not rest:
        for blank in _BLANK_LINE.finditer(data):
            found.append(data[at : blank.start()])
            at = blank.end()
        rest += data[at:]
        return found
    seen = max(0, len(rest) - _BLANK_BYTES)
    rest += data
    for begin, end in [blank.span() for blank in _BLANK_LINE.finditer(rest, seen)]:
        found.append(bytes(rest[at:begin]))
        at = end
    del rest[:at]
    return found


def fields(block: bytes) -> tuple[bytes, bytes]:
    """(event, data) of one event's lines; comments and other fields are left out."""
    values, kind = [], b""
    for line in block.splitlines():
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            values.append(value)
        elif name == b"event":
            kind = value
    return kind, b"\n".join(values).strip()


def is_plain(data: bytes, hinted: bool) -> bool | None:
    """Whether a body that begins so is one value and no event stream; None while too little came to tell."""
    if BOM.startswith(data[:3]) and len(data) < len(BOM):
        return None
    start = data.removeprefix(BOM).lstrip()
    if not start:
        return None if len(data) < _MOST_BLANKS else hinted
    if start[:1] in {b"{", b"[", b"<"}:
        return True
    if start[:1] == b":" or start.startswith(tuple(field + b":" for field in _FIELDS)):
        return False
    return None if any(field.startswith(start) for field in _FIELDS) else hinted
