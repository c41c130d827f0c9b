"""Simulated nodes for tests: resolved as the server would, or small ones with plain step times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocbench.rules.load import shipped
from rocbench.rules.resolve import ServeRequest
from rocbench.rules.resolve import resolve as resolve_rules
from rocbench.settings import catalog
from rocbench.sim import calibration
from rocbench.sim.argv import parse
from rocbench.sim.node import Context, Node, resolve

LLAMA = "llama-3.1-405b"
WAIT_S = 60.0


def context(profile: str = LLAMA, vllm: str = "0.14.1", **more: Any) -> Context:
    """What ROCBENCH_SIM would hold. `simulation` and `faults` as mappings."""
    return Context.model_validate(
        {"profile": catalog.model(profile), "hardware": catalog.hardware("mi325x"), "vllm": vllm, **more}
    )


def argv_of(profile: str = LLAMA, vllm: str = "0.14.1") -> tuple[tuple[str, ...], dict[str, str]]:
    """argv and environment that the rules give this profile."""
    request = ServeRequest(catalog.model(profile), catalog.hardware("mi325x"), vllm)
    resolution = resolve_rules(request)
    return resolution.argv(), resolution.environment()


def node(
    profile: str = LLAMA,
    vllm: str = "0.14.1",
    argv: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    **more: Any,
) -> Node:
    """A resolved node; the argv that the rules give unless one is named."""
    if argv is None:
        argv, env = argv_of(profile, vllm)
    known = context(profile, vllm, **more)
    return resolve(
        parse(argv, vllm, shipped().names),
        known,
        env or {},
        shipped(),
        calibration.read_calibration("default"),
    )


@dataclass(frozen=True)
class Served:
    """A running simulated server."""

    url: str
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def log(self) -> str:
        """Its log so far."""
        return self.log_path.read_text()

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        return self.post(path, None)

    def post(self, path: str, body: object) -> tuple[int, str]:
        """Status and body; a body of None makes it a GET."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def events(self, path: str, body: Mapping[str, object]) -> list[Any]:
        """The JSON of a stream's events; the last is the text `[DONE]`."""
        _, text = self.post(path, {"stream": True, **body})
        lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    def metric(self, name: str) -> float:
        """Sum of a metric's samples."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(name)]
        assert lines, f"no metric {name}"
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@contextmanager
def serving(
    folder: Path,
    flags: Sequence[str] = (),
    *,
    profile: str = LLAMA,
    vllm: str = "0.14.1",
    env: Mapping[str, str] | None = None,
    wait: bool = True,
    program: Sequence[str] = (sys.executable, "-m", "rocbench.sim"),
    **more: Any,
) -> Iterator[Served]:
    """A simulated server process, fast by default, stopped at the end."""
    simulation = {"load_s": 0.0, "speed": 20.0} | dict(more.pop("simulation", {}))
    known = context(profile, vllm, simulation=simulation, **more)
    path = folder / "simulation.json"
    path.write_text(known.model_dump_json())
    given, variables = argv_of(profile, vllm)
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*program, "serve", *given, "--port", "0", *flags],
            env=os.environ | variables | {"ROCBENCH_SIM": str(path)} | dict(env or {}),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        port = _port(process, log_path)
        served = Served(f"http://127.0.0.1:{port}", process, log_path)
        if wait:
            _await_health(served)
        yield served
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log_path: Path) -> int:
    """The port that it took, from its log; 0 if it ended before."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until and process.poll() is None:
        _, address, rest = log_path.read_text().partition("http://127.0.0.1:")
        if address and "\n" in rest:
            return int(rest.split()[0])
        time.sleep(0.01)
    return 0


def _await_health(served: Served) -> None:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        try:
            if served.get("/health")[0] == 200:
                return
        except OSError:
            pass
        assert served.process.poll() is None, served.log
        time.sleep(0.01)
    raise AssertionError("never healthy: " + served.log)
