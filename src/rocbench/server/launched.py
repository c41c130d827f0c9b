"""The interface of a server of any kind, and the common part of those that bench starts."""

from __future__ import annotations

import json
import os
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from rocbench import private, processes
from rocbench.errors import ServerFault
from rocbench.processes import ProcessIdentity, ProcessTree
from rocbench.redact import masked_environment
from rocbench.server import orphans
from rocbench.server.command import shell_line
from rocbench.server.logpipe import LogPipe
from rocbench.server.secretvalues import secret_values
from rocbench.server.spec import ServerSpec, StopReport


class Launched(ABC):
    """A server of any kind. Call `launch`, then always `stop`."""

    def __init__(self, spec: ServerSpec, log_path: Path | None = None) -> None:
        self.spec = spec
        self.log_path = log_path
        self.log_start = 0
        """Offset of this start's lines in the log (a restarted server appends)."""
        self.notes: list[str] = []
        self.image_digest: str | None = None
        self.container = ""
        """Name of its container; empty without one."""
        self.base_url = ""

    @property
    def pid(self) -> int | None:
        """Pid of its leader on this machine; None if there is none."""
        return None

    def exit_code(self) -> int | None:
        """Its exit code; None while it runs, and always for an attached server."""
        return None

    @abstractmethod
    def launch(self) -> None:
        """Starts the server."""

    @abstractmethod
    def processes(self) -> tuple[ProcessIdentity, ...]:
        """Its living processes on this machine, leader first."""

    @abstractmethod
    def stop(self) -> StopReport:
        """Stops the server, and checks that it has ended."""


class ChildServer(Launched):
    """A server that is a child process, or whose container has a client that is one; the child's output is its log."""

    def __init__(self, spec: ServerSpec) -> None:
        super().__init__(spec, spec.folder / "server.log")
        self._child: subprocess.Popen[bytes] | None = None
        self._tree: ProcessTree | None = None
        self._log: LogPipe | None = None

    def exit_code(self) -> int | None:
        """The child's exit code, once its last lines are in the log; None while it runs or before the start."""
        code = self._child.poll() if self._child else None
        if self._log is not None:
            self._log.look() if code is None else self._log.drain()
        return code

    def _start(self, argv: tuple[str, ...], env: dict[str, str]) -> ProcessIdentity:
        """Starts the child in its own process group, with `env` added to this environment, and records it.

        Raises:
            ServerFault: the executable is missing or not permitted to run.
        """
        _write_launch_files(self.spec.folder, argv, env)
        log = self._open_log(env)
        self.log_start = log.start
        try:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log.fd,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                process_group=0,
            )
        except OSError as error:
            log.end()
            raise ServerFault(
                f"{argv[0]} cannot be started: {error.strerror}",
                fix="name the executable by its absolute path (`server: command:`), or activate its environment",
            ) from error
        finally:
            log.close()
        child = processes.identity_of(self._child.pid)
        orphans.remember(child, self.spec, self.base_url, container=self.container)
        return child

    def _open_log(self, env: dict[str, str]) -> LogPipe:
        assert self.log_path is not None
        self._log = LogPipe(self.log_path, self.spec, env, self.notes)
        return self._log

    def _end_log(self) -> None:
        if self._log is not None:
            self._log.end()
            self._log = None


def _write_launch_files(folder: Path, command: tuple[str, ...], env: dict[str, str]) -> None:
    """Writes `command.sh` (a line to paste) and `environment.json` (the added variables, secrets masked)."""
    folder.mkdir(parents=True, exist_ok=True)
    secrets = secret_values(env, os.environ)
    line = shell_line(command, env, secrets)
    private.write(folder / "command.sh", f"#!/bin/sh\n{line}\n")
    masked = json.dumps(masked_environment(env, secrets), indent=2, sort_keys=True)
    private.write(folder / "environment.json", masked + "\n")
