"""A server as a process of this machine: `vllm serve`, or the simulated server, which takes the same argv."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

from rocbench import private, processes
from rocbench.baseurl import authority
from rocbench.errors import ServerFault
from rocbench.processes import ProcessIdentity, ProcessTree
from rocbench.redact import masked_environment
from rocbench.server import orphans
from rocbench.server.command import launch_environment, shell_line, with_address
from rocbench.server.logpipe import LogPipe
from rocbench.server.port import check_port, choose_port
from rocbench.server.secretvalues import secret_values
from rocbench.server.spec import ServerSpec, StopReport
from rocbench.server.stop import KILL_WAIT_S, stop_family


class LocalServer:
    """One server process in its own process group. Call `launch`, then always `stop`.

    It stays in the session of bench. In a session of its own, a kernel with autogroups makes it a separate
    scheduling group, and the client's group waits while vLLM's processes spin on the same CPUs: whole answers
    came in one burst, with a TTFT of 110 ms instead of 6 ms. In one group neither waits for the other, and
    both keep their share against everything else on the machine.
    """

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self.log_path: Path | None = spec.folder / "server.log"
        self.notes: list[str] = []
        self.image_digest: str | None = None
        self.container = ""
        self.base_url = ""
        self._popen: subprocess.Popen[bytes] | None = None
        self._family: ProcessTree | None = None
        self._noted: set[ProcessIdentity | tuple[str, ...]] | None = None
        """Processes and leader's command lines in the server's record; None without a record."""
        self._log_start = 0
        self._log: LogPipe | None = None

    @property
    def pid(self) -> int | None:
        """Pid of the leader; None before launch."""
        return self._popen.pid if self._popen else None

    @property
    def log_start(self) -> int:
        """Offset of this start's lines in the log (a restarted server appends)."""
        return self._log_start

    def launch(self) -> None:
        """Starts the process and records it.

        Raises:
            NodeFault: the port is taken.
            ServerFault: the executable is missing or not permitted to run.
        """
        port = choose_port(self.spec)
        check_port(self.spec.host, port)
        command = with_address(self.spec.command, self.spec.host, port)
        env = launch_environment(
            self.spec.env,
            host=self.spec.host,
            dev_mode=self.spec.dev_mode,
            api_key=self.spec.api_key,
            gpus=self.spec.gpus,
            inherited=os.environ,
        )
        self.base_url = f"http://{authority(self.spec.host, port)}"
        write_launch_files(self.spec.folder, command, env)
        self._start(command, env)

    def exit_code(self) -> int | None:
        """Exit code, once its last lines are in the log; None while the leader runs or before the start."""
        code = self._popen.poll() if self._popen else None
        if self._log is not None:
            self._log.look() if code is None else self._log.drain()
        return code

    def processes(self) -> tuple[ProcessIdentity, ...]:
        """Living leader and descendants, leader first; records the new ones."""
        if self._log is not None:
            self._log.look()
        living = self._family.refresh() if self._family else ()
        if self._noted is not None and living and living[0].pid == self.pid:
            now: set[ProcessIdentity | tuple[str, ...]] = {*living, processes.arguments(living[0].pid)}
            if not now <= self._noted:
                self._noted |= now
                orphans.note(living)
        return living

    def stop(self) -> StopReport:
        """Stops it: SIGTERM, the grace, SIGKILL, proof; its log is then complete. Raises ServerFault."""
        if self._popen is None:
            return StopReport("already_gone", 0.0)
        self._noted = None
        # An interrupt may arrive between the start and the record of the process.
        family = self._family or ProcessTree(processes.identity_of(self._popen.pid))
        try:
            report = stop_family(family, grace_s=self.spec.grace_s, reap=self._popen.poll)
            orphans.forget(self._popen.pid)
            return replace(report, exit_code=self._popen.wait(timeout=KILL_WAIT_S))
        finally:
            if self._log is not None:
                self._log.end()

    def _start(self, command: tuple[str, ...], env: dict[str, str]) -> None:
        assert self.log_path is not None
        self._log = LogPipe(self.log_path, self.spec, env, self.notes)
        self._log_start = self._log.start
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log.fd,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                process_group=0,
            )
        except OSError as error:
            self._log.end()
            raise ServerFault(
                f"{command[0]} cannot be started: {error.strerror}",
                fix="name the executable by its absolute path (`server: command:`), or activate its environment",
            ) from error
        finally:
            self._log.close()
        self._family = ProcessTree(processes.identity_of(self._popen.pid))
        orphans.remember(self._family.leader, self.spec, self.base_url)
        self._noted = {self._family.leader}


def write_launch_files(folder: Path, command: tuple[str, ...], env: dict[str, str]) -> None:
    """Writes `command.sh` (a line to paste) and `environment.json` (the added variables, secrets masked)."""
    folder.mkdir(parents=True, exist_ok=True)
    secrets = secret_values(env, os.environ)
    line = shell_line(command, env, secrets)
    private.write(folder / "command.sh", f"#!/bin/sh\n{line}\n")
    masked = json.dumps(masked_environment(env, secrets), indent=2, sort_keys=True)
    private.write(folder / "environment.json", masked + "\n")
