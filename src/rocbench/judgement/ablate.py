"""Effects of factors from interleaved repeats (`factorial` has the designs). Pure.

Effects come from differences *within* a repeat: conditions shared by a repeat (temperature, time of day,
cache state) cancel, and the variability of arms may differ. With y the logarithm of the metric, in repeat r:

    full, one_at_a_time   d_r = mean y(factor at level, others alike) - mean y(factor at base, others alike)
    leave_one_out         d_r = y(all at their last level) - y(this factor at its base, the rest at their last)
    pairwise              as one_at_a_time, and the interaction d_r = y(ab) - y(a) - y(b) + y(base)

and the effect is exp(mean d) - 1 (Box, Hunter and Hunter, Statistics for Experimenters, ch. 3-5). Its interval is
Student's t over repeats, with variances shrunk over the levels of the load (`spread`). Holm's correction covers all effects, and separately all ratios of spread.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from rocbench import stats
from rocbench.errors import InputError
from rocbench.judgement import serial, spread
from rocbench.judgement.compare import (
    INFINITE,
    MATCH,
    NO_BASE,
    REQUEST,
    SETTINGS,
    GroupKey,
    axes_of,
    distinguishes,
    flags_of,
    grouped,
    label,
    plain_value,
    sample_notes,
    usable,
)
from rocbench.judgement.design import LEAST_PAIRS, design, lopsided, seconds
from rocbench.judgement.factorial import Arm, Levels, confounded
from rocbench.judgement.looks import alpha_at_each
from rocbench.judgement.verdicts import Line, Settings, settle
from rocbench.records import FloatArray
from rocbench.tables.row import MARKS, Row, figures, records, synthetic

SpreadWord = Literal["more variable", "less variable", "same", "cannot tell"]

LEVEL_COLUMNS = (*MATCH, *MARKS, "hardware", "model_revision", *REQUEST, "load_spec", "transport")
PROVEN = ("attention_backend", "block_size", "kv_cache_dtype")
"""Facts reported by the started server that only their own factor may change."""
SAME_SPREAD = 2.0
"""Ratio of standard deviations below which (with the whole interval) variability counts as the same."""
FEW = f"at least {LEAST_PAIRS} repeats with all arms are needed"


@dataclass(frozen=True, slots=True)
class Contrast:
    """One comparison of arms: weights on the logarithms of their figures, which sum to 0."""

    factor: str
    level: str
    against: str
    plus: tuple[Arm, ...]
    minus: tuple[Arm, ...]
    interaction: bool = False


@dataclass(frozen=True, slots=True)
class Ablation:
    """Effects as a tidy table, one row per level of the load, factor level and metric."""

    table: pd.DataFrame
    """Level columns, factor, level, against, metric, n, effect, low, high, p, p_holm, verdict, n_needed, sd_ratio,
    sd_low, sd_high, p_brown_forsythe, spread (the verdict on variability), dropped, note."""
    factors: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    settings: Settings
    synthetic: str
    """Origin of figures that were not measured on a GPU, as in a comparison."""


def ablate(frame: pd.DataFrame, factors: Levels, settings: Settings | None = None) -> Ablation:
    """Effects of factors from the `cells` rows of an interleaved run.

    Args:
        frame: one row per cell and repeat; factor levels are in `axes` (JSON) or in columns of their own.
        factors: name to levels, base first.
        settings: metrics, minimum effect, alpha.

    Raises:
        InputError: a factor is not in the rows, no two arms share a load level, or a repeat occurs twice.
    """
    settings = settings or Settings()
    settings.directions()  # refuses a metric without a direction before the rows are read
    rows = [row | flags_of(row) for row in records(frame) if _at_factors(row, factors)]
    if not rows:
        raise InputError(
            f"no row has a level of the factor {', '.join(factors)}", fix="give factors of this run"
        )
    levels = _level_columns(rows, factors)
    pairs: list[_Pairs] = []
    for level, cells in grouped(rows, levels).items():
        contrasts = _contrasts(_arms_of(cells, factors), factors)
        key = dict(zip(levels, level, strict=True))
        _refuse_twice(cells, factors)
        pairs += [
            _pairs(key, cells, c, factors, metric, settings) for c in contrasts for metric in settings.metrics
        ]
    if not pairs:
        raise InputError(
            "no two arms differ in only one factor",
            fix="docs/statistics.md describes the designs that an ablation needs",
        )
    _judge(pairs, settings)
    table = [each.line for each in pairs]
    settle(table, settings, paired=True)
    _settle_spread(table, settings.alpha)
    return Ablation(
        table=pd.DataFrame(table),
        factors={name: tuple(str(v) for v in values) for name, values in factors.items()},
        notes=(
            *sample_notes(_by_arms(grouped(rows, levels).values(), factors), settings),
            *_unnamed_axes(rows, levels, factors),
            *_order_notes(rows, levels),
            *_as_served(rows, levels, factors),
        ),
        settings=settings,
        synthetic=synthetic(row.origin for row in rows),
    )


def _level(row: Row, factor: str) -> Any:
    """A row's level of a factor: the plan's value (axes), else the column of that name."""
    return _level_value(row.get(f"axis.{factor}", row.get(factor)))


def _level_value(level: Any) -> Any:
    return {True: "on", False: "off"}[level] if isinstance(level, bool) else plain_value(level)


def _at_factors(row: Row, factors: Levels) -> bool:
    return all(_level(row, name) is not None for name in factors)


def _level_columns(rows: list[Row], factors: Levels) -> list[str]:
    """LEVEL_COLUMNS, and each other setting that differs within one arm, so that only factors are mixed."""
    names = [name for name in LEVEL_COLUMNS if any(row.get(name) is not None for row in rows)]
    flags = dict.fromkeys(name for row in rows for name in row if name.startswith("flag "))
    for name in (*axes_of(rows), *SETTINGS, *flags):
        if any(distinguishes(name, cells) for cells in _by_arms(grouped(rows, names).values(), factors)):
            names.append(name)
    return names


def _by_arms(groups: Iterable[list[Row]], factors: Levels) -> list[list[Row]]:
    """Groups of rows, each divided into its arms."""
    return [
        [row for row in rows if _arm(row, factors) == arm]
        for rows in groups
        for arm in _arms_of(rows, factors)
    ]


def _refuse_twice(rows: list[Row], factors: Levels) -> None:
    """Refuse two rows for the same repeat of the same arm: one would replace the other.

    Raises:
        InputError: there are such rows.
    """
    seen: set[tuple[GroupKey, Any, Any]] = set()
    for row in rows:
        key = _arm(row, factors), row.get("run_id"), row.get("repeat")
        if key in seen:
            raise InputError(
                f"{row.get('key')}: repeat {row.get('repeat')} of {label(list(factors), key[0])} occurs twice",
                fix="give each run only once, and use --factor to name every factor that differs between the cells",
            )
        seen.add(key)


def _arm(row: Row, factors: Levels) -> GroupKey:
    return tuple(str(_level(row, name)) for name in factors)


def _arms_of(rows: list[Row], factors: Levels) -> list[GroupKey]:
    return list(dict.fromkeys(_arm(row, factors) for row in rows))


def _contrasts(arms: list[GroupKey], factors: Levels) -> list[Contrast]:
    """Every contrast of these arms: of a level against its factor's base, and of two levels together."""
    names = list(factors)
    base = {name: str(_level_value(levels[0])) for name, levels in factors.items()}
    known = [dict(zip(names, arm, strict=True)) for arm in arms]
    contrasts: list[Contrast] = []
    for name in names:
        for level in dict.fromkeys(arm[name] for arm in known):
            plus = [arm for arm in known if arm[name] == level and arm | {name: base[name]} in known]
            if level != base[name] and plus:
                minus = tuple(arm | {name: base[name]} for arm in plus)
                contrasts.append(Contrast(name, level, base[name], tuple(plus), minus))
    for one, other in itertools.combinations(names, 2):
        for arm in known:
            alone = arm | {other: base[other]}, arm | {one: base[one]}
            none = arm | {one: base[one], other: base[other]}
            off_base = [name for name in names if arm[name] != base[name]]
            if off_base == [one, other] and all(a in known for a in (*alone, none)):
                level = f"{arm[one]} x {arm[other]}"
                contrasts.append(
                    Contrast(f"{one} x {other}", level, "sum of both", (arm, none), alone, interaction=True)
                )
    return contrasts


@dataclass(frozen=True, slots=True)
class _Pairs:
    """One contrast in one cell and metric: its line, and within each repeat the mean logarithm of both sides."""

    line: Line
    server: GroupKey
    plus: dict[Any, float]
    minus: dict[Any, float]
    factor: float
    """Of the difference plus - minus: 2 for an interaction, whose sides halve it."""
    linear: bool
    """Shares of the base's mean instead of logarithms."""
    missing: str
    """Why the arms give no interval; empty if they do."""


def _pairs(
    key: Line, cells: list[Row], contrast: Contrast, factors: Levels, metric: str, settings: Settings
) -> _Pairs:
    """One row of the table, without effect and verdicts."""
    arms_ = [
        [tuple(arm[name] for name in factors) for arm in side] for side in (contrast.plus, contrast.minus)
    ]
    rows = [row for row in cells if _arm(row, factors) in (*arms_[0], *arms_[1])]
    judged = usable(rows, settings)
    y = {
        (_arm(row, factors), (str(row.get("run_id")), row.get("repeat"))): figure
        for row in judged
        if (figure := row.figure(metric)) is not None and math.isfinite(figure)
    }
    zero = min(y.values(), default=1.0) <= 0
    y = _shares(y, arms_[1], contrast) if zero else {key: math.log(figure) for key, figure in y.items()}
    spread_ = stats.NO_SPREAD
    if not contrast.interaction and not zero:
        plus, minus = (_by_arm(y, side) for side in arms_)
        spread_ = stats.spread_ratio(minus, plus, 1 - settings.alpha)
    by_run, missing = _sampled(judged, arms_, factors)
    missing = INFINITE if math.inf in map(abs, figures(judged, metric)) else missing
    y = _by_run(y) if by_run else y
    repeats = dict.fromkeys(repeat for _, repeat in y)
    whole = [r for r in repeats if all((arm, r) in y for arm in (*arms_[0], *arms_[1]))]
    few = "" if zero or len(whole) >= LEAST_PAIRS else FEW
    line = key | {
        "factor": contrast.factor,
        "level": contrast.level,
        "against": contrast.against,
        "metric": metric,
        "n": len(whole),
        "sd_ratio": spread_.ratio,
        "sd_low": spread_.low,
        "sd_high": spread_.high,
        "p_f": spread_.p_f,
        "p_brown_forsythe": spread_.p_brown_forsythe,
        "dropped": len(rows) - len(judged),
        "note": NO_BASE if zero and not y else missing or few,
    }
    plus_, minus_ = ({r: _mean(y, side, r) for r in whole} for side in arms_)
    factor = 2.0 if contrast.interaction else 1.0
    return _Pairs(line, (key.get("model"),), plus_, minus_, factor, zero, missing)


def _sampled(rows: Sequence[Row], arms_: Sequence[Sequence[GroupKey]], factors: Levels) -> tuple[bool, str]:
    """Whether the pairs are runs instead of repeats, and why they show no variation (empty if they do), as in a comparison."""
    plus, minus = ([row for row in rows if _arm(row, factors) in side] for side in arms_)
    shared = {row.get("run_id") for row in plus} & {row.get("run_id") for row in minus}
    sides = [[row for row in side if row.get("run_id") in shared] for side in (minus, plus)]
    if not shared:
        return False, ""
    how = design([sides[0]], [sides[1]])
    if how.unit != "pair of runs":
        return False, how.missing
    return True, how.missing or _same_order(sides)


def _same_order(sides: Sequence[Sequence[Row]]) -> str:
    """Why runs whose arms ran one after the other show no effect; empty if the order alternates, or is unknown."""
    first: list[dict[Any, float]] = [{}, {}]
    for found, rows in zip(first, sides, strict=True):
        for row in rows:
            if (start := seconds(row)) is not None:
                found[row.get("run_id")] = min(start, found.get(row.get("run_id"), start))
    if not lopsided(1 if first[1][run] > start else -1 for run, start in first[0].items() if run in first[1]):
        return ""
    return "the same arm ran first in most runs, so a drift looks like an effect: alternate the order"


def _by_run(y: Mapping[tuple[GroupKey, Any], float]) -> dict[tuple[GroupKey, Any], float]:
    """The mean of each arm's repeats in each run."""
    found: dict[tuple[GroupKey, Any], list[float]] = {}
    for (arm, (run, _)), value in y.items():
        found.setdefault((arm, (run, 0)), []).append(value)
    return {key: sum(values) / len(values) for key, values in found.items()}


def _judge(pairs: Sequence[_Pairs], settings: Settings) -> None:
    """Add effect, interval, p and the spread of pairs to the lines; a contrast's levels of load are judged together."""
    groups: dict[GroupKey, dict[str, list[_Pairs]]] = {}
    for each in pairs:
        line = each.line
        key = (each.server, line["factor"], line["level"], line["against"])
        groups.setdefault(key, {}).setdefault(line["metric"], []).append(each)
    for metrics in groups.values():
        repeats = sorted(
            {r for cells in metrics.values() for each in cells for r in each.plus}, key=_place_of
        )
        sides = [[_matrix(cells, repeats, name) for name in ("plus", "minus")] for cells in metrics.values()]
        differences = [plus - minus for plus, minus in sides]
        rho, error = serial.correlation([spread.rest(each) for each in differences])
        factor = serial.inflation(rho, error, len(repeats))
        patterns = spread.patterns(sides)
        for cells, difference, pattern in zip(metrics.values(), differences, patterns, strict=True):
            found = spread.paired(difference, pattern, factor)
            for c, each in enumerate(cells):
                _fill(each, found, c, factor, settings)


def _place_of(repeat: tuple[str, Any]) -> tuple[str, float]:
    return repeat[0], repeat[1] or 0


def _matrix(cells: Sequence[_Pairs], repeats: Sequence[Any], side: str) -> FloatArray:
    """A side's figures; shape (repeats, cells), NaN where absent."""
    return np.array([[getattr(each, side).get(r, stats.NAN) for each in cells] for r in repeats]).reshape(
        len(repeats), len(cells)
    )


def _fill(each: _Pairs, found: spread.Difference, cell: int, factor: float, settings: Settings) -> None:
    line, n = each.line, each.line["n"]
    effect = found.effect(cell, 1 - alpha_at_each(settings.looks, settings.alpha)) if n else stats.NO_EFFECT
    told = n >= LEAST_PAIRS and not each.missing
    if not told:
        effect = stats.Effect(effect.estimate, stats.NAN, stats.NAN, stats.NAN)
    effect = effect.times(each.factor)
    effect = effect if each.linear else effect.relative()
    line |= {
        "effect": effect.estimate,
        "low": effect.low,
        "high": effect.high,
        "p": min(1.0, effect.p * settings.looks) if told else stats.NAN,
        "units": n,
        "unit_sd": math.sqrt(found.unit.variance[cell]) * each.factor,
        "unit_df": float(found.unit.plain_df[cell]),
        "pooling": float(found.unit.pooling[cell]),
        "effective_units": n / factor,
    }


def _shares(
    y: Mapping[tuple[GroupKey, Any], float], base: Sequence[GroupKey], contrast: Contrast
) -> dict[tuple[GroupKey, Any], float]:
    """Figures as shares of the base's mean, used if one is 0 and has no logarithm. Empty without a base."""
    figures = [figure for (arm, _), figure in y.items() if arm in base]
    mean = sum(figures) / len(figures) if figures else 0.0
    if mean <= 0 or contrast.interaction:
        return {}
    return {key: figure / mean for key, figure in y.items()}


def _mean(y: Mapping[tuple[GroupKey, Any], float], side: Sequence[GroupKey], repeat: Any) -> float:
    return sum(y[arm, repeat] for arm in side) / len(side)


def _by_arm(y: Mapping[tuple[GroupKey, Any], float], side: Sequence[GroupKey]) -> list[list[float]]:
    """The logarithms of each arm of a side: their spread is relative, like a coefficient of variation."""
    return [[value for (a, _), value in y.items() if a == arm] for arm in dict.fromkeys(side)]


def decide_spread(spread: stats.Spread, p_adjusted: float, alpha: float) -> SpreadWord:
    """Verdict on variability, by Brown-Forsythe (adjusted) and the F interval together; same within 2x."""
    if math.isnan(spread.low) or math.isnan(p_adjusted):
        return "cannot tell"
    if p_adjusted < alpha and not spread.low <= 1 <= spread.high:
        return "more variable" if spread.ratio > 1 else "less variable"
    if spread.low > 1 / SAME_SPREAD and spread.high < SAME_SPREAD:
        return "same"
    return "cannot tell"


def _settle_spread(rows: list[Line], alpha: float) -> None:
    """Add the verdict on variability to every row."""
    adjusted = stats.holm([row["p_brown_forsythe"] for row in rows])
    for row, p in zip(rows, adjusted, strict=True):
        spread = stats.Spread(
            row["sd_ratio"], row["sd_low"], row["sd_high"], row.pop("p_f"), row["p_brown_forsythe"]
        )
        unsampled = row["note"] not in {"", NO_BASE, FEW}
        row["spread"] = "cannot tell" if unsampled else decide_spread(spread, p, alpha)


def _unnamed_axes(rows: list[Row], levels: Sequence[str], factors: Levels) -> list[str]:
    """Notes on axes that change with an arm and are not factors: their effect is mixed with the factor's."""
    others = [name for name in axes_of(rows) if name.removeprefix("axis.") not in factors]
    mixed = [
        name for name in others if any(distinguishes(name, cells) for cells in grouped(rows, levels).values())
    ]
    return [
        f"{name} also differs between the arms, so the effect of {name} is mixed with that of the factor"
        for name in mixed
    ]


def _as_served(rows: list[Row], levels: Sequence[str], factors: Levels) -> list[str]:
    """Notes on differences between servers in addition to the factors, by the proof after start."""
    order = {name: [str(_level_value(level)) for level in values] for name, values in factors.items()}
    notes: dict[str, None] = {}
    for cells in grouped(rows, levels).values():
        arms: list[tuple[Arm, dict[str, str]]] = []
        for row in cells:
            arm = dict(zip(factors, _arm(row, factors), strict=True))
            facts = {name: str(row[name]) for name in PROVEN if row.get(name) is not None}
            if facts and (arm, facts) not in arms:
                arms.append((arm, facts))
        arms.sort(key=lambda known: [_place(order[name], level) for name, level in known[0].items()])
        model = cells[0].get("model")
        notes |= {f"{model}, from the server's own report: {sentence}": None for sentence in confounded(arms)}
    return list(notes)


def _place(levels: Sequence[str], level: str) -> int:
    return levels.index(level) if level in levels else len(levels)


def _order_notes(rows: list[Row], levels: Sequence[str]) -> tuple[str, ...]:
    """A warning if the rows' times show that the arms did not run interleaved."""
    if not all(row.get("started_at") for row in rows):
        return ()
    for cells in grouped(rows, (*levels, "run_id")).values():  # each run counts its repeats from 1
        ordered = [row["repeat"] for row in sorted(cells, key=lambda row: str(row["started_at"]))]
        if ordered != sorted(ordered):
            return ("the arms were not interleaved: a change of the node over time can look like an effect",)
    return ()
