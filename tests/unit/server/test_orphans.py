"""Records of running servers: whose they are, and what is left of an orphan's secrets."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocbench import processes
from rocbench.errors import NodeFault
from rocbench.processes import ProcessIdentity, ProcessTree
from rocbench.server import orphans
from rocbench.server.spec import ServerSpec
from rocbench.server.state import state_dir
from strangers import given_away, needs_root


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A state folder for this test."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path / "state"))


def left_behind(folder: Path, process: subprocess.Popen, **changes: object) -> Path:
    """A record of a process whose bench is gone, with changes."""
    spec = ServerSpec(kind="process", model="toy", folder=folder)
    orphans.remember(processes.identity_of(process.pid), spec, "http://h")
    (path,) = state_dir().glob("server-*.json")
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
    """A bench in a container cannot see processes outside; processes of an earlier boot are gone."""
    boot, space = processes.pid_space().split()
    path = left_behind(tmp_path, process, pid_space=f"{boot} pid:[1]")
    assert orphans.find() == ()
    assert path.exists()
    left_behind(tmp_path, process, pid_space=f"another-boot {space}")
    assert orphans.find() == ()
    assert not path.exists()


def test_no_room_for_a_record(tmp_path, monkeypatch):
    """The error names the folder and the variable that sets another."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    spec = ServerSpec(kind="process", model="toy", folder=tmp_path)
    with pytest.raises(NodeFault, match=r"state/server.* cannot be written: No space left"):
        orphans.remember(ProcessIdentity(1, 1), spec, "http://h")


def test_a_record_is_its_users_alone(tmp_path, process):
    """The record is private: it holds a server's command line."""
    path = left_behind(tmp_path, process)
    orphans.remember(processes.identity_of(process.pid), ServerSpec("process", "toy", tmp_path), "http://h")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(path.parent.glob("*.part"))


@pytest.mark.parametrize(
    "changes",
    [{"argv": ["vllm", "serve", "toy"]}, {"argv": []}, {"uid": 4242}, {"uid": None}],
)
def test_a_process_that_is_not_what_the_record_says(tmp_path, process, changes):
    """The process is not ended and does not block a run; it is reported, with the remedy."""
    left_behind(tmp_path, process, **changes)
    (orphan,) = orphans.find()
    told = []
    for reap_it in (True, False):
        orphans.end_or_refuse(orphan, reap_it=reap_it, tell=told.append)
    assert told[0] == told[1]
    assert told[0].startswith(f"left alone: pid {process.pid} (")
    with pytest.raises(NodeFault, match=f"end it by hand: kill {process.pid}"):
        orphans.reap(orphan, grace_s=1.0)
    assert process.poll() is None
    check = orphans.check()
    assert (check.status, check.found) == ("unknown", orphan.doubt)


def test_a_pid_of_another_start(tmp_path, process):
    """The server is gone and its pid reused: nothing is ended, and the record is removed."""
    leader = {"pid": process.pid, "started": processes.identity_of(process.pid).started - 1}
    path = left_behind(tmp_path, process, leader=leader, members=[leader])
    assert orphans.find() == ()
    assert not path.exists()
    assert process.poll() is None


def test_a_group_of_a_number_that_the_server_had(tmp_path):
    """A process of the group belongs to the server only if the record has one of its members."""
    script = "import os, subprocess, sys; subprocess.Popen(['sleep', '600'], stdout=2); print(flush=True); sys.stdin.read()"
    leader = subprocess.Popen(
        [sys.executable, "-c", script], start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    leader.stdout.readline()
    family = ProcessTree(processes.identity_of(leader.pid)).refresh()
    (child,) = family[1:]
    path = left_behind(tmp_path, leader)
    orphans.note(family)
    noted = json.loads(path.read_text())
    leader.communicate()
    try:
        (orphan,) = orphans.find()
        assert (orphan.members, orphan.by_group, orphan.doubt) == ((child,), True, "")
        noted["members"] = [noted["leader"], {"pid": child.pid, "started": child.started - 1}]
        path.write_text(json.dumps(noted))
        assert orphans.find() == ()
        assert processes.is_alive(child)
    finally:
        os.kill(child.pid, signal.SIGKILL)


def test_nothing_but_a_runtime_is_executed(tmp_path, process):
    """A record that names another program is ignored."""
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    evil.chmod(0o755)
    process.kill()
    process.wait()
    for changes in ({"runtime": str(evil)}, {"container": "--all"}, {"container": "rocbench-1-x y"}):
        left_behind(tmp_path, process, **({"container": "rocbench-1-s1", "runtime": str(evil)} | changes))
        assert orphans.find() == ()
    assert not (tmp_path / "executed").exists()


@needs_root
def test_records_of_another_user(tmp_path, process, monkeypatch):
    """In a shared folder, other users' records and links are neither used nor removed."""
    path = left_behind(tmp_path, process)
    kept = path.rename(path.with_name("server-1-1.json"))
    given_away(kept)
    path.symlink_to(kept)
    (path.with_name("server-1-2.json")).symlink_to(tmp_path / "nothing")
    os.mkfifo(path.with_name("server-1-3.json"))
    assert orphans.find() == ()
    assert len(list(path.parent.iterdir())) == 4
    assert process.poll() is None


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["pid", "started", "x"]), inner)
    ),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(
            "leader bench pid_space model base_url folder container runtime uid argv members".split()
        ),
        JUNK,
    )
)
def test_odd_records(changes):
    """Any content of a record gives no orphan, or one that is reported and left alone."""
    me = asdict(processes.identity_of(os.getpid()))
    record = {
        "leader": me,
        "bench": {"pid": 2**22 + 1, "started": 1},
        "pid_space": processes.pid_space(),
        "model": "toy",
        "base_url": "http://h",
        "folder": "servers/toy",
        "container": "",
        "runtime": "docker",
        "uid": -1,
        "argv": [],
        "members": [me],
    }
    assert orphans.orphan_of(orphans.parsed(json.dumps(record).encode())).doubt
    read = orphans.parsed(json.dumps(record | changes).encode())
    orphan = None if read is None else orphans.orphan_of(read)
    assert orphan is None or orphan.doubt or orphan.record.container or orphan.members == ()
    assert orphan is None or isinstance(orphan.text(), str)
