"""Signals that end a run: handled by bench and by a sweep, restored afterwards, and ignored by a load worker."""

import os
import signal
import subprocess
import sys

import pytest

from rocbench import cli
from rocbench.conduct.interrupts import STOPS, SignalGuard
from rocbench.errors import Interrupted


@pytest.fixture(autouse=True)
def handlers():
    """Handlers of a process that ignores no signal, unlike one under nohup; this process's own are restored."""
    old = {number: signal.getsignal(number) for number in STOPS}
    if old[signal.SIGHUP] is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield {number: signal.getsignal(number) for number in STOPS}
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPS)
def test_each_ends_a_sweep(handlers, number):
    """A signal raises at once; during a drain only the second one does."""
    with SignalGuard() as guard:
        with guard.draining() as asked:
            os.kill(os.getpid(), number)
            assert asked.is_set()
        with pytest.raises(Interrupted):
            guard.check()
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == handlers[number]


@pytest.mark.parametrize("number", STOPS)
def test_each_ends_any_command(monkeypatch, capsys, number):
    """The exit code is that of an interrupt."""
    monkeypatch.setattr(cli, "app", lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "bench: interrupted\n"


def test_nohup(monkeypatch):
    """A run under nohup continues after its terminal is closed."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with SignalGuard():
        os.kill(os.getpid(), signal.SIGHUP)
    monkeypatch.setattr(cli, "app", lambda: os.kill(os.getpid(), signal.SIGHUP))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0


def test_a_handler_that_is_not_pythons(monkeypatch):
    """A handler set by a library outside Python cannot be restored, which is not an error."""
    really = signal.signal

    def unknown(number: int, handler: object) -> None:
        really(number, handler)

    monkeypatch.setattr(signal, "signal", unknown)
    with SignalGuard() as guard:
        pass
    assert signal.getsignal(signal.SIGUSR1) == guard._handle


def test_what_is_typed_is_not_for_a_load_worker():
    """Ctrl-C and similar signals reach the whole process group."""
    worker = subprocess.Popen(
        [sys.executable, "-c", "import sys; from rocbench.load import worker; worker.Control = lambda *words: print(*words, flush=True); worker.main()", "0", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert worker.stdout.readline() == b"0 1\n"
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
        worker.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.5)
    worker.kill()
    worker.communicate()
