"""Predictions of whole sweeps: rows like measured ones, marked, the same each time."""

from __future__ import annotations

import pytest

from rocbench.columns import CELLS
from rocbench.commands import planning
from rocbench.errors import ConfigError, InputError
from rocbench.plan.expand import Overrides, expand
from rocbench.predict import predicting
from rocbench.settings.schema import Sweep
from rocbench.store.folder import RunFolder


def sweep(**more) -> Sweep:
    """A small sweep on the simulated server."""
    base = {
        "name": "tiny",
        "vllm": "0.14.1",
        "models": ["llama-3.1-405b"],
        "workloads": ["short"],
        "concurrency": [1, 8],
        "load": {"duration_s": 5},
        "repeats": 2,
    }
    return Sweep.model_validate(base | more)


def plan(sweep_: Sweep, **options):
    """Its plan in virtual time."""
    return predicting.plan(sweep_, planning.sources(sweep_, Overrides()), **options)


def test_rows_are_marked_and_judged():
    """Simulated, predicted, valid, with the columns of a measured row."""
    rows = [predicted.row for predicted in predicting.predictions(plan(sweep()))]
    assert len(rows) == 4
    known = {column.name for column in CELLS}
    for row in rows:
        assert row["predicted"] is True
        assert row["simulated"] is True
        assert row["server_kind"] == "predicted"
        assert row["valid"] is True
        assert row["unknown_checks"] is None
        assert set(row) <= known | {
            "kv_cache_dtype",
            "attention_backend",
            "block_size",
            "weights_gib_per_rank",
            "prefix_cache_reset",
            "limit",
        }
        assert row["output_throughput"] > 0


def test_without_a_version_nothing_is_predicted():
    """It is a fault of the plan, reported before the first row."""
    (fault,) = plan(sweep(vllm=None)).faults
    assert fault.where == "llama-3.1-405b"
    assert "--vllm" in fault.message


def test_a_sweep_on_simulated_servers_needs_a_version_too():
    """Its plan has the same fault, so that no server is started that would die."""
    simulated = sweep(vllm=None, server={"kind": "simulated"})
    faults = expand(simulated, planning.sources(simulated, Overrides())).faults
    assert faults == plan(sweep(vllm=None)).faults


def test_a_prediction_comes_out_the_same_each_time():
    """Noise and drawn lengths follow from what the cell is."""
    noisy = sweep(simulation={"noise_cv": 0.05, "run_cv": 0.02})
    one, two = ([f.row["output_throughput"] for f in predicting.predictions(plan(noisy))] for _ in range(2))
    assert one == two
    assert len(set(one)) == 4


def test_cells_are_those_of_the_simulated_sweep():
    """So that the two can be compared cell by cell."""
    sweep_ = sweep()
    simulated = expand(sweep_, planning.sources(sweep_, Overrides()))
    assert [c.cell_id for g in plan(sweep_).groups for c in g.cells] == [
        c.cell_id for g in simulated.groups for c in g.cells
    ]


def test_a_real_sweep_is_predicted_as_if_simulated():
    """Whatever kind of server it names; another calibration gives other figures."""
    real = sweep(server={"kind": "process"}, repeats=1)
    assumed = [f.row["output_throughput"] for f in predicting.predictions(plan(real))]
    fitted = [f.row["output_throughput"] for f in predicting.predictions(plan(real, name="study-2603.10031"))]
    assert all(a > b for a, b in zip(assumed, fitted, strict=True))


def test_a_server_that_would_not_start_gives_failed_rows():
    """As in a run: its cells are invalid with the reason, the others go on."""
    models = [{"profile": "llama-3.1-405b", "serve_args": {"max-model-len": 131073}}, "deepseek-v3.2"]
    rows = [predicted.row for predicted in predicting.predictions(plan(sweep(models=models, repeats=1)))]
    assert [row["valid"] for row in rows] == [False, False, True, True]
    assert "server_failed" in rows[0]["reasons"]
    assert rows[0]["failure_message"]


def test_a_version_must_be_known():
    """The scheduler's defaults hang on it."""
    unversioned = plan(sweep(vllm=None))
    with pytest.raises(ConfigError, match="vLLM version"):
        predicting.node_of(unversioned.groups[0], unversioned.sweep, None)


def test_a_run_folder_holds_the_same_tables(tmp_path):
    """cells, requests, histograms and the calibration that they hang on; a folder is not written twice."""
    folder = predicting.write(plan(sweep()), tmp_path / "run")
    again = RunFolder.open(tmp_path / "run")
    assert len(again.rows) == 4
    assert {row["run_id"] for row in again.rows} == {folder.rows[0]["run_id"]} != {"predicted"}
    assert not again.table("requests").empty
    assert not again.table("histograms").empty
    manifest = again.read_json("manifest.json")
    assert manifest["predicted"] is True
    assert manifest["calibration"]["name"] == "default"
    with pytest.raises(InputError) as caught:
        predicting.write(plan(sweep()), tmp_path / "run")
    assert "--resume" not in caught.value.text()  # predict has no such option
