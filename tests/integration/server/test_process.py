"""A local server's life: start, answer, fail in each way, stop, and that nothing is left of it."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from rocbench import processes, server
from rocbench.errors import EnvironmentFault, Exit, InputError, Interrupted, NodeFault, ServerFault
from rocbench.probe.fetch import fetch
from rocbench.server import orphans
from rocbench.server.lock import gpu_locks
from rocbench.server.port import free_port

SECRET = "hf_planted0123456789"
KEY = "k-planted-9876543210"


def refused(spec, error, match):
    """The error with which a server does not start."""
    with pytest.raises(error, match=match) as caught, server.start(spec):
        pass
    return caught.value


def pids_in(log: Path) -> list[int]:
    """Pids that stand-ins wrote into their log."""
    words = log.read_text().split()
    return [int(words[index + 1]) for index, word in enumerate(words) if word == "pid"]


def test_start_answer_stop(make_spec, tmp_path):
    """The server is up inside the `with`, reports its progress, and is gone after it."""
    told = []
    spec = make_spec("--load-s", "0.4", dev_mode=True, env={"VLLM_ROCM_USE_AITER": "1"})
    with server.start(spec, lambda *step: told.append(step)) as running:
        assert fetch(running.base_url, "/health").status == 200
        assert (running.served_name, running.version, running.max_model_len) == ("toy", "0.14.1", 4096)
        assert running.exit_code() is None
        assert running.processes()[0].pid == running.pid
        assert not running.simulated
    assert ("loading weights 2/4", 0.5) in told
    assert ("KV cache of 1,234,560 tokens", None) in told
    assert running.stopped is not None
    assert (running.stopped.how, running.exit_code()) == ("terminated", 0)
    assert running.processes() == ()
    folder = tmp_path / "servers" / "s1"
    assert sorted(path.name for path in folder.iterdir()) == ["command.sh", "environment.json", "server.log"]
    command = (folder / "command.sh").read_text()
    assert command.startswith("#!/bin/sh\nVLLM_SERVER_DEV_MODE=1 VLLM_ROCM_USE_AITER=1 ")
    assert f"--host 127.0.0.1 --port {running.base_url.rpartition(':')[2]}\n" in command


def test_secrets_are_nowhere(make_spec, tmp_path, monkeypatch, capfd):
    """Token and key reach the server and are in no file or output, although the server logs them."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    flags = ["--print-env", "HF_TOKEN", "--api-key", KEY, "--load-s", "0"]
    with server.start(make_spec(*flags, api_key=KEY)):
        pass
    broken = make_spec(
        "--print-env", "HF_TOKEN", "--die-at-load", f"OSError: bad token {SECRET}", folder=tmp_path / "s2"
    )
    with pytest.raises(ServerFault), server.start(broken):
        pass

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 6
    for path in written:
        assert SECRET not in path.read_text(), path
        assert KEY not in path.read_text(), path
    out = capfd.readouterr()
    assert SECRET not in out.out + out.err
    assert KEY not in out.out + out.err
    assert "HF_TOKEN is ***\n" in (tmp_path / "servers" / "s1" / "server.log").read_text()


def test_dies_at_load(make_spec, tmp_path):
    """A server that dies while loading is reported with cause, fix and log, and exit code 4."""
    spec = make_spec("--die-at-load", "AssertionError: Aiter MLA only supports 16 or 128 number of heads.")

    fault = refused(spec, ServerFault, r"died after .* s \(exit code 1\): AITER MLA in this vLLM version")

    assert fault.exit_code == Exit.ENVIRONMENT
    assert fault.code == "aiter_mla_heads"
    assert fault.line == "AssertionError: Aiter MLA only supports 16 or 128 number of heads."
    assert fault.where == str(tmp_path / "servers" / "s1" / "server.log")
    assert len(fault.text().splitlines()) == 3
    assert orphans.find() == ()


def test_hangs_at_load(make_spec, tmp_path):
    """A server that never gets ready is ended after its time, with the last step it was seen at."""
    fault = refused(
        make_spec("--hang", "--children", "1", ready_timeout_s=3.0),
        ServerFault,
        "not healthy after 3 s, last step: KV cache",
    )

    assert fault.exit_code == Exit.ENVIRONMENT
    assert not any(map(processes.read_process, pids_in(tmp_path / "servers" / "s1" / "server.log")))


@pytest.mark.parametrize(
    ("completion", "told"),
    [
        ("500", "first completion failed .HTTP 500: .*EngineCore encountered an issue"),
        ("error", "first completion failed .*boom"),
        ("die", "died after .* s .exit code 7"),
        ("hang", "first completion gave no answer after 3 s"),
    ],
)
def test_healthy_but_cannot_answer(make_spec, completion, told):
    """Health alone is not readiness: the first completion must come through."""
    refused(
        make_spec("--completion", completion, ready_timeout_s=3.0 if completion == "hang" else 30.0),
        ServerFault,
        told,
    )


def test_server_that_takes_text_only(make_spec):
    """A server that refuses token ids is asked by text."""
    with server.start(make_spec("--text-only")) as running:
        assert running.served_name == "toy"


def test_ignores_sigterm_and_leaves_children(make_spec):
    """What ignores SIGTERM is killed after the grace, children too, and each is proved gone."""
    with server.start(make_spec("--ignore-sigterm", "--children", "2")) as running:
        members = running.processes()
    assert len(members) == 3
    assert running.stopped is not None
    assert running.stopped.how == "killed"
    assert set(running.stopped.killed) == {member.pid for member in members}
    assert not any(map(processes.is_alive, members))


def test_leader_killed_leaving_workers(make_spec):
    """A leader that is SIGKILLed leaves workers behind; the stop finds and ends them."""
    with server.start(make_spec("--children", "2")) as running:
        members = running.processes()
        os.kill(running.pid, signal.SIGKILL)
        while running.exit_code() is None:
            time.sleep(0.01)
        assert running.exit_code() == -signal.SIGKILL
        assert any(map(processes.is_alive, members[1:]))
    assert not any(map(processes.is_alive, members))
    assert orphans.find() == ()


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
def test_interrupted_while_it_loads(make_spec, tmp_path, error):
    """An interrupt during the start stops the server and is raised again."""

    def interrupt(text, share):
        raise error("stop") if error is Interrupted else error

    with pytest.raises(error), server.start(make_spec("--load-s", "0.2", "--children", "1"), interrupt):
        pass

    assert not any(map(processes.read_process, pids_in(tmp_path / "servers" / "s1" / "server.log")))


def test_interrupted_while_it_serves(make_spec):
    """An interrupt inside the `with` stops the server and is raised again."""
    started = server.start(make_spec())
    members = started.__enter__().processes()

    swallowed = started.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    assert not swallowed
    assert members
    assert not any(map(processes.is_alive, members))


def test_interrupted_at_the_worst_moment(make_spec, monkeypatch):
    """An interrupt that falls into the stop itself, before anything was ended, still leaves nothing."""
    real = processes.table
    moments = iter([Interrupted("now")])

    def table():
        for moment in moments:
            raise moment
        return real()

    started = server.start(make_spec())
    members = started.__enter__().processes()
    monkeypatch.setattr(processes, "table", table)

    with pytest.raises(Interrupted):
        started.__exit__(None, None, None)

    assert not any(map(processes.is_alive, members))


def test_port_taken(make_spec):
    """A port in use is refused before anything starts; the error names its holder."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        fault = refused(make_spec(port=port), NodeFault, rf"port {port} .* held by pid {os.getpid()}")
    assert fault.exit_code == Exit.ENVIRONMENT


def test_no_such_executable(make_spec):
    """A missing `vllm` gives a message, not a traceback."""
    fault = refused(
        make_spec(command=("/nowhere/vllm", "serve", "toy")),
        ServerFault,
        "/nowhere/vllm cannot be started: No such file",
    )
    assert "absolute path" in fault.fix


def test_model_missing(make_spec, tmp_path):
    """A missing model path is refused before the start."""
    with (
        pytest.raises(EnvironmentFault, match="no model at /nowhere/toy"),
        server.start(make_spec(model="/nowhere/toy")),
    ):
        pass

    assert not (tmp_path / "servers").exists()


def test_gpus_held_by_another_server(make_spec):
    """Two servers never share a GPU; the second is refused before it starts."""
    with gpu_locks((3,)):
        refused(make_spec(gpus=(2, 3)), NodeFault, rf"GPU 3 is held by .*pid {os.getpid()}")
    with server.start(make_spec("--print-env", "HIP_VISIBLE_DEVICES", gpus=(2, 3))) as running:
        pass
    assert "HIP_VISIBLE_DEVICES is 2,3" in running.log_path.read_text()


def test_serves_another_name(make_spec):
    """A server that serves another model than asked for is refused, both named."""
    with (
        pytest.raises(ServerFault, match="serves toy, not llama"),
        server.start(make_spec(served_name="llama")),
    ):
        pass


def test_server_shares_the_scheduling_of_its_client(make_spec):
    """A server has its own process group but the session of bench, so one scheduling group, and the same nice value."""
    with server.start(make_spec()) as running:
        assert running.notes == []
        assert os.getpgid(running.pid) == running.pid
        assert os.getsid(running.pid) == os.getsid(0)
        assert os.getpriority(os.PRIO_PROCESS, running.pid) == os.getpriority(os.PRIO_PROCESS, 0)


def test_attached(make_spec):
    """An attached server is used as it is, and left running."""
    with server.start(make_spec(api_key=KEY)) as own:
        spec = make_spec(kind="attached", base_url=f"{own.base_url}/v1/", command=(), api_key=KEY)
        with server.start(spec) as running:
            assert (running.base_url, running.served_name, running.pid) == (own.base_url, "toy", None)
            assert running.health_path == "/health"
            assert running.notes == []
            assert running.processes() == own.processes()  # found by the port
            assert running.headers == {"Authorization": f"Bearer {KEY}"}
        assert running.stopped is not None
        assert running.stopped.how == "left_running"
        assert own.exit_code() is None
        wrong = make_spec(kind="attached", base_url=own.base_url, command=(), api_key="k-wrong-key")
        with pytest.raises(InputError, match="requires a valid API key"), server.start(wrong):
            pass


def test_attached_without_health(make_spec):
    """An OpenAI-compatible server without /health is checked by its list of models."""
    port = free_port("127.0.0.1")
    argv = [*make_spec("--no-health", "--text-only").command, "--port", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as foreign:
        try:
            spec = make_spec(kind="attached", base_url=f"http://127.0.0.1:{port}", command=())
            with server.start(spec) as running:
                assert running.health_path == "/v1/models"
                assert "GET /v1/models (once a second)" in running.notes[0]
            assert foreign.poll() is None
        finally:
            foreign.kill()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "", None])
def test_attached_to_no_url(make_spec, url):
    """A text that is not a URL is bad input, not a server that is down."""
    with (
        pytest.raises(InputError, match="is not the URL of a server"),
        server.start(make_spec(kind="attached", base_url=url)),
    ):
        pass


def test_attached_to_nothing(make_spec, monkeypatch):
    """A URL without an answer is reported soon, independent of the start timeout."""
    monkeypatch.setattr("rocbench.server.attached.REFUSED_S", 0.3)
    with (
        pytest.raises(ServerFault, match=r"127\.0\.0\.1:9 refuses connections"),
        server.start(make_spec(kind="attached", base_url="http://127.0.0.1:9", ready_timeout_s=3600.0)),
    ):
        pass


def test_restart_in_the_same_folder(make_spec):
    """A second start appends to the log, and its failure is read from its own lines only."""
    with (
        pytest.raises(ServerFault, match="no GPU is visible"),
        server.start(make_spec("--die-at-load", "RuntimeError: No HIP GPUs are available")),
    ):
        pass
    with (
        pytest.raises(ServerFault, match=r"exit code 1\): the port is in use"),
        server.start(make_spec("--die-at-load", "OSError: [Errno 98] Address already in use")),
    ):
        pass
    with server.start(make_spec()) as running:
        assert running.log_start > 0
        assert "No HIP GPUs" in running.log_path.read_text()
