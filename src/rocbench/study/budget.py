"""The questions of a study that fit into a budget of node time, in the order of what they decide. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rocbench.plan.expand import Launch, Run
from rocbench.study import hours
from rocbench.study.hours import NodeOf, Time
from rocbench.study.parts import Part, only
from rocbench.study.schema import Question


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with its cost in addition to the questions before it."""

    question: Question
    added: Time
    kept: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """The questions that fit."""

    choices: tuple[Choice, ...]
    parts: tuple[Part, ...]
    """Parts with the runs that are kept."""
    total: Time


def choose(
    parts: Sequence[Part], questions: Sequence[Question], budget_s: float, nodes: Callable[[Part], NodeOf]
) -> Chosen:
    """Take questions in order while each fits; skip a question that does not fit, and try the next."""
    priced = [_Priced(part, nodes(part)) for part in parts]
    total = Time()
    choices = []
    for question in questions:
        matching = [each for each in priced if _asked(question, each.part)]
        added = sum((each.cost(question) for each in matching), Time())
        kept = added.runs > 0 and total.total_s + added.total_s <= budget_s
        if kept:
            total += added
            for each in matching:
                each.keep(question)
        choices.append(Choice(question, added, kept))
    return Chosen(tuple(choices), tuple(part for each in priced if (part := each.left()) is not None), total)


def _asked(question: Question, part: Part) -> bool:
    return (question.method, question.variant, question.sweep) == (part.method, part.variant, part.sweep)


class _Priced:
    """A part, the time of each of its runs and starts, and which of them are kept."""

    def __init__(self, part: Part, node_of: NodeOf) -> None:
        self.part = part
        nodes = {group.server_id: node_of(group) for group in part.plan.groups}
        self._time = {
            cell.cell_id: hours.of_cell(cell, nodes[group.server_id])
            for group in part.plan.groups
            for cell in group.cells
        }
        self._kept: set[tuple[int, str, int, bool]] = set()

    def _wanted(self, question: Question) -> list[tuple[int, Launch, Run]]:
        return [
            (number, launch, run)
            for number, launch in enumerate(self.part.plan.launches)
            for run in launch.runs
            if _matches(question, launch, run) and _key(number, run) not in self._kept
        ]

    def cost(self, question: Question) -> Time:
        """Return what a question adds: its runs, and the starts that no kept run needs yet."""
        wanted = self._wanted(question)
        started = {number for number, *_ in self._kept}
        starts = {number: launch for number, launch, _ in wanted if number not in started}
        loads = (Time(load_s=hours.load_s(launch.group), loads=1) for launch in starts.values())
        return sum(loads, sum((self._time[run.cell.cell_id] for *_, run in wanted), Time()))

    def keep(self, question: Question) -> None:
        """Keep a question's runs."""
        self._kept |= {_key(number, run) for number, _, run in self._wanted(question)}

    def left(self) -> Part | None:
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
