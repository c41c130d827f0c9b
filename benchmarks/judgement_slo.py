#!/usr/bin/env python3
"""How often are SLO searches and saturation points right? Curves whose truth is known, hidden from the search.

    .venv/bin/python benchmarks/judgement_slo.py [users] [rates] [saturation] [--seeds 300] [--seed 1]

`users`: closed loops with a p99 of many shapes and noises. `rates`: open loops of a batching server whose TPOT is
bounded, simulated request by request. `saturation`: throughput curves on the levels of a study. A small seeded version is in the
tests; figures of a run are in docs/statistics.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from rocbench.judgement.slo import Limit, Step, Trial, next_step
from rocbench.settings.goals import Search

LIMIT = Limit("p99_ttft_ms", "<=", 2000.0)
Draw = Callable[[np.random.Generator], float]
"""Factor of one measurement; its mean is 1."""


@dataclass(frozen=True)
class Shape:
    """A figure by level, as a share of the limit."""

    name: str
    figure: Callable[[float], float]

    def capacity(self, high: int) -> int:
        """Largest level up to which all levels meet the limit; 0 if none does."""
        return next((level - 1 for level in range(1, high + 1) if self.figure(level) > 1), high)


def hockey(knee: float) -> Callable[[float], float]:
    """Flat, then rising steeply: 1 at the knee."""
    return lambda x: 0.1 + 0.9 * (x / knee) ** 4


def level(share: float) -> Callable[[float], float]:
    """The same at every load."""
    return lambda _: share


SHAPES = (
    Shape("hockey stick at 37", hockey(37)),
    Shape("hockey stick at 200", hockey(200)),
    Shape("hockey stick at 700", hockey(700)),
    Shape("linear to 200", lambda x: x / 200),
    Shape("slow rise to 200", lambda x: (x / 200) ** 0.3),
    Shape("very slow rise to 300", lambda x: (x / 300) ** 0.1),
    Shape("flat at 0.97", level(0.97)),
    Shape("flat at 1.03", level(1.03)),
    Shape("flat at 0.5", level(0.5)),
    Shape("step at 128", lambda x: 0.8 if x <= 128 else 1.15),
    Shape("cliff at 150", lambda x: 0.3 if x <= 150 else 30.0),
    Shape("batch steps of 64", lambda x: (math.ceil(x / 64) * 64 / 320) ** 0.7),
    Shape("bump at 40 to 100", lambda x: 1.4 if 40 <= x <= 100 else 0.5 if x < 400 else 3.0),
    Shape("noisy bumps", lambda x: (x / 250) ** 0.5 * (1 + 0.15 * math.sin(3 * math.log(x)))),
)


def lognormal(cov: float) -> Draw:
    """Lognormal with mean 1."""
    sigma = math.sqrt(math.log1p(cov**2))
    return lambda rng: float(rng.lognormal(-(sigma**2) / 2, sigma))


def gaussian(cov: float) -> Draw:
    """Normal, cut at a twentieth."""
    return lambda rng: max(0.05, float(rng.normal(1, cov)))


def heavy(cov: float) -> Draw:
    """Student's t with 3 degrees of freedom, scaled to the CoV, cut at a twentieth."""
    return lambda rng: max(0.05, 1 + cov * float(rng.standard_t(3)) / math.sqrt(3))


def outliers(cov: float) -> Draw:
    """One in 10 measurements is 1.5 times as large; mean 1."""
    return lambda rng: lognormal(cov)(rng) * (1.5 if rng.random() < 0.1 else 1.0) / 1.05


NOISES = {
    "lognormal 5 %": lognormal(0.05),
    "lognormal 10 %": lognormal(0.1),
    "lognormal 20 %": lognormal(0.2),
    "normal 20 %": gaussian(0.2),
    "lognormal 30 %": lognormal(0.3),
    "t(3) 20 %": heavy(0.2),
    "10 % + outliers": outliers(0.1),
}


@dataclass(frozen=True)
class Answer:
    """One search beside the truth."""

    best: float | None
    failed: float | None
    capacity: float
    used: int
    good: bool
    """True if the answer meets the limit, or there is none."""

    @property
    def covered(self) -> bool:
        """True if the interval has the capacity."""
        return (self.best or 0) <= self.capacity and (self.failed is None or self.capacity < self.failed)


def searched(shape: Shape, draw: Draw, rng: np.random.Generator, wanted: Search) -> Answer:
    """One search over users."""
    trials: list[Trial] = []
    while True:
        step: Step = next_step(trials, (LIMIT,), wanted, whole=True)
        if step.level is None:
            break
        figure = LIMIT.value * shape.figure(step.level) * draw(rng)
        trials.append(Trial(step.level, {LIMIT.metric: figure}))
    good = step.best is None or shape.figure(step.best) <= 1
    return Answer(step.best, step.failed, shape.capacity(int(wanted.high)), len(trials), good)


def users(seeds: int, seed: int, high: int = 1024) -> Iterator[list[str]]:
    """Every shape under every noise."""
    yield [
        "Curve",
        "Noise",
        "Above the truth",
        "Covered",
        "Answer / truth",
        "Upper end / truth",
        "No answer",
        "Measurements",
    ]
    wanted = Search(slo={LIMIT.metric: LIMIT.value}, high=high)
    for shape in SHAPES:
        for name, draw in NOISES.items():
            rng = np.random.default_rng((seed, len(shape.name)))
            found = [searched(shape, draw, rng, wanted) for _ in range(seeds)]
            ratios = [a.best / a.capacity for a in found if a.best and a.capacity]
            tops = [a.failed / a.capacity for a in found if a.failed and a.capacity]
            yield [
                shape.name,
                name,
                share(not a.good for a in found),
                share(a.covered for a in found),
                f"{np.median(ratios):.2f}" if ratios else "-",
                f"{np.median(tops):.2f}" if tops else "-",
                share(a.best is None for a in found),
                f"{np.mean([a.used for a in found]):.1f}",
            ]


def share(found: Iterator[bool]) -> str:
    """`3.1 %`."""
    known = list(found)
    return f"{100 * sum(known) / len(known):.1f} %"


def table(rows: Iterator[list[str]]) -> None:
    """Print Markdown."""
    for number, row in enumerate(rows):
        print("| " + " | ".join(row) + " |", flush=True)
        if not number:
            print("|" + "---|" * len(row))
    print()


PARTS = {"users": users}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for part in given.parts or PARTS:
        print(f"## {part}\n")
        table(PARTS[part](given.seeds, given.seed))


if __name__ == "__main__":
    main()
