"""Ports and locks: free, taken, and by whom."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rocbench.errors import NodeFault
from rocbench.server import lock
from rocbench.server.port import check_port, choose_port, free_port
from rocbench.server.spec import ServerSpec
from strangers import needs_root, python


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A state folder for this test."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path))
    return tmp_path


def test_free_port_can_be_bound():
    """The chosen port passes the check."""
    check_port("127.0.0.1", free_port("127.0.0.1"))


def test_holder_is_named():
    """A port in use is refused, with the pid and command of its holder."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]

        with pytest.raises(
            NodeFault, match=rf"port {port} on 127.0.0.1 .* held by pid {os.getpid()} \(.*python"
        ):
            check_port("127.0.0.1", port)


def test_no_room_for_a_lock(monkeypatch):
    """The error names the file and the variable that sets another folder."""
    really = os.open

    def full(path, flags, *more, **named):
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", full)
    with (
        pytest.raises(NodeFault, match=r"rocbench-node.lock cannot be written: No space left"),
        lock.node_lock(),
    ):
        pass


def test_port_of_the_command():
    """The spec's port, else the command's own, else a free one."""
    command = ("vllm", "serve", "m", "--port", "8123")
    base = {"kind": "process", "model": "m", "folder": Path()}

    assert choose_port(ServerSpec(**base, command=command, port=9)) == 9
    assert choose_port(ServerSpec(**base, command=command)) == 8123
    assert choose_port(ServerSpec(**base)) > 0


def test_node_is_held_by_one(state):
    """A second run is refused with the holder that the kernel names; afterwards the node is free."""
    (state / "rocbench-node.lock").write_text('{"user": "mallory", "pid": 1, "purpose": "a word of its own"}')
    with lock.node_lock():  # held while the second tries
        told = rf"the node is held by \w+ \(uid {os.geteuid()}\), pid {os.getpid()}: \S.*, since 2\d\d\d-"
        with pytest.raises(NodeFault, match=told), lock.node_lock():
            pass
    with lock.node_lock():
        assert "a word of its own" in (state / "rocbench-node.lock").read_text()  # nothing is written into it


def test_killed_holder_leaves_no_lock(state):
    """The kernel drops the lock of a holder that was killed."""
    script = (
        "import sys, time\nfrom rocbench.server.lock import node_lock\n"
        "with node_lock():\n print(flush=True); time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert holder.stdout.readline()
    with pytest.raises(NodeFault, match=f"pid {holder.pid}: "), lock.node_lock():
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()

    with lock.node_lock():
        pass


def test_children_do_not_keep_the_lock():
    """A server started under the lock does not keep it."""
    with lock.node_lock():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        with lock.node_lock():
            pass
    finally:
        child.kill()
        child.wait()


def test_gpus_are_not_shared():
    """Two servers never hold the same GPU; others are free."""
    with lock.gpu_locks((0, 1)):
        with pytest.raises(NodeFault, match="GPU 1 is held"), lock.gpu_locks((1, 2)):
            pass
        with lock.gpu_locks((2, 3)):
            assert lock.choose_gpus(4, range(8)) == (4, 5, 6, 7)
            with pytest.raises(
                NodeFault, match=rf"5 GPUs are needed, 4 of 8 are free; held by .* pid {os.getpid()}"
            ):
                lock.choose_gpus(5, range(8))


def test_servers_share_a_node_that_nobody_measures():
    """Two shared holders exclude a run, and a run excludes them; each error names the other."""
    served = [lock.node_lock(shared=True) for _ in range(3)]
    refused = pytest.raises(NodeFault, match=rf"the node is held by .* pid {os.getpid()}")
    with served[0], served[1], refused, lock.node_lock():
        pass
    with lock.node_lock(), pytest.raises(NodeFault, match="the node is held by"), served[2]:
        pass


def test_nearest_gpus():
    """The nearest free indices are chosen."""
    with lock.gpu_locks((1,)):
        assert lock.choose_gpus(2, range(8)) == (2, 3)
        assert lock.choose_gpus(0, range(8)) == ()


# --- on a machine of others


@pytest.mark.parametrize(
    "kind", ["link", "dangling link", "folder", "named pipe", "file with several hard links"]
)
def test_something_else_in_the_place_of_a_lock(state, tmp_path_factory, kind):
    """The error names the object and its owner; nothing is followed, created or waited for."""
    target = tmp_path_factory.mktemp("target")
    path = state / "rocbench-node.lock"
    match kind:
        case "link":
            (target / "file").write_text("kept")
            path.symlink_to(target / "file")
        case "dangling link":
            path.symlink_to(target / "nothing")
        case "folder":
            path.mkdir()
        case "named pipe":
            os.mkfifo(path)
        case _:
            (target / "file").write_text("kept")
            path.hardlink_to(target / "file")
    with pytest.raises(NodeFault, match=rf"node.lock is a .*{kind.split()[-1]} of .*uid {os.geteuid()}"):
        lock.node_lock().__enter__()
    assert [file.read_text() for file in target.iterdir()] in ([], ["kept"])


def test_a_cleaner_removes_the_lock(state):
    """A later holder creates a new file; a lock on the removed file does not count."""
    path = state / "rocbench-gpu-0.lock"
    with lock.gpu_locks((0,)):
        path.unlink()
    really = lock._try

    def removed_meanwhile(path, file, how):
        locked = really(path, file, how)
        if not removed:
            removed.append(path)
            path.unlink()
        return locked

    removed: list[Path] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lock, "_try", removed_meanwhile)
        with lock.gpu_locks((0,)), pytest.raises(NodeFault, match="GPU 0 is held"), lock.gpu_locks((0,)):
            pass
    assert removed


@pytest.mark.parametrize(
    ("lines", "pids"),
    [
        (["1: FLOCK  ADVISORY  WRITE 71 {device}:{inode} 0 EOF"], [71]),
        (["1: FLOCK  ADVISORY  READ 71 {device}:{inode} 0 EOF", "2: FLOCK ADVISORY READ 72 {device}:{inode} 0 EOF"], [71, 72]),
        (["1: FLOCK  ADVISORY  WRITE 71 00:31:{inode} 0 EOF"], [71]),  # btrfs and overlayfs name another device
        (["1: FLOCK  ADVISORY  WRITE 71 00:31:{inode} 0 EOF", "2: FLOCK ADVISORY WRITE 72 {device}:{inode} 0 EOF"], [72]),
        (["1: -> FLOCK  ADVISORY  WRITE 71 {device}:{inode} 0 EOF"], []),  # waits for it
        (["1: POSIX  ADVISORY  WRITE 71 {device}:{inode} 0 EOF"], []),
        (["1: OFDLCK ADVISORY  WRITE -1 {device}:{inode} 0 EOF"], []),
        (["1: FLOCK  ADVISORY  WRITE 0 {device}:{inode} 0 EOF"], []),  # of a pid namespace that is not seen
        (["1: FLOCK  ADVISORY  WRITE 71 {device}:1{inode} 0 EOF", "", "1: FLOCK"], []),
    ],
)  # fmt: skip
def test_who_holds_it(tmp_path, lines, pids):
    """Holders are read from the kernel's table of locks (proc_locks(5)); waiting processes are none."""
    file = (tmp_path / "lock").open("w")
    found = os.fstat(file.fileno())
    file.close()
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    table = tmp_path / "locks"
    table.write_text("\n".join(line.format(device=device, inode=found.st_ino) for line in lines))

    assert lock._holders(found, table) == pids


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["/opt/venv/bin/python3.11", "/opt/venv/bin/bench", "sweep", "nightly", "--reap"], "bench sweep nightly"),
        (["/usr/bin/python3", "-m", "rocbench", "serve", "llama"], "rocbench serve llama"),
        (["\x1b[2Jroot\n", "x" * 500], "?[2Jroot? " + 60 * "x"),
        ([], ""),
        ([""], ""),
        (["python"], ""),
    ],
)  # fmt: skip
def test_what_the_holder_calls_itself(argv, told):
    """A few words, without control characters."""
    assert " ".join(lock._words(argv)) == told


LOCKED = """
import sys
from rocbench.server.lock import gpu_locks, node_lock
try:
    with gpu_locks((0,)) if sys.argv[1] == "gpu" else node_lock():
        print("locked", flush=True)
        sys.stdin.readline()
except Exception as error:
    print(error)
"""


@needs_root
@pytest.mark.parametrize(("what", "told"), [("gpu", "GPU 0"), ("node", "the node")])
def test_two_users_exclude_one_another(state_of_all, what, told):
    """Two users exclude each other, with any owner and umask of the lock file."""
    held = lock.gpu_locks((0,)) if what == "gpu" else lock.node_lock()
    before = os.umask(0o077)
    try:
        with held, python("-c", LOCKED, what) as second:  # made by root
            said = second.communicate()[0]
    finally:
        os.umask(before)
    assert f"{told} is held by root (uid 0), pid {os.getpid()}: " in said
    (state_of_all / ("rocbench-gpu-0.lock" if what == "gpu" else "rocbench-node.lock")).unlink()
    with python("-c", LOCKED, what, "\x1b[2Jroot", stdin=subprocess.PIPE) as first:  # made by the other
        assert first.stdout.readline() == "locked\n"
        held = lock.gpu_locks((0,)) if what == "gpu" else lock.node_lock()
        with pytest.raises(
            NodeFault, match=rf"{told} is held by nobody \(uid 65534\), pid {first.pid}: \S"
        ) as refused:
            held.__enter__()
        assert "\x1b" not in str(refused.value)
        first.communicate("\n")
    with lock.gpu_locks((0,)) if what == "gpu" else lock.node_lock():
        pass


@needs_root
def test_a_lock_that_may_not_be_opened(state_of_all):
    """A user who denies access to the lock file is named."""
    path = state_of_all / "rocbench-gpu-0.lock"
    path.touch(0o600)
    with python("-c", LOCKED, "gpu") as second:
        said = second.communicate()[0]
    assert "of root (uid 0)) cannot be locked: Permission denied" in said
    assert "let root (uid 0) remove it" in said
