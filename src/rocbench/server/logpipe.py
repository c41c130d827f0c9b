"""A server's log: readable by its owner only, filtered before it reaches the disk (`rocbench.logfilter`)."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import termios
import threading
import time
from array import array
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rocbench.logfilter import AT_REST
from rocbench.redact import bare_userinfo
from rocbench.server.secretvalues import of_server
from rocbench.server.spec import ServerSpec
from rocbench.server.state import open_log
from rocbench.variables import shown

DRAIN_S = 10.0
"""Seconds to wait for the last lines of a dead server."""
IDLE_S = 0.5
"""Seconds without unwritten output, after which the wait ends: a living process still holds the pipe."""
END_S = 5.0
"""The same after every process of the server is gone: an unrelated process holds the pipe."""
FULL_S = 1.0
"""Seconds of a pipe half full at every check, after which it counts as filled faster than it is emptied."""
FULL = (
    "the server logs faster than bench filters its log: the server may have been blocked while it wrote to the log, "
    "and latencies include that time; reduce the server's logging"
)
_RESTART_S = 1.0
_POLL_S = 0.02
_PIPE_BYTES = 1024 * 1024
_SHORTEST = 4
_PACKAGE = Path(__file__).parents[2]


class LogPipe:
    """The pipe end that a server writes to, and the process that copies it into the log.

    Simultaneous writes of several processes stay separate only up to 4096 bytes (PIPE_BUF), as in any pipe.
    """

    def __init__(
        self, path: Path, spec: ServerSpec, env: Mapping[str, str], notes: list[str] | None = None
    ) -> None:
        """Opens the log and starts its filter.

        Args:
            env: the server's variables on top of this process's environment.
            notes: receives the notes on its log for the user.

        Raises:
            OSError: the log cannot be opened.
            NodeFault: it is a link, or not a regular file.
        """
        self._spec, self._env = spec, env
        self._notes = notes if notes is not None else []
        self._drained = self._ended = False
        self._looking = threading.Lock()
        self._full_since: float | None = None
        self._log = open_log(path)
        self.start = self._log.tell()
        self._state = -1
        self._out, self.fd = os.pipe()
        try:
            with suppress(OSError):  # above the limit of this user
                fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            self._size = fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ)
            self._filter = self._started("")
        except BaseException:
            self.close()
            self._release()
            raise

    def close(self) -> None:
        """Closes this process's end once the server has it, so that the filter ends with the server."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def look(self) -> None:
        """Replace a dead filter, else the server blocks forever; note a pipe that stays full."""
        if not self._looking.acquire(blocking=False):
            return  # another thread is in here
        try:
            if not self._ended:
                self._look()
        finally:
            self._looking.release()

    def drain(self) -> None:
        """Wait, once, until a dead server's output is in the log; a worker of it may still hold the pipe."""
        if not self._drained:
            self._drained = True
            self._wait(IDLE_S)

    def end(self) -> None:
        """Wait for the filter's end after all processes of the server are gone."""
        self.close()
        try:
            self._wait(END_S)
        finally:
            with self._looking:
                self._ended = True
                if self._filter.poll() is None:
                    self._filter.kill()  # another program holds the pipe
                with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel
                    self._filter.wait(timeout=END_S)
                self._release()

    def _look(self) -> None:
        now = time.monotonic()
        if self._filter.poll():
            if now - self._started_at > _RESTART_S:
                code = self._filter.returncode
                died = f"signal {-code}" if code < 0 else f"exit code {code}"
                with suppress(OSError):  # no memory for a process: retry at the next look
                    self._filter = self._started(died)
                    self._notes.append(
                        f"the process that filters the server's log ended ({died}): lines may be missing in the log"
                    )
            return
        if self._unread() < self._size // 2:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since > FULL_S:
            self._note_once(FULL)

    def _note_once(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def _started(self, died: str) -> subprocess.Popen[bytes]:
        """A filter at the pipe's other end; `died` says how the previous one ended."""
        self._started_at = time.monotonic()
        state = _settings_file(self._spec, self._env, died)
        try:
            process = subprocess.Popen(
                [sys.executable, "-S", "-P", "-m", "rocbench.logfilter", str(state)],
                stdin=self._out,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(state,),
                env=_plain_environment(),
                process_group=0,  # a Ctrl-C at the terminal does not reach it
            )
        except BaseException:
            os.close(state)
            raise
        if self._state >= 0:
            os.close(self._state)
        self._state = state
        return process

    def _release(self) -> None:
        self._log.close()
        for fd in (self._out, self._state):
            if fd >= 0:
                os.close(fd)
        self._out = self._state = -1

    def _wait(self, idle_s: float) -> None:
        """Waits until the filter has ended with the last writer, or has been idle for `idle_s` seconds."""
        until = time.monotonic() + DRAIN_S
        idle = time.monotonic() + idle_s
        while not self._ended and self._filter.poll() != 0 and time.monotonic() < min(until, idle):
            self.look()
            if self._behind():
                idle = time.monotonic() + idle_s
            time.sleep(_POLL_S)

    def _behind(self) -> bool:
        """True if output in the pipe is not in the log yet, apart from unfinished lines."""
        # In this order: the filter says that it is busy before it reads.
        return self._unread() > 0 or (self._state >= 0 and os.pread(self._state, 1, 0) != AT_REST)

    def _unread(self) -> int:
        """Bytes that the filter has not read yet."""
        if self._out < 0:
            return 0
        unread = array("i", [0])
        fcntl.ioctl(self._out, termios.FIONREAD, unread)
        return unread[0]


def _plain_environment() -> dict[str, str]:
    """Only the variables that Python needs: a process that outlives bench must not hold its secrets."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ
    }
    return kept | {"PYTHONPATH": str(_PACKAGE), "LC_ALL": "C.UTF-8"}


def _settings_file(spec: ServerSpec, env: Mapping[str, str], died: str) -> int:
    """A file in memory with the filter's settings, which never reach a command line or a disk."""
    environ = {**os.environ, **env}
    filter_settings = {
        "secrets": of_server(spec, env),
        "variables": {
            name: value
            for name, value in environ.items()
            if len(value) >= _SHORTEST and (not shown(name) or bare_userinfo(value))
        },
        "died": died,
    }
    file = os.memfd_create("secrets")
    with open(file, "w", encoding="utf-8", closefd=False) as out:
        json.dump(filter_settings, out)
    os.lseek(file, 0, os.SEEK_SET)
    return file
