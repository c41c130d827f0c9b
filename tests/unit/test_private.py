"""Owners and permissions of the files of a run."""

import os
import stat

import pytest

from rocbench import private
from rocbench.commands import planning
from rocbench.conduct.bind import ClientOptions
from rocbench.errors import DiskFault, InputError
from rocbench.store import writing
from rocbench.store.folder import RunFolder
from rocbench.tables.parts import Identity
from strangers import UID, given_away, needs_root


def mode(path):
    """Permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("asked", "wanted"), [(None, 0o600), ("", 0o600), ("027", 0o640), ("022", 0o644)])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_of_a_run(monkeypatch, tmp_path, asked, wanted, umask):
    """Files are private by default, with any umask; a file with more permissions loses them."""
    monkeypatch.delenv(private.VARIABLE, raising=False)
    if asked is not None:
        monkeypatch.setenv(private.VARIABLE, asked)
    (tmp_path / "log.jsonl").touch()
    (tmp_path / "log.jsonl").chmod(0o666)
    before = os.umask(umask)
    try:
        folder = RunFolder.create(tmp_path)
        with folder.locked():
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
    monkeypatch.setenv(private.VARIABLE, asked)
    with pytest.raises(InputError, match="is not a umask"):
        private.mode()


def test_a_planted_link_is_not_followed(tmp_path):
    """A link is followed neither for a temporary file nor for an appended one."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    for name in (".plan.json.tmp", ".requests.parquet.tmp"):
        (run / name).symlink_to(victim)
    folder = RunFolder.create(run)
    with folder.locked():
        (run / ".plan.json.tmp").symlink_to(victim)
        folder.write_json("plan.json", {"a": 1})
        (run / "log.jsonl").symlink_to(victim)
        with pytest.raises(DiskFault):
            folder.log("now", "event")
    assert victim.read_text() == "mine"
    assert folder.read_json("plan.json") == {"a": 1}


@needs_root
def test_a_folder_of_another_user(tmp_path):
    """Another user's empty folder may be a mounted one; a non-empty one is refused."""
    run = given_away(empty(tmp_path / "run"))
    RunFolder.create(run)
    with pytest.raises(InputError, match=rf"belongs to another user \(uid {UID}\) and is not empty"):
        RunFolder.create(run)


def empty(path):
    """A new folder."""
    path.mkdir()
    return path


def begun(path):
    """A run folder whose plan names a program, with the folder of a server."""
    folder = RunFolder.create(path)
    folder.write_json("plan.json", {"sweep": {"server": {"kind": "process", "command": ["/bin/false"]}}})
    folder.write_json("manifest.json", {"run_id": "r", "begun_at": "2026-01-01T00:00:00Z"})
    folder.server_folder("s1")
    folder.write_cell(Identity("r", "c", 1), {"valid": True}, {})
    return folder


@needs_root
@pytest.mark.parametrize("place", [".", "plan.json", "manifest.json", "parts/cells", "servers", "servers/s1"])
def test_a_run_that_is_in_part_another_users_does_not_go_on(tmp_path, place):
    """Its plan is not read to resume it; commands that only read the run can."""
    run = begun(tmp_path / "run").path
    given_away(run / place)
    with pytest.raises(InputError, match=rf"belongs to another user \(uid {UID}\)"):
        planning.resumed(run, ClientOptions())
    with pytest.raises(InputError, match="another user"):
        RunFolder.open(run, resume=True)
    assert len(RunFolder.open(run).rows) == 1


@pytest.mark.parametrize("place", ["plan.json", "parts", "parts/cells", "servers", "servers/s1"])
def test_a_run_with_a_link_in_it_does_not_go_on(tmp_path, place):
    """Any link is refused: the links in another user's archive belong to the user that unpacks it."""
    run = begun(tmp_path / "run").path
    (run / place).rename(tmp_path / "elsewhere")
    (run / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{place}: this link is part of a run folder"):
        RunFolder.open(run, resume=True)
    assert len(RunFolder.open(run).rows) == 1


def test_a_run_that_was_ended_before_it_had_begun_is_not_begun_through_a_link(tmp_path):
    """Existing content is checked too."""
    run = empty(tmp_path / "run")
    (run / "servers").symlink_to(empty(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="this link is part of a run folder"):
        RunFolder.create(run)


def test_a_users_own_link_to_a_run_is_followed(tmp_path):
    """Results may be on another disk."""
    begun(tmp_path / "disk")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert len(RunFolder.open(tmp_path / "link", resume=True).rows) == 1
    assert writing.output_folder(tmp_path / "link" / "report") == tmp_path / "link" / "report"


@needs_root
def test_another_users_link_to_a_place_for_runs_is_not_followed(tmp_path):
    """Neither for a new run, nor for a report or an export."""
    (tmp_path / "link").symlink_to(empty(tmp_path / "victim"))
    given_away(tmp_path / "link")
    for write in (RunFolder.create, writing.output_folder):
        with pytest.raises(InputError, match=f"link: this link belongs to another user .uid {UID}."):
            write(tmp_path / "link" / "run")
    assert not list((tmp_path / "victim").iterdir())


def test_a_file_for_people_takes_the_place_of_a_link(tmp_path):
    """Also where its temporary file is to be."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("report.md", ".report.md.tmp"):
        (tmp_path / name).symlink_to(victim)
    writing.output_file(tmp_path / "report.md", "text")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "report.md").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.md", "victim"]
