"""What `bench study` refuses, before anything is started."""

from __future__ import annotations

import pytest

from rocbench.commands import studying
from rocbench.errors import InputError
from studycases import NAME


@pytest.mark.parametrize("text", ["-5h", "0h", "nanh", "infm", "8", "h", ""])
def test_a_budget_is_a_length_of_time(text):
    """Nothing else has a meaning."""
    with pytest.raises(InputError, match="cannot read"):
        studying._seconds(text)
    assert studying._seconds("1.5h") == 5400


def test_a_budget_that_holds_nothing_is_refused(tmp_path):
    """There is nothing to run, and nothing to report on."""
    with pytest.raises(InputError, match="leave nothing"):
        studying.run(NAME, method="replay", virtual=True, scale="small", budget="1s", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_scale_or_price_that_is_none_is_refused():
    """By every command that takes one."""
    with pytest.raises(InputError, match="huge"):
        studying.report(NAME, scale="huge")
    with pytest.raises(InputError, match="huge"):
        studying.run(NAME, scale="huge")
    with pytest.raises(InputError, match="number"):
        studying.plan(NAME, price_per_hour=float("nan"))
