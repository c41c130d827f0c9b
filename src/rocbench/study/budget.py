"""The questions of a study that fit into a budget of node time, most decisive first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rocbench.plan.expand import Launch, Run
from rocbench.study import hours
from rocbench.study.hours import NodeOf, NodeTime
from rocbench.study.parts import StudyPart, only
from rocbench.study.schema import Question


@dataclass(frozen=True, slots=True)
class PricedQuestion:
    """A question with its cost in addition to the kept questions before it."""

    question: Question
    added: NodeTime
    kept: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """The questions that fit, and those that do not."""

    choices: tuple[PricedQuestion, ...]
    parts: tuple[StudyPart, ...]
    """Parts with the runs that are kept."""
    total: NodeTime


def choose(
    parts: Sequence[StudyPart],
    questions: Sequence[Question],
    budget_s: float,
    nodes: Callable[[StudyPart], NodeOf],
) -> Selection:
    """Take questions in order while each fits; skip a question that does not fit, and try the next."""
    priced = [_PricedPart(part, nodes(part)) for part in parts]
    total = NodeTime()
    choices = []
    for question in questions:
        place = (question.method, question.variant, question.sweep)
        matching = [
            each for each in priced if (each.part.method, each.part.variant, each.part.sweep) == place
        ]
        added = sum((each.cost(question) for each in matching), NodeTime())
        kept = added.runs > 0 and total.total_s + added.total_s <= budget_s
        if kept:
            total += added
            for each in matching:
                each.keep(question)
        choices.append(PricedQuestion(question, added, kept))
    kept_parts = tuple(part for each in priced if (part := each.kept_part()) is not None)
    return Selection(tuple(choices), kept_parts, total)


class _PricedPart:
    """A part, the time of each of its runs, and the runs that are kept."""

    def __init__(self, part: StudyPart, node_of: NodeOf) -> None:
        self.part = part
        nodes = {group.server_id: node_of(group) for group in part.plan.groups}
        self._time = {
            cell.cell_id: hours.of_cell(cell, nodes[group.server_id])
            for group in part.plan.groups
            for cell in group.cells
        }
        self._kept: set[tuple[int, str, int, bool]] = set()

    def _new_runs(self, question: Question) -> list[tuple[int, Launch, Run]]:
        """Return a question's runs that are not kept yet, with the number of their launch."""
        return [
            (number, launch, run)
            for number, launch in enumerate(self.part.plan.launches)
            for run in launch.runs
            if _matches(question, launch, run) and _key(number, run) not in self._kept
        ]

    def cost(self, question: Question) -> NodeTime:
        """Return the time that a question adds: its runs, and the starts that no kept run needs yet."""
        runs = self._new_runs(question)
        started = {number for number, *_ in self._kept}
        starts = {number: launch for number, launch, _ in runs if number not in started}
        times = [self._time[run.cell.cell_id] for *_, run in runs]
        return sum([*times, *(hours.of_start(launch.group) for launch in starts.values())], NodeTime())

    def keep(self, question: Question) -> None:
        """Keep a question's runs."""
        self._kept |= {_key(number, run) for number, _, run in self._new_runs(question)}

    def kept_part(self) -> StudyPart | None:
        """Return the part with its kept runs; None if there is none."""
        if not self._kept:
            return None
        cells = {(cell, repeat, discarded) for _, cell, repeat, discarded in self._kept}
        plan = only(self.part.plan, lambda run: (run.cell.cell_id, run.repeat, run.discarded) in cells)
        return replace(self.part, plan=plan)


def _key(number: int, run: Run) -> tuple[int, str, int, bool]:
    return number, run.cell.cell_id, run.repeat, run.discarded


def _matches(question: Question, launch: Launch, run: Run) -> bool:
    users = run.cell.level.concurrency
    return (
        run.repeat <= question.repeats
        and (not question.models or launch.group.model in question.models)
        and (not question.workloads or run.cell.workload.name in question.workloads)
        and (not question.concurrency or users in question.concurrency)
    )
