"""`bench report` and `bench export` from the command line."""

from __future__ import annotations

import json

import pytest

from rocbench.commands import reporting
from rocbench.errors import InputError
from rocbench.report import write


@pytest.fixture
def no_plots(monkeypatch):
    """Plots as files are another test's affair, and slow."""
    monkeypatch.setattr(write.static, "write", lambda *_: {})


def test_report_writes_beside_the_run(small_run, no_plots, capsys):
    """Without --out the report lies in the run folder, and the command says where, and that it is simulated."""
    reporting.report([str(small_run.path)], slo=["p99_ttft_ms <= 2000"])
    out = capsys.readouterr().out
    assert "SIMULATED" in out
    report = small_run.path / "report"
    assert (report / "report.html").is_file()
    assert "p99_ttft_ms <= 2000" in (report / "report.md").read_text(encoding="utf-8")


def test_report_on_several_runs(small_run, later_run, no_plots, tmp_path):
    """Two runs: one report, with their comparison."""
    reporting.report([str(small_run.path), str(later_run.path)], out=tmp_path / "r")
    assert "## Comparison" in (tmp_path / "r" / "report.md").read_text(encoding="utf-8")


def test_runs_are_found_by_folder_id_and_latest(nights, monkeypatch):
    """A path, a folder of runs, an id under results/, and the latest of these; each run once."""
    root = nights[0].path.parent
    monkeypatch.setattr(reporting, "RESULTS", root)
    assert [f.path.name for f in reporting.find(["night-3", str(root / "night-3")])] == ["night-3"]
    assert len(reporting.find([str(root)])) == len(nights)
    assert reporting.find(["latest"])[0].path.name == "night-13"
    with pytest.raises(InputError, match="no such run"):
        reporting.find(["yesterday"])


def test_a_limit_that_cannot_be_read_is_bad_input(small_run):
    """The option is named, and no report is written."""
    with pytest.raises(InputError, match="--slo"):
        reporting.report([str(small_run.path)], slo=["fast enough"])


def test_export_writes_into_the_run_folder(small_run, capsys):
    """Rows of the format, those that are invalid left out and counted."""
    reporting.export(str(small_run.path), format_="inferencex")
    rows = json.loads((small_run.path / "export" / "inferencex" / "rows.json").read_text(encoding="utf-8"))
    assert len(rows) == 15
    assert "left out: 3 invalid rows" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_an_environment_fault(small_run, tmp_path):
    """A file where the folder should be: said in words, no traceback."""
    from rocbench.errors import EnvironmentFault

    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(EnvironmentFault, match="cannot write"):
        write.report([small_run], tmp_path / "taken")
