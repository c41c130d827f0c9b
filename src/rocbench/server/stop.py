"""Stop a server and all processes it started, and prove it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from rocbench import processes
from rocbench.errors import Interrupted, ServerFault
from rocbench.processes import ProcessIdentity, ProcessTree
from rocbench.server.spec import StopReport

KILL_WAIT_S = 15.0
"""Seconds that killed processes get to vanish. One that stays is stuck in the kernel (a hung GPU driver)."""
_POLL_S = 0.05
_SLOWEST_POLL_S = 0.5
"""Maximum poll interval in seconds. Each poll reads all of /proc: 60 ms on a node with 3,000 processes."""


def stop_tree(
    tree: ProcessTree, *, grace_s: float, reap: Callable[[], int | None] = lambda: None
) -> StopReport:
    """Sends SIGTERM to the leader, waits the grace, sends SIGKILL to group and members, and proves their end.

    If the leader is dead already, each other member gets SIGTERM.

    Args:
        tree: the leader, which leads its own process group, and all processes it started.
        grace_s: maximum seconds from SIGTERM to SIGKILL; shorter if all members end.
        reap: collects the leader's exit code if it is a child process (`Popen.poll`).

    A Ctrl-C during the grace ends it: the second Ctrl-C kills. It is raised again at the end.

    Raises:
        ServerFault: a process still lives after SIGKILL; the message names each pid.
    """
    began = time.monotonic()
    members = _living(tree, reap)
    if not members:
        return StopReport("already_gone", 0.0, reap())
    interrupt: KeyboardInterrupt | Interrupted | None = None
    try:
        _terminate(tree, members)
        members = _wait_gone(tree, reap, began + grace_s)
    except (KeyboardInterrupt, Interrupted) as error:
        interrupt, members = error, _living(tree, reap)
    killed: tuple[int, ...] = ()
    if members:
        killed = tuple(member.pid for member in members)
        _kill(tree)
        members = _wait_gone(tree, reap, time.monotonic() + KILL_WAIT_S)
    if members:
        raise ServerFault(
            f"processes {_names(members)} of the server still run {KILL_WAIT_S:.0f} s after SIGKILL",
            fix="these processes hang in the kernel, for example in a GPU driver: read dmesg, then reset the GPU or reboot",
        ) from interrupt
    if interrupt is not None:
        raise interrupt
    return StopReport("killed" if killed else "terminated", time.monotonic() - began, reap(), killed)


def _terminate(tree: ProcessTree, members: Sequence[ProcessIdentity]) -> None:
    for member in [tree.leader] if tree.leader in members else members:
        signal_one(member, signal.SIGTERM)


def signal_one(identity: ProcessIdentity, number: signal.Signals) -> None:
    """Sends a signal to this process, never to a later one with the same pid."""
    if processes.is_alive(identity):
        with suppress(ProcessLookupError):
            os.kill(identity.pid, number)


def _kill(tree: ProcessTree) -> None:
    """Sends SIGKILL to the leader's process group, then to each member by identity (some leave the group)."""
    members = tree.refresh()
    if any(member.pid == tree.leader.pid for member in members) or _group_is_ours(tree, members):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(tree.leader.pid, signal.SIGKILL)
    for member in members:
        signal_one(member, signal.SIGKILL)


def _group_is_ours(tree: ProcessTree, members: Sequence[ProcessIdentity]) -> bool:
    """True if a living member is still in the leader's group, so that its number cannot be reused."""
    for member in members:
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(member.pid) == tree.leader.pid:
                return True
    return False


def _living(tree: ProcessTree, reap: Callable[[], int | None]) -> tuple[ProcessIdentity, ...]:
    reap()
    return tree.refresh()


def _wait_gone(
    tree: ProcessTree, reap: Callable[[], int | None], deadline: float
) -> tuple[ProcessIdentity, ...]:
    """Polls until no member lives or the deadline (monotonic s) has passed; returns the members left."""
    pause_s = _POLL_S
    while True:
        members = _living(tree, reap)
        if not members or time.monotonic() >= deadline:
            return members
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, _SLOWEST_POLL_S)


def _names(members: Sequence[ProcessIdentity]) -> str:
    return ", ".join(f"{m.pid} ({processes.command_line(m.pid)[:60] or '?'})" for m in members)
