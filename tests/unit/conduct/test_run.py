"""Checks of a run before it starts servers."""

from __future__ import annotations

import pytest

from rocbench.conduct import bind, run
from rocbench.errors import InputError
from rocbench.plan.planned import Run
from rocbench.redact import marked
from virtual import SMALL, Killed, World, bench, json_of, keys, plan_of


@pytest.mark.parametrize("kind", ["process", "container"])
def test_the_node_is_examined_for_the_servers_own_environment(monkeypatch, kind):
    """A variable of the sweep counts; the shell's counts only for a process, because a container does not get it."""
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0")
    sweep = {
        "name": "t",
        "vllm": "0.14.1",
        "hardware": "mi325x",
        "models": [{"profile": "qwen3-235b"}],
        "workloads": ["short"],
        "concurrency": [1],
        "env": {"HSA_NO_SCRATCH_RECLAIM": "1"},
        "server": {"kind": kind} | ({"image": "vllm@sha256:0"} if kind == "container" else {}),
    }

    (environ,) = run._environs(plan_of(sweep))

    assert environ["HSA_NO_SCRATCH_RECLAIM"] == "1"
    assert environ.get("HIP_VISIBLE_DEVICES") == ("0" if kind == "process" else None)


def test_a_crash_tells_how_to_go_on(tmp_path, monkeypatch):
    """The note names the command that resumes the run."""
    measure = run.one_by_one
    monkeypatch.setattr(run, "one_by_one", lambda *given: [measure(*given), {}["x"]])
    with pytest.raises(KeyError) as caught:
        bench(tmp_path / "run", SMALL | {"concurrency": [2]})
    assert caught.value.__notes__ == [
        f"all measured cells are on disk; resume with: bench sweep --resume {tmp_path / 'run'}"
    ]
    assert (tmp_path / "run" / "cells.csv").is_file()


def test_an_axis_with_the_value_of_a_secret(monkeypatch):
    """Every key would show it: the error does not repeat it. The name of a model is not a secret, even if a variable has it."""
    monkeypatch.setenv("MY_TOKEN", "v4lue-of-mine")
    monkeypatch.setenv("OTHER_TOKEN", "qwen3-235b")
    plan = plan_of(SMALL | {"matrix": {"product": {"served_model_name": ["v4lue-of-mine", "b"]}}})
    with pytest.raises(InputError, match="this axis sets a secret") as caught:
        run._secrets(plan)
    assert "v4lue" not in caught.value.text()
    assert run._secrets(plan_of(SMALL)) == ("v4lue-of-mine",)


@pytest.mark.parametrize("value", ["000000", "concurrency", "launches", "run_id"])
def test_a_secret_that_reads_like_our_own_words(monkeypatch, tmp_path, value):
    """In the shell and in the sweep: the run is written completely, and resumes with the same cells after it was killed."""

    def killed(run_: Run) -> None:
        if run_.cell.level.concurrency == 8:
            raise Killed

    monkeypatch.setenv("A_TOKEN", value)
    sweep = SMALL | {"env": {"B_TOKEN": value, "MINE": value, "VLLM_LOGGING_LEVEL": "INFO"}}
    with pytest.raises(Killed):
        bench(tmp_path / "out", sweep, World(before_cell=killed))
    plan = json_of(tmp_path / "out", "plan.json")
    with pytest.raises(InputError, match="is not stored in a run folder"):
        bench(tmp_path / "out")
    monkeypatch.setenv("B_TOKEN", value)
    monkeypatch.setenv("MINE", value)
    bench(tmp_path / "out")

    assert plan["sweep"]["env"] == {
        "B_TOKEN": "***",
        "MINE": marked("MINE", value),
        "VLLM_LOGGING_LEVEL": "INFO",
    }
    assert plan["sweep"]["concurrency"] == [2, 8]
    assert [run_["cell_id"] for run_ in plan["launches"][0]["runs"]] == [
        cell.cell_id for cell in plan_of(sweep).groups[0].cells
    ]
    assert len(keys(tmp_path / "out")) == 2
    assert json_of(tmp_path / "out", "manifest.json")["run_id"]


def test_a_simulated_server_needs_a_version():
    """The error says so before the server starts: its own message is in its log only."""
    plan = plan_of({name: value for name, value in SMALL.items() if name != "vllm"})
    with pytest.raises(InputError, match="the vLLM version is unknown"):
        bind.simulation_context(plan.groups[0], plan.sweep)
