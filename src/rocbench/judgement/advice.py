"""Why a comparison cannot tell, and what would help most, in one line each. Pure."""

from __future__ import annotations

import math
import statistics

import pandas as pd

from rocbench import units
from rocbench.judgement import power
from rocbench.judgement.design import LEAST_FREEDOM, LEAST_PAIRS, ONE_START, Design
from rocbench.judgement.repeats import MOST_REPEATS
from rocbench.judgement.verdicts import Settings


def lines(table: pd.DataFrame, design: Design, settings: Settings) -> list[str]:
    """The unit of judgement, then why verdicts are "cannot tell" and what would help."""
    past = int(table["past_nights"].max())
    shown = f", and {units.count_of(past, f'past {design.level}')} of the same cells" if past else ""
    found = [f"judged by {design.describe()}{shown}"]
    unknown = table[table["verdict"] == "cannot tell"]
    if unknown.empty:
        return found
    unsampled = unknown[unknown["note"] != ""]
    if len(unsampled):
        found += [
            f"cannot tell ({len(rows)} of {len(table)}): {note}"
            for note, rows in unsampled.groupby("note", sort=False)
        ]
        if design.missing or _few(design, table):
            found.append("what would help most: " + "; or ".join(_more(table, design, settings)))
    noisy = unknown[unknown["note"] == ""]
    if len(noisy):
        found.append(_noisy(noisy, table, design, settings))
    return found


def _few(design: Design, table: pd.DataFrame) -> bool:
    return bool(table["low"].isna().all()) and (design.unit != "repeat")


def _more(table: pd.DataFrame, design: Design, settings: Settings) -> list[str]:
    """What would sample the missing level, the cheapest first."""
    options = []
    if design.missing == ONE_START:
        promised = _interleaved(table, settings)
        options.append(
            f"both sides in one run with a server start in every repeat (`factors`, or `restart: per_repeat`): {LEAST_PAIRS}"
            f" repeats{promised}"
        )
    elif design.paired and design.pairs:
        options.append(f"at least {LEAST_PAIRS} {design.plural}, interleaved")
    else:
        promised = _interleaved(table, settings)
        options.append(f"both sides in one run (a sweep with `factors`): {LEAST_PAIRS} repeats{promised}")
    if design.unit in {"night", "run"}:
        seen = sum(len(side) - 1 for side in design.units) + int(table["past_nights"].max())
        more = max(LEAST_FREEDOM - seen, 1)
        options.append(f"{units.count_of(more, f'more {design.unit}')} of either side")
    return options


def _interleaved(table: pd.DataFrame, settings: Settings) -> str:
    """What pairs of repeats would tell, by the spread of repeats; empty if that is unknown."""
    widths = ((table["high_within"] - table["low_within"]) / 2).dropna()
    if widths.empty:
        return ""
    n = max(int(min(table["n_a"].min(), table["n_b"].min())), 1)
    sd = float(statistics.median(widths)) / 2.2 * math.sqrt(n)  # t of about 12 degrees of freedom
    told = power.detectable(
        sd,
        12,
        LEAST_PAIRS,
        paired=True,
        tests=len(table),
        cells=12,
        prior_df=12,
        min_effect=settings.min_effect,
    )
    return "" if math.isnan(told) else f" would tell about {told:.1%}"


def _noisy(rows: pd.DataFrame, table: pd.DataFrame, design: Design, settings: Settings) -> str:
    widths = (rows["high"] - rows["low"]) / 2
    text = (
        f"cannot tell ({len(rows)} of {len(table)}): the intervals are +-{float(widths.median()):.1%} wide,"
        f" and a change of {settings.min_effect:.0%} matters"
    )
    counts = [int(n) for n in rows["n_needed"].dropna()]
    if not counts:
        return text
    n = round(statistics.median(counts))
    if n > MOST_REPEATS:
        return f"{text}; more repeats are not worth measuring (more than {MOST_REPEATS})"
    return f"{text}; {units.number(n)} {units_of(design)} instead of {min(map(len, design.units))} would decide most of them"


def units_of(design: Design) -> str:
    """The units as text: `pairs of server starts`, or `nights of each side`."""
    return design.plural if design.paired else f"{design.plural} of each side"
