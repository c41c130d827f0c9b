"""Ctrl-C and kill, sent to a real process that runs a server, in each phase of the server's life."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rocbench import processes
from rocbench.errors import NodeFault
from rocbench.processes import ProcessTree, identity_of
from rocbench.server import orphans

HERE = Path(__file__).parent
STANDIN = HERE.parents[1] / "fixtures" / "servers" / "standin.py"


@pytest.fixture
def bench(tmp_path):
    """Starts the stand-in for bench with flags of its server; killed at the end if need be."""
    started = []

    def begin(*flags: str, grace_s: float = 20.0, before: tuple[str, ...] = ()) -> subprocess.Popen:
        folder = tmp_path / "servers" / "s1"
        argv = [sys.executable, str(HERE / "bench.py"), str(folder), str(grace_s)]
        argv += [*before, sys.executable, str(STANDIN), "serve", "toy", *flags]
        started.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def wait_for(process: subprocess.Popen, word: str) -> str:
    """The first line that begins so."""
    for line in process.stdout:
        if line.startswith(word):
            return line
    raise AssertionError(f"{word!r} never came")


def server_pids(tmp_path: Path) -> list[int]:
    """The server's pid, from its log, once logged."""
    log = tmp_path / "servers" / "s1" / "server.log"
    while not log.exists() or "pid " not in log.read_text():
        time.sleep(0.01)
    return [int(log.read_text().split("pid ")[1].split()[0])]


def test_ctrl_c_before_it_loads(bench, tmp_path):
    """Ctrl-C while the server's process has only begun: exit 130, nothing left."""
    process = bench("--load-s", "600")
    pids = server_pids(tmp_path)

    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 130
    assert not any(map(processes.read_process, pids))


def test_ctrl_c_while_it_loads(bench, tmp_path):
    """Ctrl-C while weights are loaded: exit 130, nothing left."""
    process = bench("--load-s", "3", "--children", "1")
    wait_for(process, "progress loading weights")
    pids = server_pids(tmp_path)

    process.send_signal(signal.SIGINT)
    # The child ignores SIGTERM: a second Ctrl-C ends the grace.
    while processes.read_process(pids[0]) is not None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 130
    assert orphans.find() == ()


def test_ctrl_c_in_the_first_completion(bench, tmp_path):
    """Ctrl-C while the first completion compiles kernels: exit 130, nothing left."""
    process = bench("--completion", "hang")
    wait_for(process, "progress KV cache")
    pids = server_pids(tmp_path)

    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 130
    assert not any(map(processes.read_process, pids))


def test_ctrl_c_while_it_serves(bench, tmp_path):
    """Ctrl-C under load: exit 130, nothing left, nothing to reap."""
    process = bench()
    pid = int(wait_for(process, "ready").split()[1])

    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 130
    assert processes.read_process(pid) is None
    assert orphans.find() == ()


def test_second_ctrl_c_kills(bench):
    """Ctrl-C twice ends the grace of a server that ignores SIGTERM."""
    process = bench("--ignore-sigterm", grace_s=600.0)
    pid = int(wait_for(process, "ready").split()[1])

    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 130
    assert processes.read_process(pid) is None


def test_killed_bench_leaves_an_orphan_that_is_found_and_reaped(bench):
    """SIGKILL of bench leaves its server running; the next one finds it by identity and ends it, children too."""
    process = bench("--children", "1")
    pid = int(wait_for(process, "ready").split()[1])
    assert orphans.find() == ()  # its bench lives

    process.kill()
    process.wait()

    (orphan,) = orphans.find()
    assert orphan.record.leader == identity_of(pid)
    assert len(orphan.members) == 2
    assert orphan.text().startswith("toy at http://127.0.0.1:")
    report = orphans.reap(orphan, grace_s=0.3)
    assert report.how == "killed"  # the child ignores SIGTERM
    assert ProcessTree(orphan.record.leader).refresh() == ()
    assert orphans.find() == ()


def test_orphan_that_a_script_became(bench):
    """A script that prepares the server and then executes it: the same process with another command line."""
    process = bench(before=("sh", "-c", 'sleep 0.3; exec "$0" "$@"'))
    pid = int(wait_for(process, "ready").split()[1])
    process.kill()
    process.wait()

    (orphan,) = orphans.find()
    assert (orphan.record.leader, orphan.doubt) == (identity_of(pid), "")
    orphans.reap(orphan, grace_s=5.0)
    assert orphans.find() == ()


def test_orphaned_workers_without_their_leader(bench):
    """Workers whose API server was killed as well are found by their session."""
    process = bench("--children", "2")
    pid = int(wait_for(process, "ready").split()[1])
    process.kill()
    process.wait()
    leader = identity_of(pid)
    os.kill(pid, signal.SIGKILL)
    while processes.is_alive(leader):
        time.sleep(0.01)

    (orphan,) = orphans.find()
    assert len(orphan.members) == 2
    assert leader not in orphan.members
    orphans.reap(orphan, grace_s=0.1)
    assert orphans.find() == ()


def test_record_of_another_boot_is_dropped(state, bench):
    """A record from before a reboot means nothing: it is removed, and nothing is killed for it."""
    process = bench()
    wait_for(process, "ready")
    process.kill()
    process.wait()
    (orphan,) = orphans.find()
    (record,) = state.glob("server-*.json")
    kept = record.read_text()
    record.write_text(kept.replace(processes.pid_space(), "another-boot pid:[1]"))

    assert orphans.find() == ()
    assert not record.exists()
    assert processes.is_alive(orphan.record.leader)
    record.write_text(kept)
    orphans.reap(orphan, grace_s=5.0)


def test_orphan_of_another_user(bench, monkeypatch):
    """A server whose command changed its user (sudo) is named, and left to that user and to root."""
    process = bench()
    wait_for(process, "ready")
    process.kill()
    process.wait()
    (orphan,) = orphans.find()
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: 4242)
        with pytest.raises(NodeFault, match=r"runs as .*uid \d+"):
            orphans.reap(orphan, grace_s=5.0)
    assert processes.is_alive(orphan.record.leader)
    orphans.reap(orphan, grace_s=5.0)


def test_odd_record_is_no_orphan(state):
    """A half-written or foreign record is passed over."""
    state.mkdir()
    (state / "server-1.json").write_text("{")
    (state / "server-2.json").write_text('{"leader": {"pid": 1}}')

    assert orphans.find() == ()
