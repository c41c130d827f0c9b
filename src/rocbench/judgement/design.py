"""What varied between two sides: which levels of variation their repeats sample, and which they do not. Pure.

Figures vary at levels, each inside the next: requests within a window, repeats on one server, server starts, runs, nights
(and nodes, which comparisons keep equal). A difference of two sides is judged against the level at which they differ:

    both arms in one run, a server start of each in every repeat    pairs of starts: the night cancels
    both arms in one run on the same servers                        pairs of repeats: night and start cancel
    both arms in one run, one server start each                     one start against one start
    runs that alternate                                             pairs of runs
    runs of their own                                               nights against nights

One unit against one unit shows no variation, however many repeats each has: the unit is what varied, not the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from rocbench.tables.row import Row, text
from rocbench.units import count_of

Unit = Literal[
    "pair of server starts", "pair of repeats", "pair of runs", "pair of nights", "night", "run", "repeat"
]

NIGHT_GAP_S = 6 * 3600
"""Runs that start further apart, in seconds, belong to different nights."""
LEAST_PAIRS = 3
"""Pairs that a verdict needs: of two pairs, both sides have equal luck once in 8 if a server has two states."""
LEAST_FREEDOM = 5
"""Degrees of freedom of nights that a verdict needs, for the same reason: 7 nights together for two sides."""
LOPSIDED = 0.5
"""Net order of pairs, over their number, from which it does not alternate: one side came first in more than three of four."""

_FRESH = frozenset({"per_repeat", "per_cell"})
"""Values of `restart` with which a repeat has a server start of its own."""
ONE_START = "each side ran on one server start"


@dataclass(frozen=True, slots=True)
class Design:
    """How two sides were measured: the unit, each side's units in the order of time, and what they cannot show."""

    unit: Unit
    paired: bool
    units: tuple[tuple[Hashable, ...], tuple[Hashable, ...]]
    of: Callable[[Row, int], Hashable]
    """Maps a row and its side (0 or 1) to its unit."""
    missing: str = ""
    """The level that the sides do not sample, as a clause; empty if they sample it."""
    in_sequence: bool = False
    """The sides, or those of a pair, ran one after the other within one night: a drift over time can look like an effect."""

    @property
    def pairs(self) -> int:
        """Number of pairs; 0 if the units are not paired."""
        return len(self.units[0]) if self.paired else 0

    @property
    def plural(self) -> str:
        """The units as text: `pairs of server starts`, `nights`."""
        head, of, rest = self.unit.partition(" of ")
        return f"{head}s{of}{rest}"

    @property
    def single(self) -> str:
        """What each figure of a series of units is of: a night, a run, or a repeat."""
        if self.paired and self.unit in {"night", "pair of nights"}:
            return "night"
        return "run" if self.unit == "pair of runs" else "repeat"

    @property
    def level(self) -> str:
        """What further runs of the same cells sample: nights, or runs if both sides ran in one night."""
        return "run" if self.unit == "run" else "night"

    def describe(self) -> str:
        """The design as text: `3 pairs of server starts`, `1 night against 1`."""
        if self.missing == ONE_START:
            return "1 server start against 1"
        a, b = map(len, self.units)
        return count_of(a, self.unit, self.plural) + ("" if self.paired else f" against {b}")


def lopsided(gaps: Iterable[float]) -> bool:
    """True if one side came first in most pairs, so that a drift over time looks like an effect.

    Args:
        gaps: by how much the other side came after the base in each pair, as a time or only as a sign.
    """
    known = [gap for gap in gaps if not math.isnan(gap)]
    return abs(sum(known)) > LOPSIDED * sum(map(abs, known))


def seconds(row: Row) -> float | None:
    """Start of a row's window in seconds since 1970; None if unknown."""
    try:
        return datetime.fromisoformat(text(row.get("started_at"))).timestamp()
    except ValueError:
        return None


def run_of(row: Row, side: object) -> Hashable:
    """The run of a row; rows that name none belong to one run of their side."""
    return text(row.get("run_id")) or f"run {side}"


def nights(runs: Iterable[tuple[Hashable, float | None]]) -> dict[Hashable, int]:
    """The night of each run, counted from 0: a gap in the runs' starts begins another; an unknown time is a night alone."""
    first: dict[Hashable, float] = {}
    unknown: dict[Hashable, None] = {}
    for run, start in runs:
        if start is None:
            unknown[run] = None
        else:
            first[run] = min(start, first.get(run, start))
    found: dict[Hashable, int] = {}
    night, before = -1, float("-inf")
    for run, start in sorted(first.items(), key=lambda item: item[1]):
        night += start - before > NIGHT_GAP_S
        found[run], before = night, start
    for run in unknown:
        if run not in found:
            night += 1
            found[run] = night
    return found


def design(a: Sequence[Sequence[Row]], b: Sequence[Sequence[Row]]) -> Design:
    """The design of a comparison.

    Args:
        a: the rows of each cell that both sides have, base first.
        b: the rows of the same cells of the other side.
    """
    sides = [[row for cell in side for row in cell] for side in (a, b)]
    if all(row.origin == "predicted" for side in sides for row in side):
        return _repeats(sides)
    runs = [list(dict.fromkeys(run_of(row, s) for row in side)) for s, side in enumerate(sides)]
    if set(runs[0]) == set(runs[1]):
        return _in_one_run(a, b, sides)
    when = nights((run_of(row, s), seconds(row)) for s, side in enumerate(sides) for row in side)
    ordered = [tuple(sorted(each, key=lambda run: _order(run, sides))) for each in runs]
    if set(runs[0]) & set(runs[1]):
        return Design(
            "run", False, (ordered[0], ordered[1]), run_of, "some runs have both sides, and others only one"
        )
    found = [sorted({when[run] for run in each}) for each in runs]
    if found[0] == found[1] and len(found[0]) > 1:
        units = tuple(found[0]), tuple(found[1])
        return Design("night", True, units, lambda row, s: when[run_of(row, s)], in_sequence=True)
    if found[0] == found[1]:
        return _in_one_night(ordered, sides)
    if not set(found[0]) & set(found[1]) and _alternate(found[0], found[1]):
        places = [{night: i for i, night in enumerate(each)} for each in found]
        count = tuple(range(len(found[0])))
        return Design("pair of nights", True, (count, count), lambda row, s: places[s][when[run_of(row, s)]])
    return Design("night", False, (tuple(found[0]), tuple(found[1])), lambda row, s: when[run_of(row, s)])


def _repeats(sides: Sequence[Sequence[Row]]) -> Design:
    """Predicted rows: no server runs, so that only the seed of a repeat varies."""

    def of(row: Row, side: int) -> Hashable:
        return run_of(row, side), row.get("repeat")

    a, b = (tuple(dict.fromkeys(of(row, s) for row in side)) for s, side in enumerate(sides))
    return Design("repeat", False, (a, b), of)


def _in_one_run(
    a: Sequence[Sequence[Row]], b: Sequence[Sequence[Row]], sides: Sequence[Sequence[Row]]
) -> Design:
    """Both sides are arms of the same runs."""

    def of(row: Row, _side: int) -> tuple[Hashable, Any]:
        return run_of(row, 0), row.get("repeat")

    first, second = ({of(row, 0): None for row in side} for side in sides)
    units = tuple(
        sorted((unit for unit in first if unit in second), key=lambda unit: (str(unit[0]), unit[1] or 0))
    )
    same = all(_starts(x) & _starts(y) for x, y in zip(a, b, strict=True))
    if not same and all(_one_start(cell) for cell in (*a, *b)):
        runs = tuple(dict.fromkeys(run_of(row, 0) for row in sides[0]))
        missing = "" if len(runs) > 1 else ONE_START
        return Design(
            "pair of runs", True, (runs, runs), lambda row, _side: run_of(row, 0), missing, in_sequence=True
        )
    in_blocks = any(_in_blocks(x, y) for x, y in zip(a, b, strict=True))
    unit: Unit = "pair of server starts" if not same and any(map(_starts, a)) else "pair of repeats"
    missing = "the sides were not interleaved: one ran after the other" if in_blocks else ""
    return Design(unit, True, (units, units), of, missing, in_sequence=in_blocks)


def _starts(rows: Sequence[Row]) -> set[tuple[Hashable, str, Any]]:
    """The server starts of rows: by the server's name, and by the repeat if every repeat started it."""
    return {
        (
            run_of(row, 0),
            text(row.get("server_id")),
            row.get("repeat") if row.get("restart") in _FRESH else None,
        )
        for row in rows
        if row.get("server_id")
    }


def _one_start(rows: Sequence[Row]) -> bool:
    """True if the repeats of a cell in a run share one server start, as far as rows tell."""
    by_run: dict[Hashable, list[Row]] = {}
    for row in rows:
        by_run.setdefault(run_of(row, 0), []).append(row)
    return any(len(each) > 1 for each in by_run.values()) and all(
        len(each) == 1 or len(_starts(each)) == 1 or (not _starts(each) and each[0].get("restart") == "never")
        for each in by_run.values()
    )


def _in_blocks(a: Sequence[Row], b: Sequence[Row]) -> bool:
    """True if, within a run, the repeats of both sides do not come in the order of time."""
    rows = sorted((*a, *b), key=lambda row: (str(run_of(row, 0)), text(row.get("started_at"))))
    if not all(row.get("started_at") for row in rows):
        return False
    order = [(str(run_of(row, 0)), row.get("repeat") or 0) for row in rows]
    return order != sorted(order)


def _in_one_night(runs: Sequence[tuple[Hashable, ...]], sides: Sequence[Sequence[Row]]) -> Design:
    """Separate runs of one night: pairs if they alternate, else one after the other."""
    order = sorted(
        ((_order(run, sides), s) for s, each in enumerate(runs) for run in each), key=lambda each: each[0]
    )
    pairs = [{order[i][1], order[i + 1][1]} for i in range(0, len(order) - 1, 2)]
    if len(runs[0]) == len(runs[1]) > 1 and all(pair == {0, 1} for pair in pairs):
        places = [{run: i for i, run in enumerate(each)} for each in runs]
        count = tuple(range(len(runs[0])))
        units = count, count
        return Design("pair of runs", True, units, lambda row, s: places[s][run_of(row, s)], in_sequence=True)
    missing = "" if min(map(len, runs)) > 1 else "one run on each side does not show how far runs differ"
    return Design("run", False, (runs[0], runs[1]), run_of, missing, in_sequence=True)


def _order(run: Hashable, sides: Sequence[Sequence[Row]]) -> tuple[Any, ...]:
    starts = [
        text(row.get("started_at")) for s, side in enumerate(sides) for row in side if run_of(row, s) == run
    ]
    return min(starts, default=""), str(run)


def _alternate(a: Sequence[int], b: Sequence[int]) -> bool:
    """True if nights of both sides come in pairs: A B A B, or A B B A."""
    order = sorted([(night, 0) for night in a] + [(night, 1) for night in b])
    return len(a) == len(b) > 1 and all(
        {order[i][1], order[i + 1][1]} == {0, 1} for i in range(0, len(order) - 1, 2)
    )
