"""The place of a level among others: load, lengths and server, and its distance from those of a fit. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rocbench.sim.calibration import Reach, Span
from rocbench.sim.node import Node
from rocbench.sim.predict import Prediction
from rocbench.units import number

KINDS = ("images", "tp", "vllm", "aiter", "backend")
"""Facts without a scale."""
STRANGE = 1.0
"""Distance of a fact that no row of the fit had: as much as a load that is e times the largest."""
FEW_TOKENS = 64
"""Shorter prompts and answers count as this long: a step takes them at no further cost."""
SMALL_SHARE = 0.05
"""Smaller computed shares count as this one: such prompts come from the cache."""
GAP = 2.0
"""Within the span of a fit, a value up to so many times a fitted one, or so many times smaller, is not in a gap."""
SLACK = 1.02
"""Further ratio that is noise."""
SPANS = ("in_flight", "prompt_tokens", "computed_share", "output_tokens")
"""Facts with a scale."""
SAME = math.log(1.2)
"""Levels closer than this are one condition: 100 requests of 100 and of 1,000 users, for example."""


@dataclass(frozen=True, slots=True)
class Point:
    """The conditions of one level. Token counts are means over its requests."""

    in_flight: float
    prompt_tokens: float
    computed_share: float
    """Share of the prompt tokens that did not come from the prefix cache."""
    output_tokens: float
    images: bool
    tp: int
    vllm: str
    aiter: bool
    backend: str

    @property
    def logs(self) -> tuple[float, ...]:
        """Logarithms of load, lengths and computed share."""
        lengths = (max(each, FEW_TOKENS) for each in (self.prompt_tokens, self.output_tokens))
        numbers = (max(self.in_flight, 1.0), *lengths, max(self.computed_share, SMALL_SHARE))
        return tuple(math.log(value) for value in numbers)


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a level is outside those of a fit, or in a gap between them; 0 among them."""

    size: float
    """Logarithms of ratios, as a Euclidean norm."""
    words: tuple[str, ...]
    """In which respects, largest first; empty among them."""


def point(node: Node, prediction: Prediction, in_flight: float) -> Point:
    """Return the conditions of a predicted level.

    Args:
        node: its server.
        prediction: its result; a load of at least one request.
        in_flight: mean requests in flight in its window.
    """
    requests = max(1, len(prediction.load.requests))
    server = prediction.server
    computed = server.prompt_tokens - server.prefix_hits - server.external_hits
    return Point(
        in_flight,
        server.prompt_tokens / requests,
        max(0, computed) / max(1, server.prompt_tokens),
        server.generation_tokens / requests,
        bool((prediction.load.requests["images"] > 0).any()),
        node.layout.tp,
        node.version,
        bool(node.facts.aiter),
        node.backend,
    )


def reach(points: Sequence[Point]) -> Reach:
    """Return the conditions of these levels together; at least one."""

    values = {name: tuple(sorted({float(f"{getattr(each, name):.4g}") for each in points})) for name in SPANS}
    spans = {name: (found[0], found[-1]) for name, found in values.items()}
    return Reach(
        **spans,
        images=tuple(sorted({p.images for p in points})),
        tp=tuple(sorted({p.tp for p in points})),
        vllm=tuple(sorted({p.vllm for p in points})),
        aiter=tuple(sorted({p.aiter for p in points})),
        backend=tuple(sorted({p.backend for p in points})),
        fitted={name: _thinned(found) for name, found in values.items()},
    )


def _thinned(values: Sequence[float]) -> tuple[float, ...]:
    """Return ascending values without those that differ little from the one before; the ends stay."""
    kept = [values[0]]
    for value in values[1:]:
        if value > math.exp(SAME) * kept[-1]:
            kept.append(value)
    return tuple(kept) if kept[-1] == values[-1] else (*kept, values[-1])


def distance(at: Point, fitted: Reach) -> Distance:
    """Return how far a level is outside the levels of a fit, or in a gap between them.

    Prompts count once: by their length, or by the share that was not cached, whichever is farther.
    """

    def away(name: str, least: float, words: str, unit: float = 1.0) -> tuple[float, str]:
        values = fitted.fitted.get(name, ())
        span: Span = getattr(fitted, name)
        value, low, high = (max(unit * each, least) for each in (getattr(at, name), *span))
        return _away(value, (low, high), [max(unit * each, least) for each in values], words)

    load = away("in_flight", 1, "{} requests in flight is {} the {} fitted load")
    prompt = away("prompt_tokens", FEW_TOKENS, "{} prompt tokens is {} the {} fitted")
    computed = away(
        "computed_share",
        100 * SMALL_SHARE,
        "{} % of the prompt tokens are computed, not cached: {} the {} fitted",
        unit=100,
    )
    answer = away("output_tokens", FEW_TOKENS, "{} output tokens is {} the {} fitted")
    kinds = [
        (STRANGE, _strange(name, value))
        for name in KINDS
        if (value := getattr(at, name)) not in getattr(fitted, name)
    ]
    found = sorted(
        (part for part in (load, max(prompt, computed), answer, *kinds) if part[0] > 0), reverse=True
    )
    return Distance(math.hypot(*(size for size, _ in found)), tuple(words for _, words in found))


def _away(value: float, span: Span, values: Sequence[float], words: str) -> tuple[float, str]:
    """Return the logarithm of the ratio to the nearer end, and it in words; 0 within 2 % of the span.

    In a gap between fitted values, it is that to the nearest value, beyond a ratio of `GAP`.
    """
    low, high = span
    shown = number(value, 0)
    if value > SLACK * high:
        return math.log(value / high), words.format(shown, f"{value / high:.2g} times", "highest")
    if value < low / SLACK:
        return math.log(low / value), words.format(shown, f"1/{low / value:.2g} of", "lowest")
    nearest = min(values, key=lambda each: abs(math.log(value / each)), default=value)
    ratio = max(value / nearest, nearest / value)
    if ratio <= SLACK * GAP:
        return 0.0, ""
    times = f"{ratio:.2g} times" if value > nearest else f"1/{ratio:.2g} of"
    return math.log(ratio / GAP), words.format(shown, f"in a gap, {times}", "nearest")


def conditions(points: Sequence[Point]) -> list[int]:
    """Return the number of each level's condition, from 0: levels with nearly the same load and lengths share one.

    The server (AITER, TP, version) makes no difference: a level on the other arm would give the answer away.
    """
    firsts: list[Point] = []
    found = []
    for each in points:
        same = (i for i, first in enumerate(firsts) if _close(first, each))
        place = next(same, len(firsts))
        if place == len(firsts):
            firsts.append(each)
        found.append(place)
    return found


def _close(a: Point, b: Point) -> bool:
    return a.images == b.images and all(abs(x - y) < SAME for x, y in zip(a.logs, b.logs, strict=True))


def groups(points: Sequence[Point], by: Callable[[Point], object]) -> Mapping[object, list[int]]:
    """Return the indices of the levels with each value."""
    found: dict[object, list[int]] = {}
    for place, each in enumerate(points):
        found.setdefault(by(each), []).append(place)
    return found


def rms(values: Iterable[float]) -> float:
    """Return the root mean square; NaN of nothing."""
    squares = [value * value for value in values]
    return math.sqrt(sum(squares) / len(squares)) if squares else math.nan


def _strange(name: str, value: object) -> str:
    """Return words for a fact that no fitted row had."""
    if name == "images":
        return f"no fitted row has {'images' if value else 'requests without images'}"
    shown = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    return f"no fitted row has {name} {shown}"
