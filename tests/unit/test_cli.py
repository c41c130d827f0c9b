"""How a command's end becomes an exit code: whatever it raises, and whatever becomes of its streams."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
import typer

from rocbench import cli
from rocbench.errors import InputError, Interrupted

APP = """
import sys
import typer
from rocbench import cli
app = typer.Typer(pretty_exceptions_enable=False)
@app.command()
def command(text: str = "x"):
    {body}
cli.app, sys.argv = app, ["bench", *sys.argv[1:]]
cli.main()
"""


def ended(monkeypatch, tmp_path, error: BaseException) -> int:
    """The exit code of a command that raises."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def command() -> None:
        raise error

    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path))
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["bench"])
    return cli._exit_code()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (typer.Exit(1), 1),
        (typer.BadParameter("x"), 2),
        (InputError("x"), 2),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 256), 2),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 4),
        (Interrupted("x"), 130),
        (KeyboardInterrupt(), 130),
        (KeyError("x"), 70),
        (RecursionError("x"), 70),
        (MemoryError(), 70),
        (EOFError(), 70),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 70),
        (AssertionError(), 70),
    ],
    ids=lambda value: type(value).__name__,
)
def test_codes(monkeypatch, tmp_path, capsys, error, code):
    """No exception of ours or of Python's shares code 1 with a regression; typer's own errors keep theirs."""
    assert ended(monkeypatch, tmp_path, error) == code
    err = capsys.readouterr().err
    assert "Traceback (" not in err
    assert ("bench crashed: " in err) == (code == 70)


def test_arguments_are_text(monkeypatch, capsys):
    """A byte that is no UTF-8 would end a run where it is first written."""
    monkeypatch.setattr(sys, "argv", ["bench", "report", os.fsdecode(b"r\xffn")])
    assert cli._exit_code() == 2
    assert r"r\xffn" in capsys.readouterr().err


def test_a_name_that_no_file_system_takes(monkeypatch, capsys):
    """It is told with its middle cut out."""
    monkeypatch.setattr(sys, "argv", ["bench", "report", "n" * 256])
    assert cli._exit_code() == 2
    err = capsys.readouterr().err
    assert "file name too long" in err
    assert len(err) < 300


PRINTS = "[print(text * 100) for _ in range(10000)]"


@pytest.mark.parametrize(
    ("shell", "body", "code", "told"),
    [
        ("{} | true", PRINTS, 141, ""),
        ("{} >/dev/full", PRINTS, 4, "standard output: cannot write: No space"),
        ("{} >/dev/full", "print(text)", 4, "standard output: cannot write: No space"),
        ("{} --help >/dev/full", "pass", 4, "standard output"),
        ("{} >&-", PRINTS, 4, "standard output: cannot write: it is closed"),
        ("{} >&-", "pass", 0, ""),
        ("{} 2>&-", "print('x', file=sys.stderr); raise typer.Exit(3)", 3, ""),
        ("{} 2>/dev/full", "print('x', file=sys.stderr); raise typer.Exit(3)", 3, ""),
        ("{} <&- >&- 2>&-", "raise KeyError", 70, ""),
        ("{} --text $'\\u00e9' | cat", "print(text)", 0, ""),
    ],
)
def test_streams_that_are_closed_full_or_left(tmp_path, shell, body, code, told):
    """Standard output that is lost costs the output; standard error that is lost costs nothing."""
    program = tmp_path / "program.py"
    program.write_text(APP.format(body=body))
    command = shell.format(f"{sys.executable} {program}") + '; exit "${PIPESTATUS[0]}"'
    env = {"PYTHONIOENCODING": "ascii", "ROCBENCH_STATE": str(tmp_path), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, env=os.environ | env
    )
    assert done.returncode == code, done.stderr
    assert told in done.stderr if told else done.stderr == ""
