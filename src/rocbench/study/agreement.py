"""Published tables against predicted rows: the cell of each level, and the error of each figure. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rocbench.plan.expand import Cell, Group, Plan
from rocbench.study.schema import Curve, Tables
from rocbench.tables.row import Row, figures


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a published level in a plan."""

    curve: Curve
    users: int
    group: Group
    cell: Cell


@dataclass(frozen=True, slots=True)
class Line:
    """One published level with its prediction. Tokens/s and seconds; None where not published."""

    curve: Curve
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


def places(curve: Curve, plan: Plan) -> list[Place]:
    """Return the cells of a plan that match a curve's levels, in its order.

    Raises:
        ValueError: a level has no cell.
    """
    cells = {
        cell.level.concurrency: Place(curve, cell.level.concurrency or 0, group, cell)
        for group in plan.groups
        if group.model == curve.model and _same_aiter(curve, group)
        for cell in group.cells
        if cell.workload.name == curve.workload and cell.load.max_requests == curve.requests
    }
    missing = [users for users, *_ in curve.rows if users not in cells]
    if missing:
        raise ValueError(f"{curve.sweep} has no cell for {curve.model}/{curve.workload} at {missing}")
    return [cells[users] for users, *_ in curve.rows]


def _same_aiter(curve: Curve, group: Group) -> bool:
    if curve.aiter is None or group.resolution is None:
        return True
    return group.resolution.facts.aiter == (curve.aiter == "on")


def lines(tables: Tables, plans: Mapping[str, Plan], rows: Iterable[Row]) -> list[Line]:
    """Return every published level with the mean of its predicted repeats.

    Args:
        tables: the published ones.
        plans: sweep name to the plan that was predicted.
        rows: `cells` rows of all of them.
    """
    by_cell: dict[str, list[Row]] = {}
    for row in rows:
        if row.figure("total_token_throughput") is None:  # its server failed
            continue
        by_cell.setdefault(str(row["cell_id"]), []).append(row)
    found = []
    for curve in tables.curves:
        if curve.sweep not in plans:
            continue
        for place, (_, total, output, p99_s) in zip(
            places(curve, plans[curve.sweep]), curve.rows, strict=True
        ):
            mine = by_cell.get(place.cell.cell_id, [])
            if mine:
                found.append(_line(place, total, output, p99_s, mine))
    return found


def _line(place: Place, total: float, output: float | None, p99_s: float | None, rows: Sequence[Row]) -> Line:
    return Line(
        place.curve,
        place.users,
        total,
        _mean(rows, "total_token_throughput"),
        output,
        _mean(rows, "output_throughput"),
        p99_s,
        _mean(rows, "p99_e2el_ms") / 1e3,
        _mean(rows, "achieved_concurrency"),
    )


def _mean(rows: Sequence[Row], name: str) -> float:
    values = figures(rows, name)
    return statistics.fmean(values) if values else math.nan


@dataclass(frozen=True, slots=True)
class Summary:
    """Errors of total tokens/s over some lines."""

    name: str
    levels: int
    median: float
    largest: float
    p99_median: float | None


def summaries(found: Sequence[Line]) -> list[Summary]:
    """Return the errors of the fitted and of the held-out levels, by model and together."""
    made = []
    for held_out, word in ((False, "fitted"), (True, "held out")):
        mine = [line for line in found if line.curve.held_out == held_out and not line.curve.peak]
        models = dict.fromkeys(line.curve.model for line in mine)
        made += [summary(f"{word}, {model}", [x for x in mine if x.curve.model == model]) for model in models]
        if mine:
            made.append(summary(f"{word}, all", mine))
    return made


def summary(name: str, found: Sequence[Line]) -> Summary:
    """Return the median and the maximum of |error|."""
    errors = [abs(line.error) for line in found]
    p99 = [abs(error) for line in found if (error := line.p99_error) is not None]
    return Summary(
        name, len(found), statistics.median(errors), max(errors), statistics.median(p99) if p99 else None
    )
