"""Files that somebody names: what is none, or is far too large, is told at once and read by nobody."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from rocbench import textfile
from rocbench.errors import InputError


def told(path: Path | str, **bounds: int) -> InputError:
    """What the reader raises."""
    with pytest.raises(InputError) as error:
        textfile.read_text(Path(path), fix="look there", **bounds)
    error.value.text().encode()
    return error.value


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """A pipe without a writer would block forever, /dev/zero would never end."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        assert "No such device" in told(tmp_path / "socket").what
    assert told(tmp_path).fix == "give the path of a file in this folder"
    assert "pipe, device" in told(tmp_path / "pipe").what
    assert "pipe, device" in told("/dev/zero").what
    assert told(tmp_path / "none").text() == f"{tmp_path / 'none'}: no such file\n  fix: look there"
    assert "not a valid path" in told("a\0b").what
    assert "not a valid path" in told("a\udc80\ud800b").what
    assert "too long" in told("a" * 256).what


def test_a_file_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    """Its size is enough."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    assert told(large).what == "holds more than 16.0 MiB"
    large.write_bytes(b"12345")
    assert textfile.read_text(large, most=5) == "12345"
    assert told(large, most=4).what == "holds more than 4 B"


def test_only_utf8_is_text(tmp_path: Path) -> None:
    """With the line of the first byte that is none."""
    file = tmp_path / "a.json"
    file.write_text("{}", encoding="utf-16")
    assert told(file).what == "is UTF-16"
    file.write_bytes(b"{\n\xff}")
    assert told(file).where == f"{file}:2"
    file.write_text('{"a":\n\n1', encoding="utf-8-sig")
    with pytest.raises(InputError) as error:
        textfile.read_json(file)
    assert error.value.where == f"{file}:3"
