"""`bench` on a node where another user has prepared for it: what is planted is neither executed, ended, followed nor written."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rocbench import processes
from rocbench.server.port import free_port
from strangers import given_away, needs_root, python

pytestmark = [needs_root, pytest.mark.slow]
STANDIN = Path(__file__).parents[2] / "fixtures" / "servers" / "standin.py"


@pytest.fixture
def victim():
    """A process of ours that a stranger would have ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.communicate(b"\n")


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    """`bench` as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "rocbench", *words], capture_output=True, text=True, check=False
    )


def plant(folder: Path, victim: subprocess.Popen, target: Path) -> Path:
    """Records that name a program to execute, a process to end and a link to write through; gives the program's mark."""
    mark = folder / "executed"
    evil = folder / "evil"
    evil.write_text(f"#!/bin/sh\nid >{mark}\necho found\n")
    evil.chmod(0o755)
    logs = folder / "logs"
    logs.mkdir()
    (logs / "server.log").symlink_to(target)
    leader = processes.identity_of(victim.pid)
    record = {
        "leader": {"pid": leader.pid, "started": leader.started},
        "bench": {"pid": 2**22 + 1, "started": 1},
        "pid_space": processes.pid_space(),
        "model": "toy",
        "base_url": "http://h",
        "folder": str(logs),
        "container": "",
        "runtime": "docker",
        "uid": os.geteuid(),
        "argv": processes.fingerprint(victim.pid),
        "members": [{"pid": leader.pid, "started": leader.started}],
    }
    space = "".join(filter(str.isdigit, processes.pid_space().split()[1]))
    for number, more in enumerate([{}, {"container": "rocbench-1-s1", "runtime": str(evil)}]):
        path = folder / f"server-{space}-{number}.json"
        path.write_text(json.dumps(record | more))
        given_away(path)
    for path in (evil, logs, logs / "server.log"):
        given_away(path)
    return mark


@pytest.mark.parametrize("where", ["beside it", "in its place", "in the folder of $ROCBENCH_STATE"])
def test_planted_records(state_of_all, victim, tmp_path, monkeypatch, where):
    """Root reaps, among records, links and a folder of another user's."""
    target = tmp_path / "target"
    target.write_text("secret hf_planted0123456789")
    monkeypatch.setenv("HF_TOKEN", "hf_planted0123456789")
    folder = state_of_all
    if where == "in its place":
        folder = state_of_all / f"rocbench-{os.geteuid()}"
        folder.mkdir(mode=0o777)
        given_away(folder)
    elif where != "beside it":
        given_away(state_of_all)
    mark = plant(folder, victim, target)

    looked, reaped = bench("doctor"), bench("doctor", "--reap")

    assert not mark.exists()
    assert victim.poll() is None
    assert target.read_text() == "secret hf_planted0123456789"
    assert "Traceback" not in looked.stderr + reaped.stderr
    if where == "in its place":
        assert reaped.returncode == 4
        assert f"{folder} is a folder of nobody (uid 65534), not a folder that you own" in reaped.stderr
        assert "left_servers" in looked.stdout
    else:
        assert str(victim.pid) not in looked.stdout + reaped.stdout
    assert len(list(folder.glob("server-*.json"))) == 2


VLLM = """#!/bin/sh
[ "$1" = serve ] || exit 1
model=$2
while [ $# -gt 0 ]; do
  case $1 in --host) host=$2 ;; --port) port=$2 ;; esac
  shift
done
exec python3 {standin} serve "$model" --host "$host" --port "$port"
"""


def test_two_users_of_eight_gpus(state_of_all):
    """Each user's server excludes the other from its GPUs and from a run; the error names the holder."""
    vllm = state_of_all / "vllm"
    vllm.write_text(VLLM.format(standin=STANDIN))
    vllm.chmod(0o755)
    env = os.environ | {
        "HOME": str(state_of_all),
        "PATH": "/usr/bin:/bin:/usr/local/bin",
        "HF_TOKEN": "hf_none",
    }

    def words(model: str) -> list[str]:
        (state_of_all / model).mkdir(exist_ok=True)
        path, log = str(state_of_all / model), tempfile.mkdtemp(dir=state_of_all)
        Path(log).chmod(0o777)
        asked = ["--vllm", "0.14.1", "--command", str(vllm), "--path", path, "--log", log]
        return ["-m", "rocbench", "serve", model, *asked, "--port", str(free_port("127.0.0.1"))]

    def ours(*words: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, *words], env=env, text=True, **pipes)

    def theirs(*words: str) -> subprocess.Popen[str]:
        return python(*words, env=env)

    for first, second, who in ((ours, theirs, "root (uid 0)"), (theirs, ours, "nobody (uid 65534)")):
        with first(*words("llama-3.1-405b")) as serving:
            said = []
            for line in serving.stdout:
                said.append(line)
                if "ready after" in line:
                    break
            assert "ready after" in said[-1], serving.communicate()
            told = rf"held by {re.escape(who)}, pid {serving.pid}: rocbench serve llama-3.1-405b, since 2\d"
            sweep = ["-m", "rocbench", "sweep", "nightly", "--out", str(state_of_all / "run")]
            asked = {"4 GPUs are needed, 0 of 8 are free; ": words("qwen3-235b")}
            asked |= {"the node is ": sweep} if first == theirs else {}
            for what, argv in asked.items():
                with second(*argv) as refused:
                    _, error = refused.communicate()
                assert refused.returncode == 4
                assert re.search(what + told, error), error
            serving.send_signal(signal.SIGTERM)
            serving.communicate()
