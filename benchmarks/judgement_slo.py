#!/usr/bin/env python3
"""How often are SLO searches and saturation points right? Curves whose truth is known, hidden from the search.

    .venv/bin/python benchmarks/judgement_slo.py [users] [rates] [saturation] [--seeds 300] [--seed 1]

`users`: closed loops with a p99 of many shapes and noises. `rates`: open loops of a batching server whose TPOT is
bounded, simulated step by step. `saturation`: throughput curves on the levels of a study. A small seeded version is in the
tests; figures of a run are in docs/statistics.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from rocbench.judgement.knee import saturation
from rocbench.judgement.search import next_step as row_step
from rocbench.judgement.slo import Limit, Step, Trial, next_step
from rocbench.settings.goals import Search
from rocbench.tables.row import Row

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
    covered: bool
    """True if a capacity lies in the interval: the answer meets the limit, and the other end misses it."""


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
    missed = step.failed is None or shape.figure(step.failed) > 1
    return Answer(
        step.best, step.failed, shape.capacity(int(wanted.high)), len(trials), good, good and missed
    )


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


# --- rates


@dataclass(frozen=True)
class Server:
    """A batching server: each step gives every running request a token, and at most `seats` requests run."""

    seats: int
    tokens: int
    base_s: float = 0.01
    per_seat_s: float = 0.0002

    @property
    def capacity(self) -> float:
        """Requests/s with a full batch."""
        return self.seats / (self.tokens * (self.base_s + self.per_seat_s * self.seats))

    def row(self, rate: float, rng: np.random.Generator, cov: float, seconds: float = 12.0) -> Row:
        """One measurement at a rate after as long a warm-up, on a node whose speed varies by `cov`; no code flags it."""
        speed = rng.lognormal(0, cov)
        due = np.cumsum(rng.exponential(1 / rate, int(rate * seconds * 2 * 1.5) + 30))
        now, arrived, running, tpot, served, ended = 0.0, 0, np.zeros(0, int), [], 0, 0
        while now < 2 * seconds:
            arrived_now = int(np.searchsorted(due, now, "right"))
            take = min(self.seats - len(running), arrived_now - arrived)
            running = np.concatenate([running, np.full(take, self.tokens)])
            arrived += take
            if not len(running):
                now = float(due[arrived])
                continue
            step = (self.base_s + self.per_seat_s * len(running)) / speed
            now += step
            running = running - 1
            if now > seconds:
                served += len(running)
                ended += int((running == 0).sum())
                tpot.append(step)
            running = running[running > 0]
        return Row(
            {
                "request_rate": rate,
                "load_shape": "open",
                "valid": True,
                "reasons": "",
                "duration_s": seconds,
                "median_tpot_ms": 1e3 * float(np.median(tpot)) if tpot else None,
                "unserved_share": 1 - served / self.tokens / (rate * seconds),
                "arrival_noise_share": math.sqrt(1 / (rate * seconds)),
                "request_throughput": ended / seconds,
            }
        )


SERVERS = {
    "64 seats, 64 tokens": Server(64, 64),
    "16 seats, 256 tokens": Server(16, 256),
    "256 seats, 128 tokens": Server(256, 128),
}


def rates(seeds: int, seed: int) -> Iterator[list[str]]:
    """Searches over rates by TPOT alone, which every rate meets; the node's speed varies by 1 and 5 %."""
    yield [
        "Server",
        "Node",
        "Above the capacity",
        "Answer / capacity",
        "90 % of answers from",
        "No answer",
        "Measurements",
    ]
    for name, server in SERVERS.items():
        for cov in (0.01, 0.05):
            rng = np.random.default_rng((seed, server.seats))
            ratios, used = [], []
            for _ in range(seeds):
                low = float(server.capacity / rng.uniform(5, 40))
                wanted = Search(slo={"median_tpot_ms": 1e3}, low=low, high=server.capacity * 20)
                rows: list[Row] = []
                while (step := rate_step(rows, wanted)).level is not None:
                    rows.append(server.row(step.level, rng, cov))
                ratios.append((step.best or 0.0) / server.capacity)
                used.append(len(rows))
            known = [ratio for ratio in ratios if ratio]
            yield [
                name,
                f"CoV {cov:.0%}",
                share(ratio > 1 for ratio in ratios),
                f"{np.median(known):.2f}" if known else "-",
                f"{np.quantile(known, 0.1):.2f}" if known else "-",
                share(not ratio for ratio in ratios),
                f"{np.mean(used):.1f}",
            ]


def rate_step(rows: list[Row], wanted: Search) -> Step:
    """The next rate."""
    return row_step(rows, wanted, whole=False, used=len(rows))


# --- saturation

STUDY = (1, 10, 50, 100, 200, 500, 750, 1000)
DOUBLINGS = tuple(2**i for i in range(11))
THROUGHPUTS: dict[str, Callable[[float], float]] = {
    "bend at 100": lambda x: min(x, 100),
    "bend at 130": lambda x: min(x, 130),
    "soft bend at 80": lambda x: x / (1 + (x / 80) ** 3) ** (1 / 3),
    "very soft, x / (x + 20)": lambda x: x / (x + 20),
    "very soft, x / (x + 60)": lambda x: x / (x + 60),
    "no bend, x^0.6": lambda x: x**0.6,
    "cliff after 250 to half": lambda x: min(x, 200) * (1 if x <= 250 else 0.5),
    "cliff with partial recovery": lambda x: min(x, 200) * (1 if x <= 250 else 0.4 if x <= 600 else 0.55),
    "batch steps of 32, to 300": lambda x: min(300, 32 * math.ceil(x / 32)) if x > 16 else 2 * x,
}


def bend(levels: tuple[int, ...], curve: Callable[[float], float], gain: float = 0.05) -> float:
    """The true saturation point: from there, no step brings the gain beyond the highest so far; infinite without one."""
    tops = np.maximum.accumulate([curve(x) for x in levels])
    doublings = np.log2(np.array(levels[1:]) / np.array(levels[:-1]))
    pays = (tops[1:] / tops[:-1]) ** (1 / doublings) - 1 >= gain
    return math.inf if pays[-1] else levels[int(np.flatnonzero(pays)[-1]) + 1]


def saturations(seeds: int, seed: int) -> Iterator[list[str]]:
    """Every curve on both lists of levels."""
    yield ["Curve", "Levels", "True", "n", "CoV", "Right", "Covered", "Levels in the interval"]
    for label, levels in (("study", STUDY), ("doublings", DOUBLINGS)):
        for name, curve in THROUGHPUTS.items():
            true = bend(levels, curve)
            for n, cov in ((1, 0.01), (1, 0.03), (3, 0.03), (3, 0.1)):
                rng = np.random.default_rng((seed, n))
                found = [
                    saturation(
                        {x: list(curve(x) * rng.lognormal(0, cov, n)) for x in levels},
                        dict.fromkeys(levels, True),
                    )
                    for _ in range(seeds)
                ]
                ends = [(place(s.low), place(s.high)) for s in found]
                widths = [sum(low <= x <= high for x in (*levels, math.inf)) for low, high in ends]
                yield [
                    name,
                    label,
                    "none" if math.isinf(true) else f"{true:g}",
                    str(n),
                    f"{cov:.0%}",
                    share(place(s.level) == true for s in found),
                    share(low <= true <= high for low, high in ends),
                    f"{np.mean(widths):.1f}",
                ]


def place(level: float | None) -> float:
    """A level; infinite for none."""
    return math.inf if level is None else level


# --- tables


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


PARTS = {"users": users, "rates": rates, "saturation": saturations}


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
