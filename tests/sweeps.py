"""`bench sweep` as a user runs it: a process of its own, with its own state and run folder, seen from outside."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

WAIT_S = 100.0
LEAKY = Path(__file__).parent / "fixtures" / "servers" / "leaky_vllm.py"
"""The simulated server as an executable `vllm`, with faults and loose lips; see there."""
HURRIED = (str(Path(__file__).parent / "fixtures" / "hurried.py"),)
"""A `bench` whose servers have little time to stop; see there."""


@dataclass(frozen=True)
class Ended:
    """How a `bench` ended, and what it left on disk."""

    code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def rows(self) -> pd.DataFrame:
        """`cells.parquet` by model and level."""
        path = self.folder / "cells.parquet"
        return pd.read_parquet(path) if path.is_file() else pd.DataFrame()

    def row(self, model: str, concurrency: int | None = None) -> pd.Series[Any]:
        """The one row of a model (and level)."""
        rows = self.rows
        mine = rows[rows["model"] == model]
        if concurrency is not None:
            mine = mine[mine["concurrency"] == concurrency]
        assert len(mine) == 1, f"{len(mine)} rows of {model}\n{self.stderr}"
        return mine.iloc[0]

    def reasons(self, model: str, concurrency: int | None = None) -> set[str]:
        """The codes of that row."""
        return set(str(self.row(model, concurrency)["reasons"]).split(";"))

    def log(self, model: str) -> str:
        """The server's log of that row."""
        path = self.folder / "servers" / str(self.row(model)["server_id"]) / "server.log"
        return path.read_text(errors="replace")


@dataclass
class Bench:
    """`bench` with the state, the cache and the working folder of one test."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    limits: Any = None
    """Called in the child before bench starts."""
    program: tuple[str, ...] = ("-m", "rocbench")

    @property
    def out(self) -> Path:
        """The run folder."""
        return self.folder / "out"

    @property
    def state(self) -> Path:
        """The node's state."""
        return self.folder / "state"

    def write(self, sweep: Mapping[str, Any]) -> str:
        """A sweep as a YAML file (JSON is YAML)."""
        path = self.folder / "sweep.yaml"
        path.write_text(json.dumps(sweep))
        return str(path)

    def begin(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Starts it with `words`, in a folder of its own, so that whatever it leaves can be told by that."""
        given = {"ROCBENCH_STATE": str(self.state), "ROCBENCH_CACHE": str(self.folder / "cache")}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        return subprocess.Popen(
            [sys.executable, *self.program, *words],
            cwd=self.folder,
            env=os.environ | given | self.env,
            stdin=subprocess.DEVNULL,
            text=True,
            preexec_fn=self.limits,  # noqa: PLW1509 - no test has threads that hold a lock here
            **streams,
        )

    def run(self, *words: str, timeout: float = WAIT_S) -> Ended:
        """Runs it to its end."""
        process = self.begin(*words)
        return self.end(process, timeout)

    def end(self, process: subprocess.Popen[str], timeout: float = WAIT_S) -> Ended:
        """Waits for its end."""
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f"bench did not end\n{stdout}\n{stderr}") from None
        return Ended(process.returncode, stdout or "", stderr or "", self.out)

    def sweep(self, sweep: Mapping[str, Any], *words: str, timeout: float = WAIT_S) -> Ended:
        """Runs a sweep to its end; then nothing of it may be left, and no user sees a traceback."""
        ended = self.run("sweep", self.write(sweep), "--out", str(self.out), *words, timeout=timeout)
        self.check(ended)
        return ended

    def check(self, ended: Ended) -> None:
        """No process left, no traceback, nothing for --reap."""
        assert self.left() == []
        assert "Traceback" not in ended.stdout + ended.stderr, ended.stderr
        assert not list(self.state.glob("server-*.json"))

    def left(self) -> list[str]:
        """Processes that were started in this bench's folder and still run."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
            except psutil.Error:
                continue
        return found

    def servers(self) -> list[dict[str, Any]]:
        """What this bench wrote down of the servers it has started."""
        return [json.loads(path.read_text()) for path in self.state.glob("server-*.json")]

    def server_pid(self) -> int:
        """The leader of the one server that runs, as soon as it is written down."""
        wait_until(self.servers)
        (record,) = self.servers()
        return int(record["leader"]["pid"])

    def kill_left(self) -> None:
        """Ends whatever a failed test left behind."""
        for line in self.left():
            os.kill(int(line.split()[0]), signal.SIGKILL)


class Terminal:
    """A sweep on a terminal, where it shows the phase that its load is in."""

    def __init__(self, bench: Bench, *words: str) -> None:
        self.bench = bench
        self._master, slave = pty.openpty()
        self._shown = b""
        surroundings = {"TERM": "xterm", "COLUMNS": "160", "NO_COLOR": "1"}
        self.process = replace(bench, env=bench.env | surroundings).begin(*words, stdout=slave, stderr=slave)
        os.close(slave)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self._shown += data
        except OSError:
            return  # the other end is closed

    @property
    def text(self) -> str:
        """All that was shown."""
        return self._shown.decode(errors="replace")

    def wait_for(self, pattern: str, timeout: float = WAIT_S) -> None:
        """Waits until something is shown."""
        wait_until(lambda: re.search(pattern, self.text) or self.process.poll() is not None, timeout)
        assert self.process.poll() is None, self.text

    def end(self, timeout: float = WAIT_S) -> Ended:
        """Waits for its end."""
        self.process.wait(timeout)
        self._thread.join()
        os.close(self._master)
        return Ended(self.process.returncode, "", self.text, self.bench.out)


def wait_until(true: Any, timeout: float = WAIT_S) -> None:
    """Polls until something holds."""
    until = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < until, "never came true"
        time.sleep(0.02)


def sweep(models: list[Any], **more: Any) -> dict[str, Any]:
    """A sweep of small cells on simulated servers. `faults` by model, `simulation` and `load` as mappings."""
    simulation = {"load_s": 0.1, "efficiency": 0.9, "faults": more.pop("faults", {})}
    load = {"duration_s": 1, "min_requests_per_user": 0, "max_duration_s": 30}
    return {
        "name": "faulty",
        "vllm": "0.14.1",
        "models": models,
        "workloads": ["short"],
        "concurrency": [4],
        "server": {"ready_timeout_s": 60},
        "simulation": simulation | more.pop("simulation", {}),
        "load": load | more.pop("load", {}),
    } | more


def as_process(**more: Any) -> dict[str, Any]:
    """`server:` of a sweep on the stand-in for `vllm`."""
    return {"kind": "process", "command": [sys.executable, str(LEAKY)], "ready_timeout_s": 60} | more


def measured(ended: Ended, model: str, concurrency: int | None = None) -> bool:
    """Whether a model's row has figures that no fault has voided."""
    row = ended.row(model, concurrency)
    return row["completed"] > 0 and row["output_throughput"] > 0 and row["failed"] == 0
