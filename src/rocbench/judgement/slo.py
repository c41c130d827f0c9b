"""The largest load that is shown to meet an SLO. Pure: trials in, the next level out.

Explore: raise the level until a figure misses a limit, then halve the gap. Show: measure again where a verdict brings
most: at the largest level that the remaining measurements are likely to show to meet the limits. By `evidence` a level is
shown to meet every limit, or shown to miss one; all others are "not shown". A level whose load the client did not deliver
does not describe the server: it ends the raising and is reported as such. A rate is an answer only if the server
serves it (`service`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rocbench.judgement.evidence import ALPHA, CLEAR, LOOKS, quantile
from rocbench.judgement.knee import Saturation, saturation
from rocbench.judgement.limit import COMPARISONS, Limit, Outcome
from rocbench.judgement.standing import Curve, Standing, Trial, by_level, curve, level_list
from rocbench.settings.goals import Search

__all__ = [
    "COMPARISONS",
    "Limit",
    "Outcome",
    "Saturation",
    "Trial",
    "by_level",
    "curve",
    "level_list",
    "next_step",
    "saturation",
]

RESERVE = 4
"""Measurements that exploring leaves: a single figure shows nothing."""
POINTS = 40
"""Levels that are considered between the answer and the smallest level that fails."""
SLACK = 0.98
"""Share of the largest rate that may be an answer at which it is tried: later measurements may lower that rate."""
LUCK = 0.5
"""Standard errors by which a level must be likely to exceed its test before measurements are spent on it."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next step: measure `level`, or stop."""

    level: float | None
    """The next level; None if the search has ended."""
    best: float | None
    """Largest level shown to meet every limit so far."""
    failed: float | None
    """Smallest level above `best` that is shown not to, or whose load was not delivered."""
    why: str


def next_step(
    trials: Sequence[Trial],
    limits: Sequence[Limit],
    search: Search,
    *,
    whole: bool,
    left: int | None = None,
) -> Step:
    """The next level to measure, given all trials so far.

    Args:
        trials: the measurements.
        limits: the limits.
        search: bounds of the search.
        whole: True if levels are whole numbers (users); rates are not, and must be served.
        left: remaining measurements; by default those of the search without the trials.
    """
    found = curve(trials, limits, whole=whole)
    if left is None:
        left = search.max_measurements - len(trials)
    best, failed = (None if s is None else s.level for s in (found.best, found.failed))
    level, why = _Plan(found, search, whole=whole, left=left).step()
    return Step(level, best, failed, why)


@dataclass(frozen=True)
class _Plan:
    """Chooses the next level."""

    found: Curve
    search: Search
    whole: bool
    left: int

    def step(self) -> tuple[float | None, str]:
        """The next level (None: the search has ended) and the reason."""
        levels, search = self.found.levels, self.search
        if self.left <= 0:
            return None, f"stopped at the maximum of {search.max_measurements} measurements"
        if not levels:
            return search.low, "begin at the lowest level"
        short = next((s for s in levels if s.outcome != "not delivered" and s.n < search.repeats), None)
        if short is not None:
            return short.level, "measure again"
        below = self._below()
        above = next((s for s in levels if below is None or s.level > below.level), None)
        if above is None and below is not None:
            if below.level < search.high:
                factor = 4 if below.distance > CLEAR else 2
                return self._rounded(min(below.level * factor, search.high)), "raise the level"
        elif above is None or (below is not None and self._near(below.level, self._most)):
            pass
        elif below is None:
            if above.level > search.low and above.outcome == "fail":
                return self._rounded(max(above.level / 4, search.low)), "lower the level"
        elif self._open(below, above):
            return self._middle(below.level, above.level), "halve the gap"
        return self._show() or (None, self._end())

    def _below(self) -> Standing | None:
        """The largest level that seems to meet every limit, below each that does not."""
        found = None
        for each in self.found.levels:
            if each.outcome in ("fail", "not delivered") or each.distance <= 0:
                break
            found = each
        return found

    def _open(self, below: Standing, above: Standing) -> bool:
        """True if a level between two neighbours is worth exploring: they are apart, and differ from the limit."""
        if self._near(below.level, above.level) or self.left <= RESERVE:
            return False
        noise = self.found.noise
        if not noise.df:
            return below.n > 1
        need = quantile(ALPHA / LOOKS, noise.df) * noise.sd / math.sqrt(self.search.max_repeats)
        return below.distance > need and (above.outcome == "not delivered" or -above.distance > need)

    def _show(self) -> tuple[float, str] | None:
        """The level whose verdict brings most and is likely with the remaining measurements."""
        best, failed = self.found.best, self.found.failed
        floor, top = best.level if best else 0.0, failed.level if failed else math.inf
        if best and failed and self._near(floor, top):
            return None
        between = [s for s in self._candidates() if floor < s.level < top]
        up = [s.level for s in between if s.level <= self._most and self._likely(s, 1)]
        if up:
            return max(up), "show that this level meets the limits"
        down = [s.level for s in between if self._likely(s, -1)]
        if down:
            return min(down), "show that this level misses a limit"
        highest = self.found.levels[-1].level
        if failed is None and highest < self.search.high:
            return self._rounded(min(2 * highest, self.search.high)), "find a level that misses a limit"
        return None

    def _candidates(self) -> list[Standing]:
        """Measured levels, and others between them with their estimated distance."""
        known = [s for s in self.found.levels if s.outcome != "not delivered"]
        if len(known) < 2:
            return known
        logs = np.log([s.level for s in known])
        best, failed = self.found.best, self.found.failed
        grid = np.linspace(
            np.log(best.level) if best else logs[0],
            min(np.log(failed.level), logs[-1]) if failed else logs[-1],
            POINTS,
        )
        distances = np.interp(grid, logs, np.clip([s.distance for s in known], -1, 1))
        others = [
            Standing(self._rounded(float(np.exp(log))), "unclear", 0, float(distance))
            for log, distance in zip(grid, distances, strict=True)
        ]
        return known + [s for s in others if all(not self._near(*sorted((s.level, k.level))) for k in known)]

    def _likely(self, at: Standing, side: Literal[1, -1]) -> bool:
        """True if a level is likely to be shown to meet the limits (1) or to miss one (-1) with the repeats left.

        The measurements beyond the level count too, as in `evidence`.
        """
        more = min(self.left, self.search.max_repeats - at.n)
        noise = self.found.noise
        df = noise.df + more - (0 if at.n else 1)
        if more <= 0 or df <= 0:
            return False
        beyond = [s for s in self.found.levels if s.n and (s.level - at.level) * side > 0]
        total, n = (at.n + more) * at.distance * side, at.n + more
        for each in (None, *beyond[::side]):
            if each is not None:
                total, n = total + each.n * each.distance * side, n + each.n
            if total / n > (quantile(ALPHA / LOOKS, df) + LUCK) * noise.sd / math.sqrt(n):
                return True
        return False

    def _near(self, low: float, high: float) -> bool:
        return high / low - 1 <= self.search.relative_step or (self.whole and high - low <= 1)

    def _middle(self, low: float, high: float) -> float:
        if high > self._most:
            return self._rounded(SLACK * self._most)
        middle = self._rounded(math.sqrt(low * high))
        return min(max(middle, low + 1), high - 1) if self.whole else middle

    @property
    def _most(self) -> float:
        """The largest rate that may be an answer."""
        return math.inf if self.found.served is None else self.found.served.most

    def _rounded(self, level: float) -> float:
        return float(round(level)) if self.whole else float(f"{level:.4g}")

    def _end(self) -> str:
        best, failed = self.found.best, self.found.failed
        if failed is None:
            if best and best.level >= self.search.high:
                return "every level meets the limits, up to the highest level of the search"
            return "further measurements are not likely to show more"
        why = (
            "the requested load was not reached"
            if failed.outcome == "not delivered"
            else "a limit is not met"
        )
        if best is None:
            return (
                f"at the lowest level {why}"
                if failed.level <= self.search.low
                else f"at {failed.level:g} {why}"
            )
        return f"at {failed.level:g} {why}"
