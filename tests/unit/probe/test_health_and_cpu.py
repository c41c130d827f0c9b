"""Health during a cell, and the CPU of the server's processes."""

import time
from types import SimpleNamespace

import pytest

from rocbench.probe import cpu, health
from rocbench.probe.health import HealthWatch
from rocbench.processes import ProcessIdentity

S = 1_000_000_000
FAR = 2**62


def test_healthy(server):
    """A healthy server has no failures and did not die."""
    with HealthWatch(server[0]) as watch:
        pass

    view = watch.view(0, FAR)
    assert (view["health_failures"], view["server_restarted"], view["health_unanswered"]) == (0, False, 0)
    assert view["health_checks"] == len(watch.requests) > 0
    assert view["health_check_ms"] > 0


def test_unhealthy_for_a_while(server):
    """503 during the run is counted with its time; the server is not dead."""
    watch = HealthWatch(server[0])
    watch.check()
    server[1]["status"] = 503
    watch.check()
    server[1]["status"] = 200
    watch.check()

    assert watch.view(0, FAR)["health_failures"] == 1
    assert watch.view(0, FAR)["server_restarted"] is False
    assert watch.view(0, 5)["health_failures"] == watch.view(0, 5)["health_checks"] == 0
    assert watch.view(0, 5)["health_check_ms"] is None
    assert not watch.stop.is_set()


def test_dead_process_stops_the_load(server):
    """A process that ended stops the load at once, and the watch knows that it ended."""
    codes = iter([None, 1])
    watch = HealthWatch(server[0], exit_code=lambda: next(codes, 1), period_s=0.01)
    with watch:
        assert watch.stop.wait(10)

    assert watch.died
    assert watch.view(0, FAR)["server_restarted"] is True


def test_server_that_never_answers_again():
    """A server that runs and answers nothing is given up after ten checks, and not called dead."""
    with HealthWatch("http://127.0.0.1:9", period_s=0.0) as watch:
        assert watch.stop.wait(20)

    assert watch.unresponsive
    assert not watch.died
    assert watch.view(0, FAR)["server_restarted"] is False


def test_server_that_answers_the_load_is_alive():
    """As long as requests of the load complete, failed checks are counted and do not end it."""
    with HealthWatch("http://127.0.0.1:9", period_s=0.001) as watch:
        for completed in range(1, 10_000):
            watch.answered(completed)
            if len(watch.requests) > 40:
                break
            time.sleep(0.001)
        assert not watch.stop.is_set()

    assert len(watch.unanswered) > 20
    assert len(watch.failures) < len(watch.unanswered)  # those of a moment in which no answer had come yet
    view = watch.view(0, FAR)
    assert view["health_unanswered"] == len(watch.unanswered)


def test_attached_without_health():
    """Without /health the health is unknown, not good."""
    with HealthWatch("http://127.0.0.1:9", path="") as watch:
        pass

    assert watch.view(0, FAR)["health_failures"] is None
    assert watch.view(0, FAR)["health_checks"] == 0


def test_ill_server_is_ill_while_tokens_flow(server):
    """A server that reports itself unhealthy is unhealthy, even while tokens arrive; one that is too busy to answer is not."""
    watch = HealthWatch(server[0])
    watch.answered(1)
    server[1]["status"] = 503
    watch.check()
    assert (len(watch.failures), len(watch.unanswered)) == (1, 0)
    server[1]["status"] = 429
    watch.check()

    assert (len(watch.failures), len(watch.unanswered)) == (1, 1)


def test_slow_answer_while_tokens_flow(server, monkeypatch):
    """A check that times out is a failure only if the load makes no progress."""

    def late(*_, **__):
        raise TimeoutError("timed out")

    monkeypatch.setattr(health, "fetch", late)
    watch = HealthWatch(server[0])
    watch.check()
    watch.answered(5)
    watch.check()

    assert len(watch.failures) == len(watch.unanswered) == 1


def test_slow_answers_are_asked_for_seldom(server, monkeypatch):
    """The pause after a check grows with its duration: checks take at most a tenth of the server's time."""
    clock = iter([0.0, 2.0, 2.0, 2.001, 3.0, 13.0])
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: next(clock), time_ns=lambda: 1))
    watch = HealthWatch(server[0])
    pauses = []
    for _ in range(2):
        watch.check()
        pauses.append(watch._pause_s)
    server[1]["status"] = 503
    watch.check()

    assert pauses == [20.0, pytest.approx(0.01)]
    assert watch._pause_s == 0.0  # a failure is looked at again soon


@pytest.mark.parametrize(
    ("command", "leader", "role"),
    [
        ("/opt/venv/bin/vllm serve m --port 1", True, "frontend"),
        ("VLLM::APIServer_1", False, "frontend"),
        ("VLLM::EngineCore_DP0", False, "engine"),
        ("VLLM::Worker_TP7_EP7", False, "worker"),
        ("python -c from multiprocessing.resource_tracker import main", False, "other"),
    ],
)
def test_roles(command, leader, role):
    """vLLM's process titles show the role."""
    assert cpu.role_of(command, leader=leader) == role


def test_busiest_of_each_role():
    """The busiest of several API servers counts; a process that started in between does not."""
    api, api2, engine, late = (ProcessIdentity(pid, 1) for pid in (1, 2, 3, 4))
    roles = {api: "frontend", api2: "frontend", engine: "engine", late: "worker"}
    before = cpu.CpuReading(0, {api: 10.0, api2: 5.0, engine: 1.0}, roles)
    after = cpu.CpuReading(10 * S, {api: 12.0, api2: 14.5, engine: 6.0, late: 9.0}, roles)

    assert cpu.view(before, after) == {
        "server_frontend_cpu_share": 0.95,
        "server_engine_cpu_share": 0.5,
        "server_worker_cpu_share": None,
    }


def test_no_processes_seen():
    """A server on another machine has no CPU share, not a share of 0."""
    nothing = cpu.read_cpu(())

    assert set(cpu.view(nothing, nothing).values()) == {None}
