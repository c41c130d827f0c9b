"""A server as a process of this machine: `vllm serve`, or the simulated server, which takes the same argv."""

from __future__ import annotations

import os
from dataclasses import replace

from rocbench import processes
from rocbench.baseurl import authority
from rocbench.processes import ProcessIdentity, ProcessTree
from rocbench.server import orphans
from rocbench.server.command import launch_environment, with_address
from rocbench.server.launched import ChildServer
from rocbench.server.port import check_port, choose_port
from rocbench.server.spec import ServerSpec, StopReport
from rocbench.server.stop import KILL_WAIT_S, stop_tree


class LocalServer(ChildServer):
    """One server process in its own process group.

    It stays in the session of bench. In another session, a kernel with autogroups makes it a separate
    scheduling group, and the client's group waits while vLLM's processes spin on the same CPUs: whole answers
    came in one burst, with a TTFT of 110 ms instead of 6 ms. In one group neither waits for the other, and
    both keep their share against everything else on the machine.
    """

    def __init__(self, spec: ServerSpec) -> None:
        super().__init__(spec)
        self._recorded: set[ProcessIdentity | tuple[str, ...]] | None = None
        """Processes and leader's command lines in the server's record; None without a record."""

    @property
    def pid(self) -> int | None:
        """Pid of the leader; None before launch."""
        return self._child.pid if self._child else None

    def launch(self) -> None:
        """Starts the process and records it.

        Raises:
            NodeFault: the port is taken.
            ServerFault: the executable is missing or not permitted to run.
        """
        host, port = self.spec.host, choose_port(self.spec)
        check_port(host, port)
        self.base_url = f"http://{authority(host, port)}"
        leader = self._start(
            with_address(self.spec.command, host, port), launch_environment(self.spec, host, os.environ)
        )
        self._tree = ProcessTree(leader)
        self._recorded = {leader}

    def processes(self) -> tuple[ProcessIdentity, ...]:
        """Living leader and descendants, leader first; records the new ones."""
        if self._log is not None:
            self._log.look()
        living = self._tree.refresh() if self._tree else ()
        if self._recorded is not None and living and living[0].pid == self.pid:
            now: set[ProcessIdentity | tuple[str, ...]] = {*living, processes.arguments(living[0].pid)}
            if not now <= self._recorded:
                self._recorded |= now
                orphans.note(living)
        return living

    def stop(self) -> StopReport:
        """Stops it: SIGTERM, the grace, SIGKILL, proof; its log is then complete. Raises ServerFault."""
        if self._child is None:
            return StopReport("already_gone", 0.0)
        self._recorded = None
        # An interrupt may arrive between the start and the record of the process.
        tree = self._tree or ProcessTree(processes.identity_of(self._child.pid))
        try:
            report = stop_tree(tree, grace_s=self.spec.grace_s, reap=self._child.poll)
            orphans.forget(self._child.pid)
            return replace(report, exit_code=self._child.wait(timeout=KILL_WAIT_S))
        finally:
            self._end_log()
