"""Whose the files of a run are."""

import os
import stat

import pytest

from rocbench import private
from rocbench.errors import DiskFault, InputError
from rocbench.store.folder import RunFolder
from rocbench.tables.parts import Identity


def mode(path):
    """Permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("asked", "wanted"), [(None, 0o600), ("", 0o600), ("027", 0o640), ("022", 0o644)])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_of_a_run(monkeypatch, tmp_path, asked, wanted, umask):
    """Their owner's alone unless asked, whatever the shell's umask is; a file that was more open is closed."""
    monkeypatch.delenv(private.ASKED, raising=False)
    if asked is not None:
        monkeypatch.setenv(private.ASKED, asked)
    (tmp_path / "log.jsonl").touch()
    (tmp_path / "log.jsonl").chmod(0o666)
    before = os.umask(umask)
    try:
        folder = RunFolder.create(tmp_path)
        with folder.held():
            folder.write_json("plan.json", {"a": 1})
            folder.log("now", "event")
            folder.write_cell(Identity("r", "c", 1), {"valid": True}, {})
            private.write(tmp_path / "command.sh", "true")
    finally:
        os.umask(before)

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 7
    assert {mode(path) for path in files} == {wanted}


@pytest.mark.parametrize("asked", ["rw", "777", "-1", "8"])
def test_no_umask(monkeypatch, asked):
    """One message; 777 would lock the owner out."""
    monkeypatch.setenv(private.ASKED, asked)
    with pytest.raises(InputError, match="is no umask"):
        private.mode()


def test_a_planted_link_is_not_followed(tmp_path):
    """Neither where a temporary file is to be, nor where a file is appended to."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    for name in (".plan.json.tmp", ".requests.parquet.tmp"):
        (run / name).symlink_to(victim)
    folder = RunFolder.create(run)
    with folder.held():
        (run / ".plan.json.tmp").symlink_to(victim)
        folder.write_json("plan.json", {"a": 1})
        (run / "log.jsonl").symlink_to(victim)
        with pytest.raises(DiskFault):
            folder.log("now", "event")
    assert victim.read_text() == "mine"
    assert folder.read_json("plan.json") == {"a": 1}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user(tmp_path):
    """An empty one is a mounted place for results; a full one is refused."""
    run = tmp_path / "run"
    run.mkdir()
    os.chown(run, 65534, 65534)
    RunFolder.create(run)
    with pytest.raises(InputError, match="another user"):
        RunFolder.create(run)
