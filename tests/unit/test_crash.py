"""What nobody caught: told in one line, with the traceback in a file that only its owner reads."""

from __future__ import annotations

import errno
import re
import stat
from pathlib import Path

import pytest

from rocbench import crash
from rocbench.errors import EnvironmentFault, InputError


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "x" * 256),
            InputError,
            r"^x{1,100}\.\.\.x{1,100}: cannot be used: file name too long$",
        ),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), InputError, "a/b"),
        (PermissionError(errno.EACCES, "Permission denied", Path("runs")), EnvironmentFault, "runs"),
        (OSError(errno.EROFS, "Read-only file system", "runs"), EnvironmentFault, "read-only"),
        (OSError(errno.EMFILE, "Too many open files"), EnvironmentFault, "ulimit"),
        (RuntimeError("Could not determine home directory."), EnvironmentFault, "HOME"),
    ],
)
def test_what_a_file_or_the_machine_refuses_is_no_crash(error, kind, told):
    """Wherever it comes up, if it names the file."""
    fault = crash.foreseen(error)
    assert type(fault) is kind
    assert re.search(told, fault.text())


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        RuntimeError("x"),
        RecursionError(),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        OSError("x"),
    ],
)
def test_anything_else_is(error):
    """Among them a socket's broken pipe and a missing file of bench."""
    assert crash.foreseen(error) is None


def test_a_folder_that_is_gone_under_bench(tmp_path, monkeypatch):
    """Nothing can be found from it."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        Path.cwd()
    assert "working folder" in str(crash.foreseen(caught.value))


def raised(text: str) -> Exception:
    """An error with a traceback and a note."""
    try:
        raise ValueError(text)
    except ValueError as error:
        error.add_note("go on with --resume")
        return error


def test_a_crash_is_one_line_and_a_file(tmp_path, monkeypatch):
    """The line has no secret, no second line and no control character; the file is private."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    text = crash.message(raised("bad \x1b[31m hf_0123456789 value\nsecond line"))

    first, note = text.split("\n")
    (path,) = tmp_path.glob("crash-*.txt")
    kept = path.read_text()
    assert first == (
        f"bench crashed: ValueError: bad \\x1b[31m *** value; the traceback is in {path}; please report it"
    )
    assert note.strip() == "go on with --resume"
    assert "Traceback" in kept
    assert "raise ValueError" in kept
    assert "hf_0123456789" not in kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_nothing_can_be_written_the_traceback_is_told(monkeypatch):
    """The message includes the traceback."""
    monkeypatch.setenv("ROCBENCH_STATE", "/dev/null/state")
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/dev/null")
    assert "Traceback" in crash.message(raised("x"))
