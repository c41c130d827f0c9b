"""What a container gets of this machine's folders, and which Python runs a `vllm` found on PATH."""

import sys
from pathlib import Path

import pytest

from rocbench.conduct import bind
from rocbench.errors import EnvironmentFault, InputError
from rocbench.server.container import ContainerServer
from rocbench.server.spec import ServerSpec
from rocbench.server.versions import interpreter
from virtual import SMALL, plan_of


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """Mounts of a container for a model, with a temporary home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def of(model: str = "a/b", **env: str) -> dict[str, str]:
        return ContainerServer(ServerSpec(kind="container", model=model, folder=tmp_path, env=env))._mounts()

    return of


def test_cache_of_the_hub(mounts, tmp_path, monkeypatch):
    """The cache is found as by huggingface_hub, from the variables of the shell and the sweep."""
    assert mounts()[f"{tmp_path}/home/.cache/huggingface"] == "/cache/huggingface"
    assert mounts(HF_HOME=f"{tmp_path}/hf")[f"{tmp_path}/hf"] == "/cache/huggingface"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert mounts()[f"{tmp_path}/xdg/huggingface"] == "/cache/huggingface"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "models"))
    assert mounts()[f"{tmp_path}/models"] == "/cache/hub"
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot create a folder to mount"):
        mounts(HF_HOME=f"{tmp_path}/file/hf")


def test_a_folder_that_would_be_another_place(mounts, tmp_path):
    """A colon in a path is refused: docker splits there."""
    with pytest.raises(InputError, match="cannot mount a folder with `:`"):
        mounts("/models/a:/etc")
    with pytest.raises(InputError, match="cannot mount a folder with `:`"):
        mounts(HF_HOME=f"{tmp_path}:/etc")


def test_a_snapshot_comes_with_its_files(mounts):
    """A snapshot holds only links, so the folder with its blobs is mounted."""
    repository = "/hf/hub/models--a--b"

    assert mounts(f"{repository}/snapshots/0123abcd")[repository] == repository
    assert mounts("/models/b")["/models/b"] == "/models/b"


@pytest.mark.parametrize("path", ["~/m", "./m", "m"])
def test_a_model_by_its_path(tmp_path, monkeypatch, path):
    """`~` and relative paths become absolute in the command, the mount and the served name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    made = plan_of(
        SMALL | {"models": [{"profile": "llama-3.1-405b", "path": path}], "server": {"kind": "process"}}
    )
    spec = bind.server_spec(made.groups[0], made.sweep, tmp_path / "s")

    assert (spec.model, spec.command[2], spec.served_name) == (3 * (str(tmp_path / "m"),))


def test_the_python_of_a_script(tmp_path):
    """The interpreter is in the script's first line, else next to the script, as in a virtual environment."""
    for name, text in (("vllm", f"#!{sys.executable} -E\n"), ("wrapped", "#!/bin/sh\nexec vllm\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = str(tmp_path)

    assert interpreter("vllm", path) == [sys.executable, "-E"]
    assert interpreter("wrapped", path) == interpreter("missing", path) == []
    (tmp_path / "python").touch()
    assert interpreter("wrapped", path) == [str(Path(path) / "python")]
