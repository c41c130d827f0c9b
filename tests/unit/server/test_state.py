"""Where state lies: a folder of the user's own, whatever others have put in its place."""

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from rocbench.errors import NodeFault
from rocbench.server import state
from rocbench.server.logpipe import LogPipe
from rocbench.server.spec import ServerSpec
from strangers import given_away, needs_root

MINE = f"rocbench-{os.geteuid()}"
MODES = (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@pytest.fixture
def everybodys(tmp_path, monkeypatch):
    """A folder like /var/tmp, in its place."""
    folder = tmp_path / "everybodys"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setattr(state, "_SHARED", str(folder))
    monkeypatch.delenv("ROCBENCH_STATE", raising=False)
    return folder


def mode(path: Path) -> int:
    """Its permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_for_each_user(everybodys, tmp_path, monkeypatch):
    """The state folder is the same in every shell, in cron and in CI, and private."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "private"))
    for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    made = state.state_dir()
    assert (made, mode(made)) == (everybodys / MINE, 0o700)
    made.chmod(0o777)
    assert mode(state.state_dir()) == 0o700
    assert state.shared_dir() == everybodys


def test_another_place(tmp_path, monkeypatch):
    """A private folder is used itself; a shared one holds a folder per user."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path / "own" / "state"))
    assert state.state_dir() == tmp_path / "own" / "state"
    assert mode(state.state_dir()) == 0o700
    state.state_dir().chmod(0o1777)
    assert state.state_dir() == tmp_path / "own" / "state" / MINE
    (tmp_path / "link").symlink_to(tmp_path / "own")  # this user's own
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path / "link"))
    assert state.state_dir() == tmp_path / "own"


def test_no_place(tmp_path, monkeypatch):
    """The error names a path that cannot be a folder."""
    (tmp_path / "file").touch()
    for name, why in {"file": "File exists", "file/x": "Not a directory"}.items():
        monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path / name))
        with pytest.raises(NodeFault, match=f"file.* cannot be written: {why}"):
            state.state_dir()


def planted(path: Path, kind: str, target: Path) -> None:
    """Create an unexpected object at a path."""
    match kind:
        case "link":
            path.symlink_to(target)
        case "dangling link":
            path.symlink_to(target / "nothing")
        case "folder":
            path.mkdir(0o777)
        case "named pipe":
            os.mkfifo(path, 0o666)
        case "file":
            path.write_text("")
        case "file with several hard links":
            (target / "other").write_text("kept")
            os.link(target / "other", path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))


@pytest.mark.parametrize("kind", ["link", "dangling link", "named pipe", "file", "socket"])
def test_something_else_in_its_place(everybodys, tmp_path, kind):
    """No link is followed, not even the user's own; the error names the object."""
    target = tmp_path / "target"
    target.mkdir()
    planted(everybodys / MINE, kind, target)
    with pytest.raises(
        NodeFault, match=rf"{MINE} is a .*{kind.split()[-1]} of .*, not a folder that you own"
    ):
        state.state_dir()
    assert list(target.iterdir()) == []


@needs_root
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_the_folder_of_another_user(everybodys, tmp_path, kind):
    """The error names the owner; another user's folder or link is not used."""
    target = tmp_path / "target"
    target.mkdir()
    planted(everybodys / MINE, kind, target)
    given_away(everybodys / MINE)
    with pytest.raises(
        NodeFault, match=r"of nobody \(uid 65534\), not a folder that you own.*\n.*or root remove it"
    ):
        state.state_dir()
    assert list(target.iterdir()) == []


@needs_root
def test_a_strangers_link_where_the_state_was_named(tmp_path, monkeypatch):
    """Root's $ROCBENCH_STATE is another user's link in a shared folder."""
    (tmp_path / "link").symlink_to(tmp_path)
    given_away(tmp_path / "link")
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path / "link"))
    with pytest.raises(NodeFault, match=r"link is a symbolic link of nobody"):
        state.state_dir()


@pytest.mark.parametrize("flags", MODES)
@pytest.mark.parametrize(
    "kind", ["link", "dangling link", "folder", "named pipe", "file with several hard links", "socket"]
)
def test_only_plain_files_are_opened(tmp_path, kind, flags):
    """Another object in the place of a log is neither read nor written, and no pipe is waited for."""
    target = tmp_path / "target"
    target.mkdir()
    path = tmp_path / "server.log"
    planted(path, kind, target)
    with pytest.raises(NodeFault, match="not a plain file"):
        os.close(state.open_unlinked(path, flags))
    assert [found.name for found in target.iterdir()] in ([], ["other"])


def test_a_log_is_for_its_user_alone(tmp_path):
    """A log is created with mode 0600, then appended to."""
    path = tmp_path / "server.log"
    for word in (b"one ", b"two"):
        with state.open_log(path) as log:
            log.write(word)
    assert (path.read_text(), mode(path)) == ("one two", 0o600)


def test_a_log_that_is_a_link(tmp_path):
    """A server's output is not written through a link."""
    (tmp_path / "target").write_text("kept")
    (tmp_path / "server.log").symlink_to(tmp_path / "target")
    with pytest.raises(NodeFault, match=r"server\.log is a symbolic link of"):
        LogPipe(tmp_path / "server.log", ServerSpec("process", "toy", tmp_path), {})
    assert (tmp_path / "target").read_text() == "kept"
