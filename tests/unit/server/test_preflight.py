"""Model, token and disk, checked before a server is started."""

from pathlib import Path

import pytest

from rocbench.errors import EnvironmentFault, Exit, NodeFault
from rocbench.server.preflight import check_model
from rocbench.server.spec import ServerSpec, ready_timeout_s


def spec(model: str, **more) -> ServerSpec:
    """A process server of that model."""
    return ServerSpec(kind="process", model=model, folder=Path("unused"), **more)


def test_missing_path():
    """A model path that does not exist is named before anything is started, with exit code 4."""
    with pytest.raises(EnvironmentFault, match="no model at /nowhere/llama") as caught:
        check_model(spec("/nowhere/llama"), {})
    assert caught.value.exit_code == Exit.ENVIRONMENT


def test_existing_path(tmp_path):
    """An existing folder passes."""
    check_model(spec(str(tmp_path)), {})


def test_gated_without_token(tmp_path):
    """A gated model that is not cached needs HF_TOKEN."""
    with pytest.raises(EnvironmentFault, match="HF_TOKEN is not set"):
        check_model(spec("meta/llama", gated=True), {"HF_HOME": str(tmp_path)})


@pytest.mark.parametrize("token", ["variable", "file"])
def test_gated_with_token(tmp_path, token):
    """A token in the environment or in the file of `hf auth login` is enough."""
    env = {"HF_HOME": str(tmp_path)}
    if token == "variable":
        env["HF_TOKEN"] = "hf_x"
    else:
        (tmp_path / "token").touch()

    check_model(spec("meta/llama", gated=True), env)


def test_cached_needs_no_token(tmp_path):
    """A cached model needs no token, disk space or network."""
    snapshot = tmp_path / "hub" / "models--meta--llama" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()

    check_model(
        spec("meta/llama", gated=True, weight_bytes=1e30), {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    )


def test_offline_and_not_cached(tmp_path):
    """Offline, a model that is not cached is not available."""
    with pytest.raises(EnvironmentFault, match="HF_HUB_OFFLINE"):
        check_model(spec("meta/llama"), {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"})


def test_disk_too_small(tmp_path):
    """Weights that do not fit on the cache's disk are refused with both sizes."""
    with pytest.raises(NodeFault, match=r"needs .* TiB of disk space, but .* free"):
        check_model(spec("meta/llama", weight_bytes=1e18), {"HF_HOME": str(tmp_path / "hf")})


def test_timeout_from_size():
    """3,600 s for 1T parameters, less for fewer, 3,600 s if the size is unknown."""
    assert ready_timeout_s(1e12) == 3600
    assert ready_timeout_s(8e9) == 624
    assert ready_timeout_s(None) == 3600
