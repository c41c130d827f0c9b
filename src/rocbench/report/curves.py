"""`cells` rows as curves: configurations compared level by level, with intervals and verdicts. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rocbench import stats
from rocbench.report.chart import Mark, colour, symbol
from rocbench.tables import kept
from rocbench.tables.metrics import kind_of
from rocbench.tables.row import Row, figures, listed
from rocbench.verdict.codes import INFORMING

MOST_DRAWN = 12
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


@dataclass(frozen=True, slots=True)
class Point:
    """One level of a curve: all repeats of one cell, or of the same cell in all runs."""

    level: float
    """Users, or requests/s; 0 for a trace, which has no level."""
    rows: tuple[Row, ...]
    """Rows that are not invalid."""
    invalid: tuple[Row, ...]

    @property
    def mark(self) -> Mark:
        """The mark: valid if every row that is not invalid is valid, invalid if no such row is left."""
        if not self.rows:
            return "invalid"
        return "valid" if all(row.valid for row in self.rows) else "unknown"

    def interval(self, column: str) -> stats.Interval:
        """Mean of the rows that are not invalid, with its 95 % t interval; no percentile of too few requests."""
        few = any(row.few_samples(column) for row in self.rows)
        return stats.mean_interval([] if few else figures(self.rows, column))

    def mean(self, column: str) -> float | None:
        """Mean over repeats; None if the column is absent."""
        found = self.interval(column).estimate
        return None if math.isnan(found) else found


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

    def best(self, column: str = "output_throughput") -> Point | None:
        """The point with the highest mean among points that are not invalid; valid points come first."""
        for wanted in ("valid", "unknown"):
            there = [p for p in self.points if p.mark == wanted and p.mean(column) is not None]
            if there:
                return max(there, key=lambda point: point.mean(column) or 0.0)
        return None


def reasons(rows: Iterable[Row]) -> str:
    """The rows' codes, each once; informative codes are separate from codes that decide the verdict."""
    there = listed(rows)
    decide = [code for code in there if code not in INFORMING]
    inform = [code for code in there if code in INFORMING]
    return ("; also " if decide and inform else "").join([", ".join(decide), ", ".join(inform)])


def verdict_word(row: Row) -> str:
    """The verdict as a word: `valid`, `unknown` or `INVALID`."""
    return row.word.upper() if row.word == "invalid" else row.word


def load_notes(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Notes of the load generator with their rows; notes that differ only in numbers are listed once."""
    found: dict[str, tuple[str, list[Row]]] = {}
    for row in rows:
        for note in kept.held(row, "load_notes"):
            found.setdefault(kind_of(note), (note, []))[1].append(row)
    return dict(found.values())


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


def marked(name: str, where: str) -> str:
    """A name with the origin of its figures, for legends and tables."""
    return f"{name} ({where})" if where else name


def load_name(workload: str, kind: str) -> str:
    """The name that distinguishes the curves of one workload: `short`, `short, open loop`, `short, trace`."""
    return workload if kind == "closed" else f"{workload}, {'trace' if kind == 'trace' else 'open loop'}"


def level_words(kind: str, value: float | None) -> str:
    """A level with its unit: `1 user`, `64 users`, `2.5 requests/s`, `trace`."""
    if kind == "trace" or value is None:
        return "trace" if kind == "trace" else "-"
    if kind == "open":
        return f"{value:,g} requests/s"
    return f"{value:,g} user{'' if value == 1 else 's'}"


def curves(runs: Sequence[tuple[RunInfo, Sequence[Row]]]) -> list[Curve]:
    """All curves of the runs, in the order of their servers in the plan.

    Simulated, predicted and imported rows never share a curve with measured rows. Rows of different hardware
    never share a curve.
    """
    pooled = len(runs) >= POOLED_FROM
    many = len(runs) > 1 and not pooled
    hardware = {row.get("hardware") for _, rows in runs for row in rows}
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for info, rows in runs:
        for row in sorted(rows, key=lambda row: str(row.get("server_id") or "")):
            where = row.get("hardware") if len(hardware) > 1 else None
            run = info.label if many else ""
            key = row.configuration, row.get("workload"), row.shape, where, run, row.origin
            groups.setdefault(key, []).append(row)
    styles = _styles(groups)
    found = []
    for key, rows in groups.items():
        name, workload, kind, where, run, source = key
        shown = " · ".join(str(part) for part in (name, where, run) if part)
        look = styles[name, where, run, source]
        found.append(
            Curve(
                marked(shown, source),
                str(rows[0].get("model")),
                str(workload or "unnamed workload"),
                kind,
                run,
                source,
                look,
                look,
                _points(rows),
            )
        )
    return found


def _styles(keys: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
    """Index of each configuration's colour and mark; each has its own of both, so that one alone suffices."""
    wanted = dict.fromkeys((name, where, run, source) for name, _, _, where, run, source in keys)
    return {key: index for index, key in enumerate(wanted)}


def _points(rows: Iterable[Row]) -> tuple[Point, ...]:
    levels: dict[float, tuple[list[Row], list[Row]]] = {}
    for row in rows:
        kept, invalid = levels.setdefault(row.level or 0.0, ([], []))
        (invalid if row.valid is False else kept).append(row)
    return tuple(
        Point(where, tuple(kept), tuple(invalid)) for where, (kept, invalid) in sorted(levels.items())
    )


def drawn(mine: Sequence[Curve], most: int = MOST_DRAWN) -> tuple[list[Curve], str]:
    """The curves of one chart, in order (the best if there are too many), and a sentence on those left out.

    Curves that stay get new colours or marks if theirs are not distinct.
    """
    kept = list(mine)
    if len(mine) > most:
        ranked = sorted(mine, key=lambda curve: rank(curve.best()), reverse=True)[:most]
        kept = [curve for curve in mine if curve in ranked]
    looks = {(colour(curve.colour), symbol(curve.symbol)) for curve in kept}
    if len(kept) < len(mine) or len(looks) < len(kept):
        kept = [replace(curve, colour=index, symbol=index) for index, curve in enumerate(kept)]
    left = f" Of {len(mine)} configurations the {most} of highest throughput are drawn; the tables have all."
    return kept, left if len(kept) < len(mine) else ""


def rank(point: Point | None) -> tuple[int, float]:
    """Sort key of a point: valid before unknown before absent, then by throughput per GPU."""
    if point is None:
        return 0, 0.0
    per_gpu = point.mean("output_throughput_per_gpu")
    return 1 + (point.mark == "valid"), per_gpu or point.mean("output_throughput") or 0.0


def workloads(found: Iterable[Curve]) -> list[tuple[str, str]]:
    """Workload and shape of the load, each once, in order."""
    return list(dict.fromkeys((curve.workload, curve.shape) for curve in found))
