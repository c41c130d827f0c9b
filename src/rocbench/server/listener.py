"""Search for an attached server's processes: those of this machine that listen at its URL."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

from rocbench import baseurl, processes

RELAYS = frozenset(
    "caddy conmon containerd docker-proxy envoy gvproxy haproxy kubectl nginx pasta rootlessport slirp4netns socat ssh"
    " sshd traefik".split()
)
"""Programs that forward connections: another process answers, perhaps on another machine."""

_LISTENS = "0A"
_PROC = Path("/proc")


def leader_of(base_url: str, proc: Path = _PROC) -> int | None:
    """Pid of the server behind a URL of this machine; the first process if several listen.

    None if the URL points to another machine, if only a relay listens here, or if the kernel hides it: only root
    sees other users' sockets.
    """
    where = baseurl.parse(base_url)
    if not _is_local(where.host):
        return None
    pids = _holders(_sockets(where.port, proc), proc)
    rows = {pid: row for pid in pids if (row := processes.read_process(pid, proc)) is not None}
    first = min(
        (row for row in rows.values() if row.parent not in rows), key=lambda r: r.started, default=None
    )
    return None if first is None or first.name in RELAYS else first.pid


def _is_local(host: str) -> bool:
    """True if a host name or address belongs to this machine: only those can be bound."""
    with suppress(OSError, UnicodeError):
        for family, kind, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with suppress(OSError), socket.socket(family, kind) as probe:
                probe.bind(address)
                return True
    return False


def _sockets(port: int, proc: Path) -> set[str]:
    """Inodes of the sockets that listen on a port, by /proc/net/tcp (proc_net_tcp(5))."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError, ValueError, IndexError):
            for line in (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTENS and int(words[1].rpartition(":")[2], 16) == port:
                    inodes.add(words[9])
    return inodes


def _holders(inodes: set[str], proc: Path) -> set[int]:
    """Visible processes that have one of these sockets open."""
    targets = {f"socket:[{inode}]" for inode in inodes}
    pids = set()
    for folder in proc.iterdir() if targets else ():
        if folder.name.isdigit():
            with suppress(OSError):
                if any(_target(link) in targets for link in (folder / "fd").iterdir()):
                    pids.add(int(folder.name))
    return pids


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""  # closed in the meantime
