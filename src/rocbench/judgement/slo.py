"""The largest load that meets an SLO, and the saturation point. Pure: trials in, the next level out.

Search: double the level until one fails, then bisect between the largest that passed and the smallest that
failed. A level whose repeats straddle the limit is measured again. A level that stays undecided counts as failed,
because a capacity must be shown. A level whose load the client did not deliver does not describe the server: it
ends the doubling and is reported as such.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np

from rocbench import stats
from rocbench.columns import CELLS
from rocbench.settings.goals import Search

Outcome = Literal["pass", "fail", "unclear", "not delivered"]

SHARES = {column.name for column in CELLS if column.unit == "share"}
COMPARISONS = ("<=", ">=", "<", ">")


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit on a column of `cells`: `p99_ttft_ms <= 2000`."""

    metric: str
    comparison: Literal["<=", ">=", "<", ">"]
    value: float

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {self.value:g}"

    @property
    def upper(self) -> bool:
        """True if the metric must stay below the limit."""
        return self.comparison.startswith("<")

    def met(self, figure: float) -> bool:
        """Return True if one figure meets the limit."""
        match self.comparison:
            case "<=":
                return figure <= self.value
            case ">=":
                return figure >= self.value
            case "<":
                return figure < self.value
            case _:
                return figure > self.value

    def judge(
        self, figures: Sequence[float], confidence: float = stats.CONFIDENCE, *, margin: float = 0.0
    ) -> Outcome:
        """Judge repeats: pass or fail if the mean's t interval lies on one side of the limit, else unclear.

        One repeat has no interval: it is judged by its value, and is unclear within `margin` (a share) of the limit.
        For a share such as 0.99 the margin applies to its distance from 1, the maximum.
        """
        if not figures:
            return "unclear"
        interval = stats.mean_interval(figures, confidence)
        if interval.n == 1:
            scale = abs(1 - self.value) if self.metric in SHARES else abs(self.value)
            if abs(interval.estimate - self.value) < margin * scale:
                return "unclear"
            return "pass" if self.met(interval.estimate) else "fail"
        low, high = self.met(interval.low), self.met(interval.high)
        return "unclear" if low != high else "pass" if low else "fail"


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement at one level."""

    level: float
    figures: Mapping[str, float | None]
    """Value of each metric."""
    delivered: bool = True
    """False if the users (or the rate) were not delivered, or the client was saturated."""


class _Measured(Protocol):
    @property
    def level(self) -> float | None: ...


T = TypeVar("T", bound=_Measured)


def by_level(measurements: Iterable[T]) -> dict[float, list[T]]:
    """Measurements grouped by their level, in ascending order; a measurement without a level has level 0."""
    groups: dict[float, list[T]] = {}
    for each in measurements:
        groups.setdefault(each.level or 0.0, []).append(each)
    return dict(sorted(groups.items()))


def level_list(levels: Iterable[float]) -> str:
    """Levels as text: `1, 8, 2.5`."""
    return ", ".join(f"{level:g}" for level in levels)


@dataclass(frozen=True, slots=True)
class Step:
    """The next step: measure `level`, or stop."""

    level: float | None
    """The next level; None if the search has ended."""
    best: float | None
    """Largest level shown to meet every limit so far."""
    failed: float | None
    """Smallest level above `best` that did not."""
    why: str


def next_step(trials: Sequence[Trial], limits: Sequence[Limit], search: Search, *, whole: bool) -> Step:
    """The next level to measure, given all trials so far; `whole` levels are whole numbers (users)."""
    outcomes = {level: outcome_of(at_level, limits, search) for level, at_level in by_level(trials).items()}
    best = max((level for level, outcome in outcomes.items() if outcome == "pass"), default=None)
    above = [
        level for level, outcome in outcomes.items() if outcome != "pass" and (best is None or level > best)
    ]
    failed = min(above, default=None)
    unclear = [level for level, outcome in outcomes.items() if outcome == "unclear"]
    if unclear:
        return Step(unclear[0], best, failed, "repeats lie on both sides of a limit: measure again")
    if failed is None:
        if best is None:
            return Step(search.low, None, None, "begin at the lowest level")
        if best >= search.high:
            return Step(
                None, best, None, "every level meets the limits, up to the highest level of the search"
            )
        return Step(min(best * 2, search.high), best, None, "double")
    why = (
        "the requested load was not reached" if outcomes[failed] == "not delivered" else "a limit is not met"
    )
    if best is None:
        if failed <= search.low:
            return Step(None, None, failed, f"at the lowest level {why}")
        return Step(max(search.low, _rounded(failed / 2, whole=whole)), None, failed, "halve")
    middle = _middle(best, failed, search.relative_step, whole=whole)
    if middle is None:
        return Step(None, best, failed, f"bracketed: at {failed:g} {why}")
    return Step(middle, best, failed, "bisect")


def _middle(best: float, failed: float, relative_step: float, *, whole: bool) -> float | None:
    """Geometric middle of the bracket, or None if it is narrow enough."""
    if failed / best - 1 <= relative_step or (whole and failed - best <= 1):
        return None
    middle = _rounded(math.sqrt(best * failed), whole=whole)
    return min(max(middle, best + 1), failed - 1) if whole else middle


def _rounded(level: float, *, whole: bool) -> float:
    return float(round(level)) if whole else level


def outcome_of(trials: Sequence[Trial], limits: Sequence[Limit], search: Search) -> Outcome:
    """Outcome of one level against every limit, by all its repeats."""
    delivered = [trial for trial in trials if trial.delivered]
    if not delivered:
        return "not delivered"
    judged = [
        limit.judge(
            [v for t in delivered if (v := t.figures.get(limit.metric)) is not None], margin=search.margin
        )
        for limit in limits
    ]
    if "fail" in judged:
        return "fail"
    if "unclear" in judged:
        return "fail" if len(trials) >= search.max_repeats else "unclear"
    return "pass"


# --- saturation


@dataclass(frozen=True, slots=True)
class Saturation:
    """The load above which more users bring less than the required gain."""

    level: float | None
    """The smallest level from which every doubling brings less; None if there is none."""
    low: float | None
    high: float | None
    """95 % interval by bootstrap over repeats; `high` is None if some resamples never saturate."""
    peak: float | None
    """Highest mean throughput of a delivered level."""
    excluded: tuple[float, ...]
    """Levels that are excluded because their users were not delivered."""
    note: str


def saturation(
    throughput: Mapping[float, Sequence[float]],
    delivered: Mapping[float, bool],
    *,
    gain: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
) -> Saturation:
    """The saturation point of a throughput curve.

    Level i is saturated when every later step, scaled to a doubling of the level, brings less than `gain`:
    (T[j+1] / T[j]) ^ (1 / log2(L[j+1] / L[j])) - 1 < gain for all j >= i. The interval resamples each level's repeats
    (percentile bootstrap; Efron and Tibshirani 1993, ch. 13); it is absent if a level has one repeat.

    Args:
        throughput: level to the figures of its repeats.
        delivered: True for each level whose users were in flight. Other levels do not describe saturation (100
            requests at 1,000 users "saturate" at 100) and are excluded by name.
        gain: share of throughput that a doubling must bring.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.
    """
    levels = sorted(level for level, figures in throughput.items() if figures and delivered.get(level, False))
    excluded = tuple(sorted(level for level in throughput if level not in levels))
    notes = [f"the requested load was not reached at {level_list(excluded)}"] if excluded else []
    means = np.array([float(np.mean(throughput[level])) for level in levels])
    peak = float(means.max()) if levels else None
    if len(levels) < 2:
        return Saturation(
            None, None, None, peak, excluded, "; ".join(notes) or "at least two levels are needed"
        )
    knee = _knee(levels, means, gain)
    level = levels[knee] if knee is not None else None
    low = high = None
    if level is None:
        notes.append("no saturation point: throughput still rose by enough at the last doubling of the load")
    if min(len(throughput[level]) for level in levels) < 2:
        notes.append("no interval, because a level has one repeat")
    else:
        low, high = _knee_interval(levels, throughput, gain, resamples, seed)
    return Saturation(level, low, high, peak, excluded, "; ".join(notes))


def _knee(
    levels: Sequence[float], means: np.ndarray[tuple[int], np.dtype[np.float64]], gain: float
) -> int | None:
    """Index of the first level from which no doubling reaches `gain`; None if the last step reaches it."""
    doublings = np.log2(np.array(levels[1:]) / np.array(levels[:-1]))
    pays = (means[1:] / means[:-1]) ** (1 / doublings) - 1 >= gain
    if pays[-1]:
        return None
    return int(np.flatnonzero(pays)[-1]) + 1 if pays.any() else 0


def _knee_interval(
    levels: Sequence[float],
    throughput: Mapping[float, Sequence[float]],
    gain: float,
    resamples: int,
    seed: int,
) -> tuple[float | None, float | None]:
    rng = np.random.default_rng(seed)
    drawn = [
        rng.choice(np.asarray(throughput[level], float), (resamples, len(throughput[level])))
        for level in levels
    ]
    means = np.stack([sample.mean(axis=1) for sample in drawn], axis=1)
    knees = [_knee(levels, row, gain) for row in means]
    places = np.sort([len(levels) if knee is None else knee for knee in knees])
    low, high = (int(places[min(int(q * resamples), resamples - 1)]) for q in (0.025, 0.975))
    return tuple(levels[place] if place < len(levels) else None for place in (low, high))  # type: ignore[return-value]
