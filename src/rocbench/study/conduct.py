"""Run a study's parts in sequence, each into its own run folder, and resume the parts on disk."""

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
from rocbench.study.parts import Part, runs_of
from rocbench.tables.row import Key
from rocbench.verdict.codes import VOIDING


@dataclass(frozen=True, slots=True)
class Done:
    """One part's run."""

    part: Part
    folder: RunFolder
    exit_code: Exit


def run(
    parts: Sequence[Part], out: Path, screen: Screen, *, virtual: bool = False, reap: bool = False
) -> list[Done]:
    """Run every part; a part on disk is resumed: missing rows, and invalid rows unless they are invalid by
    design.

    Raises:
        InputError: a part's folder holds another run; nothing was started then.
        Interrupted: after everything measured was written.
    """
    for part in parts:
        _refuse_another(part, out / part.id, virtual=virtual)
    return [_one(part, out / part.id, screen, virtual=virtual, reap=reap) for part in parts]


def _refuse_another(part: Part, path: Path, *, virtual: bool) -> None:
    """Refuse a folder of another kind: rows of two scales, budgets or kinds of server are not repeats.

    Raises:
        InputError: the folder holds a run that was made otherwise.
    """
    if not RunFolder.is_run(path):
        return
    folder = RunFolder.open(path)
    kept, predicted = folder.whole_plan(), bool(folder.manifest.get(predicting.KIND))
    asked = rows.plan_json(part.plan, part.overrides, None)
    if predicted == virtual and kept.get("launches") == asked["launches"]:
        return
    raise InputError(
        f"another run of this part is here: {_told(kept, predicted=predicted)}; asked is"
        f" {_told(asked, predicted=virtual)}",
        where=str(path),
        fix="choose another --out, or give --scale, --budget and --simulate, --predict or --container as it was begun"
        " (a run of another rocbench, or of YAML that was changed since, is finished with that)",
    )


def _told(plan: Mapping[str, Any], *, predicted: bool) -> str:
    """Describe the kind and number of a plan's rows: `predicted, 57 runs, requests of up to 607 + 128
    tokens`.
    """
    kind = predicting.KIND if predicted else plan["sweep"]["server"]["kind"]
    count = sum(len(launch["runs"]) for launch in plan["launches"])
    loads = [cell["workload"] for server in plan["servers"] for cell in server["cells"]]
    most = {name: max((load[name]["mean"] for load in loads), default=0) for name in ("isl", "osl")}
    served = kind if predicted else f"{kind} servers"
    return f"{served}, {count:,} runs, requests of up to {most['isl']:,} + {most['osl']:,} tokens"


def _one(part: Part, path: Path, screen: Screen, *, virtual: bool, reap: bool) -> Done:
    if not RunFolder.is_run(path):
        if virtual:
            predicted = predicting.write(part.plan, path, part.overrides)
            return Done(part, predicted, exit_code(predicted.rows))
        options = RunOptions(path, overrides=part.overrides, reap=reap)
    else:
        folder = RunFolder.open(path, resume=True)
        if virtual:
            folder = predicting.resume(part.plan, folder)
        stands = _by_design(part, folder)
        if virtual or _complete(part, folder, stands):
            return Done(part, folder, exit_code(folder.rows))
        options = RunOptions(path, resume=True, overrides=part.overrides, reap=reap, accepted=stands)
    outcome = run_plan(part.plan, options, screen)
    return Done(part, RunFolder.open(outcome.folder), outcome.exit_code)


def _by_design(part: Part, folder: RunFolder) -> frozenset[Key]:
    """Return rows that only their method makes invalid."""
    return frozenset(row.key for row in folder.rows if VOIDING.intersection(row.codes) <= part.by_design)


def _complete(part: Part, folder: RunFolder, stands: frozenset[Key]) -> bool:
    """Return whether every run of the part that counts is on disk, and none must be repeated."""
    done = {row.key for row in folder.rows}
    done -= remaining.invalid(folder.rows) - stands
    return all(remaining.key_of_run(run) in done for _, run in runs_of(part.plan) if not run.discarded)


def folders(out: Path, parts: Sequence[Part]) -> list[tuple[Part, RunFolder]]:
    """Return the run folders of the parts that have been run.

    Raises:
        InputError: no part has been run.
    """
    found = [(part, RunFolder.open(out / part.id)) for part in parts if RunFolder.is_run(out / part.id)]
    if not found:
        raise InputError(
            "no part of the study has been run here", where=str(out), fix="bench study run first"
        )
    return found
