"""What `bench study` refuses, before anything is started."""

from __future__ import annotations

import pytest

from rocbench.commands import predictions
from rocbench.errors import InputError
from rocbench.sim import calibration
from rocbench.study import commands, fitting
from studycases import NAME


@pytest.mark.parametrize("text", ["-5h", "0h", "nanh", "infm", "8", "h", ""])
def test_a_budget_is_a_length_of_time(text):
    """Nothing else has a meaning."""
    with pytest.raises(InputError, match="cannot read"):
        commands._seconds(text)
    assert commands._seconds("1.5h") == 5400


def test_a_budget_that_holds_nothing_is_refused(tmp_path):
    """There is nothing to run, and nothing to report on."""
    with pytest.raises(InputError, match="no part of the study is left"):
        commands.run(NAME, method="replay", virtual=True, scale="small", budget="1s", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_scale_or_price_that_is_none_is_refused():
    """By every command that takes one."""
    with pytest.raises(InputError, match="huge"):
        commands.report(NAME, scale="huge")
    with pytest.raises(InputError, match="huge"):
        commands.run(NAME, scale="huge")
    with pytest.raises(InputError, match="number"):
        commands.plan(NAME, price_per_hour=float("nan"))


def test_calibrate_model_takes_a_study(tmp_path, monkeypatch):
    """It finds the study's fit among those that parts of bench add, and this one takes no other name."""
    monkeypatch.setattr(fitting, "fit_tables", lambda *_, **__: iter(()))
    predictions.calibrate_model(NAME, out=tmp_path / "fit.yaml", assumed="default")
    assert f"study-{NAME}" in (tmp_path / "fit.yaml").read_text(encoding="utf-8")
    assert (
        commands.calibration("results/run", calibration.read_calibration("default"), None, leave_out=True)
        is None
    )
