"""Whose processes listen where a URL points: from real sockets, and from a /proc made for the test."""

import os
import socket
import subprocess
import sys

import pytest

from rocbench.server import listener

PARENT = """
import os, socket, subprocess, sys
held = socket.create_server(("127.0.0.1", 0))
os.set_inheritable(held.fileno(), True)
code = "import time; time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], close_fds=False)
print(held.getsockname()[1], flush=True)
sys.stdin.read()
child.kill()
"""


def test_the_parent_of_those_that_share_a_socket():
    """An API server and workers that inherited its socket are one server; the first process leads it."""
    made = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    port = int(made.stdout.readline())
    try:
        assert listener.leader_of(f"http://127.0.0.1:{port}/v1") == made.pid
        assert listener.leader_of(f"http://localhost:{port}") == made.pid
    finally:
        made.stdin.close()
        made.wait()
        made.stdout.close()
    assert listener.leader_of(f"http://127.0.0.1:{port}") is None


@pytest.mark.parametrize("host", ["192.0.2.7", "no-such-host.invalid"])
def test_another_machine(host):
    """The same port on another machine gives no process."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        assert listener.leader_of(f"http://127.0.0.1:{port}") == os.getpid()
        assert listener.leader_of(f"http://{host}:{port}") is None


@pytest.mark.parametrize(("name", "found"), [("vllm", 41), ("docker-proxy", None), ("ssh", None)])
def test_a_relay_is_no_server(tmp_path, name, found):
    """A program that only forwards connections is not the server."""
    (tmp_path / "net").mkdir()
    row = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0"
    (tmp_path / "net" / "tcp").write_text(f"  sl  local_address ...\n{row}\n")
    (tmp_path / "41" / "fd").mkdir(parents=True)
    (tmp_path / "41" / "fd" / "3").symlink_to("socket:[777]")
    (tmp_path / "41" / "stat").write_text(f"41 ({name}) S 1 41 41 0 -1 0 0 0 0 0 5 5 0 0 20 0 9 0 1234 0 0\n")

    assert listener.leader_of("http://127.0.0.1:8080", tmp_path) == found
    assert listener.leader_of("http://127.0.0.1:8081", tmp_path) is None
