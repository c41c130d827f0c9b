"""A server's log: opened for its owner alone, and filtered before it reaches the disk (`rocbench.logfilter`)."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rocbench.server.secretvalues import of_server
from rocbench.server.spec import ServerSpec
from rocbench.server.state import open_log
from rocbench.variables import shown

DRAIN_S = 1.0
"""So long a server that has died is waited for to have its last words written: a worker may still hold the pipe."""
END_S = 10.0
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
        with log:
            self.start = log.tell()
            out, self.fd = os.pipe()
            with suppress(OSError):  # above the limit of this user
                fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            try:
                told = _told(spec, env)
                try:
                    self._filter = subprocess.Popen(
                        [sys.executable, "-S", "-P", "-m", "rocbench.logfilter", str(told)],
                        stdin=out,
                        stdout=log,
                        stderr=log,
                        pass_fds=(told,),
                        # Only what Python needs: a process that needs no secret gets none.
                        env={
                            "PYTHONPATH": str(_PACKAGE),
                            "PYTHONDONTWRITEBYTECODE": "1",
                            "LC_ALL": "C.UTF-8",
                        },
                        process_group=0,  # a Ctrl-C at the terminal is not for it
                    )
                finally:
                    os.close(told)
            except BaseException:
                self.close()
                raise
            finally:
                os.close(out)

    def close(self) -> None:
        """Our own end, once the server has it: then the filter ends with the last process of the server."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def drain(self) -> None:
        """Wait, once and shortly, until what a dead server wrote is in the log."""
        if not self._drained:
            self._drained = True
            with suppress(subprocess.TimeoutExpired):
                self._filter.wait(DRAIN_S)

    def end(self) -> None:
        """Wait for the filter's end, when all processes of the server are gone."""
        self.close()
        try:
            self._filter.wait(END_S)
        except (
            subprocess.TimeoutExpired
        ):  # a process that has nothing to do with the server any more holds the pipe
            self._filter.kill()
            self._filter.wait()


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
