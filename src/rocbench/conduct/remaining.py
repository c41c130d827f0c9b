"""Remaining runs of a plan, given the rows on disk. Pure.

A measurement is identified by its cell, its repeat, and its discarded mark. A measurement on disk is not
repeated, unless its row is invalid and the run was resumed. It then comes after all missing ones, so that a run
that is interrupted repeatedly makes progress. A discarded measurement is made only if its server is started again
and a repeat that counts follows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rocbench.errors import InputError
from rocbench.judgement import looks, until
from rocbench.judgement.ablate import ablate
from rocbench.judgement.compare import MATCH, plain_value
from rocbench.judgement.verdicts import Settings
from rocbench.plan.planned import Launch, Plan, Run
from rocbench.settings.goals import Until
from rocbench.tables.row import Key, Row, figures, judged, records


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
    factors: Mapping[str, Sequence[Any]]
    """Factors of an ablation; empty without one."""
    _seen: dict[Any, set[str]] = field(default_factory=dict, compare=False, repr=False)
    """Verdicts of each look: they take a second, and do not change."""

    @classmethod
    def of(cls, plan: Plan) -> Goal:
        """The goal of a plan."""
        arms: dict[tuple[str, ...], set[str]] = {}
        for group in plan.groups if plan.sweep.factors else ():
            for cell in group.cells:
                arms.setdefault((group.model, cell.workload.name, cell.level.label), set()).add(cell.cell_id)
        together = {cell_id: frozenset(cells) for cells in arms.values() for cell_id in cells}
        return cls(plan.sweep.repeats, plan.sweep.until, together, plan.sweep.factors)

    def missing(
        self, run: Run, rows: Sequence[Row], redo: set[Key], ended: Collection[str] | None = None
    ) -> bool:
        """True if a run that counts must still be made. `ended`: as `self.ended(rows)`, if known."""
        key = key_of_run(run)
        if any(row.key == key for row in rows):
            return key in redo
        if self.until is None or run.repeat <= self.repeats:
            return True
        return run.cell.cell_id not in (self.ended(rows) if ended is None else ended)

    def ended(self, rows: Sequence[Row]) -> set[str]:
        """Ids of cells that reached the goal of `until` at one of their looks, alone or with all their arms.

        A look sees the repeats up to its number, of all cells, so that later repeats of other cells do not undo it.
        """
        ended: set[str] = set()
        counted = [row for row in rows if not row.discarded]
        made = Counter(row["cell_id"] for row in counted)
        for look in looks.schedule(self.repeats, self.until.max) if self.until else ():
            due = {cell_id for cell_id, count in made.items() if count >= look}
            if not due - ended:
                break
            reached = due & self.reached([row for row in counted if row["repeat"] <= look])
            ended |= {cell_id for cell_id in reached if self.together.get(cell_id, frozenset()) <= reached}
        return ended

    def reached(self, rows: Sequence[Row]) -> set[str]:
        """Ids of cells that these rows bring to the goal of `until`."""
        return self._narrow(rows) if self.until and self.until.told is None else self._told(rows)

    def _told(self, rows: Sequence[Row]) -> set[str]:
        """Ids of cells at load levels where every effect is better, worse or same."""
        assert self.until is not None
        assert self.until.told is not None
        settings = Settings(
            metrics=self.until.metrics,
            min_effect=self.until.told,
            looks=len(looks.schedule(self.repeats, self.until.max)),
        )
        counted = [row for row in rows if not row.discarded]
        seen = tuple((row.key, row.valid, row.get("attempt")) for row in counted)
        if seen not in self._seen:
            self._seen[seen] = self._judged(counted, settings)
        return self._seen[seen]

    def _judged(self, counted: Sequence[Row], settings: Settings) -> set[str]:
        """Ids of cells at load levels without "cannot tell"."""
        try:
            table = ablate(pd.DataFrame([dict(row) for row in counted]), self.factors, settings).table
        except InputError:  # no two arms are measured yet
            return set()
        levels = [name for name in MATCH if name in table]
        places = [_level(line, levels) for line in records(table)]
        untold = {
            place for place, word in zip(places, table["verdict"], strict=True) if word == "cannot tell"
        }
        return {row["cell_id"] for row in counted if _level(row, levels) in set(places) - untold}

    def _narrow(self, rows: Iterable[Row]) -> set[str]:
        """Ids of cells with a narrow enough interval from at least 3 repeats."""
        assert self.until is not None
        assert self.until.interval_half_width is not None
        cells: dict[str, list[Row]] = {}
        for row in judged(row for row in rows if not row.discarded):
            cells.setdefault(row["cell_id"], []).append(row)
        found = until.intervals([figures(repeats, self.until.metric) for repeats in cells.values()])
        goal = self.until.interval_half_width
        return {
            cell_id
            for cell_id, interval in zip(cells, found, strict=True)
            if interval.n >= looks.FIRST and interval.relative_half_width <= goal
        }

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
        ended = self.ended(rows)
        counted = [run for run in launch.runs if not run.discarded and self.missing(run, rows, redo, ended)]
        first = _after_discarded(launch, [run for run in counted if key_of_run(run) not in late])
        last = _after_discarded(launch, [run for run in counted if key_of_run(run) in late])
        return first + [run for run in last if run not in first] if with_late else first


def _level(line: Row, names: Sequence[str]) -> tuple[Any, ...]:
    """Values of the columns that name a load level."""
    return tuple(plain_value(line.get(name)) for name in names)


def _after_discarded(launch: Launch, counted: Sequence[Run]) -> list[Run]:
    """These runs and the discarded runs of their cells, in the order of the plan."""
    cells = {run.cell.cell_id for run in counted}
    return [run for run in launch.runs if (run.cell.cell_id in cells if run.discarded else run in counted)]
