"""Run a study's parts in sequence, each in its own run folder, and resume parts that are on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocbench.conduct import remaining, rows
from rocbench.conduct.run import RunOptions, exit_code, run_plan
from rocbench.errors import Exit, InputError
from rocbench.predict import predicting
from rocbench.report.live import Screen
from rocbench.store.folder import RunFolder
from rocbench.study.parts import StudyPart
from rocbench.tables.row import Key
from rocbench.verdict.codes import VOIDING


@dataclass(frozen=True, slots=True)
class Done:
    """One part's run."""

    part: StudyPart
    folder: RunFolder
    exit_code: Exit


def run(
    parts: Sequence[StudyPart], out: Path, screen: Screen, *, virtual: bool = False, reap: bool = False
) -> list[Done]:
    """Run every part. A part on disk is resumed: missing rows, and invalid rows unless they are invalid by design.

    Raises:
        InputError: a part's folder has a different run; nothing was started.
        Interrupted: all finished measurements were written.
    """
    for part in parts:
        _refuse_other_run(part, out / part.id, virtual=virtual)
    return [_run_part(part, out / part.id, screen, virtual=virtual, reap=reap) for part in parts]


def _refuse_other_run(part: StudyPart, path: Path, *, virtual: bool) -> None:
    """Refuse a folder of another kind: rows of two scales, budgets or kinds of server are not repeats."""
    if not RunFolder.is_run(path):
        return
    folder = RunFolder.open(path)
    on_disk, predicted = folder.whole_plan(), bool(folder.manifest.get(predicting.KIND))
    requested = rows.plan_json(part.plan, part.overrides, None)
    if predicted == virtual and on_disk.get("launches") == requested["launches"]:
        return
    raise InputError(
        f"the folder already has a different run of this part: {_plan_text(on_disk, predicted=predicted)}; requested now:"
        f" {_plan_text(requested, predicted=virtual)}",
        where=str(path),
        fix="choose another --out, or repeat the options of the first run (--scale, --budget, --simulate, --predict,"
        " --container); if rocbench or the study's YAML has changed, only the earlier version can resume the run",
    )


def _plan_text(plan: Mapping[str, Any], *, predicted: bool) -> str:
    """Describe a plan: `predicted, 57 runs, requests of up to 607 + 128 tokens`."""
    kind = predicting.KIND if predicted else f"{plan['sweep']['server']['kind']} servers"
    count = sum(len(launch["runs"]) for launch in plan["launches"])
    loads = [cell["workload"] for server in plan["servers"] for cell in server["cells"]]
    isl, osl = (max((load[name]["mean"] for load in loads), default=0) for name in ("isl", "osl"))
    return f"{kind}, {count:,} runs, requests of up to {isl:,} + {osl:,} tokens"


def _run_part(part: StudyPart, path: Path, screen: Screen, *, virtual: bool, reap: bool) -> Done:
    if not RunFolder.is_run(path):
        if virtual:
            predicted = predicting.write(part.plan, path, part.overrides)
            return Done(part, predicted, exit_code(predicted.rows))
        options = RunOptions(path, overrides=part.overrides, reap=reap)
    else:
        folder = RunFolder.open(path, resume=True)
        if virtual:
            folder = predicting.resume(part.plan, folder)
        accepted = _by_design(part, folder)
        if virtual or _complete(part, folder, accepted):
            return Done(part, folder, exit_code(folder.rows))
        options = RunOptions(path, resume=True, overrides=part.overrides, reap=reap, accepted=accepted)
    outcome = run_plan(part.plan, options, screen)
    return Done(part, RunFolder.open(outcome.folder), outcome.exit_code)


def _by_design(part: StudyPart, folder: RunFolder) -> frozenset[Key]:
    """Return the keys of rows that only their method makes invalid."""
    return frozenset(row.key for row in folder.rows if VOIDING.intersection(row.codes) <= part.by_design)


def _complete(part: StudyPart, folder: RunFolder, accepted: frozenset[Key]) -> bool:
    """True if every run of the part that counts is on disk, and none must be repeated."""
    done = {row.key for row in folder.rows}
    done -= remaining.invalid(folder.rows) - accepted
    runs = (run for launch in part.plan.launches for run in launch.runs)
    return all(remaining.key_of_run(run) in done for run in runs if not run.discarded)


def folders(out: Path, parts: Sequence[StudyPart]) -> list[tuple[StudyPart, RunFolder]]:
    """Return the run folders of the parts that have been run.

    Raises:
        InputError: no part has been run.
    """
    found = [(part, RunFolder.open(out / part.id)) for part in parts if RunFolder.is_run(out / part.id)]
    if not found:
        raise InputError(
            "the folder has no run of this study", where=str(out), fix="use bench study run first"
        )
    return found
