"""The entries of a JSON file with their places: one per line, or an array's elements. Memory is bounded."""

from __future__ import annotations

import gzip
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from rocbench.errors import InputError

MOST_BYTES = 2 << 30
"""Maximum bytes of one file, uncompressed: each load worker holds its prompts in memory."""
LONGEST = 64 << 20
"""Maximum bytes of one entry."""
_CHUNK = 1 << 20
_SHAPES = "one JSON object per line, or one JSON array of objects"
_OTHER = {
    b"PAR1": "a Parquet file: convert it to JSON Lines, for example in pandas with to_json(path, orient='records', lines=True)",
    b"PK\x03\x04": "a zip file: unpack it",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz: unpack it, or pack it with gzip",
    b"BZh": "packed with bzip2: unpack it, or pack it with gzip",
    b"ARROW1": "an Arrow file: convert it to JSON Lines",
    b"\xff\xfe": "UTF-16: convert it to UTF-8 with `iconv -f UTF-16 -t UTF-8`",
    b"\xfe\xff": "UTF-16: convert it to UTF-8 with `iconv -f UTF-16 -t UTF-8`",
}
"""First bytes of files that are not JSON in UTF-8, and their remedies."""
_GZIP = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*+("?)|[{}\[\]]', re.DOTALL)
"""A string (its group is empty if its end is not read yet) or a bracket."""
_BLANK = re.compile(rb"[ \t\r\n]*")
_BARE = re.compile(rb"[^,\]\s]+")


def read_entries(path: str) -> Iterator[tuple[str, bytes]]:
    """(place, text) of each entry; the place is `FILE:LINE`, in an array with the entry's number.

    gzip is unpacked. Raises InputError for a file of another kind, or an entry without an end.
    """
    try:
        with _opened(path) as file:
            first = _first_line(file, path)
            entries = (
                _Array(path, file, *first).entries()
                if first[1].lstrip().startswith(b"[")
                else _lines(path, file, *first)
            )
            count = 0
            for count, entry in enumerate(entries, start=1):  # noqa: B007
                yield entry
            if not count:
                raise InputError("the array is empty", where=path, fix=f"give {_SHAPES}")
    except (OSError, EOFError, zlib.error) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        raise InputError(f"cannot read the file: {why}", where=path) from None


def parsed(text: bytes, where: str) -> Mapping[str, Any]:
    """An entry's keys and values. Raises InputError if it is not a JSON object."""
    try:
        entry = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        what = str(error).partition(": line 1 column")[0]
        raise InputError(
            f"not JSON: {what}", where=where, fix=f"give {_SHAPES}; CSV is not supported"
        ) from None
    if not isinstance(entry, dict):
        raise InputError("an entry must be a JSON object", where=where, fix=f"give {_SHAPES}")
    return entry


def _opened(path: str) -> BinaryIO:
    file = Path(path).expanduser()
    try:
        kind = file.stat().st_mode
    except FileNotFoundError:
        raise InputError(
            "cannot read the file: no such file",
            where=path,
            fix=f"give an absolute path, or a path relative to {Path.cwd()}",
        ) from None
    if stat.S_ISDIR(kind):
        raise InputError("is a folder, not a file", where=path, fix="give the path of a file in this folder")
    if not stat.S_ISREG(kind):
        raise InputError(
            "is not a regular file, but must be, because each load worker opens it separately", where=path
        )
    with file.open("rb") as opened:
        head = opened.read(len(max(_OTHER, key=len)))
    for magic, what in _OTHER.items():
        if head.startswith(magic):
            kind_, _, fix = what.partition(": ")
            raise InputError(f"is {kind_}", where=path, fix=fix)
    if head.startswith(_GZIP):
        return cast("BinaryIO", gzip.open(file))
    if b"\0" in head[:2]:
        raise InputError("is not UTF-8 text: it begins with a zero byte", where=path, fix=f"give {_SHAPES}")
    return file.open("rb")


def _first_line(file: BinaryIO, path: str) -> tuple[int, bytes]:
    """Number and text of the first line that is not blank."""
    number = 0
    while text := file.readline(LONGEST + 1):
        number += 1
        text = text.removeprefix(_UTF8_MARK) if number == 1 else text
        if text.strip():
            return number, text
        _bound(file.tell(), path)
    raise InputError("the file is empty", where=path, fix=f"give {_SHAPES}")


def _bound(size: int, path: str) -> None:
    if size > MOST_BYTES:
        raise InputError(
            f"holds more than {MOST_BYTES >> 30} GiB of text, and each load worker keeps all of it in memory",
            where=path,
            fix="use a part of the file, for example its first lines: head -n 100000",
        )


def _lines(path: str, file: BinaryIO, number: int, text: bytes) -> Iterator[tuple[str, bytes]]:
    size = 0
    while text:
        size += len(text)
        _bound(size, path)
        where = f"{path}:{number}"
        if len(text) > LONGEST:
            raise InputError(f"this line is longer than {LONGEST >> 20} MiB", where=where)
        if text.strip():
            yield where, text
        number, text = number + 1, file.readline(LONGEST + 1)


class _Array:
    """The elements of one JSON array, found by their brackets; each is parsed separately."""

    def __init__(self, path: str, file: BinaryIO, line: int, text: bytes) -> None:
        self.path, self.file = path, file
        self.line, self.text = line, text
        self.counted = 0
        """Offset up to which lines are counted."""
        self.at = text.index(b"[") + 1
        self.size = len(text)
        self.number = 0

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """(place, text) of each element."""
        while True:
            self._forget()
            sign = self._next_sign()
            if sign == b"]":
                break
            if self.number:
                if sign != b",":
                    raise InputError("a comma is missing between two entries", where=self._where())
                self.at += 1
                self._next_sign()
            self.number += 1
            self._forget()
            where, begin = self._where(), self.at
            self.at = self._end(where)
            yield where, self.text[begin : self.at]
        self.at += 1
        if self._next_sign(at_end=True):
            raise InputError("there is more text after the end of the array", where=self._where())

    def _where(self) -> str:
        self.line += self.text.count(b"\n", self.counted, self.at)
        self.counted = self.at
        return f"{self.path}:{self.line} (entry {self.number or 1})"

    def _forget(self) -> None:
        """Discard the text that has been read."""
        if self.at > _CHUNK and 2 * self.at > len(self.text):
            self.line += self.text.count(b"\n", self.counted, self.at)
            self.text, self.at, self.counted = self.text[self.at :], 0, 0

    def _more(self) -> bool:
        """Read more; return False at the end of the file."""
        chunk = self.file.read(max(_CHUNK, len(self.text) - self.at))
        self.size += len(chunk)
        _bound(self.size, self.path)
        self.text += chunk
        return bool(chunk)

    def _next_sign(self, *, at_end: bool = False) -> bytes:
        """The next byte that is not blank, not consumed; empty at the end of the file."""
        while True:
            blank = _BLANK.match(self.text, self.at)
            self.at = blank.end() if blank else self.at
            if self.at < len(self.text):
                return self.text[self.at : self.at + 1]
            if not self._more():
                if at_end:
                    return b""
                raise InputError("the array has no end; the file may be truncated", where=self._where())

    def _end(self, where: str) -> int:
        """End position of the element that begins here."""
        if self.text[self.at : self.at + 1] not in (b"{", b"[", b'"'):
            while (match := _BARE.match(self.text, self.at)) and match.end() == len(self.text):
                if not self._more():
                    break
            if match is None:
                raise InputError("an entry is missing before this comma or bracket", where=where)
            return match.end()
        depth, at = 0, self.at
        while True:
            match = _TOKEN.search(self.text, at)
            cut = match is None or (match[0][:1] == b'"' and not match[1])
            if cut:
                at = match.start() if match else len(self.text)
                if at - self.at > LONGEST or len(self.text) - self.at > 2 * LONGEST:
                    raise InputError(
                        f"this entry is longer than {LONGEST >> 20} MiB, or has no end", where=where
                    )
                if not self._more():
                    raise InputError("this entry has no end; the file may be truncated", where=where)
                continue
            assert match is not None
            at = match.end()
            depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(match[0], 0)
            if depth <= 0:
                return at
