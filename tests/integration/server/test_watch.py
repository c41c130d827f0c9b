"""The probes on a real server: a quiet cell, a death under load, the proof, a log of 1 GB.

Failing health, lost metrics and kernel builds are in tests/integration/sweep/test_running_faults.py.
"""

import time
from contextlib import contextmanager

import pytest

from rocbench import server
from rocbench.errors import ServerFault
from rocbench.probe.cpu import read_cpu
from rocbench.probe.cpu import view as cpu_view
from rocbench.probe.fetch import fetch
from rocbench.probe.health import HealthWatch
from rocbench.probe.logwatch import LogWatch
from rocbench.probe.scrape import Scraper, load_view, window_view
from rocbench.server import proof


class Watched:
    """One cell on a stand-in server, with all its probes."""

    def __init__(self, running):
        self.running = running
        self.scraper = Scraper(running.base_url, running.headers, period_s=0.02)
        self.log = LogWatch(running.log_path)
        self.health = HealthWatch(
            running.base_url, running.headers, exit_code=running.exit_code, period_s=0.02, timeout_s=2.0
        )
        self.start_ns = time.time_ns()

    def control(self, key: str, value: int) -> None:
        """Turns the server's state."""
        fetch(self.running.base_url, f"/control/{key}/{value}")

    def columns(self) -> dict:
        """The columns of a window that ends now."""
        end_ns = time.time_ns()
        return {
            **window_view(self.scraper.samples, self.start_ns, end_ns),
            **self.log.view(self.start_ns, end_ns),
            **self.health.view(self.start_ns, end_ns),
        }


@pytest.fixture
def cell(make_spec):
    """A cell on a server with the given flags."""

    @contextmanager
    def open_cell(*flags: str):
        with server.start(make_spec(*flags)) as running:
            watched = Watched(running)
            with watched.scraper, watched.log, watched.health:
                yield watched

    return open_cell


def test_nothing_happens(cell):
    """A quiet cell has no failure in any column, and the server's own figures are there."""
    with cell() as watched:
        before = watched.scraper.read_now()
        cpu_before = read_cpu(watched.running.processes())
        watched.control("hits", 64)
        after = watched.scraper.read_now()
        cpu = cpu_view(cpu_before, read_cpu(watched.running.processes()))

    columns = watched.columns()
    assert columns["server_running_max"] == 7
    assert (columns["health_failures"], columns["server_restarted"], columns["metrics_lost"]) == (
        0,
        False,
        False,
    )
    assert (columns["jit_lines"], columns["compile_lines"], columns["error_lines"]) == (0, 0, 0)
    assert load_view(before, after)["prefix_cache_hits"] == 64
    assert cpu["server_frontend_cpu_share"] >= 0


def test_server_dies_in_the_window(cell):
    """A server that dies under load stops the load at once; how it ended is known."""
    with cell() as watched:
        with pytest.raises(OSError, match=r"\w"):
            watched.control("exit", 9)
        assert watched.health.stop.wait(30)

    assert watched.health.died
    assert watched.columns()["server_restarted"] is True


def test_proof_of_a_running_server(make_spec):
    """The server's settings are compared with the plan: one differs, one is unknown."""
    with server.start(make_spec()) as running:
        found = proof.prove(
            running, {"block_size": 1, "prefix_caching": False, "vllm": "0.14.1", "backend": "X"}
        )
        reset = proof.reset_prefix_cache(running)

    assert found.mismatches == ("block_size is 16, planned 1",)
    assert found.unknown == ("backend",)
    assert found.differences == "block_size is 16, planned 1"
    assert found.found["kv_capacity_tokens"] == 1_234_560
    assert reset == "unproved"  # an old version answers 200 whatever it did


@pytest.mark.slow
def test_log_of_a_gigabyte(make_spec, tmp_path):
    """The cause of death of a server that logged 1 GB is found in seconds, with secrets masked."""
    flags = ["--log-bytes", str(10**9), "--print-env", "VLLM_API_KEY"]
    spec = make_spec(
        *flags, "--die-at-load", "RuntimeError: No HIP GPUs are available", api_key="k-planted-9876543210"
    )

    with pytest.raises(ServerFault, match="no GPU is visible") as caught, server.start(spec):
        pass

    log = tmp_path / "servers" / "s1" / "server.log"
    assert log.stat().st_size > 10**9 - 10**7
    assert caught.value.line == "RuntimeError: No HIP GPUs are available"
    with log.open("rb") as file:
        assert b"VLLM_API_KEY is ***\n" in file.read(10_000)
    log.unlink()
