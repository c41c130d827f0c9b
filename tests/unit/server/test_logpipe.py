"""The pipe of a server's log: no death or slowness of its filter is silent, and none holds the server or `bench`."""

import os
import signal
import subprocess
import threading
import time

import pytest

from rocbench.server import logpipe
from rocbench.server.logpipe import FULL, LogPipe
from rocbench.server.spec import ServerSpec

SECRET = "hf_planted0123456789"


@pytest.fixture
def pipe(tmp_path):
    """A pipe with its filter, which knows a secret."""
    made = LogPipe(tmp_path / "server.log", ServerSpec("process", "toy", tmp_path, api_key=SECRET), {}, [])
    yield made
    made.end()


@pytest.fixture
def log(tmp_path):
    """The text of the log."""
    return (tmp_path / "server.log").read_text


def wait_until(holds) -> None:
    """Wait; fail after 20 s."""
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_filter_that_dies(pipe, log, monkeypatch):
    """A new filter replaces it while the server writes; log and notes report it, without any part of a secret."""
    monkeypatch.setattr(logpipe, "_RESTART_S", 0.0)
    os.write(pipe.fd, b"first\n" + SECRET[:9].encode())
    wait_until(lambda: "first" in log() and not pipe._behind())
    pipe._filter.kill()
    pipe._filter.wait()
    writer = threading.Thread(
        target=lambda: [os.write(pipe.fd, b"x" * 99 + b"\n") for _ in range(30_000)], daemon=True
    )
    os.write(pipe.fd, SECRET[9:].encode() + b"\nsecond " + SECRET.encode() + b"\n")
    writer.start()
    wait_until(lambda: (pipe.look(), not writer.is_alive())[1])
    pipe.end()

    assert SECRET[:9] not in log()
    assert SECRET[9:] not in log()
    assert "[bench: the process that filters this log ended (signal 9) and was replaced" in log()
    assert "\nsecond ***\n" in log()
    assert log().count("x" * 99 + "\n") == 30_000
    assert pipe._notes == [
        "the process that filters the server's log ended (signal 9): lines may be missing in the log"
    ]


def test_a_short_password_of_a_listed_variable(tmp_path, log):
    """A value too short to search for is masked where its variable is printed."""
    pipe = LogPipe(
        tmp_path / "server.log",
        ServerSpec("process", "toy", tmp_path),
        {"VLLM_A": "u:pw@host", "VLLM_B": "host:8000"},
    )
    os.write(pipe.fd, b"VLLM_A=u:pw@host {'VLLM_A': 'u:pw@host'} VLLM_B=host:8000\n")
    pipe.end()

    assert log() == "VLLM_A=*** {'VLLM_A': '***'} VLLM_B=host:8000\n"


def test_last_words_on_a_starved_node(pipe, log):
    """bench waits for bytes that the filter has read and not written, even if it gets no CPU."""
    for words in range(50):  # until it is stopped between reading and writing
        os.write(pipe.fd, b"api_key " * 25_000 + b"\nthe cause %d\n" % words)
        wait_until(lambda: not pipe._unread())
        os.kill(pipe._filter.pid, signal.SIGSTOP)
        time.sleep(0.05)
        if f"the cause {words}\n" not in log():
            break
        os.kill(pipe._filter.pid, signal.SIGCONT)
    drained = threading.Thread(target=pipe.drain)
    drained.start()
    drained.join(1.5)
    assert drained.is_alive()
    os.kill(pipe._filter.pid, signal.SIGCONT)
    drained.join()
    assert log().endswith(f"\nthe cause {words}\n")


def test_a_pipe_that_stays_full(pipe, monkeypatch):
    """A note says, once, that the server may have waited for its log."""
    monkeypatch.setattr(logpipe, "FULL_S", 0.0)
    os.kill(pipe._filter.pid, signal.SIGSTOP)
    os.write(pipe.fd, b"y" * (pipe._size - 4096))
    for _ in range(4):
        pipe.look()
    assert pipe._notes == [FULL]
    os.kill(pipe._filter.pid, signal.SIGCONT)


def test_the_end_of_a_line_that_has_none(pipe, log):
    """An unfinished line is written at the end of the input."""
    os.write(pipe.fd, b"killed in mid-wor")
    pipe.end()
    assert log() == "killed in mid-wor"


def test_a_filter_that_cannot_be_killed(pipe, monkeypatch):
    """A filter that hangs in the kernel delays neither a stop nor Ctrl-C."""
    limits = []

    def stuck(timeout=None):
        limits.append(timeout)
        if timeout is not None:
            raise subprocess.TimeoutExpired("filter", timeout)

    with monkeypatch.context() as patched:
        patched.setattr(pipe._filter, "wait", stuck)
        pipe.end()
    assert limits == [logpipe.END_S]
