#!/usr/bin/env python3
"""How often the judgement is right: error rates of compare, ablate and gate on data whose truth is known.

    .venv/bin/python benchmarks/judgement.py [--comparisons 200] [--many 2000] [--seed 1]

Repeats come from the simulated server's engine in virtual time (closed loop, 32 users) with noise from repeat to
repeat, or, by the thousand, from a lognormal distribution. Shares stand with their 95 % interval (Clopper-Pearson).
The figures are in docs/statistics.md; a small seeded version is in the tests.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as st

from rocbench.judgement.ablate import ablate
from rocbench.judgement.compare import Settings, compare
from rocbench.judgement.factorial import abba_order
from rocbench.judgement.gate import gate
from rocbench.judgement.gaterules import GateRules, RelativeRule
from rocbench.sim.costs import AffineTimes, Noise
from rocbench.sim.engine import Engine, EngineConfig
from rocbench.sim.engine import Sequence as EngineSequence

METRIC = "output_throughput"
USERS, ISL, OSL, TURNS = 32, 64, 32, 5
DIFFER, SPREAD = frozenset({"better", "worse"}), frozenset({"more variable", "less variable"})


@dataclass(frozen=True)
class Truth:
    """The truth of an arm: its speed relative to the base, and the coefficient of variation of repeats."""

    speed: float = 1.0
    cov: float = 0.01


Draw = Callable[[Truth, int, int], list[float]]
"""(truth, repeats, seed) -> output throughput of each repeat."""


def by_engine(truth: Truth, n: int, seed: int) -> list[float]:
    """Repeats on the simulated engine in virtual time, each with its own noise."""
    return [one_run(truth, seed * 1000 + i) for i in range(n)]


def by_lognormal(truth: Truth, n: int, seed: int) -> list[float]:
    """Repeats as lognormal figures."""
    sigma = np.sqrt(np.log1p(truth.cov**2))
    return list(1000 * truth.speed * np.random.default_rng((seed, n)).lognormal(0, sigma, n))


def one_run(truth: Truth, seed: int) -> float:
    """Output tokens per second of one closed-loop run, its first turn left out as warm-up."""
    times = AffineTimes(0.010 / truth.speed, 10e-6 / truth.speed, 20e-6 / truth.speed, 1e-9 / truth.speed)
    engine = Engine(EngineConfig(256, 8192, 4096, 16, 20_000), times, Noise(0.02, truth.cov, seed))
    for user in range(USERS):
        engine.add(EngineSequence(user, ISL, OSL + user), 0.0)  # unlike first lengths keep users out of step
    now, done, began = 0.0, 0, (0, 0.0)
    while done < USERS * (TURNS + 1):
        outcome = engine.step(now, until=now + 60)
        assert outcome is not None
        now = outcome.ends_s
        for _ in outcome.finished:
            done += 1
            engine.add(EngineSequence(USERS + done, ISL, OSL), now)
        if done >= USERS and not began[0]:
            began = engine.counters.generation_tokens, now
    return (engine.counters.generation_tokens - began[0]) / (now - began[1])


def rows(figures: Sequence[float], arm: str, cell: int = 1) -> pd.DataFrame:
    """One cell's repeats as a `cells` table."""
    return pd.DataFrame(
        {
            "cell_id": f"{arm}-{cell}",
            "model": "m",
            "workload": "w",
            "concurrency": cell,
            "simulated": True,
            "valid": True,
            "axes": json.dumps({"arm": arm}),
            "repeat": range(1, len(figures) + 1),
            METRIC: figures,
        }
    )


# --- what is asked


def verdict(a: Sequence[float], b: Sequence[float], min_effect: float) -> str:
    """The verdict of one comparison of one cell."""
    plain = rows(a, "a").drop(columns="axes"), rows(b, "b").drop(columns="axes")
    return str(compare(*plain, Settings(metrics=(METRIC,), min_effect=min_effect)).table.iloc[0]["verdict"])


def decided(
    draw: Draw,
    a: Truth,
    b: Truth,
    n: int,
    comparisons: int,
    seed: int,
    min_effect: float,
    words: AbstractSet[str] = DIFFER,
) -> int:
    """How many of so many comparisons say one of these words."""
    said = (
        verdict(draw(a, n, seed + 2 * i), draw(b, n, seed + 2 * i + 1), min_effect)
        for i in range(comparisons)
    )
    return sum(word in words for word in said)


def family_decided(draw: Draw, truth: Truth, n: int, cells: int, comparisons: int, seed: int) -> int:
    """Of comparisons of so many equal cells each, how many have any better or worse."""
    found = 0
    for i in range(comparisons):
        sides = [
            pd.concat([rows(draw(truth, n, seed + (2 * i + side) * cells + c), "x", c) for c in range(cells)])
            for side in (0, 1)
        ]
        table = compare(sides[0], sides[1], Settings(metrics=(METRIC,), min_effect=0.0)).table
        found += bool(table["verdict"].isin(["better", "worse"]).any())
    return found


def ablated(
    draw: Draw, off: Truth, on: Truth, n: int, seed: int, drift: float = 0.0, min_effect: float = 0.02
) -> pd.Series:
    """The one row of an interleaved two-arm ablation on a node whose speed drifts by `drift` a measurement."""
    figures = [draw(off, n, seed), draw(on, n, seed + 1)]
    for position, (repeat, arm) in enumerate(abba_order(2, n, seed)):
        figures[arm][repeat - 1] *= 1 + drift * position
    frame = pd.concat([rows(figures[0], "off"), rows(figures[1], "on")], ignore_index=True)
    return ablate(
        frame, {"arm": ["off", "on"]}, Settings(metrics=(METRIC,), min_effect=min_effect)
    ).table.iloc[0]


def ablations(
    column: str,
    words: AbstractSet[str],
    draw: Draw,
    off: Truth,
    on: Truth,
    n: int,
    comparisons: int,
    seed: int,
    **more: float,
) -> int:
    """How many ablations say one of these words in this column (`verdict` or `spread`)."""
    return sum(ablated(draw, off, on, n, seed + 2 * i, **more)[column] in words for i in range(comparisons))


def gated(draw: Draw, truth: Truth, n: int, comparisons: int, seed: int, outcome: str) -> int:
    """How many gates with a limit of 5 % end so."""
    rules = GateRules(relative=(RelativeRule(metric=METRIC, worse_by=0.05),))
    found = 0
    for i in range(comparisons):
        base, run = draw(Truth(cov=truth.cov), n, seed + 2 * i), draw(truth, n, seed + 2 * i + 1)
        sides = [rows(side, "x").drop(columns="axes") for side in (run, base)]
        found += gate(sides[0], sides[1], rules).outcome == outcome
    return found


def share(found: int, of: int) -> str:
    """`4.5 % [2.1, 8.4]`."""
    interval = st.binomtest(found, of).proportion_ci()
    return f"{100 * found / of:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def studies(few: int, many: int, seed: int) -> list[tuple[str, str, int, Callable[[], int]]]:
    """(question, source, comparisons, count) of everything asked."""
    same, faster, slower = Truth(), Truth(speed=1.05), Truth(speed=0.90)
    wild = Truth(cov=0.05)
    return [
        (
            "A/A, CoV 1 %, n=5, any effect counts: better or worse",
            "engine",
            few,
            lambda: decided(by_engine, same, same, 5, few, seed, 0.0),
        ),
        (
            "A/A, CoV 1 %, n=5, minimum effect 2 %: better or worse",
            "engine",
            few,
            lambda: decided(by_engine, same, same, 5, few, seed + 7919, 0.02),
        ),
        (
            "5 % faster, CoV 1 %, n=5: better",
            "engine",
            few,
            lambda: decided(by_engine, same, faster, 5, few, seed, 0.02, {"better"}),
        ),
        (
            "standard deviation 3x, n=20: variability differs",
            "engine",
            few,
            lambda: ablations("spread", SPREAD, by_engine, same, Truth(cov=0.03), 20, few, seed),
        ),
        (
            "A/A, CoV 1 %, n=5, any effect counts: better or worse",
            "lognormal",
            many,
            lambda: decided(by_lognormal, same, same, 5, many, seed, 0.0),
        ),
        (
            "A/A, CoV 5 %, n=5, minimum effect 2 %: better or worse",
            "lognormal",
            many,
            lambda: decided(by_lognormal, wild, wild, 5, many, seed, 0.02),
        ),
        (
            "A/A, CoV 1 % against 5 %, n=5, any effect counts: better or worse",
            "lognormal",
            many,
            lambda: decided(by_lognormal, same, wild, 5, many, seed, 0.0),
        ),
        (
            "A/A of 20 cells, n=5, any effect counts: any of them better or worse",
            "lognormal",
            few,
            lambda: family_decided(by_lognormal, same, 5, 20, few, seed),
        ),
        (
            "5 % faster, CoV 1 %, n=5: better",
            "lognormal",
            many,
            lambda: decided(by_lognormal, same, faster, 5, many, seed, 0.02, {"better"}),
        ),
        (
            "ablation A/A, n=6, any effect counts: better or worse",
            "lognormal",
            many,
            lambda: ablations("verdict", DIFFER, by_lognormal, same, same, 6, many, seed, min_effect=0.0),
        ),
        (
            "ablation A/A, CoV 0.3 % against 5 %, n=6, any effect counts: better or worse",
            "lognormal",
            many,
            lambda: ablations(
                "verdict", DIFFER, by_lognormal, Truth(cov=0.003), wild, 6, many, seed, min_effect=0.0
            ),
        ),
        (
            "ablation A/A on a node that slows by 0.5 % a measurement, n=6: better or worse",
            "lognormal",
            many,
            lambda: ablations(
                "verdict", DIFFER, by_lognormal, same, same, 6, many, seed, drift=-0.005, min_effect=0.0
            ),
        ),
        (
            "ablation, 5 % faster, CoV 1 %, n=5: better",
            "lognormal",
            many,
            lambda: ablations("verdict", {"better"}, by_lognormal, same, faster, 5, many, seed),
        ),
        (
            "equal spread, n=20: variability differs",
            "lognormal",
            many,
            lambda: ablations("spread", SPREAD, by_lognormal, same, same, 20, many, seed),
        ),
        (
            "standard deviation 3x, n=20: variability differs",
            "lognormal",
            many,
            lambda: ablations("spread", SPREAD, by_lognormal, same, Truth(cov=0.03), 20, many, seed),
        ),
        (
            "standard deviation 3x, n=5: variability differs",
            "lognormal",
            many,
            lambda: ablations("spread", SPREAD, by_lognormal, same, Truth(cov=0.03), 5, many, seed),
        ),
        (
            "gate of 5 %, equal runs, CoV 1 %, n=5: passes",
            "lognormal",
            many,
            lambda: gated(by_lognormal, same, 5, many, seed, "pass"),
        ),
        (
            "gate of 5 %, 10 % slower, CoV 1 %, n=5: regression",
            "lognormal",
            many,
            lambda: gated(by_lognormal, slower, 5, many, seed, "regression"),
        ),
        (
            "gate of 5 %, 5 % slower, CoV 1 %, n=5: passes (it should not)",
            "lognormal",
            many,
            lambda: gated(by_lognormal, Truth(speed=0.95), 5, many, seed, "pass"),
        ),
    ]


def main() -> None:
    """Ask everything and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=200, help="comparisons on the simulated engine")
    parser.add_argument("--many", type=int, default=2000, help="comparisons on lognormal figures")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print("| Question | Data | Of | Share [95 % interval] |\n|---|---|---|---|")
    began = time.monotonic()
    for question, source, of, count in studies(asked.comparisons, asked.many, asked.seed):
        print(f"| {question} | {source} | {of} | {share(count(), of)} |", flush=True)
    print(f"\nseed {asked.seed}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
