"""Where the measurements of a search leave each level: shown to meet the limits, shown to miss one, or not shown. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from rocbench.judgement import evidence
from rocbench.judgement.evidence import FAR, Noise, Shown
from rocbench.judgement.limit import SHARES, Limit, Outcome
from rocbench.judgement.service import Served, Service, served


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement at one level."""

    level: float
    figures: Mapping[str, float | None]
    """Value of each metric."""
    delivered: bool = True
    """False if the users (or the rate) were not delivered, or the client was saturated."""
    overloaded: bool = False
    """True if the server cannot take this load: requests failed, or its queue grew."""
    service: Service | None = None
    """How much of a rate was served; None if unknown, and for users."""
    least: Mapping[str, float] = field(default_factory=dict)
    """Lower bound of the spread of a metric, from its interval within the window; see `Noise.sd`."""


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
class Standing:
    """Where all trials leave one level."""

    level: float
    outcome: Outcome
    """pass and fail are shown; unclear is not shown."""
    n: int
    """Number of measurements that describe the server."""
    distance: float
    """Estimated distance to the nearest limit (`Limit.distance`), in the unit of the noisiest limit; not rising with the level."""


@dataclass(frozen=True, slots=True)
class Curve:
    """All levels of a search and the noise of its measurements."""

    levels: tuple[Standing, ...]
    noise: Noise
    """Of the limit with the largest spread."""
    served: Served | None
    """None for users."""

    @property
    def best(self) -> Standing | None:
        """The largest level shown to meet every limit, below each level shown to miss one."""
        found = None
        for each in self.levels:
            if each.outcome == "fail":
                break
            found = each if each.outcome == "pass" else found
        return found

    @property
    def failed(self) -> Standing | None:
        """The smallest level shown to miss a limit, or whose load was not delivered, above the answer."""
        best = self.best.level if self.best else -math.inf
        return next(
            (s for s in self.levels if s.level > best and s.outcome in ("fail", "not delivered")), None
        )

    @property
    def notes(self) -> list[str]:
        """Facts that a reader of the answer needs."""
        notes, missed = [], None
        for each in self.levels:
            if each.outcome == "fail" and missed is None:
                missed = each.level
            if missed is not None and each.outcome == "pass":
                notes.append(
                    f"not monotone: {missed:g} misses a limit, {each.level:g} meets every limit; the answer is below {missed:g}"
                )
                break
        sound = [s for s in self.levels if s.outcome != "not delivered"]
        if len(sound) > 1 and {s.outcome for s in sound} == {"unclear"} and self.noise.df:
            notes.append(
                f"from {sound[0].level:g} to {sound[-1].level:g} every limit is met or missed by less than the noise"
                f" ({100 * self.noise.sd:.2g}% per measurement)"
            )
        if self.served is not None:
            notes += self.served.notes
        return notes


def curve(trials: Iterable[Trial], limits: Sequence[Limit], *, whole: bool) -> Curve:
    """The standing of each level by all trials together.

    Args:
        trials: the measurements.
        limits: the limits; a level passes if it is shown to meet each.
        whole: True for users; a rate must also be served.
    """
    levels = by_level(trials)
    told = {level: [t for t in each if t.delivered and not t.overloaded] for level, each in levels.items()}
    over = {level for level, each in levels.items() if any(t.overloaded for t in each)}
    sound = [level for level in levels if told[level]]
    passes, fails, nearest = set(sound) - over, set[float](), dict.fromkeys(sound, FAR)
    found: list[tuple[Noise, dict[float, float]]] = []
    for limit in limits:
        known = {
            level: [limit.distance(v) for t in told[level] if (v := t.figures.get(limit.metric)) is not None]
            for level in sound
        }
        passes -= {level for level, values in known.items() if not values}
        nearest |= dict.fromkeys((level for level, values in known.items() if not values), -FAR)
        ordered = [level for level in sound if known[level]]
        if not ordered:
            continue
        distances = [known[level] for level in ordered]
        least = [t.least.get(limit.metric, 0.0) for level in ordered for t in told[level]]
        noise, shown = _shown(limit, distances, statistics.median(least))
        passes -= {level for level, met in zip(ordered, shown.passes, strict=True) if not met}
        fails |= {level for level, missed in zip(ordered, shown.fails, strict=True) if missed}
        means = evidence.isotonic(distances)
        found.append((noise, dict(zip(ordered, means.tolist(), strict=True))))
    top = max((noise for noise, _ in found), key=lambda n: (n.df > 0, n.sd), default=Noise(0.0, 0.0))
    for noise, away in found:
        nearest |= {level: min(nearest[level], _comparable(d, noise, top)) for level, d in away.items()}
    fails |= {level for level in over if not told[level]}
    rates = None if whole else served(_services(levels), over)
    if rates is not None:
        passes &= rates.served
        fails |= rates.overloaded
        nearest |= dict.fromkeys((rates.overloaded | rates.unknown) & nearest.keys(), -FAR)
    standings = [
        Standing(
            level,
            _outcome(level, each, passes - fails, fails),
            sum(t.delivered for t in each),
            nearest.get(level, -FAR) if level not in over else -FAR,
        )
        for level, each in levels.items()
    ]
    return Curve(tuple(standings), top, rates)


def _comparable(distance: float, noise: Noise, top: Noise) -> float:
    """A distance from a limit in the unit of the noisiest limit: a share has another scale than a latency."""
    if noise is top or not noise.df:
        return distance
    if not noise.sd:
        return math.copysign(FAR, distance) if distance else 0.0
    return max(-FAR, min(FAR, distance * top.sd / noise.sd))


def _shown(limit: Limit, distances: Sequence[Sequence[float]], least: float) -> tuple[Noise, Shown]:
    """The noise of a limit's measurements, and what they show.

    The noise of a share depends on the share itself (near 1 there is none): each level has its own, and is judged
    alone.
    """
    if limit.metric not in SHARES:
        noise = evidence.pooled(distances, least)
        return noise, evidence.shown(distances, noise, upper=limit.upper)
    alone = [evidence.shown([each], evidence.pooled([each], least), upper=limit.upper) for each in distances]
    near = [each for each in distances if sum(each) > 0]
    return evidence.pooled(near, least), Shown(
        tuple(one.passes[0] for one in alone), tuple(one.fails[0] for one in alone)
    )


def _outcome(level: float, trials: Sequence[Trial], passes: set[float], fails: set[float]) -> Outcome:
    if not any(t.delivered for t in trials):
        return "not delivered"
    return "fail" if level in fails else "pass" if level in passes else "unclear"


def _services(levels: Mapping[float, Sequence[Trial]]) -> dict[float, list[Service]]:
    return {
        level: [t.service for t in each if t.service is not None and t.delivered]
        for level, each in levels.items()
    }
