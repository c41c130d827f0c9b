"""The worker processes of one load on this machine: starts, feeds, reads and always ends them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Self

from rocbench.errors import BenchError, LoadFault
from rocbench.load.control import Control, Count
from rocbench.load.spec import WorkerSpec
from rocbench.load.work import WorkerReport


class Member:
    """One worker process and the thread that reads its report."""

    def __init__(self, spec: WorkerSpec, control: Control) -> None:
        self.index = spec.index
        self.report: WorkerReport | BenchError | None = None
        self._fault = ""
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the member
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rocbench.load.worker", str(control.fd), str(control.workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            pass_fds=(control.fd,),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._thread = threading.Thread(target=self._read, args=(pickle.dumps(spec),), daemon=True)
        self._thread.start()

    def _read(self, spec: bytes) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        report = b""
        try:
            with self.process.stdin as stdin:
                stdin.write(spec)
            with self.process.stdout as stdout:
                report = stdout.read()
            self.report = pickle.loads(report)  # noqa: S301 - our own child wrote it
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self._fault = f"{error} ({len(report)} bytes)"

    @property
    def done(self) -> bool:
        """True if the worker has reported or died."""
        return not self._thread.is_alive()

    def why_dead(self) -> str:
        """The last line that the process wrote to stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.poll()}, {self._fault}"

    def kill(self) -> None:
        """End the process at once, unless it has reported and ends by itself."""
        if self.process.poll() is None and not self.done:
            self.process.kill()

    def end(self) -> None:
        """Kill the process and wait for its end."""
        self.kill()
        self._thread.join(timeout=5)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it ends without us
                self.process.wait(timeout=5)
        self._stderr.close()


class Crew(ABC):
    """All workers of a load; a context manager."""

    def __init__(self, specs: Sequence[WorkerSpec], control: Control) -> None:
        self.specs = specs
        self.control = control

    @abstractmethod
    def start(self) -> None:
        """Start the workers; some may run if this fails."""

    @abstractmethod
    def end(self) -> None:
        """End the workers that run."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def ready(self) -> bool:
        """True if all workers have made their first requests."""
        return self.control.total(Count.READY) == len(self.specs)


class WorkerPool(Crew):
    """Worker processes on this machine."""

    def __init__(self, specs: Sequence[WorkerSpec], control: Control) -> None:
        super().__init__(specs, control)
        self.members: list[Member] = []

    def start(self) -> None:
        """Start the processes."""
        for spec in self.specs:
            self.members.append(Member(spec, self.control))

    def end(self) -> None:
        """Kill the processes that have not reported, and wait for all."""
        for member in self.members:
            member.kill()
        for member in self.members:
            member.end()

    @property
    def done(self) -> bool:
        """True if all workers have reported."""
        return all(member.done for member in self.members)

    def check(self) -> None:
        """Raise an error that a worker reported, or LoadFault for a worker that died."""
        for member in self.members:
            if isinstance(member.report, BenchError):
                raise member.report
            if member.done and member.report is None:
                raise LoadFault(f"load worker {member.index} ended unexpectedly: {member.why_dead()}")

    def reports(self) -> list[WorkerReport]:
        """All workers' reports, once `done`."""
        self.check()
        return [member.report for member in self.members if isinstance(member.report, WorkerReport)]
