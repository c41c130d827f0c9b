"""Families of processes: descendants, and members of the group whose parent is gone."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from rocbench import processes
from rocbench.errors import Interrupted
from rocbench.processes import ProcessIdentity, ProcessTree
from rocbench.server.stop import stop_tree

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
import time; time.sleep(600)
"""


@pytest.fixture
def family():
    """A leader in its own process group with one child; (family, popen, child's pid)."""
    leader = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, process_group=0
    )
    child = int(leader.stdout.readline())
    yield ProcessTree(processes.identity_of(leader.pid)), leader, child
    for pid in (leader.pid, child):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    leader.wait()
    leader.stdout.close()


def test_own_row():
    """The kernel's row of this process names its parent, group and session."""
    row = processes.read_process(os.getpid())

    assert row is not None
    assert (row.parent, row.group, row.session, row.alive) == (os.getppid(), os.getpgrp(), os.getsid(0), True)
    assert row.cpu_s > 0


def test_no_such_process():
    """A free pid gives no row and matches nothing."""
    assert processes.read_process(2**22 + 1) is None
    assert not processes.is_alive(processes.identity_of(2**22 + 1))


def test_same_pid_other_process():
    """A pid alone is no identity: another start time is another process."""
    me = processes.identity_of(os.getpid())

    assert processes.is_alive(me)
    assert not processes.is_alive(ProcessIdentity(me.pid, me.started + 1))
    assert ProcessTree(ProcessIdentity(me.pid, me.started + 1)).refresh() == ()


def test_members(family):
    """Leader and child are members, leader first."""
    members, leader, child = family

    assert [member.pid for member in members.refresh()] == [leader.pid, child]


def test_orphaned_member(family):
    """A child whose parent was killed is found by its group, also in a first search."""
    members, leader, child = family
    leader.kill()
    leader.wait()

    assert [member.pid for member in members.refresh()] == [child]


def test_member_in_another_session(family):
    """A descendant that was seen once is remembered, even if it moves to another session."""
    members, leader, _ = family
    script = "import os, time; os.setsid(); print(flush=True); time.sleep(600)"
    runaway = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    runaway.stdout.readline()
    members.seen[runaway.pid] = processes.identity_of(runaway.pid)

    assert runaway.pid in [member.pid for member in members.refresh()]
    report = stop_tree(members, grace_s=0.3, reap=lambda: (runaway.poll(), leader.poll())[1])
    assert processes.read_process(runaway.pid) is None
    assert runaway.pid in report.killed
    runaway.stdout.close()


def test_workers_of_a_killed_leader_are_asked_first(family):
    """Where the leader is dead, its workers get SIGTERM and their grace, not SIGKILL."""
    members, leader, child = family
    leader.kill()
    leader.wait()

    report = stop_tree(members, grace_s=5.0)

    assert (report.how, report.killed) == ("terminated", ())
    assert not processes.is_alive(processes.identity_of(child))


def test_already_gone():
    """Nothing to stop is no error."""
    assert stop_tree(ProcessTree(ProcessIdentity(2**22 + 1, 5)), grace_s=1.0).how == "already_gone"


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
def test_second_interrupt_kills(error):
    """An interrupt during the grace ends the grace, kills, proves, and is raised again."""
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    stubborn = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True
    )
    stubborn.stdout.readline()
    polls = []

    def poll():
        polls.append(time.monotonic())
        if len(polls) == 3:
            raise error("again") if error is Interrupted else error
        return stubborn.poll()

    with pytest.raises(error):
        stop_tree(ProcessTree(processes.identity_of(stubborn.pid)), grace_s=60.0, reap=poll)
    assert stubborn.wait() == -signal.SIGKILL
    stubborn.stdout.close()
