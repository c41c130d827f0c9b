"""Effects of factors: designs, the order of arms, and effects from interleaved repeats. Pure.

A factor is a setting with levels; the first level is its base (`aiter: [off, on]`). An arm is one level of
every factor. Arms run interleaved: each repeat measures every arm once, and every second repeat runs them in
reverse order (A B B A), so that a drift of the node that is linear in time falls on all arms alike.

Effects come from differences *within* a repeat: conditions shared by a repeat (temperature, time of day,
cache state) cancel, and the variability of arms may differ. With y the logarithm of the metric, in repeat r:

    full, one_at_a_time   d_r = mean y(factor at level, others alike) - mean y(factor at base, others alike)
    leave_one_out         d_r = y(all at their last level) - y(this factor at its base, the rest at their last)
    pairwise              as one_at_a_time, and the interaction d_r = y(ab) - y(a) - y(b) + y(base)

and the effect is exp(mean d) - 1 with Student's t interval over repeats (Box, Hunter and Hunter, Statistics for
Experimenters, ch. 3-5). Holm's correction covers all effects, and separately all ratios of spread.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from rocbench import stats
from rocbench.errors import InputError
from rocbench.judgement.compare import (
    MATCH,
    NO_BASE,
    REQUEST,
    SETTINGS,
    GroupKey,
    Line,
    Settings,
    axes_of,
    distinguishes,
    flags_of,
    grouped,
    label,
    plain_value,
    sample_notes,
    settle,
    usable,
)
from rocbench.tables.row import MARKS, Row, records, synthetic

Design = Literal["full", "one_at_a_time", "leave_one_out", "pairwise"]
Arm = dict[str, Any]
Levels = Mapping[str, Sequence[Any]]
SpreadWord = Literal["more variable", "less variable", "same", "cannot tell"]

LEVEL_COLUMNS = (*MATCH, *MARKS, "hardware", "model_revision", *REQUEST, "load_spec", "transport")
PROVEN = ("attention_backend", "block_size", "kv_cache_dtype")
"""Facts reported by the started server that only their own factor may change."""
SAME_SPREAD = 2.0
"""Ratio of standard deviations below which (with the whole interval) variability counts as the same."""
FEW = "at least 2 repeats with all arms are needed"


# --- designs


def arms(factors: Levels, design: Design) -> list[Arm]:
    """The arms of a design, the base first, each once.

    full: every combination. one_at_a_time: the base, and each other level alone. leave_one_out: every factor
    at its last level, and each single factor back at its base. pairwise: one_at_a_time, and each pair of
    other levels, which shows the interaction of two factors.

    Raises:
        InputError: a factor has fewer than 2 levels.
    """
    for name, levels in factors.items():
        if len(levels) < 2:
            raise InputError(
                f"factor {name!r} has only one level",
                where="factors",
                fix="give at least two levels, base first",
            )
    base = {name: levels[0] for name, levels in factors.items()}
    singles = [{name: level} for name, levels in factors.items() for level in levels[1:]]
    match design:
        case "full":
            combinations = itertools.product(*factors.values())
            return [dict(zip(factors, combination, strict=True)) for combination in combinations]
        case "one_at_a_time":
            return [base, *(base | single for single in singles)]
        case "leave_one_out":
            last = {name: levels[-1] for name, levels in factors.items()}
            return (
                [last, *(last | {name: base[name]} for name in factors)] if len(factors) > 1 else [base, last]
            )
        case "pairwise":
            pairs = [a | b for a, b in itertools.combinations(singles, 2) if a.keys() != b.keys()]
            return [base, *(base | change for change in (*singles, *pairs))]


def abba_order(arms: int, repeats: int, seed: int) -> list[tuple[int, int]]:
    """Pairs (repeat, arm) in the order to run them; repeats count from 1, arms from 0.

    Each odd repeat runs a random permutation (`seed`); the even repeat after it runs the same in reverse.
    """
    rng = random.Random(seed)
    order: list[tuple[int, int]] = []
    permutation = list(range(arms))
    for repeat in range(1, repeats + 1):
        if repeat % 2:
            rng.shuffle(permutation)
        else:
            permutation.reverse()
        order += [(repeat, arm) for arm in permutation]
    return order


def confounded(arms: Sequence[tuple[Arm, Mapping[str, Any]]]) -> tuple[str, ...]:
    """Facts that arms change in addition to their factor, one sentence each.

    Args:
        arms: each arm, bases first, with facts that only its own factor may change (attention backend, block size,
            KV dtype). From vLLM 0.23, for example, KV offload also selects another attention backend.
    """
    sentences: dict[str, None] = {}
    for (a, facts_a), (b, facts_b) in itertools.combinations(arms, 2):
        changed = [name for name in a if a[name] != b[name]]
        if len(changed) == 1:
            factor = changed[0]
            for name, value in facts_a.items():
                if name != factor and name in facts_b and value != facts_b[name]:
                    step = f"{factor}: {a[factor]} -> {b[factor]}"
                    sentences[f"{step} also changes {name}: {value} -> {facts_b[name]}"] = None
    return tuple(sentences)


# --- effects


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
    table: list[Line] = []
    for level, cells in grouped(rows, levels).items():
        contrasts = _contrasts(_arms_of(cells, factors), factors)
        key = dict(zip(levels, level, strict=True))
        _refuse_twice(cells, factors)
        table += [
            key | _effect(cells, c, factors, metric, settings)
            for c in contrasts
            for metric in settings.metrics
        ]
    if not table:
        raise InputError(
            "no two arms differ in only one factor",
            fix="docs/statistics.md describes the designs that an ablation needs",
        )
    settle(table, settings, _spread_of)
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


def _effect(cells: list[Row], contrast: Contrast, factors: Levels, metric: str, settings: Settings) -> Line:
    """One row of the table, without its verdicts."""
    sides = [
        [tuple(arm[name] for name in factors) for arm in side] for side in (contrast.plus, contrast.minus)
    ]
    rows = [row for row in cells if _arm(row, factors) in (*sides[0], *sides[1])]
    judged = usable(rows, settings)
    y = {
        (_arm(row, factors), (row.get("run_id"), row.get("repeat"))): figure
        for row in judged
        if (figure := row.figure(metric)) is not None
    }
    zero = min(y.values(), default=1.0) <= 0
    y = _shares(y, sides[1], contrast) if zero else {key: math.log(figure) for key, figure in y.items()}
    repeats = dict.fromkeys(repeat for _, repeat in y)
    whole = [r for r in repeats if all((arm, r) in y for arm in (*sides[0], *sides[1]))]
    differences = [_mean(y, sides[0], r) - _mean(y, sides[1], r) for r in whole]
    spread = stats.NO_SPREAD
    if contrast.interaction:
        differences = [2 * d for d in differences]  # the means halve y(ab) + y(base) - y(a) - y(b)
    elif not zero:
        plus, minus = (_by_arm(y, side) for side in sides)
        spread = stats.spread_ratio(minus, plus, 1 - settings.alpha)
    effect = stats.paired(differences, 1 - settings.alpha)
    effect = effect if zero else effect.relative()
    return {
        "factor": contrast.factor,
        "level": contrast.level,
        "against": contrast.against,
        "metric": metric,
        "n": len(differences),
        "effect": effect.estimate,
        "low": effect.low,
        "high": effect.high,
        "p": effect.p,
        "cov_pair": float(np.std(differences, ddof=1)) if len(differences) > 1 else stats.NAN,
        "sd_ratio": spread.ratio,
        "sd_low": spread.low,
        "sd_high": spread.high,
        "p_f": spread.p_f,
        "p_brown_forsythe": spread.p_brown_forsythe,
        "dropped": len(rows) - len(judged),
        "note": ("" if y else NO_BASE) if zero else "" if len(differences) > 1 else FEW,
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
        row["spread"] = decide_spread(spread, p, alpha)


def _spread_of(row: Line) -> tuple[float, float, int]:
    each = row.pop("cov_pair") / math.sqrt(2)  # of one arm, if both are equal
    return each, each, row["n"]


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
