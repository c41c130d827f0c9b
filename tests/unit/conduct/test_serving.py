"""`bench serve` and runs on one node, and the folder of a server that failed."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from rocbench import server
from rocbench.commands import serving
from rocbench.errors import NodeFault, ServerFault
from rocbench.server import lock, orphans


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """State of this test alone."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def serve(monkeypatch, code=1, inside=lambda: None):
    """Run `bench serve` with a server that ends at once; return its folder."""
    got = []

    @contextmanager
    def start(spec, **_):
        got.append(spec.folder)
        (spec.folder / "server.log").write_text("ValueError: unlike any other\n")
        inside()
        yield SimpleNamespace(
            simulated=False,
            ready_s=1.0,
            base_url="http://h",
            exit_code=lambda: code,
            log_path=spec.folder / "server.log",
            log_start=0,
        )

    monkeypatch.setattr(server, "start", start)
    try:
        serving.serve("llama-3.3-70b", vllm="0.14.1")
    finally:
        got += [path.exists() for path in got]
    return got


def test_a_log_that_is_pointed_at_is_there(monkeypatch):
    """The folder of a failed server is kept; that of a stopped one is removed."""
    with pytest.raises(ServerFault, match="exited by itself with exit code 1") as caught:
        serve(monkeypatch)
    assert "unlike any other" in Path(caught.value.where).read_text()

    def by_hand(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "sleep", by_hand)
    _, there = serve(monkeypatch, code=None)
    assert not there


def test_no_run_beside_a_server(monkeypatch):
    """The error of the second names the first."""

    def run():
        with pytest.raises(NodeFault, match=rf"held by .*pid {os.getpid()}"), lock.node_lock():
            pass

    with pytest.raises(ServerFault):
        serve(monkeypatch, inside=run)
    with lock.node_lock(), pytest.raises(NodeFault, match=rf"held by .*pid {os.getpid()}"):
        serve(monkeypatch)


def test_no_server_beside_an_orphan(monkeypatch):
    """An orphan may use the GPUs."""
    left = SimpleNamespace(text=lambda: "llama at http://h", doubt="")
    monkeypatch.setattr(orphans, "find", lambda: (left,))
    with pytest.raises(NodeFault, match="left a server behind: llama at"):
        serve(monkeypatch)
