"""Comparisons, ablations and readings of published tables as text, Markdown, JSON and CSV. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from rocbench import harmless, plaintable, units
from rocbench.judgement import advice
from rocbench.judgement.ablate import Ablation
from rocbench.judgement.compare import Comparison
from rocbench.judgement.published import PublishedTable, Reading
from rocbench.judgement.repeats import repeats_needed
from rocbench.judgement.verdicts import Settings

Column = tuple[str, Callable[[Any], str]]
"""A column's name, and its text for a row of the table."""


def synthetic(words: str) -> str:
    """The note on figures that were not measured on a GPU; empty for others."""
    return f"{words}: no GPU was measured" if words else ""


def comparison(
    result: Comparison,
    *,
    as_markdown: bool = False,
    names: tuple[str, str] = ("A", "B"),
    width: int | None = None,
) -> str:
    """The verdicts of a comparison, the differences, and notes; text rows are folded at `width`."""
    a, b = names
    frame, settings = result.table, result.settings
    table = _table(
        frame,
        varying(frame, result.keys) or result.keys[:1],
        ("metric", lambda row: str(row["metric"])),
        (a, lambda row: _figure(row["mean_a"])),
        (b, lambda row: _figure(row["mean_b"])),
        ("change", lambda row: change(row)[0]),
        ("95 % interval", interval),
        ("n", lambda row: f"{row['n_a']:g}, {row['n_b']:g}"),
        ("CoV", lambda row: f"{units.percent(row['cov_a'])}, {units.percent(row['cov_b'])}"),
        ("verdict", verdict),
    )
    lines = [
        *(f"{name}: {x} in {a}, {y} in {b}" for name, (x, y) in result.differs.items()),
        *(f"only in {a}: {cell}" for cell in result.only_a),
        *(f"only in {b}: {cell}" for cell in result.only_b),
        _counted(frame, "dropped", "invalid rows excluded"),
        _counted(frame, "unknown", "rows of unknown validity included"),
        *result.notes,
        synthetic(result.synthetic),
    ]
    lines += advice.lines(frame, result.design, settings)
    lines.append(
        f"each change is from {a} to {b}; significance level {settings.alpha:.0%}{_shared(settings)}, with Holm's"
        f" correction over {units.count_of(len(frame), 'verdict')}; a change within +-{100 * settings.min_effect:g}% counts as the same"
    )
    return _page(*table, lines, width, as_markdown=as_markdown)


def _shared(settings: Settings) -> str:
    """How many looks share the significance level; empty for one."""
    return f" over {settings.looks} looks" if settings.looks > 1 else ""


def effects(result: Ablation) -> tuple[list[str], list[list[str]]]:
    """Header and rows of an ablation's table."""
    frame = result.table
    return _table(
        frame,
        varying(frame, list(frame.columns[: list(frame.columns).index("factor")])),
        ("factor", lambda row: str(row["factor"])),
        ("level", lambda row: f"{row['level']} against {row['against']}"),
        ("metric", lambda row: str(row["metric"])),
        ("effect", lambda row: change(row)[0]),
        ("95 % interval", lambda row: change(row)[1]),
        ("n", lambda row: f"{row['n']:g}"),
        ("verdict", verdict),
        ("SD ratio", _ratio),
        ("variability", lambda row: str(row["spread"])),
    )


def ablation(result: Ablation, *, as_markdown: bool = False, width: int | None = None) -> str:
    """The effects of an ablation, and verdicts on variability; text rows are folded at `width`."""
    dropped = int(result.table["dropped"].max())
    lines = [
        f"invalid rows excluded: up to {dropped} per effect" if dropped else "",
        *result.notes,
        synthetic(result.synthetic),
        *advice.of_ablation(result.table, result.settings),
        (
            f"effects are differences within the same repeat; significance level {result.settings.alpha:.0%}"
            f"{_shared(result.settings)}; Holm's correction covers all effects, and separately all ratios of standard deviations (SD)"
        ),
    ]
    return _page(*effects(result), lines, width, as_markdown=as_markdown)


def reading(
    table: PublishedTable, result: Reading, *, as_markdown: bool = False, width: int | None = None
) -> str:
    """Verdicts on a published table, level by level, with the smallest and the largest spreads it allows."""
    ratio, low, high = result.spread_ratio
    base, arm = table.base, table.arm
    variability = (
        f"variability over all levels together: {result.spread}; minimum ratio of standard deviations"
    )
    lines = [
        f"{table.title} ({table.source})",
        f"{table.metric}, {arm.name} against {base.name}; CoV {_bounds(arm.cov)} against {_bounds(base.cov)}",
        f"{variability} {ratio:.1f} [{low:.1f}, {high:.1f}]",
        *result.notes,
    ]
    columns: tuple[Column, ...] = (
        ("concurrency", lambda row: str(row["levels"])),
        ("n", lambda row: f"{row['n']:g}"),
        ("effect", lambda row: change(row)[0]),
        ("95 % interval, largest CoVs", lambda row: change(row)[1]),
        ("with smallest CoVs", lambda row: str(row["at_low"])),
        ("with largest CoVs", lambda row: str(row["at_high"])),
        ("verdict", verdict),
        ("variability", lambda row: str(row["spread"])),
    )
    return _page(*_table(result.table, (), *columns), lines, width, as_markdown=as_markdown)


def as_json(frame: pd.DataFrame, **more: Any) -> str:
    """A table's rows and additional values as JSON; absent figures are null."""
    rows = [{str(name): _null(value) for name, value in row.items()} for row in frame.to_dict("records")]
    return json.dumps({**more, "rows": rows}, indent=2, default=str) + "\n"


def as_csv(frame: pd.DataFrame) -> str:
    """A table as CSV; absent figures are empty."""
    return harmless.as_csv(frame)


def _table(frame: pd.DataFrame, keys: Sequence[str], *columns: Column) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table: its keys, then the columns."""
    rows = [
        [*(plain(row[name]) for name in keys), *(text(row) for _, text in columns)]
        for row in frame.to_dict("records")
    ]
    return [*keys, *(name for name, _ in columns)], rows


def varying(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Columns whose values differ between rows; the others would repeat one value."""
    return [name for name in names if len({str(value) for value in frame[name]}) > 1]


def _page(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    lines: Sequence[str],
    width: int | None,
    *,
    as_markdown: bool,
) -> str:
    """A table, and lines below it; empty lines are left out."""
    table = (
        plaintable.markdown_table(header, rows) if as_markdown else plaintable.text_table(header, rows, width)
    )
    notes = [f"* {harmless.safe_markdown(line)}" if as_markdown else line for line in lines if line]
    return "\n".join([table, "", *notes]) + "\n"


def plain(value: Any) -> str:
    """A key's value as text: 64.0 is 64, an absent value a dash."""
    if isinstance(value, float) and value.is_integer():
        return f"{int(value):,}"
    return units.ABSENT if value is None or value != value else str(value)  # noqa: PLR0124 (NaN)


def _figure(value: float) -> str:
    """A figure to four significant digits; a large number keeps all its digits."""
    if not math.isfinite(value):
        return units.ABSENT if math.isnan(value) else str(value)
    return units.number(value, max(0, 3 - math.floor(math.log10(abs(value))))) if value else "0"


def change(row: Any) -> tuple[str, str]:
    """Effect and interval as signed percentages."""
    if math.isnan(row["effect"]):
        return units.ABSENT, units.ABSENT
    around = units.ABSENT if math.isnan(row["low"]) else f"[{row['low']:+.1%}, {row['high']:+.1%}]"
    return f"{row['effect']:+.1%}", around


def interval(row: Any) -> str:
    """The interval; without one, what the repeats alone would say, marked as such."""
    if not math.isnan(row["low"]) or math.isnan(row["low_within"]):
        return change(row)[1]
    return f"at least [{row['low_within']:+.1%}, {row['high_within']:+.1%}]"


def verdict(row: Any) -> str:
    """The verdict, and the repeats needed if it is "cannot tell"; `advice` has the reason if there is no interval."""
    n = row.get("n_needed")
    if row["verdict"] == "cannot tell" and n is not None and not math.isnan(n):
        return f"cannot tell ({repeats_needed(n, row.get('unit') or 'repeat')})"
    note = row.get("note") if row["verdict"] == "cannot tell" and "low_within" not in row else ""
    return f"{row['verdict']} ({note})" if note else str(row["verdict"])


def _ratio(row: Any) -> str:
    if math.isnan(row["sd_ratio"]):
        return units.ABSENT
    low = "<0.01" if row["sd_low"] < 0.01 else f"{row['sd_low']:.2f}"
    high = ">100" if row["sd_high"] > 100 else f"{row['sd_high']:.2f}"
    return f"{row['sd_ratio']:.2f} [{low}, {high}]"


def _bounds(cov: tuple[float, float]) -> str:
    return f"{cov[0]:.1%} to {cov[1]:.1%}"


def _counted(frame: pd.DataFrame, column: str, what: str) -> str:
    """A note on the most rows of a cell that `column` counts on each side; empty if there are none."""
    a, b = int(frame[f"{column}_a"].max()), int(frame[f"{column}_b"].max())
    return f"{what}: up to {a} and {b} per cell" if a or b else ""


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
