"""Containers: the exact argv, and a container's life against a stand-in docker that records what it is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rocbench import server
from rocbench.errors import EnvironmentFault, Exit, InputError, Interrupted, ServerFault
from rocbench.probe.fetch import fetch
from rocbench.server import container, logpipe, orphans
from rocbench.server.container import run_argv
from rocbench.server.versions import packages_of

SERVERS = Path(__file__).parents[2] / "fixtures" / "servers"
SECRET = "hf_planted0123456789"
GOLDEN = """\
docker run --name rocbench-1-deepseek
--device=/dev/kfd --device=/dev/dri
--group-add=44 --group-add=109
--ipc=host
--ulimit=memlock=-1:-1 --ulimit=stack=67108864:67108864 --ulimit=nofile=65536:65536
--security-opt=seccomp=unconfined --cap-add=SYS_PTRACE
--volume=/data/hf:/cache/huggingface --volume=/data/aiter:/cache/aiter
--env=HF_TOKEN --env=VLLM_ROCM_USE_AITER
--publish=127.0.0.1:8001:8001
--entrypoint=sh vllm/vllm-openai-rocm:v0.14.1 -c SEED sh
vllm serve deepseek-ai/DeepSeek-V3.2 --block-size 1 --host 0.0.0.0 --port 8001
"""


def argv(**changes) -> tuple[str, ...]:
    """A DeepSeek server's argv, with changes."""
    arguments = {
        "port": 8001,
        "env_names": ["VLLM_ROCM_USE_AITER", "HF_TOKEN"],
        "mounts": {"/data/hf": "/cache/huggingface", "/data/aiter": "/cache/aiter"},
        "groups": ("44", "109"),
    }
    command = "vllm serve deepseek-ai/DeepSeek-V3.2 --block-size 1 --host 0.0.0.0 --port 8001".split()
    name = "rocbench-1-deepseek"
    return run_argv("docker", "vllm/vllm-openai-rocm:v0.14.1", name, command, **(arguments | changes))


def test_golden_argv():
    """Devices, groups, ipc, limits, caches, names of variables, loopback port, entrypoint: word by word."""
    words = [("SEED" if word == container._SEED_AND_RUN else word) for word in argv()]

    assert words == GOLDEN.split()


def test_no_value_of_a_variable_in_argv():
    """Variables are passed by name, never as `--env NAME=value`."""
    assert not [word for word in argv() if word.startswith("--env=") and "=" in word.removeprefix("--env=")]


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """The stand-in docker on PATH; a function that gives the recorded commands."""
    record = tmp_path / "docker.log"
    path = tmp_path / "bin"
    path.mkdir()
    (path / "docker").symlink_to(SERVERS / "docker")
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_RECORD", str(record))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HOME", raising=False)

    def calls(first: str = "") -> list[list[str]]:
        written = record.read_text() if record.exists() else ""
        commands = [command.split("\037")[:-1] for command in written.split("\036")[:-1]]
        return [words for words in commands if not first or words[0] == first]

    calls.record = record
    return calls


@pytest.fixture
def make_container(make_spec, monkeypatch, tmp_path):
    """A container spec for the stand-in server; caches inside it are folders of the test."""
    monkeypatch.setattr(container, "CACHES", {name: str(tmp_path / name) for name in container.CACHES})
    monkeypatch.setattr(container, "STOP_MARGIN_S", 5.0)

    def make(*flags: str, **fields):
        defaults = {"kind": "container", "image": "vllm/vllm-openai-rocm:v0.14.1"}
        return make_spec(*flags, **(defaults | fields))

    return make


def test_life_of_a_container(docker, make_container, tmp_path):
    """Image digest noted, run, answered, stopped with time, removed, proved gone."""
    with server.start(make_container("--children", "0", env={"VLLM_ROCM_USE_AITER": "1"})) as running:
        assert fetch(running.base_url, "/health").status == 200
        assert running.image_digest == "vllm/vllm-openai-rocm@sha256:" + 64 * "a"
        assert running.pid is not None
        assert running.processes()[0].pid == running.pid
        assert any("named by a tag" in note for note in running.notes)
        assert packages_of(running) is not None
    assert running.stopped is not None
    assert running.stopped.how == "terminated"
    (run,) = docker("run")
    assert "--env=VLLM_ROCM_USE_AITER" in run
    assert "--env=HF_HOME" in run
    name = run[run.index("--name") + 1]
    assert ["stop", "-t", "5", name] in docker()
    assert ["rm", "-f", name] in docker()
    assert docker()[-1][0] == "ps"
    assert orphans.find() == ()
    assert (tmp_path / "servers" / "s1" / "command.sh").read_text().count("docker run") == 1
    caches = {word for word in run if word.startswith("--volume=")}
    assert len(caches) == 4
    assert f"--volume={tmp_path}/home/.cache/huggingface:/cache/huggingface" in caches


def test_secret_is_in_no_argv_and_no_file(docker, make_container, tmp_path, monkeypatch):
    """The token is in the client's environment only: not in argv, not in a file, filtered from the log."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with server.start(make_container("--print-env", "HF_TOKEN")):
        pass

    assert SECRET not in docker.record.read_text()
    assert "--env=HF_TOKEN" in docker("run")[0]
    for path in (tmp_path / "servers").rglob("*"):
        assert path.is_dir() or SECRET not in path.read_text(), path
    assert "HF_TOKEN is ***\n" in (tmp_path / "servers" / "s1" / "server.log").read_text()


def test_container_that_dies(docker, make_container):
    """A container that dies while loading is reported like any server, and removed."""
    spec = make_container("--die-at-load", "Unable to open /dev/kfd read-write: Permission denied")
    with pytest.raises(ServerFault, match="may not open the GPU device"), server.start(spec):
        pass

    assert docker("rm")


def test_image_is_pulled(docker, make_container, monkeypatch):
    """A missing image is pulled, once, before anything starts."""
    monkeypatch.setenv("DOCKER_MISSING_IMAGE", "1")
    with server.start(make_container()):
        pass

    assert docker("pull") == [["pull", "vllm/vllm-openai-rocm:v0.14.1"]]


def test_image_that_cannot_be_had(docker, make_container, monkeypatch):
    """An image that is not available is named, with exit code 4 and the log of the pull."""
    monkeypatch.setenv("DOCKER_MISSING_IMAGE", "forever")
    with pytest.raises(EnvironmentFault, match="is not available") as caught, server.start(make_container()):
        pass

    assert caught.value.exit_code == Exit.ENVIRONMENT
    assert "manifest unknown" in Path(caught.value.where).read_text()
    assert docker("run") == []


def test_image_that_is_never_there(docker, make_container, monkeypatch):
    """A registry that stalls costs a limited time; the error gives the command to pull."""
    monkeypatch.setenv("DOCKER_MISSING_IMAGE", "hangs")
    monkeypatch.setattr(container, "PULL_S", 0.3)
    monkeypatch.setattr(logpipe, "END_S", 0.3)
    with pytest.raises(EnvironmentFault, match="not pulled within") as caught, server.start(make_container()):
        pass

    assert "docker pull vllm" in caught.value.fix
    assert docker("run") == []


def test_interrupted_before_the_stop(docker, make_container, monkeypatch):
    """A second signal while the container is inspected ends the grace, not the stop."""

    def interrupted(self):
        raise Interrupted("again")

    def stopped_so():
        with server.start(make_container("--children", "0")):
            monkeypatch.setattr(container.ContainerServer, "processes", interrupted)

    with pytest.raises(Interrupted, match="again"):
        stopped_so()
    assert docker("rm")
    assert docker()[-1][0] == "ps"
    assert orphans.find() == ()


def test_docker_missing(make_container, monkeypatch, tmp_path):
    """Missing docker is reported, with exit code 4."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(EnvironmentFault, match="docker is not installed") as caught,
        server.start(make_container()),
    ):
        pass

    assert caught.value.exit_code == Exit.ENVIRONMENT


def test_daemon_down(docker, make_container, monkeypatch):
    """A docker without its daemon is reported."""
    monkeypatch.setenv("DOCKER_DOWN", "1")
    with pytest.raises(EnvironmentFault, match="docker does not answer"), server.start(make_container()):
        pass


def test_no_image_named(docker, make_container):
    """A container without an image is bad input."""
    with pytest.raises(InputError, match="needs an image"), server.start(make_container(image=None)):
        pass


def test_kernels_of_the_image_seed_the_cache(tmp_path):
    """Kernels that the image brings are copied into the cache once, and the server's command then runs as given."""
    package = tmp_path / "site" / "aiter"
    (package / "jit").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('needs a GPU')")
    (package / "jit" / "module_a.so").write_text("from the image")
    (package / "jit" / "module_b.so").write_text("from the image")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "module_a.so").write_text("built before")

    ran = subprocess.run(
        ["sh", "-c", container._SEED_AND_RUN, "sh", "echo", "serve", "a b"],
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(tmp_path / "site"),
            "AITER_JIT_DIR": str(cache),
        },
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == "serve a b\n"
    assert (cache / "module_a.so").read_text() == "built before"
    assert (cache / "module_b.so").read_text() == "from the image"


def test_image_without_aiter(tmp_path):
    """An image without AITER runs its command all the same."""

    ran = subprocess.run(
        ["sh", "-c", container._SEED_AND_RUN, "sh", "echo", "serve"],
        env={"PATH": os.environ["PATH"], "AITER_JIT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == "serve\n"
