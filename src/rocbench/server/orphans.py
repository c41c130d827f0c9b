"""Servers that outlived their `bench`: recorded at the start, ended by the user's next `bench`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rocbench import processes
from rocbench.errors import NodeFault, ServerFault
from rocbench.probe.checks import Check, judged
from rocbench.processes import ProcessIdentity, ProcessTree
from rocbench.server import runtime
from rocbench.server.spec import GRACE_S, Runtime, ServerSpec, StopReport
from rocbench.server.state import open_unlinked, opened_state_dir, unwritable, user_name
from rocbench.server.stop import stop_tree

_RECORD = re.compile(r"server-\d+-\d+\.json")
_LARGEST = 4 << 20
"""Maximum bytes of a record: a server has a few hundred processes at most, and a command line of some kB."""


class Record(BaseModel):
    """A running server, as recorded in the state folder."""

    model_config = ConfigDict(frozen=True)

    leader: ProcessIdentity
    """Its first process; of a container, the runtime's client."""
    bench: ProcessIdentity
    pid_space: str = Field(pattern=r"^\S+ \S+$")
    model: str
    base_url: str
    folder: str
    container: str = Field(pattern=r"^(rocbench-\d+-[a-zA-Z0-9_.-]+)?$")
    """Name of its container; empty without one."""
    runtime: Runtime
    uid: int | None
    argv: tuple[str, ...]
    """The leader's command line (`processes.fingerprint`)."""
    members: tuple[ProcessIdentity, ...]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A server whose `bench` is gone."""

    record: Record
    members: tuple[ProcessIdentity, ...] = ()
    """Its living processes; the leader may be dead and its workers alive."""
    by_group: bool = False
    """True if the process group of the leader's number certainly is the server's."""
    doubt: str = ""
    """Reason to doubt that the process is the recorded server; it is then reported and left alone."""

    def text(self) -> str:
        """One line for the user."""
        record = self.record
        pids = ", ".join(str(member.pid) for member in self.members)
        where = f"container {record.container}" if record.container else f"pids {pids}"
        return f"{record.model} at {record.base_url} ({where}), log {record.folder}/server.log"


def remember(leader: ProcessIdentity, spec: ServerSpec, base_url: str, container: str = "") -> None:
    """Records a server before anything else can fail. For a container, `leader` is its client.

    Raises:
        NodeFault: there is no room for the record, or its folder is not this user's.
    """
    for _ in range(100):
        if processes.arguments(leader.pid) or not processes.is_alive(leader):
            break
        time.sleep(0.001)  # the kernel has only started to execute it
    record = Record(
        leader=leader,
        bench=processes.identity_of(os.getpid()),
        pid_space=processes.pid_space(),
        model=spec.model,
        base_url=base_url,
        folder=str(spec.folder.resolve()),
        container=container,
        runtime=spec.runtime,
        **_seen_now((leader,)),
    )
    _write(_name(leader.pid), record)


def note(members: Sequence[ProcessIdentity]) -> None:
    """Adds a server's processes (leader first) to its record, which then names them without the leader.

    A failed write is ignored: it does not end a measurement.
    """
    with suppress(NodeFault), opened_state_dir() as (_, folder):
        name = _name(members[0].pid)
        record = _load(name, folder)
        if record is not None:
            _write(name, record.model_copy(update=_seen_now(members)))


def forget(pid: int) -> None:
    """Removes the record of a server that was proved gone."""
    with opened_state_dir() as (_, folder), suppress(FileNotFoundError):
        os.unlink(_name(pid), dir_fd=folder)


def find() -> tuple[Orphan, ...]:
    """Servers of this user that live without their `bench`. Removes records of ended servers."""
    living = []
    with opened_state_dir() as (_, folder):
        names = os.listdir(folder)  # noqa: PTH208 - of the very folder that was checked
        for name in sorted(filter(_RECORD.fullmatch, names)):
            record = _load(name, folder)
            orphan = None if record is None else orphan_of(record)
            if orphan is None:
                continue
            server = orphan.record
            if orphan.members or (server.container and runtime.exists(server.runtime, server.container)):
                living.append(orphan)
            else:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
    return tuple(living)


def reap(orphan: Orphan, *, grace_s: float) -> StopReport:
    """Ends an orphan with `stop_tree`. The filter of its log ends with it.

    Raises:
        NodeFault: it may not be the recorded server, or runs as another user; nothing was ended.
        ServerFault: a process of it stays.
    """
    record = orphan.record
    if orphan.doubt:
        raise NodeFault(
            orphan.doubt,
            fix=f"check that process; if it is a server, end it by hand: kill {record.leader.pid}",
        )
    _check_permitted(orphan)
    if record.container:
        runtime.stop(record.runtime, record.container, grace_s)
        runtime.remove(record.runtime, record.container)
        if runtime.exists(record.runtime, record.container):
            raise ServerFault(
                f"the container {record.container} does not end",
                fix=f"end it by hand: {record.runtime} rm -f {record.container}",
            )
    seen = {member.pid: member for member in orphan.members}
    report = stop_tree(ProcessTree(record.leader, seen, orphan.by_group), grace_s=grace_s)
    forget(record.leader.pid)
    return report


def end_or_refuse(orphan: Orphan, *, reap_it: bool, tell: Callable[[str], None]) -> None:
    """Ends an orphan if asked to; otherwise refuses to start another server next to it.

    A doubtful orphan is reported; it is not ended and does not block the start.

    Raises:
        NodeFault: it still runs.
    """
    if orphan.doubt:
        tell(f"left alone: {orphan.doubt}")
        return
    if not reap_it:
        raise NodeFault(f"an earlier bench left a server behind: {orphan.text()}", fix="stop it with --reap")
    tell(f"ending a server that an earlier bench left behind: {orphan.text()}")
    reap(orphan, grace_s=GRACE_S)


def check() -> Check:
    """The check of `bench doctor` for servers that an earlier bench left."""
    try:
        orphans = find()
    except NodeFault as error:
        return Check("left_servers", "must", "unknown", error.what, "none", error.fix)
    left = [orphan.text() for orphan in orphans if not orphan.doubt]
    doubts = [orphan.doubt for orphan in orphans if orphan.doubt]
    return judged(
        "left_servers",
        "must",
        False if left else None if doubts else True,
        "; ".join(left + doubts) or "none",
        "none",
        "end these servers with `bench sweep --reap`"
        if left
        else "check that process, and end it by hand if it is a server",
    )


def _check_permitted(orphan: Orphan) -> None:
    """Raises NodeFault if the command changed its user, for example by sudo."""
    users = {processes.user_of(member.pid) for member in orphan.members} - {None}
    if os.geteuid() != 0 and (others := users - {os.geteuid()}):
        names = ", ".join(user_name(uid) for uid in others if uid is not None)
        raise NodeFault(f"{orphan.text()} runs as {names}", fix="let that user, or root, end it")


# --- the records


def _name(pid: int) -> str:
    space = "".join(filter(str.isdigit, processes.pid_space().split()[1]))
    return f"server-{space}-{pid}.json"


def _seen_now(members: Sequence[ProcessIdentity]) -> dict[str, Any]:
    """The fields that identify a server's processes, as the kernel shows them now."""
    pid = members[0].pid
    return {
        "uid": processes.user_of(pid),
        "argv": tuple(processes.fingerprint(pid)),
        "members": tuple(members),
    }


def _write(name: str, record: Record) -> None:
    with opened_state_dir() as (path, folder):
        partial = f"{name}.{os.getpid()}.part"
        try:
            with suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=folder)
            file = open_unlinked(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder=folder)
            with os.fdopen(file, "w", encoding="utf-8") as out:
                out.write(record.model_dump_json())
            os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise unwritable(path / name, error) from None


def _load(name: str, folder: int) -> Record | None:
    """A record of this user; None for any other file or content."""
    try:
        file = open_unlinked(name, os.O_RDONLY, folder=folder)
        with os.fdopen(file, "rb") as text:
            if os.fstat(file).st_uid != os.geteuid():
                return None
            return parsed(text.read(_LARGEST))
    except (OSError, NodeFault):
        return None


def parsed(text: bytes) -> Record | None:
    """The record in a file's text; None if it is not one, or names a process that no server can be. Pure."""
    try:
        record = Record.model_validate_json(text, strict=True)
    except ValueError:
        return None
    pids = [identity.pid for identity in (record.leader, record.bench, *record.members)]
    return record if min(pids) > 1 else None


def orphan_of(record: Record) -> Orphan | None:
    """The orphan of a record, without members if its server is gone; None while its bench lives.

    Also None for a record of another pid namespace of this boot (a container's), which only that namespace can
    check.
    """
    own_space = processes.pid_space()
    same_space = record.pid_space == own_space
    same_boot = record.pid_space.split()[0] == own_space.split()[0]
    if same_boot and (not same_space or processes.is_alive(record.bench)):
        return None
    if not same_space:
        return Orphan(record)
    orphan = _living(record)
    # The doubt is about the client, which ends with its container.
    return Orphan(record) if record.container and orphan.doubt else orphan


def _living(record: Record) -> Orphan:
    """The orphan with its living processes."""
    leader = record.leader
    if processes.is_alive(leader):
        uid, argv = processes.user_of(leader.pid), tuple(processes.fingerprint(leader.pid))
        if (uid, argv) == (record.uid, record.argv):
            return Orphan(record, ProcessTree(leader).refresh(), by_group=True)
        doubt = (
            f"pid {leader.pid} ({processes.command_line(leader.pid)[:80] or 'hidden'}, uid {uid}) does not match "
            f"the record of an earlier bench ({str(list(record.argv))[:80]}, uid {record.uid})"
        )
        return Orphan(record, (leader,), doubt=doubt)
    # A free pid may have been reused meanwhile, and its group may be that of the other process.
    seen = {
        member.pid: member
        for member in record.members
        if processes.is_alive(member) and processes.user_of(member.pid) == record.uid
    }
    rows = [processes.read_process(pid) for pid in seen]
    by_group = any(row is not None and leader.pid in (row.group, row.session) for row in rows)
    return Orphan(record, ProcessTree(leader, seen, by_group).refresh(), by_group)
