"""One limit on a column of `cells`, and what repeats say of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rocbench import stats
from rocbench.columns import CELLS
from rocbench.judgement import evidence
from rocbench.judgement.evidence import FAR, Noise

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

    def distance(self, figure: float) -> float:
        """Distance on the good side: the logarithm of the ratio of figure and limit; of a share, the difference."""
        if self.metric in SHARES or self.value <= 0:
            away = figure - self.value
        else:
            away = math.log(figure) - math.log(self.value) if figure > 0 else -FAR
        return max(-FAR, min(FAR, -away if self.upper else away))

    def judge(
        self,
        figures: Sequence[float],
        confidence: float = stats.CONFIDENCE,
        *,
        noise: Noise | None = None,
    ) -> Outcome:
        """Judge repeats: pass or fail if the two-sided interval of their mean lies on one side of the limit, else unclear.

        Args:
            figures: the repeats. One repeat is unclear, unless `noise` is given.
            confidence: of the interval.
            noise: known spread of one measurement, for example pooled over cells; else that of the repeats. Its
                standard deviation is of the figures' logarithms, and of a share the share's own.
        """
        if not figures:
            return "unclear"
        if noise is None:
            interval = stats.mean_interval(figures, confidence)
            if interval.n == 1:
                return "unclear"
            low, high = self.met(interval.low), self.met(interval.high)
            return "unclear" if low != high else "pass" if low else "fail"
        distances = [self.distance(figure) for figure in figures]
        half = _half_width(len(distances), confidence, noise)
        mean = sum(distances) / len(distances)
        if not half:
            return "pass" if self.met(figures[0]) else "fail"
        return "unclear" if abs(mean) <= half else "pass" if mean > 0 else "fail"

    def interval(self, figures: Sequence[float], confidence: float, noise: Noise) -> stats.Interval:
        """The interval by which `judge` decides, in the metric's unit. NaN ends if the noise is unknown.

        Args:
            figures: the repeats, at least one.
            confidence: of the interval.
            noise: as for `judge`.
        """
        n, mean = len(figures), sum(figures) / len(figures)
        half = _half_width(n, confidence, noise) if noise.df else math.nan
        if self.metric in SHARES or self.value <= 0:
            return stats.Interval(mean, mean - half, mean + half, n)
        if min(figures) <= 0:
            return stats.Interval(mean, math.nan, math.nan, n)
        centre = math.exp(sum(map(math.log, figures)) / n)
        return stats.Interval(mean, centre * math.exp(-half), centre * math.exp(half), n)


def _half_width(n: int, confidence: float, noise: Noise) -> float:
    """Half width of the interval of the mean of n measurements."""
    return evidence.quantile((1 - confidence) / 2, noise.df) * noise.sd / math.sqrt(n)
