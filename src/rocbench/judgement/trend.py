"""Steps and slides in a series of nightly figures, as they are told morning by morning. Pure.

The series is read as it grew. On each morning the evidence for a change in the nights so far (`shifts`) is held against
one threshold, ALARM. A change that was told once stays told: later mornings move its night, name it anew (step or
slide) and estimate its size again, and it is marked as contradicted if zero comes back into the interval of its size.
So the answer for the first k nights is what was said on the morning after night k.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy  # loads its parts at their first use

from rocbench.judgement.shifts import (
    EARLIEST,
    SIDE,
    SLIDE,
    WINDOW,
    Array,
    evidence,
    fenced,
    precision,
    score,
)
from rocbench.stats import NAN, Values

ALARM = 3.1
"""Logarithm of the mean Bayes factor from which a change is told.

Calibrated with `benchmarks/judgement_history.py`, 1,000 series with AR(1) 0.7 (the worst kind that is not held out), 100
mornings: 2.8 % of them reach 3.2 (seed 11), and 5.7 % reach 2.9 (seed 1). docs/statistics.md has the shares at this threshold.
"""
RATE = 0.05
"""Maximum share of series without a change in which a change is told in 100 mornings, but for SLOW_RATE."""
SLOW_RATE = 0.11
"""The same for a level that wanders for many nights under independent noise of the same size (docs/statistics.md)."""
NAMED = 2.0
"""Logarithm of the likelihood by which a slide must explain the nights better than a step, to be named so."""
SETTLED = 30
"""Nights after the end of a change from which its place and its name stay."""
_LENGTHS = (5, 7, 10, 14, 20, 28, 40, 56, 80)
"""Lengths of slides, in nights, that are tried for one that has ended."""

Kind = Literal["step", "slide"]


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A change of a series.

    `change` is relative to the level before, over the whole length of a slide, with its 95 % interval `low` to `high`.
    All indices count the figures of the series from 0.
    """

    index: int
    """First figure of the new level, or of the slide."""
    change: float
    p: float
    """Share of series without a change in which 100 mornings reach this evidence, about."""
    kind: Kind
    last: int
    """Last figure of the slide; `index` if it is a step."""
    told: int
    """Figure after which the change was first told."""
    low: float
    high: float

    @property
    def nights(self) -> int:
        """Nights over which the level moves; 1 for a step."""
        return self.last - self.index + 1

    @property
    def per_night(self) -> float:
        """Relative change per night; `change` for a step."""
        return _per_night(self.change, self.nights)

    @property
    def contradicted(self) -> bool:
        """True if the nights up to now do not exclude that nothing changed."""
        return self.low <= 0 <= self.high


def words(kind: str, change: float, low: float, high: float, nights: int) -> str:
    """A change in a few words: `step of -2.1% [-2.9, -1.3]`. The arguments are those of `ChangePoint`."""
    size = f"{kind} of {100 * change:+.1f}%"
    if math.isfinite(low):
        size += f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    if nights > 1:
        size += f" over {nights} nights ({100 * _per_night(change, nights):+.2f}% a night)"
    return size + (", contradicted by later nights" if low <= 0 <= high else "")


def _per_night(change: float, nights: int) -> float:
    return math.copysign(abs(1 + change) ** (1 / nights), 1 + change) - 1


@dataclass(frozen=True, slots=True)
class _Told:
    """A change while the series grows; indices as in `ChangePoint`."""

    index: int
    last: int
    told: int
    score: float

    def shape(self, begin: int, nights: int) -> Array:
        """The change in a window: 0 before, 1 after, rising evenly during a slide. [nights]"""
        night = np.arange(begin, begin + nights)
        return np.clip((night - self.index + 1) / (self.last - self.index + 1), 0, 1)


def change_points(series: Values) -> list[ChangePoint]:
    """Changes of a series of nightly figures that were told up to its last night, in order of index.

    At most RATE of series without a change are told any in 100 mornings (docs/statistics.md has the counts by kind of
    noise). The figures are taken as evenly spaced, one per night; logarithms are used if all are positive.

    Args:
        series: one figure per night, oldest first. All finite.
    """
    y, logs = scaled(series)
    return [_result(y, logs, told, i) for told in [_replay(y)] for i in range(len(told))]


def first_told(figures: Array) -> npt.NDArray[np.int_]:
    """Number of nights after which each series is first told a change; 0 if it never is.

    The same answer as `change_points` of each series on each morning, for many series of equal length together.

    Args:
        figures: [series x nights].
    """
    y = np.stack([scaled(one)[0] for one in figures])
    first = np.zeros(len(y), dtype=int)
    for nights in range(EARLIEST, y.shape[1] + 1):
        open_ = np.flatnonzero(first == 0)
        if len(open_):
            shapes, _ = evidence(fenced(y[open_, max(0, nights - WINDOW) : nights]))
            first[open_[score(shapes) > ALARM]] = nights
    return first


def scaled(series: Values) -> tuple[Array, bool]:
    """The series as logarithms, and true; as it is, and false, if not all figures are positive."""
    x = np.asarray(series, dtype=float)
    return (np.log(x), True) if len(x) and (x > 0).all() else (x, False)


def _replay(y: Array) -> list[_Told]:
    """The changes told up to the last night, morning by morning."""
    return list(_replayed(y.tobytes()))


@functools.lru_cache(maxsize=16)
def _replayed(figures: bytes) -> tuple[_Told, ...]:
    """The same for a series as bytes: its changes and what could be seen (`detectable`) follow from one reading."""
    y = np.frombuffer(figures)
    told: list[_Told] = []
    noise = 0
    for nights in range(EARLIEST, len(y) + 1):
        begin = max(0, nights - WINDOW)
        window = y[begin:nights]
        if told and (nights - told[-1].last <= SETTLED):
            told[-1] = _placed(window, begin, told, noise)
        known = _known(told, begin, nights)
        shapes, weight = evidence(robust(window, known)[None], known)
        noise = int(weight[0].argmax())
        edge = told[-1].last - begin if told else -SIDE
        possible = _possible(nights - begin, edge)
        if not possible.any():
            continue
        found = float(score(shapes[:, possible])[0])
        if found > ALARM:
            best = int(np.flatnonzero(possible)[shapes[0, possible].argmax()])
            told.append(_first(best, begin, nights, found))
            noise = _noise(window, _known(told, begin, nights))
            told[-1] = _placed(window, begin, told, noise)
            told = _joined(window, begin, told, noise)
    return tuple(told)


def without_changes(y: Array) -> tuple[Array, int]:
    """The series without its told changes, at the level of its last nights, and the number of changes."""
    told = _replay(y)
    rest = y.copy()
    for i, change in enumerate(told):
        size = _estimate(y, told, i)[0]
        rest += size * (1 - change.shape(0, len(y)))
    return rest, len(told)


def _first(shape: int, begin: int, nights: int, found: float) -> _Told:
    """A change as its shape says when it is told."""
    count = nights - begin - 2 * SIDE + 1
    if shape < count:
        return _Told(begin + SIDE + shape, begin + SIDE + shape, nights - 1, found)
    return _Told(begin + shape - count + 1, nights - 1, nights - 1, found)


def _possible(nights: int, edge: int) -> npt.NDArray[np.bool_]:
    """Shapes that begin far enough after the end of the last change, in the order of `evidence`."""
    starts = np.arange(SIDE, nights - SIDE + 1), np.arange(nights - SLIDE + 1)
    return np.concatenate([starts[0] >= edge + SIDE, starts[1] >= edge])


def _known(told: list[_Told], begin: int, nights: int) -> Array:
    """Shapes of the changes that lie in a window; [changes x nights]."""
    shapes = [change.shape(begin, nights - begin) for change in told]
    return np.array([shape for shape in shapes if np.ptp(shape) > 0]).reshape(-1, nights - begin)


def robust(window: Array, known: Array) -> Array:
    """The nights of a window with those outside the fences around the known changes moved to the fence."""
    design = np.vstack([np.ones(len(window)), known])
    level = np.linalg.lstsq(design.T, window, rcond=None)[0] @ design
    kept: Array = level + fenced((window - level)[None])[0]
    return kept


def _gains(y: Array, shapes: Array, known: Array, noise: int) -> Array:
    """Gain of the log likelihood by each shape, next to a level and the known changes, under this noise."""
    inverse, _ = precision(len(y), noise)
    design = np.vstack([np.ones(len(y)), known])
    gram = design @ inverse @ design.T
    rest = inverse - inverse @ design.T @ np.linalg.solve(gram, design @ inverse)
    product = shapes @ rest
    norms = np.maximum((product * shapes).sum(axis=1), 1e-9)
    explained = (product @ y) ** 2 / norms / max(float(y @ rest @ y), 1e-300)
    gains: Array = -len(y) / 2 * np.log1p(-np.minimum(explained, 1 - 1e-9))
    return gains


def _noise(window: Array, known: Array) -> int:
    """The most probable noise next to the known changes, as an index of NOISES."""
    return int(evidence(robust(window, known)[None], known)[1][0].argmax())


def _placed(window: Array, begin: int, told: list[_Told], noise: int) -> _Told:
    """The last change where, and as what, it explains the window best."""
    change, nights = told[-1], len(window)
    before = _known(told[:-1], begin, begin + nights)
    y = robust(window, _known(told, begin, begin + nights))
    edge = told[-2].last - begin + SIDE if len(told) > 1 else 0
    at = np.arange(max(edge, SIDE), nights - SIDE + 1)
    start, length = (grid.ravel() for grid in np.meshgrid(np.arange(max(edge, 1), nights), _LENGTHS))
    going = np.arange(max(edge, 1), nights - SLIDE + 1)
    ended = start + length < nights
    first = np.concatenate([at, start[ended], going])
    last = np.concatenate([at, (start + length - 1)[ended], np.full(len(going), nights - 1)])
    before_told = first <= change.told - begin
    at, first, last = at[before_told[: len(at)]], first[before_told], last[before_told]
    if not len(at) or len(first) == len(at):
        return change
    night = np.arange(nights)
    shapes = np.clip((night - first[:, None] + 1) / (last - first + 1)[:, None], 0, 1)
    gains = _gains(y, shapes, before, noise)
    step, ramp = int(gains[: len(at)].argmax()), len(at) + int(gains[len(at) :].argmax())
    best = ramp if gains[ramp] > gains[step] + NAMED else step
    return replace(change, index=begin + int(first[best]), last=begin + int(last[best]))


def _joined(window: Array, begin: int, told: list[_Told], noise: int) -> list[_Told]:
    """The changes with the last two as one slide, if it explains the window about as well as both."""
    if len(told) < 2:
        return told
    one = [*told[:-2], replace(told[-2], last=told[-1].last)]
    one[-1] = _placed(window, begin, one, noise)
    nights = len(window)
    known = _known(told[:-2], begin, begin + nights)
    y = robust(window, _known(told, begin, begin + nights))
    pair = _known(told[-2:], begin, begin + nights)
    single = _known(one[-1:], begin, begin + nights)
    if len(pair) < 2 or not len(single) or one[-1].last == one[-1].index:
        return told
    both = _gains(y, pair[:1], known, noise)[0] + _gains(y, pair[1:], np.vstack([known, pair[:1]]), noise)[0]
    return one if _gains(y, single, known, noise)[0] > both - math.log(nights) else told


def _result(y: Array, logs: bool, told: list[_Told], i: int) -> ChangePoint:
    """A told change with its size."""
    change = told[i]
    size, half, level = _estimate(y, told, i)
    ends = np.array([size, size - half, size + half])
    relative = np.expm1(ends) if logs else ends / abs(level) if level else ends * NAN
    p = min(1.0, RATE * math.exp(ALARM - change.score))
    kind: Kind = "step" if change.index == change.last else "slide"
    middle, low, high = (float(end) for end in relative)
    return ChangePoint(change.index, middle, p, kind, change.last, change.told, low, high)


def _estimate(y: Array, told: list[_Told], i: int) -> tuple[float, float, float]:
    """Size of a told change, half its 95 % interval, and the level before, from the nights up to the changes around it."""
    change = told[i]
    begin = max(told[i - 1].last if i else 0, change.index - WINDOW)
    stop = min(told[i + 1].index if i + 1 < len(told) else len(y), change.last + WINDOW + 1)
    window, shape = y[begin:stop], change.shape(begin, stop - begin)[None]
    if len(window) < EARLIEST or np.ptp(shape) == 0:
        return NAN, NAN, NAN
    kept = robust(window, shape)
    weight = evidence(kept[None], shape)[1][0]
    return _size(kept, shape, int(weight.argmax()))


def _size(y: Array, shape: Array, noise: int) -> tuple[float, float, float]:
    """Size of a change, half its 95 % interval, and the level before it."""
    inverse, _ = precision(len(y), noise)
    design = np.vstack([np.ones(len(y)), shape])
    covariance = np.linalg.inv(design @ inverse @ design.T)
    level, size = covariance @ design @ inverse @ y
    rest = y - level - size * shape[0]
    free = len(y) - 2
    variance = float(rest @ inverse @ rest) / free * float(covariance[1, 1])
    return float(size), float(scipy.stats.t.ppf(0.975, free)) * math.sqrt(max(variance, 0)), float(level)
