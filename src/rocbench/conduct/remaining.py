"""Remaining runs of a plan, given the rows on disk. Pure.

A measurement is identified by its cell, its repeat, and its discarded mark. A measurement on disk is not
repeated, unless its row is invalid and the run was resumed. It then comes after all missing ones, so that a run
that is interrupted repeatedly makes progress. A discarded measurement is made only if its server is started again
and a repeat that counts follows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rocbench import stats
from rocbench.plan.planned import Launch, Plan, Run
from rocbench.settings.goals import Until
from rocbench.tables.row import Key, Row, figures, judged


def key_of_run(run: Run) -> Key:
    """Key of a run: cell, repeat, discarded."""
    return run.cell.cell_id, run.repeat, run.discarded


def invalid(rows: Iterable[Row]) -> set[Key]:
    """Keys of invalid rows, which a resumed run measures again."""
    return {row.key for row in rows if row.valid is False}


@dataclass(frozen=True, slots=True)
class Goal:
    """Number of repeats that each cell needs."""

    repeats: int
    until: Until | None
    together: Mapping[str, frozenset[str]]
    """Cell id to the cells that are repeated as often as it is: the arms at one load level."""

    @classmethod
    def of(cls, plan: Plan) -> Goal:
        """The goal of a plan."""
        arms: dict[tuple[str, ...], set[str]] = {}
        for group in plan.groups if plan.sweep.factors else ():
            for cell in group.cells:
                arms.setdefault((group.model, cell.workload.name, cell.level.label), set()).add(cell.cell_id)
        together = {cell_id: frozenset(cells) for cells in arms.values() for cell_id in cells}
        return cls(plan.sweep.repeats, plan.sweep.until, together)

    def missing(self, run: Run, rows: Sequence[Row], redo: set[Key]) -> bool:
        """True if a run that counts must still be made."""
        key = key_of_run(run)
        if any(row.key == key for row in rows):
            return key in redo
        if self.until is None or run.repeat <= self.repeats:
            return True
        cells = self.together.get(run.cell.cell_id, frozenset({run.cell.cell_id}))
        return not all(self.narrow(cell_id, rows) for cell_id in cells)

    def narrow(self, cell_id: str, rows: Sequence[Row]) -> bool:
        """True if a cell's repeats give a narrow enough interval."""
        assert self.until is not None
        repeats = judged(row for row in rows if row["cell_id"] == cell_id and not row.discarded)
        return stats.narrow_enough(figures(repeats, self.until.metric), self.until.interval_half_width)

    def todo(
        self,
        launch: Launch,
        rows: Sequence[Row],
        redo: set[Key],
        late: Collection[Key] = (),
        *,
        with_late: bool = True,
    ) -> list[Run]:
        """The due runs of a launch, in order; empty if its server need not start.

        Args:
            launch: one server with its runs in the order of the plan.
            rows: rows on disk.
            redo: keys of rows that are measured again.
            late: keys of runs that come after all others.
            with_late: include the late runs.
        """
        counted = [run for run in launch.runs if not run.discarded and self.missing(run, rows, redo)]
        first = _after_discarded(launch, [run for run in counted if key_of_run(run) not in late])
        last = _after_discarded(launch, [run for run in counted if key_of_run(run) in late])
        return first + [run for run in last if run not in first] if with_late else first


def _after_discarded(launch: Launch, counted: Sequence[Run]) -> list[Run]:
    """These runs and the discarded runs of their cells, in the order of the plan."""
    cells = {run.cell.cell_id for run in counted}
    return [run for run in launch.runs if (run.cell.cell_id in cells if run.discarded else run in counted)]
