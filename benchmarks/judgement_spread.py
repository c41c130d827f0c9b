#!/usr/bin/env python3
"""How often the interval of the ratio of spreads covers the truth, beside the F interval.

    .venv/bin/python benchmarks/judgement_spread.py [--pairs 2000] [--repeats 5 10 20] [--seed 1]

Both sides have the same distribution, the second three times as wide. Widths are the interval's upper end / its lower
end. The figures are in docs/statistics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rocbench import stats

Floats = npt.NDArray[np.float64]
RATIO = 3.0


def contaminated(rng: np.random.Generator, n: int) -> Floats:
    """Normal values; 1 in 10 has 5 times the spread."""
    return rng.normal(size=n) * np.where(rng.random(n) < 0.1, 5, 1)


def slow(rng: np.random.Generator, n: int) -> Floats:
    """Normal values; 1 in 10 is 10 standard deviations slower."""
    return rng.normal(size=n) + 10 * (rng.random(n) < 0.1)


KINDS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "two states": lambda rng, n: 0.3 * rng.normal(size=n) + (rng.random(n) < 0.5),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "Student's t, 3 degrees of freedom": lambda rng, n: rng.standard_t(3, n),
    "one in 10 with 5 times the spread": contaminated,
    "one in 10 is 10 standard deviations slower": slow,
}


def line(kind: str, n: int, pairs: int, seed: int) -> list[str]:
    """Coverage and median width of both intervals."""
    rng = np.random.default_rng((seed, n, list(KINDS).index(kind)))
    robust, f = [], []
    for _ in range(pairs):
        a, b = KINDS[kind](rng, n), RATIO * KINDS[kind](rng, n)
        robust.append(stats.spread_ratio([a.tolist()], [b.tolist()]))
        f.append(stats.spread_from_moments((float(a.std(ddof=1)), n), (float(b.std(ddof=1)), n)))
    cells = []
    for spreads in (robust, f):
        covers = np.mean([spread.low <= RATIO <= spread.high for spread in spreads])
        cells += [f"{100 * covers:.1f}", f"{np.median([spread.high / spread.low for spread in spreads]):.1f}"]
    return cells


def main() -> None:
    """Draw everything and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000, help="pairs of sides of each kind")
    parser.add_argument("--repeats", type=int, nargs="+", default=[5, 10, 20], help="values on each side")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print("| Values | n | Covers, % | High / low | F covers, % | F, high / low |\n|---|---|---|---|---|---|")
    for kind in KINDS:
        for n in asked.repeats:
            print(f"| {kind} | {n} | {' | '.join(line(kind, n, asked.pairs, asked.seed))} |", flush=True)


if __name__ == "__main__":
    main()
