"""Whatever a run folder holds, its report is made, and nothing that reads runs ends in a traceback."""

from __future__ import annotations

import itertools

import pytest
import typer

from broken_runs import KINDS, all_requests_failed, bases, broken, empty, failed, nan, partial
from rocbench import cli
from rocbench.errors import BenchError
from rocbench.export.write import FORMATS
from rocbench.report import write


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The runs that broken ones are made of."""
    return bases(tmp_path_factory.mktemp("whole"))


def bench(*words):
    """The command's exit, or the fault that it told; whatever else comes up is a traceback to the user."""
    try:
        cli.app([str(word) for word in words], standalone_mode=False)
    except typer.Exit as ended:
        return ended.exit_code
    except BenchError as fault:
        return fault
    return 0


def read_all(path, other, out):
    """Every command that reads runs. The report is made; the others may say why not."""
    assert bench("report", path, "--study", "--out", out / "one") == 0
    assert (out / "one" / "report.html").stat().st_size > 1000
    assert bench("report", path, other, "--out", out / "two") == 0
    for format_ in FORMATS:
        bench("export", path, "--format", format_, "--include-invalid", "--out", out / format_)
    for words in (
        ("summary", path),
        ("summary", path, "--end-table"),
        ("summary", path, "--include-invalid"),
        ("compare", other, path),
        ("compare", path, other, "--include-invalid"),
        ("gate", path, "--baseline", other),
        ("gate", other, "--baseline", path),
        ("ablate", path, "--include-invalid"),
        ("history", "--results", path),
        ("query", "select * from cells", "--results", path),
    ):
        bench(*words)


@pytest.mark.parametrize(
    "state", [failed, all_requests_failed, partial, empty, nan, None], ids=lambda s: s.__name__ if s else ""
)
def test_report_of_one_row(tmp_path, whole, state, monkeypatch, capsys):
    """A run whose only row has no figures, or odd ones, has a page, a text and its plots; so has one without a row."""
    monkeypatch.setattr(write.static, "VIEWS", 1)
    rows = {"rows": 1, "state": state} if state else {"rows": 0}
    path = broken(whole["attached"], tmp_path / "run", 0, **rows)

    assert bench("report", path, "--out", tmp_path / "report") == 0
    assert (tmp_path / "report" / "report.html").is_file()
    if state is failed:
        assert "the server did not start" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_any_run_folder(tmp_path, whole, monkeypatch, capsys):
    """Folders broken in as many ways as a seed makes, of every kind of sweep, through every command."""
    monkeypatch.setattr(write.static, "write", lambda *_: {})
    for seed, kind in zip(range(1000, 1005), itertools.cycle(KINDS), strict=False):
        path = broken(whole[kind], tmp_path / f"{kind}-{seed}", seed)
        read_all(path, whole[kind].path, tmp_path / str(seed))
