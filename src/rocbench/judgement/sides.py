"""Two sides of a comparison as figures by unit, repeat and cell, and their differences in every metric. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rocbench import stats
from rocbench.judgement import serial, spread
from rocbench.judgement.design import LEAST_FREEDOM, LEAST_PAIRS, Design, lopsided, nights, run_of, seconds
from rocbench.judgement.spread import Difference, Pattern
from rocbench.records import FloatArray
from rocbench.tables.row import Row, text
from rocbench.units import count_of

Cells = Sequence[Sequence[Row]]
"""The rows of each cell of one side."""


@dataclass(frozen=True, slots=True)
class Found:
    """The difference of two sides in one cell and metric: logarithms, or shares of the base's mean."""

    cell: int
    """Index of the cell in the arrays below, which hold all cells of its server."""

    difference: Difference
    within: Difference
    """The same judged by the repeats alone: too sure, because it leaves out the levels above them."""
    repeats: spread.Scatter
    """The variance of a difference of one repeat of each side, without any drift."""
    linear: tuple[bool, ...]
    """True for a cell in which a figure is 0 and has no logarithm."""
    missing: str
    """Why there is no interval; empty if there is one."""
    correlation: float
    """Lag-1 correlation of units; NaN if it cannot be estimated."""
    inflation: float
    """Factor of the variance because of it."""
    past: int
    """Past nights that show how far nights differ."""
    series: tuple[FloatArray, ...]
    """Logarithms of this server's cells in the order of time, each of shape (units or repeats, cells)."""

    def effect(self, confidence: float, *, within: bool = False) -> stats.Effect:
        """The relative change, judged by what varied between the sides, or by the repeats alone."""
        effect = (self.within if within else self.difference).effect(self.cell, confidence)
        return effect if self.linear[self.cell] else effect.relative()

    @property
    def unit_sd(self) -> float:
        """Standard deviation of a pair's difference, or of one night's figure."""
        return math.sqrt(float(self.difference.unit.variance[self.cell]))

    @property
    def unit_df(self) -> float:
        """Its degrees of freedom."""
        return float(self.difference.unit.plain_df[self.cell])

    @property
    def repeat_sd(self) -> float:
        """Standard deviation of a difference of one repeat of each side."""
        return math.sqrt(float(self.repeats.variance[self.cell]))

    @property
    def repeat_df(self) -> float:
        """Its degrees of freedom."""
        return float(self.repeats.df[self.cell])

    @property
    def pooling(self) -> float:
        """Degrees of freedom that each further unit adds."""
        return float(self.difference.unit.pooling[self.cell])


@dataclass(frozen=True, slots=True)
class Figures:
    """One metric: for each side and unit an array of shape (repeats, cells), NaN where absent."""

    sides: tuple[list[FloatArray], list[FloatArray]]
    past: tuple[list[list[FloatArray]], list[list[FloatArray]]]
    """For each side groups of past nights; the first group was measured like the side itself."""
    times: tuple[list[FloatArray], list[FloatArray]]
    linear: tuple[bool, ...]


def differences(
    a: Cells, b: Cells, design: Design, metrics: Sequence[str], past: tuple[Cells, Cells]
) -> list[dict[str, Found]]:
    """The differences of two sides, for each cell by metric. Cells that shared a server are judged together.

    Args:
        a: the rows of each cell, base first.
        b: the rows of the same cells.
        design: how they were measured.
        metrics: columns of `cells`.
        past: rows of the same cells, as on each side, from other runs: they show how far nights differ.
    """
    servers: dict[Hashable, list[int]] = {}
    for c, rows in enumerate(zip(a, b, strict=True)):
        servers.setdefault(
            tuple((row.get("model"), row.server) for each in rows for row in each[:1]), []
        ).append(c)
    found: list[dict[str, Found]] = [{} for _ in a]
    for cells in servers.values():
        sides = [[each[c] for c in cells] for each in (a, b, *past)]
        figures = {m: _figures(sides[0], sides[1], design, m, (sides[2], sides[3])) for m in metrics}
        together = of_one_server(figures, design)
        for place, c in enumerate(cells):
            found[c] = {metric: replace(each, cell=place) for metric, each in together.items()}
    return found


def of_one_server(figures: dict[str, Figures], design: Design) -> dict[str, Found]:
    """The differences of cells that shared a server, by metric; `Found.cell` is the first."""
    if design.paired:
        groups = [[_unit_means(side) for side in each.sides] for each in figures.values()]
    else:
        groups = [
            [unit for side in each.sides for unit in side]
            + [night for side in each.past for group in side for night in group]
            for each in figures.values()
        ]
    known = dict(zip(figures, spread.patterns(groups), strict=True))
    judge = _paired if design.paired else _unpaired
    return judge(figures, design, known)


def _paired(
    figures: dict[str, Figures], design: Design, patterns: dict[str, Pattern | None]
) -> dict[str, Found]:
    pairs = {
        metric: _unit_means(each.sides[1]) - _unit_means(each.sides[0]) for metric, each in figures.items()
    }
    rho, error = serial.correlation([spread.rest(each) for each in pairs.values()])
    factor = serial.inflation(rho, error, design.pairs)
    found = {}
    for metric, each in figures.items():
        difference = spread.paired(pairs[metric], patterns[metric], factor)
        few = np.sum(~np.isnan(pairs[metric]), axis=0) < LEAST_PAIRS
        difference = replace(difference, error2=np.where(few, stats.NAN, difference.error2))
        missing = design.missing
        if not missing and design.pairs < LEAST_PAIRS:
            missing = f"{design.describe()}: at least {LEAST_PAIRS} are needed"
        if design.in_sequence:
            difference = _with_drift(difference, each, paired=True)
            missing = missing or _order_missing(each, design)
        found[metric] = Found(
            0,
            _without(difference) if missing else difference,
            difference if not missing else _within(each, design, patterns[metric]),
            _repeats(each, patterns[metric]),
            each.linear,
            missing,
            rho,
            factor,
            0,
            tuple(_unit_means(side) for side in each.sides),
        )
    return found


def _unpaired(
    figures: dict[str, Figures], design: Design, patterns: dict[str, Pattern | None]
) -> dict[str, Found]:
    found = {}
    alike = _alike(figures, design)
    for metric, each in figures.items():
        means = [_unit_means(side) for side in each.sides]
        together = _together(each)
        groups = [_unit_means(group) for group in together]
        noise = [spread.noise_within(side, patterns[metric]) for side in each.sides]
        scattered = [unit for group in together if len(group) > 1 for unit in group]
        fewer = [spread.shortage(side, scattered or side, patterns[metric]) for side in each.sides]
        difference = spread.two_samples(
            means[0],
            means[1],
            groups,
            (noise[0], noise[1]),
            patterns[metric],
            (fewer[0], fewer[1]),
            alike,
        )
        if design.in_sequence:
            difference = _with_drift(difference, each)
        nights_seen = sum(len(group) for side in each.past for group in side)
        freedom = sum(max(len(group) - 1, 0) for group in groups)
        missing = _missing_nights(design, nights_seen, freedom)
        found[metric] = Found(
            0,
            _without(difference) if missing else difference,
            _within(each, design, patterns[metric]) if missing else difference,
            _repeats(each, patterns[metric]),
            each.linear,
            missing,
            alike.correlation,
            max(alike.inflation),
            nights_seen,
            tuple(unit for side in each.sides for unit in side),
        )
    return found


def _together(figures: Figures) -> list[list[FloatArray]]:
    """Groups of units with the same true figures, in the order of time: each side's with its past."""
    groups: list[list[FloatArray]] = []
    for own, before in zip(figures.sides, figures.past, strict=True):
        # The first group may be empty: no past night may be of tonight's vLLM version.
        groups += [[*(before[0] if before else ()), *own], *before[1:]]
    return groups


def _alike(figures: dict[str, Figures], design: Design) -> spread.Alike:
    """What it costs that successive nights are alike.

    Only what a night does to one cell alone can show it: what it does to all cells is one short series. A side of one
    night is as far from the other as nights are.
    """
    if design.unit == "repeat":
        return spread.Alike()
    series = [
        spread.rest(_unit_means(group))
        for each in figures.values()
        for group in _together(each)
        if len(group) > 1
    ]
    rho, error = serial.correlation(series)
    behind = [len(each) for each in series]
    a, b = (
        serial.inflation(rho, error, len(side), behind) if len(side) > 1 else 1.0 for side in design.units
    )
    return spread.Alike(rho, (a, b), serial.freedom(rho, error) if max(a, b) > 1 else 1.0)


def _missing_nights(design: Design, past: int, freedom: int) -> str:
    """Why nights (or runs, or repeats) give no interval; empty if they do."""
    if design.unit == "repeat":
        return "" if min(map(len, design.units)) > 1 else "one repeat shows no variation"
    if freedom >= LEAST_FREEDOM:
        return ""
    seen = f" and {count_of(past, f'past {design.level}')}" if past else ""
    return f"{design.describe()}{seen} cannot show how far {design.level}s differ"


def _without(difference: Difference) -> Difference:
    """The estimate without an interval."""
    nothing = np.full_like(difference.estimate, stats.NAN)
    return replace(difference, error2=nothing, df=nothing)


def _within(figures: Figures, design: Design, pattern: Pattern | None) -> Difference:
    """The difference as repeats alone judge it, with the drift between sides that ran one after the other."""
    estimate = _unit_mean(figures.sides[1]) - _unit_mean(figures.sides[0])
    noise = [spread.noise_within(side, pattern) for side in figures.sides]
    counts = [max(len(side), 1) for side in figures.sides]
    error2, df = spread.added(
        noise[0].variance / counts[0], noise[0].df, noise[1].variance / counts[1], noise[1].df
    )
    found = Difference(estimate, error2, df, _repeats(figures, pattern))
    return _with_drift(found, figures) if design.in_sequence else found


def _repeats(figures: Figures, pattern: Pattern | None) -> spread.Scatter:
    """The variance of a difference of one repeat of each side; a side without repeats is taken to vary as the other."""
    a, b = (spread.noise_of_repeats(side, pattern) for side in figures.sides)
    a, b = a.or_else(b), b.or_else(a)
    variance, df = spread.added(a.variance, a.df, b.variance, b.df)
    return spread.Scatter(variance, df, df, np.ones_like(df), stats.NAN)


def _with_drift(difference: Difference, figures: Figures, *, paired: bool = False) -> Difference:
    """A difference whose error carries the drift between the sides, by the drift within them."""
    slope, slope_error2, freedom = _drift(figures)
    gap_s = _gap(figures, paired=paired)
    if math.isnan(slope) or math.isnan(gap_s):
        return difference
    more = np.full_like(difference.estimate, gap_s**2 * (slope**2 + slope_error2))
    error2, df = spread.added(difference.error2, difference.df, more, np.full_like(more, freedom))
    return replace(difference, error2=error2, df=df)


def _order_missing(figures: Figures, design: Design) -> str:
    """Why the order within nights makes a drift look like an effect; empty if it alternates, or repeats show the drift."""
    if design.unit != "night" or not lopsided(_pair_gaps(figures)) or not math.isnan(_drift(figures)[0]):
        return ""
    return "the same side ran first in most nights, and single repeats show no drift: alternate the order"


def _gap(figures: Figures, *, paired: bool) -> float:
    """Seconds from the base to the other side, on average; near 0 for pairs whose order alternates."""
    if not paired:
        ends = [float(spread.means(np.concatenate([t.ravel() for t in times]))) for times in figures.times]
        return ends[1] - ends[0]
    return float(spread.means(_pair_gaps(figures)))


def _pair_gaps(figures: Figures) -> FloatArray:
    """Seconds from the base to the other side in each pair."""
    base, other = (spread.means(_unit_means(times), axis=1) for times in figures.times)
    return np.asarray(other - base)


def _drift(figures: Figures) -> tuple[float, float, float]:
    """Slope of all cells together per second, its squared error and its degrees of freedom.

    The mean over cells moves with the noise that cells share, so its own scatter around the line gives the error.
    """
    series = []
    for side, times in zip(figures.sides, figures.times, strict=True):
        for unit, when in zip(side, times, strict=True):
            if len(unit) > 1 and not np.isnan(when).all():
                shift, place = (spread.means(spread.centred(each), axis=1) for each in (unit, when))
                used = ~(np.isnan(shift) | np.isnan(place))
                series.append((shift[used], place[used]))
    bottom = sum(float(place @ place) for _, place in series)
    freedom = sum(len(shift) - 1 for shift, _ in series) - 1
    if bottom <= 0 or freedom < 1:
        return (stats.NAN,) * 3
    slope = sum(float(shift @ place) for shift, place in series) / bottom
    rest = sum(float(np.sum((shift - slope * place) ** 2)) for shift, place in series)
    return slope, rest / freedom / bottom, float(freedom)


# --- rows as arrays


def _figures(a: Cells, b: Cells, design: Design, metric: str, past: tuple[Cells, Cells]) -> Figures:
    scales = [_scale(x, y, metric) for x, y in zip(a, b, strict=True)]
    sides, times = [], []
    for s, side in enumerate((a, b)):
        units = design.units[s] or (None,)  # a side without rows has one unit of which nothing is known
        by_unit = [[[row for row in rows if design.of(row, s) == unit] for rows in side] for unit in units]
        sides.append([_array(cells, metric, scales) for cells in by_unit])
        times.append([_when(cells, metric) for cells in by_unit])
    by_run = design.unit == "run"
    groups = [_past(cells, side, metric, scales, by_run) for cells, side in zip(past, (a, b), strict=True)]
    linear = tuple(scale is not None for scale in scales)
    return Figures((sides[0], sides[1]), (groups[0], groups[1]), (times[0], times[1]), linear)


def _scale(a: Sequence[Row], b: Sequence[Row], metric: str) -> float | None:
    """The base's mean of a cell with a figure of 0, NaN if that is not positive; None for a cell of logarithms."""
    figures = [_figure(row, metric) for row in a], [_figure(row, metric) for row in b]
    if all(not value <= 0 for side in figures for value in side):
        return None
    known = [value for value in figures[0] if not math.isnan(value)]
    mean = sum(known) / len(known) if known else 0.0
    return mean if mean > 0 else stats.NAN


def _figure(row: Row, metric: str) -> float:
    value = row.figure(metric)
    return stats.NAN if value is None else value


def _array(cells: Cells, metric: str, scales: Sequence[float | None]) -> FloatArray:
    """Shape (repeats, cells), in the order of time."""
    array = np.full((max((len(rows) for rows in cells), default=0) or 1, len(cells)), stats.NAN)
    for c, (rows, scale) in enumerate(zip(cells, scales, strict=True)):
        for r, row in enumerate(_in_order(rows)):
            value = _figure(row, metric)
            if scale is not None:
                array[r, c] = value / scale
            elif value > 0 and math.isfinite(value):
                array[r, c] = math.log(value)
    return array


def _when(cells: Cells, metric: str) -> FloatArray:
    """The times of the same figures in seconds, NaN where unknown."""
    array = np.full((max((len(rows) for rows in cells), default=0) or 1, len(cells)), stats.NAN)
    for c, rows in enumerate(cells):
        for r, row in enumerate(_in_order(rows)):
            if (start := seconds(row)) is not None and row.figure(metric) is not None:
                array[r, c] = start
    return array


def _in_order(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (text(row.get("started_at")), row.get("repeat") or 0))


def _past(
    cells: Cells, side: Cells, metric: str, scales: Sequence[float | None], by_run: bool
) -> list[list[FloatArray]]:
    """Past nights (or runs) by vLLM version and node: between those, figures may differ for a reason."""
    rows = [row for each in cells for row in each]
    when = nights((run_of(row, "past"), seconds(row)) for row in rows)
    if by_run:
        when = {run: place for place, run in enumerate(sorted(when, key=lambda run: (when[run], str(run))))}
    own = next((_kind(row) for each in side for row in each), None)
    kinds: dict[Hashable, None] = {own: None} | {_kind(row): None for row in rows}
    groups = []
    for kind in kinds:
        found = sorted({when[run_of(row, "past")] for row in rows if _kind(row) == kind})
        groups.append(
            [
                _array(
                    [
                        [row for row in each if _kind(row) == kind and when[run_of(row, "past")] == night]
                        for each in cells
                    ],
                    metric,
                    scales,
                )
                for night in found
            ]
        )
    return groups if rows else []


def _kind(row: Row) -> Hashable:
    return row.get("vllm_version"), row.get("node")


def _unit_means(units: Sequence[FloatArray]) -> FloatArray:
    """The mean of each unit's repeats; shape (units, cells)."""
    return np.array([spread.means(unit) for unit in units])


def _unit_mean(units: Sequence[FloatArray]) -> FloatArray:
    return spread.means(_unit_means(units))
