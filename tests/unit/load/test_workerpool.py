"""A load's worker processes: none holds `bench`."""

import subprocess
from types import SimpleNamespace

from rocbench.load.workerpool import Member


def test_a_worker_that_cannot_be_killed():
    """One that is stuck in the kernel is left to it."""
    limits = []

    def wait(timeout=None):
        limits.append(timeout)
        if timeout is not None:
            raise subprocess.TimeoutExpired("worker", timeout)

    member = Member.__new__(Member)
    member.process = SimpleNamespace(wait=wait, kill=lambda: None, poll=lambda: None)
    member._thread = SimpleNamespace(join=lambda timeout: timeout, is_alive=lambda: True)
    member._stderr = SimpleNamespace(close=lambda: None)
    member.end()

    assert limits == [5, 5]
