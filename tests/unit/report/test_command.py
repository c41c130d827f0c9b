"""`bench report` and `bench export` from the command line."""

from __future__ import annotations

import json
import shutil

import pytest

from rocbench.commands import options, reporting
from rocbench.errors import InputError
from rocbench.report import write
from strangers import given_away, needs_root


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


def test_a_comparison_in_a_report_knows_the_nights_around_it(nights, no_plots, tmp_path):
    """Two of fourteen nights are compared as `bench compare` compares them: by how far all of them differ."""
    reporting.report([str(nights[0].path), str(nights[1].path)], out=tmp_path / "r")
    assert "12 past nights of the same cells" in (tmp_path / "r" / "report.md").read_text(encoding="utf-8")


def test_runs_are_found_by_folder_id_and_latest(nights, monkeypatch):
    """A path, a folder of runs, an id under results/, and the latest of these; each run once."""
    root = nights[0].path.parent
    monkeypatch.setattr(options, "RESULTS", root)
    assert [f.path.name for f in options.runs(["night-3", str(root / "night-3")])] == ["night-3"]
    assert len(options.runs([str(root)])) == len(nights)
    assert options.runs(["latest"])[0].path.name == "night-13"
    with pytest.raises(InputError, match="no such run"):
        options.runs(["yesterday"])


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


@pytest.fixture
def own_copy(small_run, tmp_path):
    """The run, to be tampered with; and a folder that nothing is to be written into."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine")
    leave = shutil.ignore_patterns("report", "export")
    return shutil.copytree(small_run.path, tmp_path / "run", ignore=leave), tmp_path / "victim"


@pytest.mark.parametrize("place", ["report", "report/plots", "report/study", "export", "export/jsonl"])
def test_a_folder_that_is_a_link_in_a_run_is_refused(own_copy, no_plots, place):
    """One message says where; nothing is written beyond the link, and nothing before it."""
    run, victim = own_copy
    (run / place).parent.mkdir(exist_ok=True)
    (run / place).symlink_to(victim)
    if place.startswith("export"):
        with pytest.raises(InputError, match=f"{place}: this link is part of a run folder"):
            reporting.export(str(run), format_="jsonl")
    else:
        with pytest.raises(InputError, match=f"{place}: this link is part of a run folder"):
            reporting.report([str(run)], study=True)
    assert [path.name for path in victim.iterdir()] == ["file"]
    assert not [path for path in (run / place).parent.iterdir() if path.name.startswith("report.")]


@needs_root
@pytest.mark.parametrize("place", [".", "report", "report/plots", "export", "export/jsonl"])
def test_nothing_is_written_into_a_folder_of_another_user(own_copy, no_plots, tmp_path, place):
    """A run of theirs, or a folder in ours; with --out the same run is reported and exported."""
    run, _ = own_copy
    (run / place).mkdir(parents=True, exist_ok=True)
    given_away(run / place)
    report, export = not place.startswith("export"), not place.startswith("report")
    if report:
        with pytest.raises(InputError, match="another user"):
            reporting.report([str(run)])
    if export:
        with pytest.raises(InputError, match="another user"):
            reporting.export(str(run), format_="jsonl")
    assert not [path for path in run.rglob("*") if path.name in {"report.html", "cells.jsonl"}]
    reporting.report([str(run)], out=tmp_path / "r")
    reporting.export(str(run), format_="jsonl", out=tmp_path / "e")


def test_files_that_are_links_are_replaced(own_copy, monkeypatch):
    """Plots, pages and exported rows: what a link leads to keeps its text."""
    run, victim = own_copy
    draw = write.static.write
    monkeypatch.setattr(write.static, "write", lambda charts, folder: draw(charts[:1], folder))
    reporting.report([str(run)], study=True)
    for format_ in ("jsonl", "aiperf"):
        reporting.export(str(run), format_=format_)
    files = [path for name in ("report", "export") for path in (run / name).rglob("*") if path.is_file()]
    assert {".html", ".md", ".png", ".svg", ".csv", ".tex", ".jsonl", ".json"} == {f.suffix for f in files}
    for path in files:
        path.unlink()
        path.symlink_to(victim / "file")

    reporting.report([str(run)], study=True)
    for format_ in ("jsonl", "aiperf"):
        reporting.export(str(run), format_=format_)

    assert (victim / "file").read_text() == "mine"
    assert not [path for path in files if path.is_symlink()]
