"""Verdicts on a published table of means: two arms, per level, with CoVs known only within bounds. Pure.

A table that states "CoV 1-5 %" does not give the CoV at one level. Every level is judged twice: with the smallest
spreads that the statement allows, and with the largest. A verdict is given only if both agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from pydantic import Field, model_validator

from rocbench import stats
from rocbench.column import Better
from rocbench.judgement.ablate import SpreadWord, decide_spread
from rocbench.judgement.verdicts import ALPHA, MIN_EFFECT, Decision, Settings, decide, needed
from rocbench.settings.strict import Strict


class ArmSpread(Strict):
    """One arm: its name and the bounds of its coefficient of variation over repeats."""

    name: str
    cov: tuple[float, float]

    @model_validator(mode="after")
    def _ordered(self) -> ArmSpread:
        if not 0 < self.cov[0] <= self.cov[1] < 1:
            raise ValueError("cov must be [low, high] as shares: for example, [0.01, 0.05] for 1-5 %")
        return self


class PublishedLevel(Strict):
    """Mean of each arm at one level of the load."""

    concurrency: int = Field(gt=0, le=1_000_000)
    base: float = Field(gt=0, le=1e21)
    arm: float = Field(gt=0, le=1e21)


class PublishedTable(Strict):
    """A published table."""

    title: str
    source: str
    metric: str
    better: Literal["higher", "lower"] = "higher"
    repeats: int = Field(gt=1, le=1000)
    requests: int | None = Field(default=None, gt=0, le=10_000_000)
    """Requests per level and run, which is also the maximum ever in flight."""
    base: ArmSpread
    arm: ArmSpread
    levels: tuple[PublishedLevel, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """Verdicts on the table."""

    table: pd.DataFrame
    """One row per level, and one per group of levels that were one condition: levels, n, effect, low and high (with
    the largest spreads), verdict (the same for all spreads), at_low, at_high (verdicts with the smallest and
    the largest spreads), p_holm_low, p_holm_high, n_needed, sd_ratio_low, sd_ratio_high, spread, note."""
    spread_ratio: tuple[float, float, float]
    """Minimum ratio of standard deviations over all levels that the bounds allow, with its 95 % interval."""
    spread: SpreadWord
    notes: tuple[str, ...]


def read(table: PublishedTable, *, min_effect: float = MIN_EFFECT, alpha: float = ALPHA) -> Reading:
    """Judge a published table level by level."""
    groups: list[tuple[PublishedLevel, ...]] = [(level,) for level in table.levels]
    capped = _one_condition(table)
    if capped:
        groups.append(capped)
    low, high = (_effects(table, groups, end, alpha) for end in (0, 1))
    words_low, holm_low = _words(low, groups, table.better, min_effect, alpha)
    words_high, holm_high = _words(high, groups, table.better, min_effect, alpha)
    spreads = [_spreads(table, group, alpha) for group in groups]
    rows = [
        {
            "levels": ", ".join(str(level.concurrency) for level in group),
            "n": table.repeats * len(group),
            "effect": high[i].estimate,
            "low": high[i].low,
            "high": high[i].high,
            "verdict": words_low[i] if words_low[i] == words_high[i] else "cannot tell",
            "at_low": words_low[i],
            "at_high": words_high[i],
            "p_holm_low": holm_low[i],
            "p_holm_high": holm_high[i],
            "n_needed": _needed(table, min_effect, alpha) if words_high[i] == "cannot tell" else None,
            "sd_ratio_low": spreads[i][0].ratio,
            "sd_ratio_high": spreads[i][1].ratio,
            "spread": _spread_word(spreads[i], len(table.levels), alpha),
            "note": _note(words_low[i], words_high[i], group),
        }
        for i, group in enumerate(groups)
    ]
    least = _pooled_spread(table, alpha)
    word = decide_spread(least, least.p_f, alpha)
    return Reading(pd.DataFrame(rows), (least.ratio, least.low, least.high), word, _notes(table, capped))


def _one_condition(table: PublishedTable) -> tuple[PublishedLevel, ...]:
    """Levels at or above the number of requests: all had the same number in flight. Empty unless several."""
    if table.requests is None:
        return ()
    capped = tuple(level for level in table.levels if level.concurrency >= table.requests)
    return capped if len(capped) > 1 else ()


def _effects(
    table: PublishedTable, groups: Sequence[Sequence[PublishedLevel]], end: Literal[0, 1], alpha: float
) -> list[stats.Effect]:
    """Relative effect of each group of levels with the CoVs at one end of their bounds."""
    effects = []
    for group in groups:
        n = table.repeats * len(group)
        base, arm = (
            (sum(math.log(value) for value in values) / len(group), _sd_log(cov[end]), n)
            for values, cov in (
                ([level.base for level in group], table.base.cov),
                ([level.arm for level in group], table.arm.cov),
            )
        )
        effects.append(stats.welch_from_moments(base, arm, 1 - alpha).relative())
    return effects


def _sd_log(cov: float) -> float:
    """Standard deviation of the logarithm of a lognormal variable with this coefficient of variation."""
    return math.sqrt(math.log1p(cov**2))


def _words(
    effects: Sequence[stats.Effect],
    groups: Sequence[Sequence[PublishedLevel]],
    way: Better,
    min_effect: float,
    alpha: float,
) -> tuple[list[Decision], list[float]]:
    """Verdicts and adjusted p: Holm over all levels; for a group, over it and the levels outside it."""
    p = [effect.p for effect in effects]
    single = [i for i, group in enumerate(groups) if len(group) == 1]
    adjusted = dict(zip(single, stats.holm([p[i] for i in single]), strict=True))
    for i, group in enumerate(groups):
        if len(group) > 1:
            distinct = [i, *(k for k in single if groups[k][0] not in group)]
            adjusted[i] = stats.holm([p[k] for k in distinct])[0]
    words = [decide(e, adjusted[i], way, min_effect, alpha) for i, e in enumerate(effects)]
    return words, [adjusted[i] for i in range(len(effects))]


def _needed(table: PublishedTable, min_effect: float, alpha: float) -> int | None:
    settings = Settings(min_effect=min_effect, alpha=alpha)
    sd = math.hypot(_sd_log(table.base.cov[1]), _sd_log(table.arm.cov[1]))
    return needed(sd, math.inf, table.repeats, settings, len(table.levels), paired=False)


def _spreads(
    table: PublishedTable, group: Sequence[PublishedLevel], alpha: float
) -> tuple[stats.Spread, stats.Spread]:
    """Minimum and maximum ratio of standard deviations, arm over base, that the bounds allow."""
    n = (table.repeats - 1) * len(group) + 1
    least = stats.spread_from_moments((table.base.cov[1], n), (table.arm.cov[0], n), 1 - alpha)
    most = stats.spread_from_moments((table.base.cov[0], n), (table.arm.cov[1], n), 1 - alpha)
    return least, most


def _spread_word(spreads: tuple[stats.Spread, stats.Spread], levels: int, alpha: float) -> SpreadWord:
    """The verdict on variability on which both ends of the bounds agree, by F with Bonferroni over levels."""
    words = {decide_spread(spread, min(1.0, spread.p_f * levels), alpha) for spread in spreads}
    return words.pop() if len(words) == 1 else "cannot tell"


def _pooled_spread(table: PublishedTable, alpha: float) -> stats.Spread:
    """The minimum ratio over all levels together: each level adds its degrees of freedom."""
    least, most = _spreads(table, table.levels, alpha)
    if least.ratio >= 1:
        return least
    if most.ratio <= 1:
        return most
    middle = math.sqrt(least.ratio * most.ratio)
    return stats.Spread(middle, least.low, most.high, 1.0, stats.NAN)


def _note(at_low: Decision, at_high: Decision, group: Sequence[PublishedLevel]) -> str:
    one = f"the same condition, measured {len(group)} times; " if len(group) > 1 else ""
    if at_low != at_high:
        return f"{one}{at_low} with the smallest CoVs, {at_high} with the largest"
    return one + ("for all possible CoVs" if at_low != "cannot tell" else "even with the smallest CoVs")


def _notes(table: PublishedTable, capped: Sequence[PublishedLevel]) -> tuple[str, ...]:
    notes = [
        "the table states only the smallest and the largest CoV over all levels; means are rounded as published",
        "the source does not state the order of the arms or server restarts: drift or variation between server starts may explain the effects",
    ]
    if capped:
        levels = ", ".join(str(level.concurrency) for level in capped)
        notes.append(
            f"with {table.requests} requests per level, levels {levels} had at most {table.requests} in flight:"
            " these levels repeat one condition and show no trend with the load"
        )
    return tuple(notes)
