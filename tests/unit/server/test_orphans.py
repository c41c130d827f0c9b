"""Records of running servers: whose they are, and what is left of an orphan's secrets."""

import errno
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rocbench.errors import NodeFault
from rocbench.server import orphans, processes
from rocbench.server.spec import ProcessIdentity, ServerSpec


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """State of this test alone."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path / "state"))


def left_behind(folder: Path, process: subprocess.Popen, **changes: object) -> Path:
    """A record of a process whose bench is gone, with changes."""
    spec = ServerSpec(kind="process", model="toy", folder=folder)
    orphans.remember(processes.identity_of(process.pid), spec, "http://h")
    (path,) = orphans.state_dir().glob("server-*.json")
    record = json.loads(path.read_text()) | {"bench": {"pid": 2**22 + 1, "started": 1}} | changes
    path.write_text(json.dumps(record))
    return path


@pytest.fixture
def process(tmp_path):
    """A server."""
    child = "import time; print(flush=True); time.sleep(600)"
    started = subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdout=subprocess.PIPE)
    started.stdout.readline()
    yield started
    started.kill()
    started.wait()
    started.stdout.close()


def test_another_namespace_keeps_its_records(tmp_path, process):
    """A bench in a container cannot tell who lives outside; what was before the boot is gone for sure."""
    boot, space = processes.pid_space().split()
    path = left_behind(tmp_path, process, pid_space=f"{boot} pid:[1]")
    assert orphans.find() == ()
    assert path.exists()
    left_behind(tmp_path, process, pid_space=f"another-boot {space}")
    assert orphans.find() == ()
    assert not path.exists()


def test_a_record_without_gpus(tmp_path, process):
    """Read as one of a server on a CPU."""
    left_behind(tmp_path, process, gpus=None)

    assert [orphan.gpus for orphan in orphans.find()] == [()]


def test_no_room_for_a_record(tmp_path, monkeypatch):
    """The folder is named, and how to choose another."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    spec = ServerSpec(kind="process", model="toy", folder=tmp_path)
    with pytest.raises(NodeFault, match=r"state/server.* cannot be written: No space left"):
        orphans.remember(ProcessIdentity(1, 1), spec, "http://h")


def test_one_place_a_node(tmp_path, monkeypatch):
    """Two shells with temporary folders of their own see one another's runs."""
    monkeypatch.delenv("ROCBENCH_STATE")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "private"))
    monkeypatch.setattr(orphans, "_SHARED", str(tmp_path / "shared"))

    assert orphans.state_dir() == tmp_path / "shared"
    (tmp_path / "file").touch()
    monkeypatch.setattr(orphans, "_SHARED", str(tmp_path / "file" / "x"))
    with pytest.raises(NodeFault, match="cannot be written: Not a directory"):
        orphans.state_dir()
