"""The fit: it finds the efficiency behind the levels, and names the parameters that they do not decide."""

from __future__ import annotations

import re

import pytest

from rocbench.commands import planning, predictions
from rocbench.errors import InputError
from rocbench.plan.expand import Overrides
from rocbench.predict import calibrating, observed, predicting
from rocbench.predict.calibrating import Observation
from rocbench.settings.schema import Sweep
from rocbench.sim import calibration
from rocbench.sim.calibration import Calibration
from rocbench.store.folder import RunFolder
from rocbench.tables.row import Row

TRUTH = {"bandwidth": 0.4, "compute": 0.3, "step_overhead_ms": 4.0, "sequence_overhead_us": 60.0}


def levels(*users: int, figures=("output_throughput", "median_ttft_ms")) -> list[Observation]:
    """Levels of Llama-405B as a server of the true efficiency gives them."""
    sweep = Sweep.model_validate(
        {
            "name": "tiny",
            "vllm": "0.14.1",
            "models": ["llama-3.1-405b"],
            "workloads": ["text-short"],
            "concurrency": users,
            "load": {"duration_s": 1, "min_requests_per_user": 1},
        }
    )
    plan = predicting.plan(sweep, planning.sources(sweep, Overrides()))
    (group,) = plan.groups
    node = predicting.node_of(group, sweep, calibration.read_calibration("default"))
    truth = node.efficiency.model_copy(update=TRUTH)
    blank = [
        Observation(
            run.cell.key,
            node,
            group.profile,
            group.hardware,
            predicting.load_of(sweep, run),
            dict.fromkeys(figures, 1.0),
        )
        for run in plan.launches[0].runs
    ]
    return [
        Observation(o.name, o.node, o.profile, o.hardware, o.spec, calibrating.figures(o, truth))
        for o in blank
    ]


def test_the_fit_finds_what_made_the_levels():
    """Every level within 2 %, the shares near the truth."""
    fitted = calibrating.fit(levels(1, 16, 128), levels(1)[0].node.efficiency, tuple(TRUTH))
    assert fitted.median_error() < 0.02
    values = {parameter.name: parameter.value for parameter in fitted.parameters}
    assert values["compute"] == pytest.approx(TRUTH["compute"], rel=0.1)
    assert values["bandwidth"] == pytest.approx(TRUTH["bandwidth"], rel=0.25)
    assert all(p.low <= p.value <= p.high for p in fitted.parameters)


def test_what_no_level_decides_is_said_and_left_as_assumed():
    """One user tells nothing of what each further sequence costs."""
    (alone,) = levels(1, figures=("output_throughput",))
    start = alone.node.efficiency
    fitted = calibrating.fit([alone], start, ("bandwidth", "sequence_overhead_us"))
    by_name = {parameter.name: parameter for parameter in fitted.parameters}
    assert not by_name["sequence_overhead_us"].decided
    assert by_name["sequence_overhead_us"].value == pytest.approx(start.sequence_overhead_us, rel=0.05)


def test_a_calibration_goes_to_a_file_and_back(tmp_path):
    """With its fits, their errors, and its base."""
    base = calibration.read_calibration("default")
    fit = calibrating.fit(levels(1), levels(1)[0].node.efficiency, ("bandwidth",))
    when = observed.When(model="llama-3.1-405b", aiter=False)
    written = observed.calibration("mine", "a note", base, [(when, fit, "fitted to one level")])
    path = tmp_path / "mine.yaml"
    path.write_text(calibrating.document(written))
    again = calibration.read_calibration(str(path))
    assert again == written
    assert again.errors["llama-3.1-405b"] == pytest.approx(fit.median_error(), abs=1e-4)
    assert again.efficiency(observed.When(model="llama-3.1-405b", aiter=False)) == fit.efficiency
    assert again.efficiency(observed.When(model="other")) == base.efficiency(observed.When(model="other"))


def test_the_studys_calibration_says_what_it_is():
    """Fitted, to published tables, never a measurement of hardware."""
    shipped: Calibration = calibration.read_calibration("study-2603.10031")
    assert shipped.what == "fitted"
    assert "not a measurement of hardware" in " ".join(shipped.note.split())
    assert {each.when.model for each in shipped.accuracy} == set(shipped.errors)
    assert all(shipped.fitted(each.when) for each in shipped.accuracy)
    assert set(shipped.errors) == {"deepseek-v3.2", "kimi-k2.5", "llama-3.1-405b", "qwen3-vl-235b"}


def test_the_studys_calibration_holds_on_its_gpu_alone():
    """Elsewhere it is as its base assumes, as its note says."""
    study, base = calibration.read_calibration("study-2603.10031"), calibration.read_calibration("default")
    llama = observed.When(
        model="llama-3.1-405b", aiter=False, moe=False, mla=False, gpu="AMD Instinct MI325X"
    )
    assert study.efficiency(llama) != base.efficiency(llama)
    other = llama.model_copy(update={"gpu": "AMD Instinct MI355X"})
    assert study.efficiency(other) == base.efficiency(other)


def test_a_place_to_write_is_looked_for_before_the_fit(tmp_path):
    """Minutes of fitting are not thrown away."""
    with pytest.raises(InputError, match="does not exist"):
        predictions.calibrate_model("no-run", out=tmp_path / "none" / "x.yaml")


def test_servers_that_no_calibration_tells_apart_are_refused(tmp_path):
    """Of two fits for the same facts only the last would have an effect."""
    sweep = Sweep.model_validate(
        {
            "name": "two",
            "vllm": "0.14.1",
            "models": [{"profile": "qwen3-vl-235b", "tp": tp} for tp in (4, 8)],
            "workloads": ["short"],
            "concurrency": [1],
            "load": {"duration_s": 5},
        }
    )
    predicting.write(predicting.plan(sweep, planning.sources(sweep, Overrides())), tmp_path / "run")
    rows = RunFolder.open(tmp_path / "run").rows
    assert len({row["server_id"] for row in rows}) == 2
    with pytest.raises(InputError, match="cannot distinguish"):
        predictions.calibrate_model(str(tmp_path / "run"), allow_simulated=True, assumed="default")


def test_calibrating_a_run_says_what_was_left_out(tmp_path, capsys):
    """Errors and coverage on the screen; the file gives predictions intervals, which an older file does not."""
    sweep = Sweep.model_validate(
        {
            "name": "tiny",
            "vllm": "0.14.1",
            "models": ["llama-3.1-405b"],
            "workloads": ["short"],
            "concurrency": [1, 4, 16],
            "load": {"duration_s": 3},
        }
    )
    plan = predicting.plan(sweep, planning.sources(sweep, Overrides()))
    predicting.write(plan, tmp_path / "run")
    for name, no_intervals in (("new", False), ("old", True)):
        predictions.calibrate_model(
            str(tmp_path / "run"),
            out=tmp_path / f"{name}.yaml",
            allow_simulated=True,
            assumed="default",
            no_intervals=no_intervals,
        )
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"llama-3.1-405b: median_tpot_ms: 95 % interval within .* \d of \d leave-outs were within", shown
    )

    def predict(name: str) -> list[Row]:
        plan_ = predicting.plan(
            sweep, planning.sources(sweep, Overrides()), None, str(tmp_path / f"{name}.yaml")
        )
        return [each.row for each in predicting.predictions(plan_)]

    for row in predict("new"):
        for figure in observed.FIGURES:
            assert row[f"predicted_{figure}_low"] < row[figure] < row[f"predicted_{figure}_high"]
        assert row["predicted_extrapolation"] == ""
    for row in predict("old"):
        assert "predicted_output_throughput_low" not in row
        assert "no levels of llama-3.1-405b were left out" in row["predicted_intervals_from"]


def test_a_sweep_that_sets_the_speed_of_steps_has_no_interval():
    """The calibration's errors are not those of another speed."""
    simulation = {"efficiency": 0.5}
    sweep = Sweep.model_validate(
        {
            "name": "tiny",
            "vllm": "0.14.1",
            "models": ["llama-3.1-405b"],
            "workloads": ["short"],
            "concurrency": [1],
            "load": {"duration_s": 2},
            "simulation": simulation,
        }
    )
    (found,) = predicting.predictions(predicting.plan(sweep, planning.sources(sweep, Overrides())))
    assert "sets the speed" in found.row["predicted_intervals_from"]
    assert found.row.get("predicted_output_throughput_low") is None


def test_rows_of_a_run_become_levels(tmp_path):
    """Repeats taken together; the fit to a predicted run gives back its own figures."""
    sweep = Sweep.model_validate(
        {
            "name": "tiny",
            "vllm": "0.14.1",
            "models": ["llama-3.1-405b"],
            "workloads": ["short"],
            "concurrency": [1, 8],
            "repeats": 2,
            "load": {"duration_s": 5},
        }
    )
    plan = predicting.plan(sweep, planning.sources(sweep, Overrides()))
    folder = predicting.write(plan, tmp_path / "run")
    ((group, when, levels_),) = observed.servers(plan, folder.rows, calibration.read_calibration("default"))
    assert group.model == when.model == "llama-3.1-405b"
    assert len(levels_) == 2
    assert set(levels_[0].figures) == set(observed.FIGURES)
    for miss in calibrating.misses(levels_, levels_[0].node.efficiency):
        assert abs(miss.error) < 0.02
