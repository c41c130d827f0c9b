"""Real vLLM on the CPU for tests: installed by scripts/install-real-vllm, skipped where it is not."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sweeps import Bench

ROOT = Path(__file__).parents[2]
VISION_MODELS = ("tiny-qwen3-vl",)
READY_TIMEOUT_S = 400.0  # 25 s on a quiet machine of two cores; the first start of an install takes longer
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class RealVllm:
    """The install: what a test of our own launcher needs to start a server itself."""

    folder: Path

    @property
    def vllm(self) -> Path:
        """The `vllm` command."""
        return self.folder / "bin" / "vllm"

    def model(self, name: str) -> Path:
        """The folder of a tiny model: what stands after `vllm serve`."""
        return self.folder / "models" / name

    def flags(self, name: str) -> tuple[str, ...]:
        """The flags without which a tiny model does not start on a small machine."""
        flags = ("--served-model-name", name, "--load-format", "dummy", "--enforce-eager")
        if name in VISION_MODELS:
            return (*flags, "--max-model-len", "4096", "--limit-mm-per-prompt", '{"image": 2, "video": 0}')
        return (*flags, "--max-model-len", "1024")

    def environment(self) -> dict[str, str]:
        """What is added to the environment: 1 GiB of KV cache, the development endpoints, no network."""
        return {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_CACHE_ROOT": str(self.folder / "cache"),
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
        }


@dataclass(frozen=True)
class RealServer:
    """A running server. `pid` is the API server's, and its process group's id."""

    base_url: str
    name: str
    model: Path
    pid: int
    log_path: Path
    ready_s: float


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the server, SIGKILL to its group, then wait until no member is left.

    SIGKILL of the API server alone would leave the engine and its workers running.
    """
    members = [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(members, timeout=STOP_TIMEOUT_S)


def wait_ready(process: subprocess.Popen[bytes], base_url: str, log_path: Path) -> None:
    """Poll health and process together; fail with the log's end."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            end = log_path.read_text(errors="replace")[-3000:]
            pytest.fail(f"vLLM ended with code {process.returncode} before it was ready\n{end}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{base_url}/health", timeout=5):
            return
        time.sleep(0.2)
    end = log_path.read_text(errors="replace")[-3000:]
    pytest.fail(f"vLLM was not ready after {READY_TIMEOUT_S:.0f} s\n{end}")


@contextlib.contextmanager
def serve(
    install: RealVllm, name: str, folder: Path, *flags: str, cpu: int | None = None
) -> Iterator[RealServer]:
    """Start a real server on a free loopback port, give it when ready, stop all of it whatever happens.

    With `cpu` it runs on that CPU alone, with one thread.
    """
    port = free_port()
    base_url = f"http://127.0.0.1:{port}"
    log_path = folder / f"{name}.log"
    command = [str(install.vllm), "serve", str(install.model(name)), *install.flags(name)]
    command += ["--host", "127.0.0.1", "--port", str(port), *flags]
    one = {"VLLM_CPU_OMP_THREADS_BIND": str(cpu), "OMP_NUM_THREADS": "1"} if cpu is not None else {}
    if cpu is not None:
        command = ["taskset", "--cpu-list", str(cpu), *command]
    began = time.monotonic()
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | install.environment() | one,
            process_group=0,
        )
    try:
        wait_ready(process, base_url, log_path)
        ready_s = time.monotonic() - began
        yield RealServer(base_url, name, install.model(name), process.pid, log_path, ready_s)
    finally:
        stop_group(process)


@pytest.fixture(scope="session")
def real_vllm() -> RealVllm:
    """The install of real vLLM, or a skip with the reason."""
    folder = Path(os.environ.get("ROCBENCH_VLLM_VENV", ROOT / ".venv-vllm"))
    if not (folder / "installed").exists():
        pytest.skip(f"no real vLLM in {folder}: run scripts/install-real-vllm")
    return RealVllm(folder)


@pytest.fixture(scope="module")
def real_server(real_vllm: RealVllm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A running server that we did not start, of the tiny GQA model. The other models start in a sweep of their own."""
    folder = tmp_path_factory.mktemp("real-vllm")
    with serve(real_vllm, "tiny-llama-gqa", folder, "--max-num-seqs", "1024") as server:
        yield server


@pytest.fixture
def serve_on(real_vllm: RealVllm, tmp_path: Path) -> Callable[[int], AbstractContextManager[RealServer]]:
    """Starts a server of the tiny GQA model on one CPU, with one thread."""
    return lambda cpu: serve(real_vllm, "tiny-llama-gqa", tmp_path, cpu=cpu)


@pytest.fixture
def bench(tmp_path, real_vllm) -> Iterator[Bench]:
    """`bench` in a folder of its own, beside the install as in the project's folder."""
    (tmp_path / ".venv-vllm").symlink_to(real_vllm.folder)
    made = Bench(tmp_path)
    yield made
    made.kill_left()
