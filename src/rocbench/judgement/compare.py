"""Comparison of two sets of measured cells: better, worse, same, or cannot tell, per cell and metric. Pure.

Cells are matched by model, workload, load level, and every other property that differs between the cells of
one side. The sides must differ only in the compared settings (version, flags, precision, ...). A difference
that makes figures incomparable (other hardware, another checkpoint, a simulated server, ...) is refused and named.

The verdict on one cell and metric, with the effect's 95 % interval and p adjusted by Holm over all cells and metrics:

    same         the whole interval lies inside +- the minimum effect
    better/worse p < alpha, and the effect is at least the minimum effect
    cannot tell  anything else, and always with fewer than 2 repeats on a side
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from rocbench import stats
from rocbench.column import Better
from rocbench.columns import better
from rocbench.errors import InputError
from rocbench.tables.row import MARKS, Row, figures, judged, needed_samples, records, synthetic, too_few
from rocbench.tables.runformat import json_column

Decision = Literal["better", "worse", "same", "cannot tell"]
Line = dict[str, Any]
"""A row of a comparison's own table."""
GroupKey = tuple[Any, ...]
"""Values of the columns that rows are grouped by."""

MATCH = ("model", "workload", "concurrency", "request_rate", "load_shape")
"""Columns that agree in two cells that are the same point of two runs."""
REQUEST = ("isl", "osl", "images", "workload_spec")
"""Columns that describe a request."""
GUARDS = (*MARKS, "hardware", "model_revision", *REQUEST, "load_spec", "transport", "node", "slo")
"""Columns whose difference makes figures incomparable, unless allowed by name; `slo` only affects goodput."""
WHY = {
    "simulated": "simulated rows do not measure a GPU",
    "predicted": "predicted rows are not measurements",
    "imported": "another tool measures with its own clock and definitions",
    "hardware": "a different machine is a different experiment",
    "node": "a different machine is a different experiment",
    "model_revision": "a different checkpoint",
    "transport": "user-space timestamps are later than kernel timestamps",
    "load_spec": "the load sent or ended its requests differently",
    "slo": "different limits give different goodput",
} | dict.fromkeys(REQUEST, "a different request")
"""Meaning of a difference in a guard."""
SETTINGS = ("precision", "tp", "aiter", "vllm_version", "server_kind")
FLAGS = ("serve_args", "serve_env")
"""Columns of flags and variables. Differing settings, axes and flags are reported, never refused."""
ENGINE = ("attention_backend", "model_runner")
"""Columns of the engine that the server reported. A difference is reported: the sides then ran different code."""
NO_BASE = "no relative change, because the base is 0"
DEFAULT_METRICS = ("output_throughput", "median_ttft_ms", "median_tpot_ms", "p99_e2el_ms")

MIN_EFFECT = 0.02
ALPHA = 0.05
ADVISED_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a comparison."""

    metrics: tuple[str, ...] = DEFAULT_METRICS
    min_effect: float = MIN_EFFECT
    """Relative change that matters; 0.02 is 2 %."""
    alpha: float = ALPHA
    method: stats.Method = "welch"
    allow: frozenset[str] = frozenset()
    """Guards that may differ."""
    include_invalid: bool = False
    seed: int = 0

    def directions(self) -> dict[str, Better]:
        """Direction in which each metric is better.

        Raises:
            InputError: a metric is not a result.
        """
        known = {name: better(name) for name in self.metrics}
        unknown = [name for name, way in known.items() if way is None]
        if unknown:
            raise InputError(
                f"{', '.join(unknown)} cannot be compared: neither higher nor lower values are better",
                where="--metric",
                fix="choose a column with an entry under Better in docs/results.md",
            )
        return {name: way for name, way in known.items() if way is not None}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdicts as a tidy table (one row per cell and metric), with differences and notes."""

    table: pd.DataFrame
    """Key columns, then metric, n_a, n_b, mean_a, mean_b, cov_a, cov_b, effect, low, high, p, p_holm, verdict,
    n_needed, dropped_a, dropped_b (invalid rows left out), unknown_a, unknown_b (rows of unknown validity), note."""
    keys: tuple[str, ...]
    differs: dict[str, tuple[str, str]]
    """Configuration that differs between the sides: column to (a, b)."""
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    notes: tuple[str, ...]
    settings: Settings
    synthetic: str
    """The origin of figures that were not measured on a GPU (`tables.row.synthetic`)."""

    def count(self, word: Decision) -> int:
        """Number of verdicts that are `word`."""
        return int((self.table["verdict"] == word).sum())


def compare(
    a: pd.DataFrame, b: pd.DataFrame, settings: Settings | None = None, notes: Sequence[str] = ()
) -> Comparison:
    """Compare cells of `b` with the same cells of `a` (the base).

    Args:
        a: `cells` rows of one or more runs, one row per cell and repeat.
        b: the same for the other side.
        settings: metrics, minimum effect, method, and guards that may differ.
        notes: notes to place before the comparison's own.

    Raises:
        InputError: the sides are not comparable, share no cell, or a metric is unknown.
    """
    settings = settings or Settings()
    settings.directions()  # refuses a metric without a direction before the sides are compared
    sides = records(a), records(b)
    keys = key_columns(*sides)
    cells_a, cells_b = (grouped(side, keys) for side in sides)
    shared = [key for key in cells_a if key in cells_b]
    if not shared:
        raise InputError(_nothing_shared(*sides), fix="give runs of the same models, workloads and levels")
    differences = _refuse_unlike([(cells_a[k], cells_b[k]) for k in shared], settings)
    rows = [
        _judge_cell(dict(zip(keys, key, strict=True)), metric, cells_a[key], cells_b[key], settings)
        for key in shared
        for metric in settings.metrics
    ]
    settle(rows, settings, lambda row: (row["cov_a"], row["cov_b"], min(row["n_a"], row["n_b"])))
    few = sample_notes([side for key in shared for side in (cells_a[key], cells_b[key])], settings)
    both = [row for key in shared for row in (*cells_a[key], *cells_b[key])]
    return Comparison(
        table=pd.DataFrame(rows),
        keys=keys,
        differs=_differences(*([r for k in shared for r in cells[k]] for cells in (cells_a, cells_b))),
        only_a=tuple(label(keys, key) for key in cells_a if key not in cells_b),
        only_b=tuple(label(keys, key) for key in cells_b if key not in cells_a),
        notes=(*notes, *differences, *few, *_repeat_notes(both)),
        settings=settings,
        synthetic=synthetic(row.origin for row in both),
    )


def split(frame: pd.DataFrame, column: str, a: object, b: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of one run in which `column` is `a`, and those in which it is `b`, compared as text.

    Raises:
        InputError: there is no such column, or no row with such a value.
    """
    if column not in frame.columns:
        raise InputError(f"no column {column!r} in the cells", where="--arms")
    values = frame[column].astype(str)
    arms = frame[values == str(a)], frame[values == str(b)]
    for arm, value in zip(arms, (a, b), strict=True):
        if arm.empty:
            known = ", ".join(sorted(set(values)))
            raise InputError(f"no row has {column} = {value}", where="--arms", fix=f"known values: {known}")
    return arms


# --- rows and keys


def axes_of(rows: Iterable[Row]) -> list[str]:
    """The axes of the rows, as `records` names them."""
    return sorted({name for row in rows for name in row if name.startswith("axis.")})


def key_columns(a: list[Row], b: list[Row]) -> tuple[str, ...]:
    """MATCH, and each further column that distinguishes two cells of one side that earlier columns do not."""
    keys = [name for name in MATCH if any(row.get(name) is not None for row in (*a, *b))]
    for name in (*SETTINGS, *axes_of([*a, *b]), *FLAGS, *GUARDS, "key"):
        groups = [cells for side in (a, b) for cells in grouped(side, keys).values()]
        if any(distinguishes(name, cells) for cells in groups):
            keys.append(name)
    return tuple(keys)


def distinguishes(name: str, rows: list[Row]) -> bool:
    """Return True if cells (by id) have different values; repeats of one cell may differ, as on two nodes."""
    firsts = {row.get("cell_id"): row for row in reversed(rows)}
    return len({plain_value(row.get(name)) for row in firsts.values()}) > 1


def grouped(rows: Iterable[Row], names: Sequence[str]) -> dict[GroupKey, list[Row]]:
    """Rows grouped by columns, in their original order."""
    groups: dict[GroupKey, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(plain_value(row.get(name)) for name in names), []).append(row)
    return groups


def plain_value(value: Any) -> Any:
    """A value that can be a key: 64.0 is 64, a list is its text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def label(keys: Sequence[str], key: Sequence[Any]) -> str:
    """A cell's key columns as text: `model=x workload=y concurrency=64`."""
    return " ".join(f"{name}={value}" for name, value in zip(keys, key, strict=True) if value is not None)


def _values_of(rows: Iterable[Row], name: str) -> tuple[str, ...]:
    return tuple(sorted({str(plain_value(row[name])) for row in rows if row.get(name) is not None}))


def _nothing_shared(a: list[Row], b: list[Row]) -> str:
    differences = [
        f"{name}: {', '.join(x) or '-'} and {', '.join(y) or '-'}"
        for name in MATCH
        if (x := _values_of(a, name)) != (y := _values_of(b, name))
    ]
    return "the two sides have no cell in common" + (f" ({'; '.join(differences)})" if differences else "")


# --- comparability


def _refuse_unlike(pairs: list[tuple[list[Row], list[Row]]], settings: Settings) -> list[str]:
    """Notes on allowed and unknown differences.

    Raises:
        InputError: cells differ in a guard that is not allowed.
    """
    refused: dict[str, str] = {}
    notes: dict[str, None] = {}
    goodput = any(metric.startswith("goodput") for metric in settings.metrics)
    for name in GUARDS if goodput else [name for name in GUARDS if name != "slo"]:
        for a, b in pairs:
            x, y = _values_of(a, name), _values_of(b, name)
            if x == y:
                continue
            difference = f"{name}: {', '.join(x) or 'unknown'} against {', '.join(y) or 'unknown'}"
            if not x or not y:
                notes[f"{difference}; assumed equal"] = None
            elif name in settings.allow:
                notes[f"{difference}; allowed"] = None
            else:
                refused[name] = f"{difference} ({WHY[name]})"
    if refused:
        raise InputError(
            "the two sides are not comparable: " + "; ".join(refused.values()),
            fix="to compare them despite the difference: " + " ".join(f"--allow {name}" for name in refused),
        )
    return list(notes)


def _differences(a: list[Row], b: list[Row]) -> dict[str, tuple[str, str]]:
    """Configuration columns whose values differ between the sides; each flag and variable by its name."""
    sides = [[row | flags_of(row) for row in side] for side in (a, b)]
    flags = dict.fromkeys(name for side in sides for row in side for name in row if name.startswith("flag "))
    configured = [*SETTINGS, *ENGINE, *flags, *axes_of([*a, *b])]
    differences: dict[str, tuple[str, str]] = {}
    for name in configured:
        x, y = (_values_of(side, name) for side in sides)
        absent = "unknown" if name in (*SETTINGS, *ENGINE) else "not set"
        values = (", ".join(x) or absent, ", ".join(y) or absent)
        # An axis of the matrix is often also a column or a flag: report it once.
        if x != y and not (name.startswith("axis.") and values in differences.values()):
            differences[name.removeprefix("flag ")] = values
    return differences


def flags_of(row: Row) -> dict[str, str]:
    """A row's flags and variables, each under its own name: `flag --block-size`."""
    return {
        f"flag {name}": str(value) for column in FLAGS for name, value in json_column(row, column).items()
    }


def _repeat_notes(rows: list[Row]) -> list[str]:
    """A warning if repeats share a server: they do not show how servers differ between starts."""
    several = any((row.figure("repeat") or 0) > 1 for row in rows)
    if several and any(row.get("restart") == "never" for row in rows):
        return [
            "repeats share one server (restart: never): the intervals do not include the variation between server starts"
        ]
    return []


# --- verdicts


def _judge_cell(key: Line, metric: str, a: list[Row], b: list[Row], settings: Settings) -> Line:
    """One row of the table, without its verdict: Holm needs all p-values first."""
    (x, dropped_a, unknown_a), (y, dropped_b, unknown_b) = (
        _figures(side, metric, settings) for side in (a, b)
    )
    effect = stats.relative_effect(x, y, 1 - settings.alpha, method=settings.method, seed=settings.seed)
    return key | {
        "metric": metric,
        "n_a": len(x),
        "n_b": len(y),
        "mean_a": stats.mean_interval(x).estimate,
        "mean_b": stats.mean_interval(y).estimate,
        "cov_a": stats.cov(x),
        "cov_b": stats.cov(y),
        "effect": effect.estimate,
        "low": effect.low,
        "high": effect.high,
        "p": effect.p,
        "dropped_a": dropped_a,
        "dropped_b": dropped_b,
        "unknown_a": unknown_a,
        "unknown_b": unknown_b,
        "note": _note(x, y, dropped_a + dropped_b),
    }


def _figures(rows: list[Row], metric: str, settings: Settings) -> tuple[list[float], int, int]:
    """Values that may be judged, the number of invalid rows left out, and of rows with unknown validity."""
    used = usable(rows, settings)
    return figures(used, metric), len(rows) - len(used), sum(row.valid is None for row in used)


def samples(rows: Iterable[Row], metric: str) -> int | None:
    """Minimum requests behind a latency in any row: the mean of repeats averages each repeat's own figure."""
    return min((n for row in rows if (n := row.samples(metric)) is not None), default=None)


def sample_notes(sides: Sequence[Sequence[Row]], settings: Settings) -> list[str]:
    """A warning for each percentile that has fewer requests than it needs, on any side of any cell."""
    notes = []
    for metric in settings.metrics:
        counts = [n for side in sides if (n := samples(usable(side, settings), metric)) is not None]
        if counts and too_few(metric, min(counts)):
            notes.append(
                f"{metric} comes from {min(counts)} requests, but needs {needed_samples(metric)}:"
                " with so few requests, the slowest few mostly determine the percentile"
            )
    return notes


def usable(rows: Iterable[Row], settings: Settings) -> list[Row]:
    """Rows that may be judged."""
    return list(rows) if settings.include_invalid else judged(rows)


def _note(x: list[float], y: list[float], dropped: int) -> str:
    if not x or not y:
        return "no valid rows" if dropped else "not measured"
    if min(len(x), len(y)) < 2:
        return f"one repeat shows no variation; use {ADVISED_REPEATS} repeats per side"
    if not all(map(math.isfinite, (*x, *y))):
        return "a figure is infinite"
    if not any(x):
        return NO_BASE
    return ""


def decide(effect: stats.Effect, p: float, way: Better, min_effect: float, alpha: float) -> Decision:
    """The verdict on a relative effect; `p` is the adjusted one."""
    if math.isnan(effect.low) or math.isnan(effect.high) or math.isnan(p):
        return "cannot tell"
    if -min_effect < effect.low and effect.high < min_effect:
        return "same"
    if p < alpha and abs(effect.estimate) >= min_effect and effect.estimate != 0:
        return "better" if (effect.estimate > 0) == (way == "higher") else "worse"
    return "cannot tell"


def needed(cov_a: float, cov_b: float, n: int, settings: Settings, tests: int) -> int | None:
    """Repeats per side, more than n, that distinguish no effect from twice the minimum with 80 % power.

    No effect must then be "same" (both ends of its interval within the minimum, hence 90 % for each), and
    twice the minimum better or worse at Holm's strictest level. An effect of exactly the minimum stays open
    with any number of repeats.
    """
    least, alpha = settings.min_effect, settings.alpha
    same = stats.needed_n(cov_a, cov_b, least, power=0.9, alpha=alpha)
    differs = stats.needed_n(cov_a, cov_b, 2 * least, alpha=alpha / max(tests, 1))
    return None if same is None or differs is None else max(same, differs, n + 1)


def settle(
    rows: list[Line], settings: Settings, spread_of: Callable[[Line], tuple[float, float, int]]
) -> None:
    """Add p_holm, verdict and n_needed to every row.

    Args:
        spread_of: maps a row to the CoV of each side and the number of repeats.
    """
    directions = settings.directions()
    adjusted = stats.holm([row["p"] for row in rows])
    tests = sum(not math.isnan(p) for p in adjusted)
    for row, p in zip(rows, adjusted, strict=True):
        effect = stats.Effect(row["effect"], row["low"], row["high"], row["p"])
        word = decide(effect, p, directions[row["metric"]], settings.min_effect, settings.alpha)
        row["p_holm"], row["verdict"] = p, word
        cov_a, cov_b, n = spread_of(row)
        row["n_needed"] = needed(cov_a, cov_b, n, settings, tests) if word == "cannot tell" else None
