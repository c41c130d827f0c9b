"""Servers that cannot be started, or die, in whole sweeps: their cells say why, the next server's are measured."""

import pytest

from sweeps import HURRIED, measured, sweep

FIRST, NEXT = "deepseek-r1", "qwen3-235b"


@pytest.mark.slow
def test_server_that_dies_at_load_or_in_the_window(bench):
    """Death at load costs the server's cells, death under load its own cell only: it is started again for the rest."""
    ended = bench.sweep(
        sweep(
            ["llama-3.1-405b", FIRST, NEXT],
            concurrency=[8, 1],
            load={"duration_s": 2, "min_requests_per_user": 8},
            faults={"llama-3.1-405b": {"oom_at_load": ""}, FIRST: {"die_after_requests": 60}},
        )
    )

    assert ended.code == 1, ended.stderr
    for users in (8, 1):
        assert ended.reasons("llama-3.1-405b", users) == {"server_failed", "gpu_out_of_memory"}
        assert "HIP out of memory" in ended.row("llama-3.1-405b", users)["failure_message"]
        assert measured(ended, NEXT, users)
    assert "server_changed" in ended.reasons(FIRST, 8)
    assert measured(ended, FIRST, 1)
    assert "the server died during the run" in ended.stderr
    assert len(list((ended.folder / "servers").iterdir())) == 4  # the second life has a folder of its own


@pytest.mark.slow
def test_server_that_dies_again_and_again(bench):
    """A server that dies in each cell is given up after three lives; its last cells say so."""
    ended = bench.sweep(
        sweep([FIRST, NEXT], concurrency=[4, 5, 6, 7], faults={FIRST: {"die_after_requests": 6}})
    )

    assert ended.code == 1
    assert all("server_changed" in ended.reasons(FIRST, users) for users in (4, 5, 6))
    assert "server_failed" in ended.reasons(FIRST, 7)
    assert "died during the run" in ended.row(FIRST, 7)["failure_message"]
    assert all(measured(ended, NEXT, users) for users in (4, 5, 6, 7))


@pytest.mark.slow
def test_server_that_hangs_at_load(bench):
    """A server that never becomes ready is ended when its time is over, children and all."""
    bench.program = HURRIED
    ended = bench.sweep(
        sweep(
            [FIRST, NEXT],
            server={"ready_timeout_s": 8},
            faults={FIRST: {"hang_at_load": True, "orphan": True}},
        )
    )

    assert ended.code == 1
    assert "server_failed" in ended.reasons(FIRST)
    assert "not healthy after 8 s" in ended.row(FIRST)["failure_message"]
    assert measured(ended, NEXT)


@pytest.mark.slow
def test_container_runtime_missing(bench):
    """Without a container runtime every row says so, and the exit code says that it is the environment."""
    bench.env["PATH"] = str(bench.folder)
    server = {"kind": "container", "runtime": "podman", "image": "vllm/vllm-openai-rocm@sha256:" + "0" * 64}
    ended = bench.sweep(sweep([FIRST, NEXT], server=server))

    assert ended.code == 4
    for model in (FIRST, NEXT):
        assert ended.reasons(model) == {"server_failed"}
        assert "podman" in ended.row(model)["failure_message"]
