"""`cells` rows as curves: configurations compared level by level, with intervals and verdicts. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rocbench import stats, units
from rocbench.judgement import until
from rocbench.report.chart import Mark, colour, symbol
from rocbench.tables import runformat
from rocbench.tables.metrics import kind_of
from rocbench.tables.row import Row, figures, judged, listed
from rocbench.verdict.codes import INFORMING

MAX_DRAWN = 12
"""Maximum curves in one chart: more are hard to distinguish, and the legend would outgrow the plot."""
POOLED_FROM = 5
"""Number of runs from which equal configurations of all runs are drawn as one, and the runs as a trend."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run as the report names it."""

    label: str
    run_id: str
    begun_at: str
    synthetic: str = ""
    """Result of `synthetic` for the run's rows."""


class Ended:
    """Rows whose repeats could end early: their intervals need the spread of all cells of the run."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._cells: dict[Any, list[Row]] = {}
        for row in judged(rows):
            self._cells.setdefault((row.get("run_id"), row.get("cell_id")), []).append(row)
        self._found: dict[str, dict[Any, stats.Interval]] = {}

    def interval(self, rows: Sequence[Row], column: str) -> stats.Interval:
        """Interval of one cell's rows; of rows of several cells (the same cell in many runs) Student's t."""
        cells = {(row.get("run_id"), row.get("cell_id")) for row in rows}
        if len(cells) > 1:
            return stats.mean_interval(figures(rows, column))
        if column not in self._found:
            values = [figures(each, column) for each in self._cells.values()]
            self._found[column] = dict(zip(self._cells, until.intervals(values), strict=True))
        return self._found[column][cells.pop()]


@dataclass(frozen=True, slots=True)
class Point:
    """One level of a curve: all repeats of one cell, or of the same cell in all runs."""

    level: float
    """Users, or requests/s; 0 for a trace, which has no level."""
    rows: tuple[Row, ...]
    """Rows that are not invalid."""
    invalid: tuple[Row, ...]
    run: Ended | None = None
    """The cells of the run, if its repeats could end early."""

    @property
    def mark(self) -> Mark:
        """The mark: valid if every row that is not invalid is valid, invalid if no such row is left."""
        if not self.rows:
            return "invalid"
        return "valid" if all(row.valid for row in self.rows) else "unknown"

    def interval(self, column: str) -> stats.Interval:
        """Mean of the rows that are not invalid, with its 95 % interval; empty for a percentile of too few requests.

        Student's t, or the interval of `until` if the repeats could end early.
        """
        if any(row.few_samples(column) for row in self.rows):
            return stats.mean_interval([])
        if self.run is not None and self.rows:
            return self.run.interval(self.rows, column)
        return stats.mean_interval(figures(self.rows, column))

    def within(self, column: str) -> stats.Interval:
        """The interval from within the window of a level's only row; without ends if it has several rows."""
        if len(self.rows) != 1 or self.rows[0].few_samples(column):
            return stats.mean_interval([])
        return self.rows[0].within(column)

    def mean(self, column: str) -> float | None:
        """Mean over repeats; None if the column is absent."""
        estimate = self.interval(column).estimate
        return None if math.isnan(estimate) else estimate


@dataclass(frozen=True, slots=True)
class Curve:
    """One configuration under one workload over its levels."""

    name: str
    """Name for legends and tables; it ends with the origin if the figures were not measured."""
    model: str
    workload: str
    shape: str
    """closed, open or trace."""
    run: str
    """Label of its run; empty when several runs are pooled."""
    origin: str
    """Origin of the rows."""
    colour: int
    symbol: int
    points: tuple[Point, ...]

    @property
    def load(self) -> str:
        """The workload, with the kind of its load unless it is the usual closed loop."""
        return load_name(self.workload, self.shape)

    def level(self, point: Point) -> str:
        """A point's level with its unit."""
        return level_words(self.shape, point.level)

    def best(self) -> Point | None:
        """The point with the highest output throughput that is not invalid; valid points come first."""
        return max(
            (point for point in self.points if point.mean("output_throughput") is not None),
            key=lambda point: (point.mark == "valid", point.mean("output_throughput") or 0.0),
            default=None,
        )


def reasons(rows: Iterable[Row]) -> str:
    """The rows' codes, each once; informative codes are separate from codes that decide the verdict."""
    codes = listed(rows)
    deciding = [code for code in codes if code not in INFORMING]
    informing = [code for code in codes if code in INFORMING]
    return "; also ".join(", ".join(group) for group in (deciding, informing) if group)


def verdict_word(row: Row) -> str:
    """The verdict as a word: `valid`, `unknown` or `INVALID`."""
    return row.word.upper() if row.word == "invalid" else row.word


def load_notes(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Notes of the load generator with their rows; notes that differ only in numbers are listed once."""
    by_kind: dict[str, tuple[str, list[Row]]] = {}
    for row in rows:
        for note in runformat.json_column(row, "load_notes"):
            by_kind.setdefault(kind_of(note), (note, []))[1].append(row)
    return dict(by_kind.values())


def labels(
    manifests: Sequence[Mapping[str, Any]], versions: Sequence[str], folders: Sequence[str]
) -> list[str]:
    """A short name for each run: its folder's name if a user chose it, else the properties that differ.

    Args:
        manifests: manifest.json of each run.
        versions: vLLM versions of each run's rows, joined as one text.
        folders: name of each run's folder.
    """
    if len(manifests) == 1:
        return [str(manifests[0].get("sweep") or manifests[0].get("run_id") or "run")]
    ids = [str(manifest.get("run_id", "")) for manifest in manifests]
    candidates = [
        list(folders) if any(folder != run for folder, run in zip(folders, ids, strict=True)) else [],
        [f"vLLM {version}" if version else "" for version in versions],
        [str(manifest.get("sweep", "")) for manifest in manifests],
        [str(manifest.get("begun_at", ""))[:10] for manifest in manifests],
        [str(manifest.get("begun_at", ""))[5:16].replace("T", " ") for manifest in manifests],
        ids,
    ]
    for names in candidates:
        if names and all(names) and len(set(names)) == len(names) and max(map(len, names)) <= 32:
            return names
    return [f"run {number}" for number in range(1, len(manifests) + 1)]


def marked(name: str, origin: str) -> str:
    """A name with the origin of its figures, for legends and tables."""
    return f"{name} ({origin})" if origin else name


def load_name(workload: str, shape: str) -> str:
    """The name that distinguishes the curves of one workload: `short`, `short, open loop`, `short, trace`."""
    return workload if shape == "closed" else f"{workload}, {'trace' if shape == 'trace' else 'open loop'}"


def level_words(shape: str, value: float | None) -> str:
    """A level with its unit: `1 user`, `64 users`, `2.5 requests/s`, `trace`."""
    if shape == "trace" or value is None:
        return "trace" if shape == "trace" else "-"
    if shape == "open":
        return f"{value:,g} requests/s"
    return units.count_of(value, "user")


def curves(runs: Sequence[tuple[RunInfo, Sequence[Row]]]) -> list[Curve]:
    """All curves of the runs, in the order of their servers in the plan.

    Simulated, predicted and imported rows never share a curve with measured rows. Rows of different hardware
    never share a curve.
    """
    several = 1 < len(runs) < POOLED_FROM
    hardware = {row.get("hardware") for _, rows in runs for row in rows}
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for info, rows in runs:
        for row in sorted(rows, key=lambda row: str(row.get("server_id") or "")):
            labels = row.configuration, row.get("hardware") if len(hardware) > 1 else None
            key = row.get("workload"), row.shape, *labels, info.label if several else "", row.origin
            groups.setdefault(key, []).append(row)
    # each configuration has a colour and a mark of its own, so that one of them suffices
    looks = {key: index for index, key in enumerate(dict.fromkeys(key[2:] for key in groups))}
    early = [row for _, rows in runs for row in rows if row.get(until.COLUMN) is not None]
    ended = Ended(early) if early else None
    return [
        Curve(
            marked(" · ".join(str(part) for part in labels if part), origin),
            str(rows[0].get("model")),
            str(workload or "unnamed workload"),
            shape,
            labels[-1],
            origin,
            looks[*labels, origin],
            looks[*labels, origin],
            _points(rows, ended),
        )
        for (workload, shape, *labels, origin), rows in groups.items()
    ]


def by_level(rows: Iterable[Row]) -> dict[float, list[Row]]:
    """Rows by their level, lowest first; a trace has level 0."""
    levels: dict[float, list[Row]] = {}
    for row in rows:
        levels.setdefault(row.level or 0.0, []).append(row)
    return dict(sorted(levels.items()))


def _points(rows: Iterable[Row], ended: Ended | None) -> tuple[Point, ...]:
    return tuple(
        Point(
            level,
            tuple(judged(group)),
            tuple(row for row in group if row.valid is False),
            ended if any(row.get(until.COLUMN) is not None for row in group) else None,
        )
        for level, group in by_level(rows).items()
    )


def drawn(configurations: Sequence[Curve], most: int = MAX_DRAWN) -> tuple[list[Curve], str]:
    """The curves of one chart, in order (the best if there are too many), and a sentence on those left out.

    Curves that stay get new colours or marks if theirs are not distinct.
    """
    count = len(configurations)
    best = sorted(configurations, key=lambda curve: rank(curve.best()), reverse=True)[:most]
    kept = [curve for curve in configurations if curve in best]
    looks = {(colour(curve.colour), symbol(curve.symbol)) for curve in kept}
    if len(kept) < count or len(looks) < len(kept):
        kept = [replace(curve, colour=index, symbol=index) for index, curve in enumerate(kept)]
    left_out = f" Only the {most} configurations with the highest throughput, of {count}, are drawn; the tables have all."
    return kept, left_out if len(kept) < count else ""


def rank(point: Point | None) -> tuple[int, float]:
    """Sort key of a point: valid before unknown before absent, then by throughput per GPU."""
    if point is None:
        return 0, 0.0
    per_gpu = point.mean("output_throughput_per_gpu")
    return 1 + (point.mark == "valid"), per_gpu or point.mean("output_throughput") or 0.0


def by_load(configurations: Iterable[Curve]) -> dict[tuple[str, str], list[Curve]]:
    """Curves by their workload and the shape of their load, in order."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in configurations:
        groups.setdefault((curve.workload, curve.shape), []).append(curve)
    return groups
