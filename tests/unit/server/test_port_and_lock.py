"""Ports and locks: free, taken, and by whom."""

import errno
import json
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


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """State of this test alone."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path))
    return tmp_path


def test_free_port_can_be_bound():
    """The chosen port passes the check."""
    check_port("127.0.0.1", free_port("127.0.0.1"))


def test_holder_is_named():
    """A taken port is refused, with the pid and command of its holder."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]

        with pytest.raises(
            NodeFault, match=rf"port {port} on 127.0.0.1 .* held by pid {os.getpid()} \(.*python"
        ):
            check_port("127.0.0.1", port)


def test_a_full_state_folder(state, monkeypatch):
    """Without room for its note a lock still holds; without room for the lock the folder is named."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with (
            lock.node_lock("first"),
            pytest.raises(NodeFault, match="held by another run"),
            lock.node_lock("second"),
        ):
            pass
    (state / "node.lock").unlink()
    monkeypatch.setattr(os, "open", full)
    with pytest.raises(NodeFault, match=r"node.lock cannot be opened: No space left"), lock.node_lock("x"):
        pass


def test_port_of_the_command():
    """The spec's port, else the command's own, else a free one."""
    command = ("vllm", "serve", "m", "--port", "8123")
    base = {"kind": "process", "model": "m", "folder": Path()}

    assert choose_port(ServerSpec(**base, command=command, port=9)) == 9
    assert choose_port(ServerSpec(**base, command=command)) == 8123
    assert choose_port(ServerSpec(**base)) > 0


def test_node_is_held_by_one(state):
    """A second run is refused and told who runs; afterwards the node is free again."""
    with lock.node_lock("nightly.yaml"):  # held while the second tries
        told = rf"the node is held by \w+ \(pid {os.getpid()}, nightly.yaml"
        with pytest.raises(NodeFault, match=told), lock.node_lock("by hand"):
            pass
    with lock.node_lock("by hand"):
        note = json.loads((state / "node.lock").read_text())
        assert note["purpose"] == "by hand"
    assert (state / "node.lock").read_text() == ""


def test_killed_holder_leaves_no_lock(state):
    """The kernel drops the lock of a holder that was killed."""
    script = (
        "import sys, time\nfrom rocbench.server.lock import node_lock\n"
        "with node_lock('doomed'):\n print(flush=True); time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert holder.stdout.readline()
    with pytest.raises(NodeFault, match="doomed"), lock.node_lock("me"):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()

    with lock.node_lock("me"):
        pass


def test_children_do_not_keep_the_lock():
    """A server started under the lock does not hold it on."""
    with lock.node_lock("first"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        with lock.node_lock("second"):
            pass
    finally:
        child.kill()
        child.wait()


def test_gpus_are_not_shared():
    """Two servers never hold the same GPU; others are free."""
    with lock.gpu_locks((0, 1), "a"):
        with pytest.raises(NodeFault, match="GPU 1 is held"), lock.gpu_locks((1, 2), "b"):
            pass
        with lock.gpu_locks((2, 3), "c"):
            assert lock.choose_gpus(4, range(8)) == (4, 5, 6, 7)
            with pytest.raises(NodeFault, match=r"5 GPUs are wanted, 4 of 8 are free; held by .*, a, .*, c,"):
                lock.choose_gpus(5, range(8))


def test_servers_share_a_node_that_nobody_measures():
    """Two may stand side by side; a run waits for both, and they for a run, each told of the other."""
    served = [lock.node_lock(f"bench serve {name}", shared=True) for name in "abc"]
    refused = pytest.raises(NodeFault, match=r"the node is held by .* bench serve b")
    with served[0], served[1], refused, lock.node_lock("run"):
        pass
    with lock.node_lock("nightly"), pytest.raises(NodeFault, match="nightly"), served[2]:
        pass


def test_nearest_gpus():
    """Of what is free, the indices nearest to one another are taken."""
    with lock.gpu_locks((1,), "a"):
        assert lock.choose_gpus(2, range(8)) == (2, 3)
        assert lock.choose_gpus(0, range(8)) == ()
