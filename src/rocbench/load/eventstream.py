"""Server-sent events in the bytes of a body: their ends, their fields, and the check for a stream. Pure."""

from __future__ import annotations

import re

BOM = b"\xef\xbb\xbf"
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z))(?:\r\n|\n|\r(?!\n|\Z))")
_BLANK_BYTES = 3
"""Maximum bytes of an incomplete blank line."""
_FIELDS = (b"data", b"event", b"id", b"retry")
_MOST_BLANKS = 4096
"""Leading bytes of white space after which the kind of a body is decided."""


def blocks(rest: bytearray, data: bytes) -> list[bytes]:
    """The events that `data` completes, as blocks of lines; `rest` keeps the bytes after them.

    The kept bytes were already searched, so time is linear for any cuts between bytes: only their end can be
    the beginning of a blank line.
    """
    events, at = [], 0
    if not rest:
        for blank in _BLANK_LINE.finditer(data):
            events.append(data[at : blank.start()])
            at = blank.end()
        rest += data[at:]
        return events
    seen = max(0, len(rest) - _BLANK_BYTES)
    rest += data
    for begin, end in [blank.span() for blank in _BLANK_LINE.finditer(rest, seen)]:
        events.append(bytes(rest[at:begin]))
        at = end
    del rest[:at]
    return events


def event_and_data(block: bytes) -> tuple[bytes, bytes]:
    """(event, data) of one event's lines; comments and other fields are skipped."""
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
    """True if a body that begins so is one value, not an event stream; None if too little came."""
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
