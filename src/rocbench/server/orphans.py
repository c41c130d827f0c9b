"""Servers that outlived their `bench`: recorded at the start, ended by the user's next `bench`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, get_args

from rocbench import processes
from rocbench.errors import NodeFault, ServerFault
from rocbench.probe.checks import Check, judged
from rocbench.processes import ProcessIdentity, ProcessTree
from rocbench.server.spec import GRACE_S, Runtime, ServerSpec, StopReport
from rocbench.server.state import open_unlinked, opened_state_dir, unwritable, user_name
from rocbench.server.stop import stop_family

_RECORD = re.compile(r"server-\d+-\d+\.json")
_CONTAINER = re.compile(r"(rocbench-\d+-[a-zA-Z0-9_.-]+)?")
_LARGEST = 4 << 20
"""Maximum bytes of a record: a server has a few hundred processes at most, and a command line of some kB."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A server whose `bench` is gone."""

    leader: ProcessIdentity
    members: tuple[ProcessIdentity, ...]
    """Its living processes; the leader may be dead and its workers alive."""
    model: str
    base_url: str
    folder: str
    gpus: tuple[int, ...]
    started_at: float
    """Seconds since the epoch."""
    container: str = ""
    """Name of its container; empty without one."""
    runtime: Runtime = "docker"
    by_group: bool = True
    """True if the process group of the leader's number certainly is the server's."""
    doubt: str = ""
    """Reason to doubt that the process is the recorded server; it is then reported and left alone."""

    def text(self) -> str:
        """One line for the user."""
        pids = ", ".join(str(member.pid) for member in self.members)
        who = f"container {self.container}" if self.container else f"pids {pids}"
        return f"{self.model} at {self.base_url} ({who}), log {self.folder}/server.log"


def remember(leader: ProcessIdentity, spec: ServerSpec, base_url: str, container: str = "") -> None:
    """Records a server before anything else can fail. For a container, `leader` is its client.

    Raises:
        NodeFault: there is no room for the record, or its folder is not this user's.
    """
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
    seen = _as_seen((leader,))
    for _ in range(100):
        if seen["argv"] or not processes.is_alive(leader):
            break
        time.sleep(0.001)  # the kernel has only started to execute it
        seen = _as_seen((leader,))
    _write(_name(leader.pid), record | seen)


def note(members: Sequence[ProcessIdentity]) -> None:
    """Adds a server's processes (leader first) to its record, which then names them without the leader.

    A failed write is ignored: it does not end a measurement.
    """
    with suppress(NodeFault), opened_state_dir() as (_, folder):
        name = _name(members[0].pid)
        record = _load(name, folder)
        if record is not None:
            _write(name, record | _as_seen(members))


def forget(pid: int) -> None:
    """Removes the record of a server that was proved gone."""
    with opened_state_dir() as (_, folder), suppress(FileNotFoundError):
        os.unlink(_name(pid), dir_fd=folder)


def find() -> tuple[Orphan, ...]:
    """Servers of this user that live without their `bench`. Removes records of ended servers."""
    found = []
    with opened_state_dir() as (_, folder):
        names = os.listdir(folder)  # noqa: PTH208 - of the very folder that was checked
        for name in sorted(filter(_RECORD.fullmatch, names)):
            record = _load(name, folder)
            orphan = None if record is None else _read(record)
            if orphan is None:
                continue
            if orphan.members or _container_lives(orphan):
                found.append(orphan)
            else:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
    return tuple(found)


def reap(orphan: Orphan, *, grace_s: float) -> StopReport:
    """Ends an orphan with `stop_family`. The filter of its log ends with it.

    Raises:
        NodeFault: it may not be the recorded server, or runs as another user; nothing was ended.
        ServerFault: a process of it stays.
    """
    if orphan.doubt:
        pid = orphan.leader.pid
        raise NodeFault(orphan.doubt, fix=f"look at it, and if it is a server end it by hand: kill {pid}")
    _check_permitted(orphan)
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
    seen = {member.pid: member for member in orphan.members}
    report = stop_family(ProcessTree(orphan.leader, seen, orphan.by_group), grace_s=grace_s)
    forget(orphan.leader.pid)
    return report


def end_or_refuse(orphan: Orphan, *, reap_it: bool, tell: Callable[[str], None]) -> None:
    """Ends an orphan if asked to; otherwise refuses to start another server next to it.

    A doubtful orphan is reported; it is not ended and does not block the start.

    Raises:
        NodeFault: it lives on.
    """
    if orphan.doubt:
        tell(f"left alone: {orphan.doubt}")
        return
    if not reap_it:
        raise NodeFault(f"an earlier bench left a server behind: {orphan.text()}", fix="end it with --reap")
    tell(f"ending a server that an earlier bench left behind: {orphan.text()}")
    reap(orphan, grace_s=GRACE_S)


def check() -> Check:
    """The check of `bench doctor` for servers that an earlier bench left."""
    try:
        found = find()
    except NodeFault as error:
        return Check("left_servers", "must", "unknown", error.what, "none", error.fix)
    left = [orphan.text() for orphan in found if not orphan.doubt]
    doubts = [orphan.doubt for orphan in found if orphan.doubt]
    return judged(
        "left_servers",
        "must",
        False if left else None if doubts else True,
        "; ".join(left + doubts) or "none",
        "none",
        "bench sweep --reap ends them" if left else "look at it, and end it by hand if it is a server",
    )


def _check_permitted(orphan: Orphan) -> None:
    """Raises NodeFault if the command changed its user, for example by sudo."""
    users = {processes.user_of(member.pid) for member in orphan.members} - {None}
    if os.geteuid() != 0 and (others := users - {os.geteuid()}):
        names = ", ".join(user_name(uid) for uid in others if uid is not None)
        raise NodeFault(f"{orphan.text()} runs as {names}", fix="let that user, or root, end it")


def _container_lives(orphan: Orphan) -> bool:
    if not orphan.container:
        return False
    asked = [orphan.runtime, "ps", "-aq", "--filter", f"name=^/?{orphan.container}$"]
    with suppress(OSError, subprocess.SubprocessError):
        return bool(subprocess.run(asked, capture_output=True, timeout=60, check=False).stdout.strip())
    return False


# --- the records


def _name(pid: int) -> str:
    space = "".join(filter(str.isdigit, processes.pid_space().split()[1]))
    return f"server-{space}-{pid}.json"


def _as_seen(members: Sequence[ProcessIdentity]) -> dict[str, Any]:
    """The facts that identify a server's processes, as the kernel shows them now."""
    pid = members[0].pid
    return {
        "uid": processes.user_of(pid),
        "argv": processes.fingerprint(pid),
        "members": [asdict(member) for member in members],
    }


def _write(name: str, record: dict[str, Any]) -> None:
    with opened_state_dir() as (path, folder):
        partial = f"{name}.{os.getpid()}.part"
        try:
            with suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=folder)
            file = open_unlinked(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder=folder)
            with os.fdopen(file, "w", encoding="utf-8") as out:
                json.dump(record, out)
            os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise unwritable(path / name, error) from None


def _load(name: str, folder: int) -> dict[str, Any] | None:
    """A record of this user; None for any other file or content."""
    try:
        file = open_unlinked(name, os.O_RDONLY, folder=folder)
        with os.fdopen(file, "rb") as text:
            if os.fstat(file).st_uid != os.geteuid():
                return None
            record = json.loads(text.read(_LARGEST))
    except (OSError, NodeFault, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _read(record: dict[str, Any]) -> Orphan | None:
    """The orphan of a record, without members if its server is gone; None while its bench lives.

    Also None for a record of another pid namespace of this boot (a container's), which only that namespace can
    check, and for one that names a program that `bench` never starts.
    """
    here = processes.pid_space()
    try:
        leader, bench = _identity(record["leader"]), _identity(record["bench"])
        boot, space = str(record["pid_space"]).split()
        container, runtime = record.get("container", ""), record.get("runtime", "docker")
        known = [_identity(member) for member in record.get("members", [])]
        gpus = tuple(int(gpu) for gpu in record.get("gpus") or ())
        started_at = float(record.get("started_at", 0.0))
        if runtime not in get_args(Runtime) or not _CONTAINER.fullmatch(container):
            return None
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    same_space = f"{boot} {space}" == here
    if boot == here.split()[0] and (not same_space or processes.is_alive(bench)):
        return None
    members, by_group, doubt = _living(leader, known, record) if same_space else ((), False, "")
    if container and doubt:  # of its client, which ends with the container
        members, doubt = (), ""
    return Orphan(
        leader=leader,
        members=members,
        model=str(record.get("model", "?")),
        base_url=str(record.get("base_url", "?")),
        folder=str(record.get("folder", "?")),
        gpus=gpus,
        started_at=started_at,
        container=container,
        runtime=runtime,
        by_group=by_group,
        doubt=doubt,
    )


def _identity(told: Any) -> ProcessIdentity:
    pid, started = told["pid"], told["started"]
    if type(pid) is not int or type(started) is not int or pid < 2:
        raise ValueError(f"no process: {told}")
    return ProcessIdentity(pid, started)


def _living(
    leader: ProcessIdentity, known: Sequence[ProcessIdentity], record: dict[str, Any]
) -> tuple[tuple[ProcessIdentity, ...], bool, str]:
    """Living processes of a server, if the group of its leader's number is its own, and the doubt."""
    if processes.is_alive(leader):
        uid, argv = processes.user_of(leader.pid), processes.fingerprint(leader.pid)
        if (uid, argv) == (record.get("uid"), record.get("argv")):
            return ProcessTree(leader).refresh(), True, ""
        return (leader,), False, _unlike(leader.pid, record)
    # A free pid may have been reused meanwhile, and its group may be that of the other process.
    seen = {member.pid: member for member in known if processes.is_alive(member)}
    seen = {pid: member for pid, member in seen.items() if processes.user_of(pid) == record.get("uid")}
    rows = [processes.read_process(pid) for pid in seen]
    by_group = any(row is not None and leader.pid in (row.group, row.session) for row in rows)
    return ProcessTree(leader, seen, by_group).refresh(), by_group, ""


def _unlike(pid: int, record: dict[str, Any]) -> str:
    return (
        f"pid {pid} ({processes.command_line(pid)[:80] or 'hidden'}, uid {processes.user_of(pid)}) is not what an earlier "
        f"bench wrote down of it ({str(record.get('argv'))[:80]}, uid {record.get('uid')})"
    )
