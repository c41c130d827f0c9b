"""Why a comparison cannot tell, and what would help most, in one line each. Pure."""

from __future__ import annotations

import math
import statistics

import pandas as pd

from rocbench import units
from rocbench.judgement import power
from rocbench.judgement.ablate import FEW
from rocbench.judgement.compare import NO_BASE
from rocbench.judgement.design import LEAST_FREEDOM, LEAST_PAIRS, ONE_START, Design
from rocbench.judgement.repeats import MOST_REPEATS
from rocbench.judgement.verdicts import RESERVE, Settings

ENOUGH_FOR_SPREADS = 20
"""Repeats that show a threefold ratio of standard deviations (docs/statistics.md)."""


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
        found += _reasons(unsampled, len(table))
        if unsampled["effect"].notna().any() and (design.missing or _few(design, table)):
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
    """What pairs of repeats would tell, by the spread of these repeats; empty if that is unknown."""
    known = table[(table["repeat_df"] > 0) & table["repeat_sd"].notna()]
    if known.empty:
        return ""
    models = table["model"].nunique() if "model" in table else 1
    cells = len(table) / table["metric"].nunique() / models  # that would share a server, and so a variance
    sd, df = (float(known[name].median()) for name in ("repeat_sd", "repeat_df"))
    told = _detectable(sd, df, cells, LEAST_PAIRS, len(table), settings)
    return "" if math.isnan(told) else f" would tell about {told:.1%}"


def _detectable(sd: float, df: float, cells: float, n: int, tests: int, settings: Settings) -> float:
    """The smallest change that n pairs tell with 80 % power; NaN if none."""
    return power.detectable(
        sd,
        df,
        n,
        paired=True,
        tests=tests,
        cells=max(round(cells), 1),
        alpha=settings.alpha * RESERVE,
        looks=settings.looks,
        min_effect=settings.min_effect,
    )


def _noisy(rows: pd.DataFrame, table: pd.DataFrame, design: Design, settings: Settings) -> str:
    fewest = min(map(len, design.units))
    text = _wide(rows, len(table), settings, what=units_of(design), fewest=fewest, paired=design.paired)
    few = [n for n in rows["n_needed"] if n is not None and n <= LEAST_PAIRS]
    if design.paired or design.unit == "repeat" or 2 * len(few) > len(rows):  # as few nights are as cheap
        return text
    told = f"{LEAST_PAIRS} repeats{_interleaved(table, settings)}"
    return f"{text}; or both sides in one run (a sweep with `factors`), so that what differs between {design.level}s cancels: {told}"


def of_ablation(table: pd.DataFrame, settings: Settings) -> list[str]:
    """Why effects and variability of an ablation are "cannot tell", and what would help most."""
    unknown = table[table["verdict"] == "cannot tell"]
    found = _reasons(unknown[unknown["note"] != ""], len(table))
    if not unknown["note"].isin(["", FEW, NO_BASE]).all():
        found.append(
            "what would help most: `factors` in the sweep, which starts every arm in every repeat:"
            f" {LEAST_PAIRS} repeats or more"
        )
    noisy = unknown[unknown["note"] == ""]
    if len(noisy):
        fewest = int(noisy["n"].min())
        found.append(_wide(noisy, len(table), settings, what="repeats", fewest=fewest, paired=True))
    open_ = table[(table["spread"] == "cannot tell") & table["note"].isin(["", FEW])]
    spreads, repeats = len(open_), int(open_["n"].min()) if len(open_) else 0
    if spreads and repeats < ENOUGH_FOR_SPREADS:
        found.append(
            f"variability cannot be told ({spreads} of {len(table)}) from {units.count_of(repeats, 'repeat')}:"
            f" {ENOUGH_FOR_SPREADS} show a threefold standard deviation"
        )
    return found


def _reasons(rows: pd.DataFrame, tests: int) -> list[str]:
    """Why verdicts have no interval, a line for each reason."""
    grouped = rows.groupby("note", sort=False)
    return [f"cannot tell ({len(each)} of {tests}): {note}" for note, each in grouped]


def _wide(rows: pd.DataFrame, tests: int, settings: Settings, *, what: str, fewest: int, paired: bool) -> str:
    """The intervals of undecided rows, and the units that would decide them."""
    width = float(((rows["high"] - rows["low"]) / 2).median())
    text = f"cannot tell ({len(rows)} of {tests}): the intervals are +-{width:.1%} wide, and " + (
        f"a change of {100 * settings.min_effect:g}% matters" if settings.min_effect else "any change matters"
    )
    counts = [MOST_REPEATS + 1 if n is None or math.isnan(n) else int(n) for n in rows["n_needed"]]
    n = round(statistics.median(counts))
    if n <= MOST_REPEATS:
        return f"{text}; {units.number(n)} {what} instead of {fewest} would decide most of them"
    text += f"; more than {MOST_REPEATS} {what} would be needed"
    if not paired:
        return text
    more = min(max(10, 2 * fewest), MOST_REPEATS)
    middle = rows.median(numeric_only=True)
    sd = float(middle["unit_sd"] * math.sqrt(middle["units"] / middle["effective_units"]))
    told = _detectable(sd, float(middle["unit_df"]), float(middle["pooling"]), more, tests, settings)
    return text if math.isnan(told) else f"{text}, and {more} would tell about {told:.1%}"


def units_of(design: Design) -> str:
    """The units as text: `pairs of server starts`, or `nights of each side`."""
    return design.plural if design.paired else f"{design.plural} of each side"
