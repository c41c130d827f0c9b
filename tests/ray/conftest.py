"""A Ray cluster and `bench` beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sweeps

PROGRAM = Path(__file__).parent / "cluster_program.py"


class Cluster:
    """A running cluster: its head's address, its nodes by Ray id, and the folder of their state."""

    def __init__(self, process: subprocess.Popen[str], state: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self.state = state
        self.address, *self.nodes = process.stdout.readline().split()

    def kill(self, node: str) -> None:
        """End the node whose id begins so, as a power failure would."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        (node_id,) = [known for known in self.nodes if known.startswith(node)]
        self.process.stdin.write(node_id + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "gone\n"


@contextlib.contextmanager
def started(nodes: int, folder: Path) -> Iterator[Cluster]:
    """A cluster of so many nodes, each with one `mi325x_node`; what it starts keeps its state in `folder`."""
    state = {"ROCBENCH_STATE": str(folder / "state"), "ROCBENCH_CACHE": str(folder / "cache")}
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(nodes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env=os.environ | state,
    )
    try:
        yield Cluster(process, folder / "state")
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Iterator[Cluster]:
    """Three nodes for all tests that leave them whole: a cluster takes 12 s to start."""
    with started(3, tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def three(shared) -> Iterator[Cluster]:
    """Three nodes, on which a test leaves no server behind."""
    yield shared
    assert not list(shared.state.glob("server-*.json"))


@pytest.fixture
def mortal(tmp_path) -> Iterator[Cluster]:
    """Three nodes that a test may kill."""
    with started(3, tmp_path) as cluster:
        yield cluster


@pytest.fixture
def bench(tmp_path) -> Iterator[sweeps.Bench]:
    """`bench` in a folder of its own."""
    found = sweeps.Bench(tmp_path)
    yield found
    found.kill_left()
