"""Comparison of two sets of measured cells: better, worse, same, or cannot tell, per cell and metric. Pure.

Cells are matched by model, workload, load level, and every other property that differs between the cells of
one side. The sides must differ only in the compared settings (version, flags, precision, ...). A difference
that makes figures incomparable (other hardware, another checkpoint, a simulated server, ...) is refused and named.
`design` finds what varied between the sides, `sides` how sure their differences are, `verdicts` the words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rocbench import stats
from rocbench.errors import InputError
from rocbench.judgement import sides
from rocbench.judgement.design import Design, design
from rocbench.judgement.looks import alpha_at_each
from rocbench.judgement.oddities import Oddity, oddities, successive
from rocbench.judgement.sides import Found
from rocbench.judgement.verdicts import Decision, Line, Settings, settle
from rocbench.tables.row import MARKS, Row, figures, judged, needed_samples, records, synthetic, too_few
from rocbench.tables.runformat import json_column

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
INFINITE = "a figure is infinite"
NO_BASE = "no relative change, because the base is 0"


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The verdicts as a tidy table (one row per cell and metric), with differences and notes."""

    table: pd.DataFrame
    """Key columns, then metric, n_a, n_b (repeats), mean_a, mean_b, cov_a, cov_b, effect, low, high, p, low_within,
    high_within (the interval by the repeats alone, too narrow if levels above them vary), design, unit, units (pairs, or nights
    of the smaller side), past_nights, unit_sd, unit_df, pooling (degrees of freedom that a further unit adds), repeat_sd, repeat_df (of a
    difference of one repeat of each side), correlation (of successive units),
    effective_units, noise (what is odd about it), dropped_a,
    dropped_b (invalid rows left out), unknown_a, unknown_b (rows of unknown validity), note (why there is no interval),
    p_holm, verdict, n_needed (units)."""
    keys: tuple[str, ...]
    differs: dict[str, tuple[str, str]]
    """Configuration that differs between the sides: column to (a, b)."""
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    notes: tuple[str, ...]
    settings: Settings
    design: Design
    synthetic: str
    """The origin of figures that were not measured on a GPU (`tables.row.synthetic`)."""

    def count(self, word: Decision) -> int:
        """Number of verdicts that are `word`."""
        return int((self.table["verdict"] == word).sum())


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    settings: Settings | None = None,
    notes: Sequence[str] = (),
    history: pd.DataFrame | Sequence[Row] | None = None,
) -> Comparison:
    """Compare cells of `b` with the same cells of `a` (the base).

    Args:
        a: `cells` rows of one or more runs, one row per cell and repeat.
        b: the same for the other side.
        settings: metrics, minimum effect, looks, and guards that may differ.
        notes: notes to place before the comparison's own.
        history: rows of other runs; those of the same cells show how far nights differ.

    Raises:
        InputError: the sides are not comparable, share no cell, or a metric is unknown.
    """
    settings = settings or Settings()
    settings.directions()  # refuses a metric without a direction before the sides are compared
    both_sides = records(a), records(b)
    keys = key_columns(*both_sides)
    cells_a, cells_b = (grouped(side, keys) for side in both_sides)
    shared = [key for key in cells_a if key in cells_b]
    if not shared:
        raise InputError(
            _nothing_shared(*both_sides), fix="give runs of the same models, workloads and levels"
        )
    differences = _refuse_unlike([(cells_a[k], cells_b[k]) for k in shared], settings)
    cells = [(key, cells_a[key], cells_b[key]) for key in shared]
    past = records(history) if isinstance(history, pd.DataFrame) else history or ()
    rows, how, odd = _lines(keys, cells, settings, past)
    settle(rows, settings, paired=how.paired)
    few = sample_notes([side for key in shared for side in (cells_a[key], cells_b[key])], settings)
    both = [row for key in shared for row in (*cells_a[key], *cells_b[key])]
    return Comparison(
        table=pd.DataFrame(rows),
        keys=keys,
        differs=_differences(*([r for k in shared for r in cells[k]] for cells in (cells_a, cells_b))),
        only_a=tuple(label(keys, key) for key in cells_a if key not in cells_b),
        only_b=tuple(label(keys, key) for key in cells_b if key not in cells_a),
        notes=(*notes, *differences, *few, *odd),
        settings=settings,
        design=how,
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


# --- verdicts


def _lines(
    keys: Sequence[str],
    cells: Sequence[tuple[GroupKey, list[Row], list[Row]]],
    settings: Settings,
    history: Sequence[Row],
) -> tuple[list[Line], Design, list[str]]:
    """The rows of the table, without their verdicts: Holm needs all p-values first."""
    a, b = ([usable(cell[side], settings) for cell in cells] for side in (1, 2))
    how = design(a, b)
    past = _past(a, b, usable(history, settings))
    found = sides.differences(a, b, how, settings.metrics, past)
    lines = []
    for c, (key, all_a, all_b) in enumerate(cells):
        for metric in settings.metrics:
            line = dict(zip(keys, key, strict=True)) | {"metric": metric}
            line |= _judge(found[c][metric], (figures(a[c], metric), figures(b[c], metric)), how, settings)
            for side, rows, used in (("a", all_a, a[c]), ("b", all_b, b[c])):
                line[f"dropped_{side}"] = len(rows) - len(used)
                line[f"unknown_{side}"] = sum(row.valid is None for row in used)
            line["note"] = _note(line, found[c][metric])
            lines.append(line)
    return lines, how, _name_noise(lines, found, how, settings)


def _name_noise(
    lines: list[Line], found: Sequence[Mapping[str, Found]], how: Design, settings: Settings
) -> list[str]:
    """Add to each line what is odd about its noise; return a text for each kind, with its first example."""
    known: dict[int, list[Oddity]] = {}
    kinds: dict[str, dict[Oddity, None]] = {}
    for line, each in zip(lines, (cell[m] for cell in found for m in settings.metrics), strict=True):
        if id(each.series) not in known:
            plural = "pairs" if how.paired else how.plural
            more = successive(each.correlation, line["units"], each.inflation, plural)
            seen = oddities(line["metric"], each.series, how.single)
            known[id(each.series)] = [*seen, *([more] if more else [])]
        line["noise"] = "; ".join(odd.kind for odd in known[id(each.series)])
        for odd in known[id(each.series)]:
            kinds.setdefault(odd.kind, {})[odd] = None
    return [
        f"noise: {odd.what}{f' (and {len(more)} more such)' if more else ''}; to do: {odd.help}"
        for odd, *more in map(list, kinds.values())
    ]


def _judge(found: Found, values: tuple[list[float], list[float]], how: Design, settings: Settings) -> Line:
    """Figures of one cell and metric."""
    x, y = values
    confidence = 1 - alpha_at_each(settings.looks, settings.alpha)
    effect, within = (found.effect(confidence, within=inside) for inside in (False, True))
    if not all(map(math.isfinite, (*x, *y))):
        effect = within = stats.Effect(*[stats.NAN] * 4)
    return {
        "n_a": len(x),
        "n_b": len(y),
        "mean_a": stats.mean_interval(x).estimate,
        "mean_b": stats.mean_interval(y).estimate,
        "cov_a": stats.cov(x),
        "cov_b": stats.cov(y),
        "effect": effect.estimate,
        "low": effect.low,
        "high": effect.high,
        "p": effect.p if math.isnan(effect.p) else min(1.0, effect.p * settings.looks),
        "low_within": within.low,
        "high_within": within.high,
        "design": how.describe(),
        "unit": how.unit,
        "units": min(map(len, how.units)),
        "past_nights": found.past,
        "unit_sd": found.unit_sd,
        "unit_df": found.unit_df,
        "pooling": found.pooling,
        "repeat_sd": found.repeat_sd,
        "repeat_df": found.repeat_df,
        "correlation": found.correlation,
        "effective_units": min(map(len, how.units)) / found.inflation,
    }


def _past(a: sides.Cells, b: sides.Cells, history: Sequence[Row]) -> tuple[sides.Cells, sides.Cells]:
    """For each side and cell the rows of other runs of the same cell; the other side's, only if it is another cell."""
    own = {row.get("run_id") for side in (a, b) for rows in side for row in rows}
    by_cell = grouped((row for row in history if row.get("run_id") not in own), ("cell_id",))

    def rows_of(cells: sides.Cells, without: sides.Cells) -> list[list[Row]]:
        found = []
        for rows, others in zip(cells, without, strict=True):
            ids = {row.get("cell_id") for row in rows} - {row.get("cell_id") for row in others} - {None}
            found.append([row for cell_id in sorted(map(str, ids)) for row in by_cell.get((cell_id,), [])])
        return found

    return rows_of(a, [[] for _ in a]), rows_of(b, a)


def samples(rows: Iterable[Row], metric: str) -> int | None:
    """Minimum requests behind a latency in any row: the mean of repeats averages each repeat's own figure."""
    return min((n for row in rows if (n := row.samples(metric)) is not None), default=None)


def sample_notes(sides_: Sequence[Sequence[Row]], settings: Settings) -> list[str]:
    """A warning for each percentile that has fewer requests than it needs, on any side of any cell."""
    notes = []
    for metric in settings.metrics:
        counts = [n for side in sides_ if (n := samples(usable(side, settings), metric)) is not None]
        if counts and too_few(metric, min(counts)):
            notes.append(
                f"{metric} comes from {min(counts)} requests, but needs {needed_samples(metric)}:"
                " with so few requests, the slowest few mostly determine the percentile"
            )
    return notes


def usable(rows: Iterable[Row], settings: Settings) -> list[Row]:
    """Rows that may be judged."""
    return list(rows) if settings.include_invalid else judged(rows)


def _note(line: Line, found: Found) -> str:
    """Why a cell has no interval; empty if it has one."""
    if not line["n_a"] or not line["n_b"]:
        return "no valid rows" if line["dropped_a"] or line["dropped_b"] else "not measured"
    if math.isinf(line["mean_a"]) or math.isinf(line["mean_b"]):
        return INFINITE
    if line["mean_a"] == 0:
        return NO_BASE
    if found.missing:
        return found.missing
    return "too few repeats in this cell" if math.isnan(line["low"]) else ""
