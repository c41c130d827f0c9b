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
    """How far a level is from those of a fit; 0 among them."""

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

    def span(of: Callable[[Point], float]) -> Span:
        values = [of(each) for each in points]
        return float(f"{min(values):.4g}"), float(f"{max(values):.4g}")

    return Reach(
        in_flight=span(lambda p: p.in_flight),
        prompt_tokens=span(lambda p: p.prompt_tokens),
        computed_share=span(lambda p: p.computed_share),
        output_tokens=span(lambda p: p.output_tokens),
        images=tuple(sorted({p.images for p in points})),
        tp=tuple(sorted({p.tp for p in points})),
        vllm=tuple(sorted({p.vllm for p in points})),
        aiter=tuple(sorted({p.aiter for p in points})),
        backend=tuple(sorted({p.backend for p in points})),
    )


def distance(at: Point, fitted: Reach) -> Distance:
    """Return how far a level is outside the levels of a fit.

    Prompts count once: by their length, or by the share that was not cached, whichever is farther.
    """
    load = _outside(at.in_flight, fitted.in_flight, 1, "{} requests in flight is {} the {} fitted load")
    prompt = _outside(
        at.prompt_tokens, fitted.prompt_tokens, FEW_TOKENS, "{} prompt tokens is {} the {} fitted"
    )
    shares = (100 * fitted.computed_share[0], 100 * fitted.computed_share[1])
    computed = _outside(
        100 * at.computed_share,
        shares,
        100 * SMALL_SHARE,
        "{} % of the prompt tokens are computed, not cached: {} the {} fitted",
    )
    answer = _outside(
        at.output_tokens, fitted.output_tokens, FEW_TOKENS, "{} output tokens is {} the {} fitted"
    )
    kinds = [
        (STRANGE, _strange(name, value))
        for name in KINDS
        if (value := getattr(at, name)) not in getattr(fitted, name)
    ]
    found = sorted(
        (part for part in (load, max(prompt, computed), answer, *kinds) if part[0] > 0), reverse=True
    )
    return Distance(math.hypot(*(size for size, _ in found)), tuple(words for _, words in found))


def _outside(value: float, span: Span, least: float, words: str) -> tuple[float, str]:
    """Return the logarithm of the ratio to the nearer end, and it in words; 0 within 2 % of the span.

    Values below `least` count as `least`.
    """
    value, low, high = (max(each, least) for each in (value, *span))
    if value > 1.02 * high:
        return math.log(value / high), words.format(number(value, 0), f"{value / high:.2g} times", "highest")
    if value < low / 1.02:
        return math.log(low / value), words.format(number(value, 0), f"1/{low / value:.2g} of", "lowest")
    return 0.0, ""


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
