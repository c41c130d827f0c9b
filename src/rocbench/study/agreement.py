"""Published tables against predicted rows: the cell of each level, and the error of each figure. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rocbench.plan.expand import Cell, Group, Plan
from rocbench.study.schema import PublishedCurve, Tables
from rocbench.tables.row import Row, figures


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a published level in a plan."""

    group: Group
    cell: Cell


@dataclass(frozen=True, slots=True)
class PredictedLevel:
    """One published level with its prediction. Tokens/s and seconds; None where not published."""

    curve: PublishedCurve
    users: int
    total: float
    predicted_total: float
    output: float | None
    predicted_output: float
    p99_s: float | None
    predicted_p99_s: float
    in_flight: float
    """Mean requests in flight of the prediction, regardless of the declared number."""

    @property
    def error(self) -> float:
        """Error of total tokens/s: predicted / published - 1."""
        return self.predicted_total / self.total - 1

    @property
    def p99_error(self) -> float | None:
        """Error of p99 E2EL, likewise."""
        return None if self.p99_s is None else self.predicted_p99_s / self.p99_s - 1


def places(curve: PublishedCurve, plan: Plan) -> list[Place]:
    """Return the cells of a plan that match a curve's levels, in its order.

    Raises:
        ValueError: a level has no cell.
    """
    cells = {
        cell.level.concurrency: Place(group, cell)
        for group in plan.groups
        if group.model == curve.model and _same_aiter(curve, group)
        for cell in group.cells
        if cell.workload.name == curve.workload and cell.load.max_requests == curve.requests
    }
    missing = [users for users, *_ in curve.rows if users not in cells]
    if missing:
        raise ValueError(
            f"sweep {curve.sweep} has no cell of {curve.model}/{curve.workload} for these users: {missing}"
        )
    return [cells[users] for users, *_ in curve.rows]


def _same_aiter(curve: PublishedCurve, group: Group) -> bool:
    if curve.aiter is None or group.resolution is None:
        return True
    return group.resolution.facts.aiter == (curve.aiter == "on")


def predicted_levels(tables: Tables, plans: Mapping[str, Plan], rows: Iterable[Row]) -> list[PredictedLevel]:
    """Return every published level that was predicted, with the mean of its repeats.

    Args:
        tables: the published tables.
        plans: sweep name to the plan that was predicted.
        rows: `cells` rows of these plans.
    """
    by_cell: dict[str, list[Row]] = {}
    for row in rows:
        if row.figure("total_token_throughput") is not None:  # the server of others failed
            by_cell.setdefault(str(row["cell_id"]), []).append(row)
    return [
        PredictedLevel(
            curve,
            users,
            total,
            _mean(repeats, "total_token_throughput"),
            output,
            _mean(repeats, "output_throughput"),
            p99_s,
            _mean(repeats, "p99_e2el_ms") / 1e3,
            _mean(repeats, "achieved_concurrency"),
        )
        for curve in tables.curves
        if curve.sweep in plans
        for place, (users, total, output, p99_s) in zip(
            places(curve, plans[curve.sweep]), curve.rows, strict=True
        )
        if (repeats := by_cell.get(place.cell.cell_id))
    ]


def _mean(rows: Sequence[Row], name: str) -> float:
    values = figures(rows, name)
    return statistics.fmean(values) if values else math.nan


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """Absolute errors of total tokens/s and p99 E2EL over some levels, as shares."""

    name: str
    levels: int
    median: float
    maximum: float
    p99_median: float | None


def summaries(levels: Sequence[PredictedLevel]) -> list[ErrorSummary]:
    """Return the errors of the fitted and of the held-out levels, by model and together."""
    found = []
    for held_out, word in ((False, "fitted"), (True, "held out")):
        group = [level for level in levels if level.curve.held_out == held_out and not level.curve.peak]
        models = dict.fromkeys(level.curve.model for level in group)
        found += [
            summary(f"{word}, {model}", [level for level in group if level.curve.model == model])
            for model in models
        ]
        if group:
            found.append(summary(f"{word}, all", group))
    return found


def summary(name: str, levels: Sequence[PredictedLevel]) -> ErrorSummary:
    """Return the median and the maximum of |error|."""
    errors = [abs(level.error) for level in levels]
    p99 = [abs(error) for level in levels if (error := level.p99_error) is not None]
    return ErrorSummary(
        name, len(levels), statistics.median(errors), max(errors), statistics.median(p99) if p99 else None
    )
