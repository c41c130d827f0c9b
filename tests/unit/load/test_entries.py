"""Files of JSON as they are found: every form that is read, and one message for each that is not."""

from __future__ import annotations

import gzip
import json
import os

import pytest

from rocbench.errors import InputError
from rocbench.load import entries

ROWS = [{"prompt": f'{{"[{i}]\\" \u00e9'} for i in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def read(tmp_path, content):
    """(place without its folder, object) of each entry."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    return [
        (where.removeprefix(f"{path}:"), entries.parsed(text, where))
        for where, text in entries.read_entries(str(path))
    ]


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES.rstrip(),
        b"\xef\xbb\xbf" + LINES,
        LINES.replace(b"\n", b"\r\n"),
        gzip.compress(LINES, mtime=0),
        gzip.compress(b"\xef\xbb\xbf" + LINES, mtime=0),
    ],
)
def test_lines_are_read_in_every_usual_form(tmp_path, content):
    """With and without an end of line, a mark of UTF-8, carriage returns, gzip."""
    assert read(tmp_path, content) == [(str(i + 1), row) for i, row in enumerate(ROWS)]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_with_line_and_entry(tmp_path, indent):
    """On one line or on many, each entry has the line on which it begins."""
    found = read(tmp_path, b"\n" + json.dumps(ROWS, indent=indent).encode())
    assert [row for _, row in found] == ROWS
    lines = [2] * 4 if indent is None else [3, 6, 9, 12]
    assert [where for where, _ in found] == [f"{line} (entry {i + 1})" for i, line in enumerate(lines)]


def test_an_array_is_read_in_pieces(tmp_path, monkeypatch):
    """Wherever a piece ends: within a string, an escape, a number, or between entries."""
    for size in (1, 2, 3, 7, 16):
        monkeypatch.setattr(entries, "_CHUNK", size)
        monkeypatch.setattr(entries, "LONGEST", 64)
        whole = b'[\n{"a": "x\\\\\\"]}"},\n{"b": [{"c": []}, 1.5]}\n,\n{}\n]\n'
        found = read(tmp_path, whole)
        assert [row for _, row in found] == [{"a": 'x\\"]}'}, {"b": [{"c": []}, 1.5]}, {}]
        assert [where for where, _ in found] == ["2 (entry 1)", "3 (entry 2)", "5 (entry 3)"]


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        (b"", "", "empty"),
        (b"\n \n", "", "empty"),
        (b" [ \n]\n", "", "the array is empty"),
        (b"PAR1\x15\x04", "", "Parquet"),
        ("{}".encode("utf-16"), "", "UTF-16"),
        ("{}".encode("utf-16-le"), "", "zero byte"),
        (b"\x28\xb5\x2f\xfd1234", "", "zstd"),
        (gzip.compress(LINES, mtime=0)[:-20], "", "cannot read the file"),
        (b"\x1f\x8bxxxx", "", "cannot read the file"),
        (b"prompt,output_len\nhello,3\n", ":1", "CSV is not supported"),
        (b"{}\n{\n", ":2", "not JSON"),
        (b"{}\n3\n", ":2", "must be a JSON object"),
        (b"{}\n\xff\n", ":2", "not JSON"),
        (b'[{}, {"a": 1', ":1 (entry 2)", "no end"),
        (b'[{}, {"a": "1', ":1 (entry 2)", "no end"),
        (b"[{}, ", ":1 (entry 1)", "no end"),
        (b"[{}\n{}]", ":2 (entry 1)", "comma is missing"),
        (b"[{},,{}]", ":1 (entry 2)", "an entry is missing"),
        (b"[{},]", ":1 (entry 2)", "an entry is missing"),
        (b"[{}, 3]", ":1 (entry 2)", "must be a JSON object"),
        (b"[{}]\n{}", ":2 (entry 1)", "after the end"),
        (b"[" * 3000, ":1 (entry 1)", "no end"),
        (b"[" * 3000 + b"]" * 3000, ":1 (entry 1)", "depth"),
    ],
)
def test_other_files_have_one_message_with_the_place(tmp_path, content, place, said):
    """What is no such file, and what is cut, is told in a line that says where."""
    with pytest.raises(InputError, match=said) as fault:
        read(tmp_path, content)
    assert fault.value.where == f"{tmp_path / 'd.jsonl'}{place}"


def test_what_is_no_file_is_told(tmp_path):
    """A folder, nothing at all, and a pipe, which would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    for name, said in ((".", "folder"), ("none", "no such file"), ("pipe", "not a regular file")):
        with pytest.raises(InputError, match=said):
            list(entries.read_entries(str(tmp_path / name)))


def test_no_file_takes_all_memory(tmp_path, monkeypatch):
    """A line, an entry and a file have their bounds, packed or not."""
    monkeypatch.setattr(entries, "LONGEST", 1000)
    monkeypatch.setattr(entries, "_CHUNK", 100)
    for content in (b'{"a": "' + b"x" * 1100 + b'"}', b'[{"a": "' + b"x" * 5000 + b'"}]'):
        with pytest.raises(InputError, match="longer than"):
            read(tmp_path, content)
    monkeypatch.setattr(entries, "MOST_BYTES", 2000)
    for content in (b"{}\n" * 1000, gzip.compress(b"{}\n" * 1000), b"[" + b"{},\n" * 1000, b"\n" * 3000):
        with pytest.raises(InputError, match="holds more than"):
            read(tmp_path, content)
