"""Servers that outlived their `bench`: written down when started, found and ended by the next one."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rocbench.errors import NodeFault, ServerFault
from rocbench.server import processes
from rocbench.server.processes import Family
from rocbench.server.spec import GRACE_S, ProcessIdentity, ServerSpec, StopReport
from rocbench.server.stop import stop_family

_SHARED = "/var/tmp/rocbench"  # noqa: S108 - one place for all users of a node is the point


@dataclass(frozen=True, slots=True)
class Orphan:
    """A server of ours whose `bench` is gone."""

    leader: ProcessIdentity
    members: tuple[ProcessIdentity, ...]
    """Who of it lives; the leader may be dead and its workers not."""
    model: str
    base_url: str
    folder: str
    gpus: tuple[int, ...]
    started_at: float
    """Seconds since the epoch."""
    container: str = ""
    """Its name, where it runs in one."""
    runtime: str = "docker"

    def text(self) -> str:
        """One line for people."""
        pids = ", ".join(str(member.pid) for member in self.members)
        who = f"container {self.container}" if self.container else f"pids {pids}"
        return f"{self.model} at {self.base_url} ({who}), log {self.folder}/server.log"


def state_dir() -> Path:
    """Where this node's state is kept, shared by all its users: $ROCBENCH_STATE, else /var/tmp/rocbench.

    Not where $TMPDIR says: two runs that each have one of their own would not see one another.
    """
    folder = Path(os.environ.get("ROCBENCH_STATE") or _SHARED)
    if not folder.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from None
        with suppress(OSError):
            folder.chmod(0o1777)
    if not os.access(folder, os.W_OK):
        raise _unwritable(folder)
    return folder


def _unwritable(path: Path, error: OSError | None = None) -> NodeFault:
    return NodeFault(
        f"{path} cannot be written{f': {error.strerror}' if error else ''}",
        fix="set ROCBENCH_STATE to a folder that all users may write, with room in it",
    )


def remember(leader: ProcessIdentity, spec: ServerSpec, base_url: str, container: str = "") -> None:
    """Writes a server down before anything else can go wrong. In a container, `leader` is its client."""
    record = {
        "leader": asdict(leader),
        "bench": asdict(processes.identity_of(os.getpid())),
        "pid_space": processes.pid_space(),
        "model": spec.model,
        "base_url": base_url,
        "folder": str(spec.folder.resolve()),
        "gpus": list(spec.gpus),
        "started_at": time.time(),
        "container": container,
        "runtime": spec.runtime,
    }
    path = _path(leader.pid)
    partial = path.with_suffix(".part")
    try:
        partial.write_text(json.dumps(record), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def forget(pid: int) -> None:
    """Strikes a server out: it was proved gone."""
    _path(pid).unlink(missing_ok=True)


def find() -> tuple[Orphan, ...]:
    """Servers whose `bench` is gone but of whom a process lives. Records of servers long gone are removed."""
    found = []
    for path in sorted(state_dir().glob("server-*.json")):
        orphan = _read(path)
        if orphan is None:
            continue
        if orphan.members or _container_lives(orphan):
            found.append(orphan)
        else:
            with suppress(OSError):
                path.unlink()
    return tuple(found)


def reap(orphan: Orphan, *, grace_s: float) -> StopReport:
    """Ends an orphan as `stop_family` does. The filter of its log ends with it.

    Raises:
        NodeFault: it belongs to another user.
        ServerFault: something of it stays.
    """
    _check_owner(orphan)
    if orphan.container:
        grace = f"{grace_s:.0f}"
        for words in (("stop", "-t", grace, orphan.container), ("rm", "-f", orphan.container)):
            with suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    [orphan.runtime, *words], capture_output=True, timeout=grace_s + 60, check=False
                )
        if _container_lives(orphan):
            raise ServerFault(
                f"the container {orphan.container} does not end",
                fix=f"end it by hand: {orphan.runtime} rm -f {orphan.container}",
            )
    family = Family(orphan.leader, {member.pid: member for member in orphan.members})
    report = stop_family(family, grace_s=grace_s)
    forget(orphan.leader.pid)
    return report


def end_or_refuse(orphan: Orphan, *, reap_it: bool, tell: Callable[[str], None]) -> None:
    """Ends an orphan if that was asked for, and refuses to start a server beside it if not.

    Raises:
        NodeFault: it lives on.
    """
    if not reap_it:
        raise NodeFault(f"an earlier bench left a server behind: {orphan.text()}", fix="end it with --reap")
    tell(f"ending a server that an earlier bench left behind: {orphan.text()}")
    reap(orphan, grace_s=GRACE_S)


def _container_lives(orphan: Orphan) -> bool:
    if not orphan.container:
        return False
    asked = [orphan.runtime, "ps", "-aq", "--filter", f"name=^/?{orphan.container}$"]
    with suppress(OSError, subprocess.SubprocessError):
        return bool(subprocess.run(asked, capture_output=True, timeout=60, check=False).stdout.strip())
    return False


def _check_owner(orphan: Orphan) -> None:
    for member in orphan.members:
        with suppress(OSError):
            owner = Path(f"/proc/{member.pid}").stat().st_uid
            if os.geteuid() not in (0, owner):
                raise NodeFault(
                    f"{orphan.text()} belongs to the user with id {owner}",
                    fix="ask that user, or root, to end it",
                )


def _path(pid: int) -> Path:
    space = "".join(filter(str.isdigit, processes.pid_space().split()[1]))
    return state_dir() / f"server-{space}-{pid}.json"


def _read(path: Path) -> Orphan | None:
    """The orphan a record tells of, without members when its server is gone; None while its bench lives.

    None also for a record of another pid namespace of this boot (a container's): only there can it be told.
    """
    here = processes.pid_space()
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        leader = ProcessIdentity(**record["leader"])
        bench = ProcessIdentity(**record["bench"])
        same_space = record["pid_space"] == here
        same_boot = record["pid_space"].split()[0] == here.split()[0]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    if same_boot and (not same_space or processes.is_alive(bench)):
        return None
    return Orphan(
        leader=leader,
        members=Family(leader).refresh() if same_space else (),
        model=record.get("model", "?"),
        base_url=record.get("base_url", "?"),
        folder=record.get("folder", "?"),
        gpus=tuple(record.get("gpus") or ()),
        started_at=record.get("started_at", 0.0),
        container=record.get("container", ""),
        runtime=record.get("runtime", "docker"),
    )
