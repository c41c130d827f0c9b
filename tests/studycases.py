"""Parts of the packaged study, predicted in virtual time, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from rocbench.commands import planning
from rocbench.plan.expand import Overrides, Run
from rocbench.predict import predicting
from rocbench.study import folder, parts
from rocbench.study.folder import StudyFolder
from rocbench.study.parts import StudyPart

NAME = "mi325x-2603.10031"
HEADLINES = {"replay": "total_token_throughput", "corrected": "output_throughput"}
Row = dict[str, Any]


@cache
def study() -> StudyFolder:
    """The packaged study."""
    return folder.read(NAME)


@cache
def all_parts(*, small: bool = False) -> tuple[StudyPart, ...]:
    """All its parts."""
    return tuple(parts.parts(study(), planning.sources, small=small))


def part(id_: str) -> StudyPart:
    """One of them."""
    return next(found for found in all_parts() if found.id == id_)


def rows(id_: str, keep: Callable[[Run], bool]) -> list[Row]:
    """The predicted rows of those runs of a part, measured windows as short as a verdict allows."""
    plan = parts.only(part(id_).plan, keep)
    launches = tuple(replace(each, runs=tuple(map(_short, each.runs))) for each in plan.launches)
    return [found.row for found in predicting.predictions(replace(plan, launches=launches))]


def _short(run: Run) -> Run:
    load = run.cell.load.model_copy(update={"min_requests_per_user": 5.0, "duration_s": 20.0})
    return replace(run, cell=replace(run.cell, load=load))


def level(model: str, workload: str, *users: int, requests: int | None = None, repeats: int = 1):
    """A filter of runs."""

    def keep(run: Run) -> bool:
        cell = run.cell
        return (
            cell.key.startswith(model)
            and cell.workload.name == workload
            and cell.level.concurrency in users
            and run.repeat <= repeats
            and requests in (None, cell.load.max_requests)
        )

    return keep


def codes(row: Row) -> set[str]:
    """A row's reasons."""
    return set(row["reasons"].split(";"))


def plan_of(name: str, model: str | None = None):
    """A sweep of the study as it is predicted."""
    sweep = study().sweeps[name]
    made = predicting.plan(sweep, planning.sources(sweep, Overrides()))
    return made if model is None else parts.only(made, lambda run: run.cell.key.startswith(model))
