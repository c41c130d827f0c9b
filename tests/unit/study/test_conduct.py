"""Studies gone on with: only the run that was begun, what failed once more, what its method voids left as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rocbench.conduct.run import Outcome
from rocbench.errors import Exit, InputError
from rocbench.report.live import PlainScreen
from rocbench.store.folder import RunFolder
from rocbench.study import conduct, parts
from rocbench.tables.parts import Identity
from rocbench.verdict.codes import CODES
from studycases import all_parts, level, part, study

SCREEN = PlainScreen()


def cut(*users):
    """A replayed part of a few levels."""
    whole = part("replay-quick-0.14.1")
    return replace(
        whole, plan=parts.only(whole.plan, level("llama-3.1-405b", "replay-short-100", *users, requests=75))
    )


def predict(out, *users):
    """Its run in virtual time."""
    return conduct.run([cut(*users)], out, SCREEN, virtual=True)[0]


@pytest.fixture
def resumed(monkeypatch):
    """What a run over servers would be told, in place of servers."""
    told = []

    def run_plan(plan, options, screen):
        told.append(options)
        return Outcome(options.out, RunFolder.open(options.out).cells(), [], Exit.DONE)

    monkeypatch.setattr(conduct, "run_plan", run_plan)
    return told


def as_measured(folder):
    """Takes from a predicted run what says that it is predicted."""
    manifest = folder.read_json("manifest.json")
    folder.write_json("manifest.json", {name: v for name, v in manifest.items() if name != "predicted"})


def rewrite(folder, row, **changes):
    """One row of a run, changed."""
    identity = Identity(row["run_id"], row["cell_id"], row["repeat"], row["discarded"])
    folder.write_cell(identity, row | changes, {})


def test_the_codes_that_a_method_brings_are_known():
    """A slip there would measure its rows again, or keep failed ones."""
    assert {code for method in study().study.methods.values() for code in method.by_design} < conduct.VOIDING
    assert not {"server_failed", "interrupted"} & all_parts()[0].by_design
    assert {code.id for code in CODES} > conduct.VOIDING


def test_a_prediction_goes_on_where_it_was_left(tmp_path):
    """Rows that are there stay; one that is missing comes."""
    before = predict(tmp_path, 150, 200).folder
    lost = before.rows[-1]
    stem = Identity(lost["run_id"], lost["cell_id"], lost["repeat"], lost["discarded"]).stem
    (before.path / "parts" / "cells" / f"{stem}.json").unlink()
    after = predict(tmp_path, 150, 200).folder
    assert {row.key for row in after.rows} == {row.key for row in before.rows}
    assert {row["run_id"] for row in after.rows} == {before.manifest["run_id"]}


@pytest.mark.parametrize(("users", "virtual"), [((150,), True), ((150, 200), False)])
def test_another_run_in_the_same_folder_is_refused(tmp_path, resumed, users, virtual):
    """Other cells, or rows made otherwise, would become repeats of one another."""
    predict(tmp_path, 150, 200)
    with pytest.raises(InputError, match=r"predicted, 2 runs.*; requested now: ") as found:
        conduct.run([cut(*users)], tmp_path, SCREEN, virtual=virtual)
    assert "--scale" in str(found.value.fix)
    assert not resumed


def test_rows_that_their_method_voids_stand(tmp_path, resumed):
    """A replay that is whole starts nothing; one that goes on begins none of its rows again."""
    folder = predict(tmp_path, 150, 200).folder
    assert all(row["valid"] is False for row in folder.rows)
    as_measured(folder)
    conduct.run([cut(150, 200)], tmp_path, SCREEN)
    assert not resumed
    rewrite(folder, folder.rows[0], reasons="server_failed")
    conduct.run([cut(150, 200)], tmp_path, SCREEN)
    (options,) = resumed
    assert options.resume
    assert options.accepted == {row.key for row in folder.rows if row["reasons"] != "server_failed"}
    assert len(options.accepted) == 1
