"""Effects of a change: of an ablation, or of one run against another, as rows of intervals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rocbench import jsontext, units
from rocbench.errors import InputError
from rocbench.judgement import ablate, advice, compare, render
from rocbench.judgement.looks import looks_of
from rocbench.judgement.render import change, interval, plain, varying, verdict
from rocbench.judgement.verdicts import Settings
from rocbench.report.chart import GREY, Chart, Mark, Panel, Series, View
from rocbench.report.curves import level_words
from rocbench.report.material import RunData
from rocbench.report.plots import slug
from rocbench.report.table import Table

VERDICTS: dict[str, tuple[int, int, Mark]] = {
    # colour, symbol, mark
    "better": (0, 3, "valid"),
    "worse": (1, 4, "valid"),
    "same": (2, 0, "valid"),
    "cannot tell": (GREY, 0, "invalid"),
}
_VERDICTS_TEXT = (
    'Bars are 95 % intervals. "Better" and "worse" need an effect of at least {least} that is significant after Holm\'s '
    'correction over all rows; "same" needs an interval that lies completely within {least}; otherwise the verdict is "cannot tell". '
    "A point without a bar: what varied between the sides was not sampled."
)


def ablation(run: RunData) -> tuple[list[Chart], list[Table]]:
    """Effects of a run's factors as a chart and a table; a note if they cannot be judged, nothing without factors."""
    factors = run.sweep.get("factors")
    if not factors:
        return [], []
    try:
        result = ablate.ablate(run.cells, factors, Settings(looks=looks_of(run.plan)))
    except InputError as error:
        return [], [Table("ablation", "Ablation", ("not judged",), ((error.what,),))]
    first = list(result.table.columns).index("factor")
    shown = varying(result.table, list(result.table.columns)[:first])
    named = [
        (
            ", ".join(
                filter(
                    None, (f"{row['factor']}: {row['level']} against {row['against']}", _place(row, shown))
                )
            ),
            row,
        )
        for row in result.table.to_dict("records")
    ]
    chart = _forest(
        "ablation",
        "Ablation: effect of each factor",
        "Change of each metric when one factor changes from its base level, computed within each repeat.",
        named,
        result,
    )
    header, rows = render.effects(result)
    notes = (
        *result.notes,
        *advice.of_ablation(result.table, result.settings),
        "SD ratio: standard deviation at the level / standard deviation at the base, both of logarithms, with 95 % interval",
    )
    return [chart], [Table("ablation", "Ablation", tuple(header), tuple(map(tuple, rows)), notes)]


def comparison(a: RunData, b: RunData, past: pd.DataFrame | None = None) -> tuple[list[Chart], list[Table]]:
    """Run B against run A, cell by cell, or the reason why they are not comparable.

    Args:
        a: the base.
        b: the other run.
        past: rows of other runs; those of the same cells show how far nights differ.
    """
    name_a, name_b = a.info.label, b.info.label
    title = f"{name_b} against {name_a}"
    ident = slug("comparison", name_b, name_a)
    try:
        settings = Settings(looks=max(looks_of(a.plan), looks_of(b.plan)))
        result = compare.compare(a.cells, b.cells, settings, history=past)
    except InputError as error:
        return [], [Table(ident, title, ("not compared",), ((error.what,),))]
    shown = varying(result.table, result.keys) or list(result.keys[:1])
    named = [(_place(row, shown), row) for row in result.table.to_dict("records")]
    chart = _forest(ident, f"Comparison: {title}", f"Change from {name_a} to {name_b}.", named, result)
    return [chart], [_comparison_table(result, ident, title, (name_a, name_b), shown)]


def _comparison_table(
    result: compare.Comparison, ident: str, title: str, names: tuple[str, str], shown: list[str]
) -> Table:
    rows = tuple(
        (
            *(plain(row[name]) for name in shown),
            str(row["metric"]),
            units.number(row["mean_a"]),
            units.number(row["mean_b"]),
            change(row)[0],
            interval(row),
            f"{row['n_a']:g}, {row['n_b']:g}",
            verdict(row),
        )
        for row in result.table.to_dict("records")
    )
    differs = tuple(
        note
        for name, (x, y) in result.differs.items()
        for note in _difference(name, (names[0], x), (names[1], y))
    )
    only = tuple(
        f"only in {name}: {', '.join(cells)}"
        for name, cells in zip(names, (result.only_a, result.only_b), strict=True)
        if cells
    )
    header = (*shown, "metric", names[0], names[1], "change", "95 % interval", "n", "verdict")
    why = advice.lines(result.table, result.design, result.settings)
    return Table(ident, title, header, rows, (*differs, *only, *result.notes, *why))


def _difference(name: str, a: tuple[str, str], b: tuple[str, str]) -> list[str]:
    """Differences between the sides; only the flags and variables that differ are listed."""
    try:
        x, y = (jsontext.parse(side[1], finite=False) for side in (a, b))
    except InputError:  # most are not JSON
        x, y = None, None
    if isinstance(x, dict) and isinstance(y, dict):
        names = [flag for flag in {**x, **y} if x.get(flag) != y.get(flag)]
        return [
            f"`{flag}`: {x.get(flag, 'unset')} in {a[0]}, {y.get(flag, 'unset')} in {b[0]}" for flag in names
        ]
    if name in compare.FLAGS:
        return [f"`{name}` differ; see each server under Servers"]
    return [f"`{name}`: {a[1]} in {a[0]}, {b[1]} in {b[0]}"]


def _forest(
    ident: str,
    title: str,
    caption: str,
    named: Sequence[tuple[str, Mapping[Any, Any]]],
    result: ablate.Ablation | compare.Comparison,
) -> Chart:
    """Effects with their intervals as rows, one view for each metric; colour and mark show the verdict."""
    views = []
    for metric in dict.fromkeys(row["metric"] for _, row in named):
        effects = [(name, row) for name, row in named if row["metric"] == metric]
        series = [_verdict_series(word, effects) for word in VERDICTS]
        views.append(
            View(
                str(metric),
                (Panel("", tuple(s for s in series if s.x), rows=tuple(name for name, _ in effects)),),
                f"change of {metric}, %",
                zero=0.0,
            )
        )
    text = _VERDICTS_TEXT.format(least=units.percent(result.settings.min_effect))
    return Chart(ident, title, f"{caption} {text}", tuple(views), result.synthetic, "metric")


def _verdict_series(word: str, effects: Sequence[tuple[str, Mapping[Any, Any]]]) -> Series:
    colour, symbol, mark = VERDICTS[word]
    points = [
        (index, name, row)
        for index, (name, row) in enumerate(effects)
        if row["verdict"] == word and row["effect"] == row["effect"]
    ]
    return Series(
        word,
        tuple(100 * row["effect"] for _, _, row in points),
        tuple(float(index) for index, _, _ in points),
        colour,
        "none",
        symbol,
        (mark,) * len(points),
        tuple(_percent(row["low"]) for _, _, row in points),
        tuple(_percent(row["high"]) for _, _, row in points),
        tuple(f"{name}<br>{' '.join(change(row))}<br>{verdict(row)}" for _, name, row in points),
    )


def _percent(share: float) -> float | None:
    return None if share != share else 100 * share  # noqa: PLR0124 - NaN is not itself


NAMED = ("model", "workload", "load_shape")
"""Columns whose values need no label."""


def _place(row: Mapping[Any, Any], shown: Sequence[str]) -> str:
    """The cell of an effect: `w, 64 users, tp 8`. Lengths are omitted if the workload is named."""
    parts = []
    for name in shown:
        if plain(row[name]) == units.ABSENT or ("workload" in shown and name in {"isl", "osl", "images"}):
            continue
        if name in {"concurrency", "request_rate"}:
            parts.append(level_words("closed" if name == "concurrency" else "open", float(row[name])))
        else:
            parts.append(
                plain(row[name]) if name in NAMED else f"{name.removeprefix('axis.')} {plain(row[name])}"
            )
    return ", ".join(parts)
