"""Run a study's parts one after the other, each into a run folder of its own, and go on where one was left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rocbench.conduct.run import RunOptions, exit_code, run_plan
from rocbench.errors import Exit, InputError
from rocbench.predict import predicting
from rocbench.report.live import Screen
from rocbench.store import RunFolder
from rocbench.study.parts import Part, runs_of


@dataclass(frozen=True, slots=True)
class Done:
    """One part's run."""

    part: Part
    folder: RunFolder
    exit_code: Exit


def run(
    parts: Sequence[Part], out: Path, screen: Screen, *, virtual: bool = False, reap: bool = False
) -> list[Done]:
    """Run every part; one that is on disk already is gone on with.

    Raises:
        InputError: a part's folder holds something else.
        Interrupted: after everything measured was written.
    """
    return [_one(part, out / part.id, screen, virtual=virtual, reap=reap) for part in parts]


def _one(part: Part, folder: Path, screen: Screen, *, virtual: bool, reap: bool) -> Done:
    there = RunFolder.is_one(folder)
    if virtual:
        if there:
            raise InputError("this part is on disk already", where=str(folder), fix="choose another --out")
        predicted = predicting.write(part.plan, folder, part.overrides)
        return Done(part, predicted, exit_code(predicted.rows))
    if there and _complete(part, RunFolder.open(folder)):
        found = RunFolder.open(folder)
        return Done(part, found, exit_code(found.rows))
    outcome = run_plan(
        part.plan, RunOptions(folder, resume=there, overrides=part.overrides, reap=reap), screen
    )
    return Done(part, RunFolder.open(outcome.folder), outcome.exit_code)


def _complete(part: Part, folder: RunFolder) -> bool:
    """Whether every run of the part is on disk."""
    done = {(row["cell_id"], row["repeat"], bool(row.get("discarded"))) for row in folder.rows}
    return all((run.cell.cell_id, run.repeat, run.discarded) in done for _, run in runs_of(part.plan))


def folders(out: Path, parts: Sequence[Part]) -> list[tuple[Part, RunFolder]]:
    """The run folders of those parts that have been run.

    Raises:
        InputError: there is none.
    """
    found = [(part, RunFolder.open(out / part.id)) for part in parts if RunFolder.is_one(out / part.id)]
    if not found:
        raise InputError(
            "no part of the study has been run here", where=str(out), fix="bench study run first"
        )
    return found
