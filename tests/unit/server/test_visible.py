"""The GPUs that a process sees, and what binds a server to some of them."""

import os

import pytest

from rocbench.conduct import bind
from rocbench.errors import InputError, NodeFault
from rocbench.server import lock
from rocbench.server.visible import binding, visible_gpus
from virtual import SMALL, plan_of


@pytest.mark.parametrize(
    ("env", "seen"),
    [
        ({}, (0, 1, 2, 3, 4, 5, 6, 7)),
        ({"HIP_VISIBLE_DEVICES": ""}, (0, 1, 2, 3, 4, 5, 6, 7)),
        ({"HIP_VISIBLE_DEVICES": "4,5, 6,7"}, (4, 5, 6, 7)),
        ({"CUDA_VISIBLE_DEVICES": "2"}, (2,)),
        ({"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "2"}, (1,)),
        ({"ROCR_VISIBLE_DEVICES": "4,5,6,7", "HIP_VISIBLE_DEVICES": "0,2"}, (4, 6)),
        ({"HIP_VISIBLE_DEVICES": "3,-1,4"}, (3,)),
        ({"ROCR_VISIBLE_DEVICES": "6,7", "HIP_VISIBLE_DEVICES": "1,2"}, (7,)),
    ],
)
def test_as_rocm_reads_them(env, seen):
    """Each variable selects from the previous result; a list ends at its first invalid entry."""
    assert visible_gpus(env, 8) == seen


def test_a_uuid_is_refused():
    """A GPU given by its UUID has no known index."""
    with pytest.raises(InputError, match="UUID"):
        visible_gpus({"ROCR_VISIBLE_DEVICES": "GPU-abc"}, 8)


def test_bound_by_place():
    """After ROCR_VISIBLE_DEVICES, positions count from 0."""
    env = {"ROCR_VISIBLE_DEVICES": "4,5,6,7", "HIP_VISIBLE_DEVICES": "3"}

    assert binding((5, 7), env) == {"HIP_VISIBLE_DEVICES": "1,3", "CUDA_VISIBLE_DEVICES": "1,3"}
    assert binding((5, 7), {})["HIP_VISIBLE_DEVICES"] == "5,7"
    assert binding((), env) == {}


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """GPUs that a model's server would get, given the shell's variables."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path))
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def of(model: str, visible: str = "", chosen: list[int] | None = None) -> tuple[int, ...]:
        monkeypatch.setenv("HIP_VISIBLE_DEVICES", visible)
        made = plan_of(SMALL | {"models": [model], "server": {"kind": "process", "gpus": chosen}})
        return bind.server_spec(made.groups[0], made.sweep, tmp_path / "s").gpus

    return of


def test_chosen_among_the_visible(gpus):
    """On a shared node a server uses only the GPUs visible to its user."""
    assert gpus("qwen3-235b", "4,5,6,7") == (4, 5, 6, 7)
    with pytest.raises(
        NodeFault, match=r"the plan needs 4 GPUs, 2 of 8 are visible \(HIP_VISIBLE_DEVICES=4,5\)"
    ):
        gpus("qwen3-235b", "4,5")
    with pytest.raises(NodeFault, match="the plan needs GPUs 0, 1, 2, 3"):
        gpus("qwen3-235b", "4,5,6,7", [0, 1, 2, 3])


def test_a_server_on_all_gpus_holds_all(gpus):
    """A server that needs the whole node is refused while another holds a GPU; the error names the holder."""
    assert gpus("llama-3.1-405b") == tuple(range(8))
    with (
        lock.gpu_locks((3,)),
        pytest.raises(NodeFault, match=rf"7 of 8 are free; held by .* pid {os.getpid()}"),
    ):
        gpus("llama-3.1-405b")
