"""The changes that a series of nightly figures could have shown: its minimum detectable step. Pure; the seed is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rocbench.judgement import trend
from rocbench.judgement.shifts import EARLIEST, NOISES, SIDE, WINDOW, Array, evidence, fenced, score
from rocbench.stats import NAN, Values
from rocbench.units import count_of

WITHIN = 7
"""Nights after a step within which it should be found."""
POWER = 0.8
"""Probability with which it is then found."""
LARGEST = 100.0
"""Largest step that is tried, in standard deviations of the nights."""
_DRAWS = 40
_HALVINGS = 7


@dataclass(frozen=True, slots=True)
class Sight:
    """The changes that could be seen in a series after its last night."""

    nights: int
    spread: float
    """Standard deviation of the nights without the told changes, relative; NaN below SIDE nights: not known yet."""
    correlation: float
    """Autocorrelation of successive nights, averaged over what they leave possible; NaN before EARLIEST nights."""
    smallest: float
    """Smallest relative step after the last night that is found with 80 % power within WITHIN nights.

    Infinite if no step would be found; NaN if the spread is not known yet.
    """


def seen(nights: int, spread: float, smallest: float) -> str:
    """What could be seen in a series, in one sentence. The arguments are those of `Sight`."""
    counted = count_of(nights, "night")
    if nights < SIDE:
        return f"{counted}: the spread between nights is not known yet; no change can be told before night {EARLIEST}"
    known = f"{counted}, spread {100 * spread:.2g} %"
    if math.isnan(smallest):
        return f"{counted}: the minimum detectable step is not known, because the figures are 0 on average"
    if math.isinf(smallest):
        return f"{known}: a step of any size tonight would still be too uncertain to be told after {WITHIN} nights"
    return f"{known}: a step tonight of {100 * smallest:.2g} % or more would be told within {WITHIN} nights (80 % power)"


def rate(series: int) -> str:
    """How often the changes of so many series are false, in one sentence."""
    several = (
        f"; of {series} series without a change, at most about {series * trend.RATE:.1f}"
        if series > 1
        else ""
    )
    return (
        f"a series without a change is told one with at most {100 * trend.RATE:.0f} % probability in 100 mornings"
        f" ({100 * trend.SLOW_RATE:.0f} % if its level wanders for many nights under independent noise){several}"
    )


def sight(series: Values, *, seed: int = 0) -> Sight:
    """Minimum detectable step of a series, from drawn continuations of it.

    The nights to come are drawn with the autocorrelations and the spreads that the nights so far leave possible
    (spread^2 df / chi^2(df), as in `power`), so few nights promise little. In each of 40 draws the smallest step is
    found by bisection; the result is the step that suffices in 80 % of them.

    Args:
        series: one figure per night, oldest first. All finite.
        seed: of the draws.
    """
    y, logs = trend.scaled(series)
    nights = len(y)
    if nights < SIDE:
        return Sight(nights, NAN, NAN, NAN)
    rest, changes = trend.without_changes(y)
    free = max(nights - 1 - changes, 1)
    kept = fenced(rest[None])[0]
    deviation = float(np.sqrt(np.sum((kept - kept.mean()) ** 2) / free))
    weight = np.array([one[2] for one in NOISES]) / sum(one[2] for one in NOISES)
    if nights >= EARLIEST:
        weight = evidence(kept[None])[1][0]
    # absolute figures are relative to their mean
    unit = 1.0 if logs else abs(float(np.mean(y)))
    correlation = (
        float(weight @ [rho * (1 - white) for rho, white, _ in NOISES]) if nights >= EARLIEST else NAN
    )
    if not unit:
        return Sight(nights, NAN, correlation, NAN)
    step = _smallest(kept, deviation, free, weight, seed) if deviation else 0.0
    smallest = float(np.expm1(step)) if logs and step < math.log(LARGEST) else step / unit
    return Sight(nights, deviation / unit, correlation, smallest)


def _smallest(rest: Array, deviation: float, free: int, weight: Array, seed: int) -> float:
    """Smallest step that a share POWER of drawn continuations show, in the unit of the series; infinite if none."""
    rng = np.random.default_rng(seed)
    rho, white, _ = np.array(NOISES)[rng.choice(len(NOISES), _DRAWS, p=weight)].T
    spread = deviation * np.sqrt(free / rng.chisquare(free, _DRAWS))
    lasting = (1 - white) * (rest[-1] - rest.mean())
    drawn = []
    for _ in range(WITHIN):
        new, single = spread * rng.standard_normal((2, _DRAWS))
        lasting = rho * lasting + np.sqrt((1 - white) * (1 - rho**2)) * new
        drawn.append(lasting + np.sqrt(white) * single)
    continued = np.stack(drawn, axis=1) + rest.mean()
    past = np.tile(rest[-(WINDOW - WITHIN) :], (_DRAWS, 1))
    low, high = np.zeros(_DRAWS), np.full(_DRAWS, LARGEST)
    for _ in range(_HALVINGS):
        middle = np.sqrt(np.maximum(low, 0.1) * high)
        figures = np.concatenate([past, continued - (middle * deviation)[:, None]], axis=1)
        told = score(evidence(fenced(figures))[0]) > trend.ALARM
        low, high = np.where(told, low, middle), np.where(told, middle, high)
    step = float(np.quantile(high, POWER, method="higher"))
    return math.inf if step >= LARGEST else step * deviation
