"""A server starts on empty GPUs only."""

import os
from pathlib import Path

import pytest

from rocbench.errors import NodeFault
from rocbench.server import vram

AMD_SMI = Path(__file__).parents[2] / "fixtures" / "amd-smi"
IDLE = '"used_vram":{"value":297,'
HELD = '"used_vram":{"value":200000,'


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A node of eight idle GPUs whose first a test can fill: a function of the text for its memory."""
    for path in (AMD_SMI / "rocm7").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("PATH", f"{AMD_SMI}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AMD_SMI_SHAPE", str(tmp_path))
    monkeypatch.setattr(vram, "_idle", {})
    monkeypatch.setattr(vram, "_POLL_S", 0.01)
    text = (tmp_path / "metric.json").read_text()

    def fill(memory: str) -> None:
        (tmp_path / "metric.json").write_text(text.replace(IDLE, memory, 1))

    fill.process = tmp_path / "process.json"
    return fill


def test_idle_node(node):
    """Idle GPUs cause no wait, and give the baseline."""
    vram.wait_idle(())

    assert vram._idle == dict.fromkeys(range(8), 297 * 1024**2)


def test_memory_comes_back(node):
    """bench waits until the last server's memory is free, and reports it as progress."""
    node(HELD)
    told = []

    def progress(text, share):
        told.append(text)
        node(IDLE)

    vram.wait_idle((0, 1), progress)

    assert told == ["waiting for GPU memory (GPU 0: 195.3 GiB)"]


def test_memory_never_comes_back(node):
    """Memory that stays in use is an error that names its holder."""
    node(HELD)
    process = node.process.read_text()
    node.process.write_text(
        process.replace('"No running processes detected"', '{"name":"VLLM::Worker_TP0","pid":4711}', 1)
    )

    with pytest.raises(
        NodeFault, match=r"GPU 0: 195.3 GiB\); held by VLLM::Worker_TP0 \(pid 4711\) on GPU 0"
    ):
        vram.wait_idle((), timeout_s=0.05)


def test_other_gpus_do_not_matter(node):
    """Only the GPUs that the server will use count."""
    node(HELD)

    vram.wait_idle((4, 5), timeout_s=0.0)


def test_baseline_is_what_was_idle_before(node):
    """Above a known idle baseline, a few GiB count as held, even below 10 %."""
    vram.wait_idle(())
    node('"used_vram":{"value":5000,')

    with pytest.raises(NodeFault, match="no process is listed"):
        vram.wait_idle((), timeout_s=0.0)


def test_no_gpu_no_wait(monkeypatch, tmp_path):
    """Without readable memory there is no wait."""
    monkeypatch.setenv("PATH", str(tmp_path))

    vram.wait_idle((), timeout_s=0.0)


def test_gpu_that_is_not_named_is_not_waited_for(node):
    """A row without a GPU index is skipped."""
    node(HELD)
    metric = node.process.with_name("metric.json")
    metric.write_text(metric.read_text().replace('"gpu":0,', '"gpu":"N/A",'))

    vram.wait_idle((), timeout_s=0.0)
