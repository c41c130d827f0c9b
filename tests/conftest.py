"""What holds for every test: a known environment, seeded properties, no process left behind."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hypothesis
import psutil
import pytest
import typer.main

from rocbench.probe import amd_smi

# A run in the background inherits an ignored Ctrl-C, and its servers would ignore the one that tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("fast", max_examples=100, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "fast")

TIMEOUT_S = {"real_vllm": 600, "ray": 600, "browser": 300, "slow": 600}
LEFT_TIMEOUT_S = 5.0
KEPT_BY_PYTHON = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def pytest_configure(config: pytest.Config) -> None:
    """Give every test, and what it starts, the same surroundings on every machine."""
    for name in ("NO_COLOR", "FORCE_COLOR", "PYTHONDONTWRITEBYTECODE", "HF_TOKEN", "VLLM_API_KEY"):
        os.environ.pop(name, None)
    os.environ.update(COLUMNS="120", LINES="40", TERM="dumb", TZ="UTC", LC_ALL="C.UTF-8")
    # Each call of bench would build all its commands, from the types of 500 options.
    typer.main.get_command = cache(typer.main.get_command)
    gc.disable()  # until all tests are collected, nothing becomes garbage


def pytest_collection_finish() -> None:
    """Collect garbage from here on, and pass over what is there already: half a million objects that stay."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """Leave nothing frozen: extensions report it as leaked."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a marker get the time that their kind needs, unless they ask for their own."""
    for item in items:
        for marker, seconds in TIMEOUT_S.items():
            if item.get_closest_marker(marker) and not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(seconds))
                break


@pytest.fixture(autouse=True, scope="session")
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test keeps locks and records where this user's own runs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROCBENCH_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def state_of_all(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of state that all users share, and where all may write; a stranger cannot reach pytest's own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o1777)
        monkeypatch.setenv("ROCBENCH_STATE", folder)
        yield Path(folder)


@pytest.fixture(autouse=True)
def no_tool_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test hears of a tool that hung in another."""
    monkeypatch.setattr(amd_smi, "_hung", {})
    monkeypatch.setattr(amd_smi, "_warnings", {})
    monkeypatch.setattr(amd_smi, "_last_error", {})


@pytest.fixture(autouse=True)
def no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process running, and end that process.

    Only for tests that start servers, since looking costs a millisecond. What fixtures of a wider scope
    started is older than the test and does not count.
    """
    if not any(part in request.node.nodeid for part in ("integration", "real_vllm", "unit/server")):
        yield
        return
    before = set(psutil.Process().children(recursive=True))
    yield
    started = set(psutil.Process().children(recursive=True)) - before
    _, alive = psutil.wait_procs([process for process in started if not kept(process)], LEFT_TIMEOUT_S)
    told = [f"{process.pid}: {' '.join(cmdline(process))}" for process in alive]
    for process in alive:
        process.kill()
    assert not told, "left running:\n" + "\n".join(told)


def cmdline(process: psutil.Process) -> list[str]:
    """A process's command line; empty once it is gone or a zombie."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def kept(process: psutil.Process) -> bool:
    """Whether Python itself keeps the process until the end, or it is gone already."""
    line = " ".join(cmdline(process))
    return not line or any(name in line for name in KEPT_BY_PYTHON)
