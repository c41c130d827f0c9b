"""A server's log: opened for its owner alone, and filtered before it reaches the disk (`rocbench.logfilter`)."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import termios
import time
from array import array
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rocbench.server.secretvalues import of_server
from rocbench.server.spec import ServerSpec
from rocbench.server.state import open_log
from rocbench.variables import shown

DRAIN_S = 10.0
"""So long a server that has died is waited for to have its last words written."""
IDLE_S = 0.5
"""Nothing is left in the pipe for so long: what was written is in the log, and a process that lives holds the pipe."""
END_S = 5.0
"""The same where every process of the server is gone: then a stranger holds the pipe."""
_POLL_S = 0.02
_PIPE_BYTES = 1024 * 1024
_SHORTEST = 4
_PACKAGE = Path(__file__).parents[2]


class LogPipe:
    """The end of a pipe that a server writes to, and the process that carries it into the log."""

    def __init__(self, path: Path, spec: ServerSpec, env: Mapping[str, str]) -> None:
        """Opens the log, and starts its filter.

        Args:
            env: what the server gets beside this process's environment.

        Raises:
            OSError: the log cannot be opened.
            NodeFault: it is a link, or no regular file.
        """
        self._drained = False
        log = open_log(path)
        self.start = log.tell()
        self._out, self.fd = os.pipe()
        told = -1
        try:
            with suppress(OSError):  # above the limit of this user
                fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            told = _told(spec, env)
            self._filter = subprocess.Popen(
                [sys.executable, "-S", "-P", "-m", "rocbench.logfilter", str(told)],
                stdin=self._out,
                stdout=log,
                stderr=log,
                pass_fds=(told,),
                env=_plain_environment(),
                process_group=0,  # a Ctrl-C at the terminal is not for it
            )
        except BaseException:
            self.close()
            os.close(self._out)
            raise
        finally:
            log.close()
            if told >= 0:
                os.close(told)

    def close(self) -> None:
        """Our own end, once the server has it: then the filter ends with the last process of the server."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def drain(self) -> None:
        """Wait, once, until what a dead server wrote is in the log; a worker of it may still hold the pipe."""
        if not self._drained:
            self._drained = True
            self._wait(IDLE_S)

    def end(self) -> None:
        """Wait for the filter's end, when all processes of the server are gone."""
        self.close()
        self._wait(END_S)
        if self._filter.poll() is None:  # what holds the pipe has nothing to do with the server any more
            self._filter.kill()
        self._filter.wait()
        if self._out >= 0:
            os.close(self._out)
            self._out = -1

    def _wait(self, idle_s: float) -> None:
        """Until the filter has ended, or has had nothing to do for so long."""
        until = time.monotonic() + DRAIN_S
        idle = time.monotonic() + idle_s
        while self._filter.poll() is None and time.monotonic() < min(until, idle):
            if self._unread():
                idle = time.monotonic() + idle_s
            time.sleep(_POLL_S)

    def _unread(self) -> int:
        """Bytes that the filter has not read yet."""
        if self._out < 0:
            return 0
        found = array("i", [0])
        fcntl.ioctl(self._out, termios.FIONREAD, found)
        return found[0]


def _plain_environment() -> dict[str, str]:
    """Only what Python needs: a process that outlives us need not hold our secrets."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ
    }
    return kept | {"PYTHONPATH": str(_PACKAGE), "LC_ALL": "C.UTF-8"}


def _told(spec: ServerSpec, env: Mapping[str, str]) -> int:
    """A file in memory with what the filter must know: neither a command line nor a disk ever holds it."""
    surroundings = {**os.environ, **env}
    told = {
        "secrets": of_server(spec, env),
        "variables": {
            name: value for name, value in surroundings.items() if len(value) >= _SHORTEST and not shown(name)
        },
    }
    file = os.memfd_create("secrets")
    with open(file, "w", encoding="utf-8", closefd=False) as written:
        json.dump(told, written)
    os.lseek(file, 0, os.SEEK_SET)
    return file
