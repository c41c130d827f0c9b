"""The runs around the compared ones, from which a judgement learns how far nights differ."""

from __future__ import annotations

import pytest

from rocbench.commands import compared
from rocbench.errors import InputError
from rocbench.store.folder import RunFolder
from rocbench.tables.parts import Identity
from rocbench.tables.row import Row


@pytest.fixture
def nights(tmp_path, monkeypatch):
    """Three runs of one cell under results/, in a folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    for day in (1, 2, 3):
        folder = RunFolder.create(tmp_path / "results" / f"n{day}")
        run = {"run_id": f"n{day}", "begun_at": f"2026-01-0{day}T00:00:00"}
        folder.write_json("manifest.json", run)
        row = Row({"run_id": f"n{day}", "key": "m/w/c1", "model": "m", "valid": True, "cell_id": "c"})
        folder.write_cell(Identity(f"n{day}", "c", 1), row, {})
        folder.finish()
    return tmp_path


@pytest.mark.parametrize("name", ["latest", "n3", "results/n3", "results/n3/cells.csv"])
def test_the_history_is_beside_the_run_however_it_is_named(nights, name):
    """By `latest`, by its id, by its folder, or by its cells file: the runs around it are its history."""
    rows = compared.history(None, [name], [compared.cells(name)])
    assert rows is not None
    assert sorted(rows["run_id"]) == ["n1", "n2", "n3"]


def test_the_latest_run_is_called_by_its_name(nights):
    """A column headed `latest` would mean another run tomorrow."""
    assert [compared.title(name) for name in ("latest", "n1", "results/n2")] == ["n3", "n1", "n2"]


@pytest.mark.parametrize(("name", "what"), [("nowhere", "no such folder"), (".", "no run folder here")])
def test_a_history_that_is_asked_for_is_never_silently_empty(nights, name, what):
    """A folder that is not there, or that holds no run, is refused."""
    with pytest.raises(InputError, match=what):
        compared.history(name, ["n3"], [compared.cells("n3")])
    assert compared.history("none", ["n3"], [compared.cells("n3")]) is None
