"""Run folders with a file that is cut off, edited or gone: one message that names it and says what to do."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from rocbench.errors import Exit, InputError
from rocbench.store.runs import find
from strangers import needs_root, python
from virtual import SMALL, World, bench, json_of

TINY = SMALL | {"concurrency": [2], "load": {"duration_s": 1, "max_duration_s": 10}}


@pytest.fixture(scope="module", name="sound")
def _sound(tmp_path_factory):
    """A run of one cell."""
    path = tmp_path_factory.mktemp("sound") / "run"
    bench(path, TINY)
    return path


@pytest.fixture(name="folder")
def _folder(sound, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(sound, tmp_path / "results" / "run")


def cut(path):
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    ("name", "words", "fix"),
    [
        ("parts/cells/*.json", ("summary", "{run}"), "delete this file"),
        ("parts/cells/*.json", ("sweep", "--resume", "{run}"), "measures that cell again"),
        ("parts/histograms/*.parquet", ("sweep", "--resume", "{run}"), "parts/cells/"),
        ("manifest.json", ("summary", "{run}"), "restore"),
        ("plan.json", ("report", "{run}"), "restore"),
        ("plan.json", ("export", "{run}", "--format", "vllm-bench"), "restore"),
        ("plan.json", ("sweep", "--resume", "{run}"), "restore"),
        ("requests.parquet", ("report", "{run}"), "rebuilds it from parts/"),
        (
            "requests.parquet",
            ("query", "select * from requests", "--results", "{run}"),
            "rebuilds it from parts/",
        ),
        ("requests.parquet", ("export", "{run}", "--format", "vllm-bench"), "rebuilds it from parts/"),
    ],
)
def test_a_file_that_is_cut_off_is_named(command, folder, name, words, fix):
    """With what to do about it, as bad input."""
    (damaged,) = map(cut, folder.glob(name))
    said = command(*(word.format(run=folder) for word in words))

    assert said.code == Exit.BAD_INPUT
    assert f"bench: {damaged}: this file is damaged" in said.err
    assert fix in said.err


@pytest.mark.parametrize("name", ["manifest.json", "parts/cells/*.json"])
def test_one_damaged_run_does_not_hide_the_others(command, folder, name):
    """The ledger names it and reads on."""
    other = shutil.copytree(folder, folder.with_name("other"))
    (damaged,) = map(cut, folder.glob(name))
    said = command("history", "--results", folder.parent)

    assert said.code == 0
    assert f"left out: {damaged}" in said.err
    assert "other" in said.out
    with pytest.raises(InputError, match="damaged"):
        find(other.parent)


@needs_root
@pytest.mark.parametrize("mode", [0, 0o444])
def test_runs_that_may_not_be_read_do_not_hide_the_others(sound, state_of_all, mode):
    """Another user's, or a part of it: each is left out with its reason."""
    results = state_of_all / "results"
    hidden = {"two": ".", "three": "manifest.json", "four": "parts", "five": "parts/cells"}
    for name in ("one", *hidden):
        shutil.copytree(sound, results / name)
    for path in (results, *results.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for name, part in hidden.items():
        (results / name / part).chmod(mode)
    with python("-m", "rocbench", "history", "--results", str(results)) as stranger:
        out, err = stranger.communicate()
    assert (stranger.returncode, "one" in out) == (0, True)
    for name, part in hidden.items():
        at = results / name / part
        if mode and at.is_file():
            assert name in out
            continue
        told = "this file is damaged: cannot be read" if at.is_file() else "cannot be read"
        assert re.search(f"left out: {at}\\S*: {told}: Permission denied", err)
        assert name not in out


def test_dates_stay_whole_on_a_narrow_terminal(command, folder, monkeypatch):
    """The day of each run can be read at 60 columns."""
    monkeypatch.setenv("COLUMNS", "60")
    begun = json_of(folder, "manifest.json")["begun_at"]
    assert f"{begun[:10]} {begun[11:16]}" in command("history", "--results", folder).out


def test_a_run_without_its_plan_cannot_go_on(command, folder):
    """It can still be read."""
    (folder / "plan.json").unlink()
    said = command("sweep", "--resume", folder)
    assert (said.code, "plan.json is missing" in said.err) == (2, True)
    assert command("merge", folder, "--out", folder.with_name("merged")).code == 2
    assert command("summary", folder).code == 0
    assert command("export", folder, "--format", "vllm-bench").code == 0


def test_an_edited_plan_is_told_from_an_older_bench(command, folder):
    """Of one's own version nothing is said about another."""
    plan = json_of(folder, "plan.json")
    edited = json.loads(json.dumps(plan).replace('"repeat": 1', '"repeat": 7'))
    (folder / "plan.json").write_text(json.dumps(edited))
    assert "plan.json, or a rule" in command("sweep", "--resume", folder).err

    manifest = json_of(folder, "manifest.json") | {"rocbench": "0.0.1"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "finish the run with rocbench 0.0.1" in command("sweep", "--resume", folder).err

    del plan["sweep"]["models"]
    (folder / "plan.json").write_text(json.dumps(plan))
    said = command("sweep", "--resume", folder)
    assert (said.code, "are not a valid plan" in said.err) == (2, True)


def test_rows_without_their_requests_are_named(folder, monkeypatch):
    """They stand, and are not measured again unasked."""
    told, world = [], World()
    monkeypatch.setattr("virtual._Silent.note", lambda _, text: told.append(text))
    for part in (folder / "parts" / "requests").iterdir():
        part.unlink()
    assert bench(folder, world=world).exit_code == Exit.DONE
    assert world.runs == []
    assert "the requests of llama-3.1-405b/short/c2 repeat 1 are missing" in told[0]


DEEP = "[" * 100_000
WIDE = "[" + "0," * 1_100_000 + "0]"


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("load_notes", DEEP),
        ("load_notes", WIDE),
        ("load_notes", "{}"),
        ("load_notes", "[7]"),
        ("failures", '{"timeout": "many"}'),
        ("load_spec", '{"max_requests_per_user": []}'),
        ("axes", DEEP),
        ("serve_args", '{"a":' * 900 + "1" + "}" * 900),
    ],
)
@pytest.mark.parametrize("words", ["summary {run}", "report {run}", "export {run} --format vllm-bench"])
def test_json_in_a_column_that_is_none_is_damage(command, folder, column, text, words):
    """Of whatever depth and size; the row's file is named."""
    (part,) = (folder / "parts" / "cells").glob("*.json")
    part.write_text(json.dumps(json.loads(part.read_text()) | {column: text}))
    said = command(*words.format(run=folder).split())
    assert (said.code, f"bench: {part}: this file is damaged: `{column}`" in said.err) == (2, True)


def test_text_that_is_deep_json_is_told_as_it_is(command, folder):
    """Two sides that differ in a column of text, which may hold anything."""
    other = shutil.copytree(folder, folder.with_name("other"))
    for run, text in ((folder, DEEP), (other, DEEP + "[")):
        (part,) = (run / "parts" / "cells").glob("*.json")
        part.write_text(json.dumps(json.loads(part.read_text()) | {"vllm_version": text}))
    assert command("report", folder, other).code == 0
