#!/usr/bin/env python3
"""How often `bench history` is right: false changes in 100 mornings, nights until a step is told, slides named so.

    .venv/bin/python benchmarks/judgement_history.py [--series 1000] [--few 200] [--seed 1] [--part false later ...]

Each series is one figure per night, and is read on each morning from the second night on. Prints Markdown tables. Shares
have their 95 % interval (Clopper-Pearson). The threshold `trend.ALARM` was set with --seed 11; the tables in
docs/statistics.md come from other seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats as st

from rocbench.judgement.detectable import WITHIN, sight
from rocbench.judgement.trend import change_points, first_told

Figures = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Figures]
"""(random numbers, series, nights) -> noise in standard deviations of a night, [series x nights]."""
MORNINGS = 100
BATCH = 250


def independent(rng: np.random.Generator, series: int, nights: int) -> Figures:
    """Independent normal nights."""
    return rng.standard_normal((series, nights))


def ar(rho: float) -> Draw:
    """Nights with autocorrelation rho^lag and a standard deviation of 1."""

    def draw(rng: np.random.Generator, series: int, nights: int) -> Figures:
        x = rng.standard_normal((series, nights))
        for night in range(1, nights):
            x[:, night] = rho * x[:, night - 1] + np.sqrt(1 - rho**2) * x[:, night]
        return x

    return draw


def tails(free: int) -> Draw:
    """Student's t with so many degrees of freedom."""
    return lambda rng, series, nights: rng.standard_t(free, (series, nights))


def states(apart: float, stay: float, noise: Draw = independent) -> Draw:
    """Two clock states, so many standard deviations apart; each night keeps the last one's with this probability."""

    def draw(rng: np.random.Generator, series: int, nights: int) -> Figures:
        first = rng.random((series, 1)) < 0.5
        switch = rng.random((series, nights - 1)) > stay
        state = np.concatenate([first, switch], axis=1).cumsum(axis=1) % 2
        return noise(rng, series, nights) + apart * state

    return draw


def slower(share: float, by: float, noise: Draw = independent) -> Draw:
    """Noise of which this share of nights is so many standard deviations slower."""
    return lambda rng, series, nights: (
        noise(rng, series, nights) - by * (rng.random((series, nights)) < share)
    )


def week(rng: np.random.Generator, series: int, nights: int) -> Figures:
    """Two nights of seven are two standard deviations slower."""
    return independent(rng, series, nights) - 2 * (np.arange(nights) % 7 > 4)


def wandering(rng: np.random.Generator, series: int, nights: int) -> Figures:
    """A slow AR(1) 0.8 under independent noise of the same variance."""
    return ar(0.8)(rng, series, nights) + independent(rng, series, nights)


KINDS: dict[str, tuple[Draw, float]] = {
    "independent, CoV 0.1 %": (independent, 0.001),
    "independent, CoV 1 %": (independent, 0.01),
    "independent, CoV 20 %": (independent, 0.2),
    "AR(1) 0.3": (ar(0.3), 0.01),
    "AR(1) 0.5": (ar(0.5), 0.01),
    "AR(1) 0.7": (ar(0.7), 0.01),
    "heavy tails (t, 3 df)": (tails(3), 0.01),
    "1 night in 10 is 10 % slower": (slower(0.1, 10), 0.01),
    "two clock states by night, 5 % apart": (states(5, 0.5), 0.01),
    "AR(1) 0.5, 1 night in 10 is 10 % slower": (slower(0.1, 10, ar(0.5)), 0.01),
    "AR(1) 0.5, two states by night 2 % apart": (states(2, 0.5, ar(0.5)), 0.01),
    "held out: AR(1) 0.8": (ar(0.8), 0.01),
    "held out: tails with 2 df": (tails(2), 0.01),
    "held out: 1 night in 5 is 10 % slower": (slower(0.2, 10), 0.01),
    "held out: two states that last 3 nights, 5 % apart": (states(5, 2 / 3), 0.01),
    "held out: slow AR(1) 0.8 under independent noise": (wandering, 0.01),
    "held out: 2 nights of 7 are 2 % slower": (week, 0.01),
}


def drawn(kind: str, series: int, nights: int, seed: int) -> Figures:
    """Figures of a kind of noise around 1,000; [series x nights]."""
    noise, cov = KINDS[kind]
    return 1000 * np.exp(cov * noise(np.random.default_rng((seed, list(KINDS).index(kind))), series, nights))


def told(figures: Figures) -> npt.NDArray[np.int_]:
    """Night after which each series is first told a change; 0: never."""
    return np.concatenate([first_told(figures[i : i + BATCH]) for i in range(0, len(figures), BATCH)])


def share(found: int, of: int) -> str:
    """`4.5 % [2.1, 8.4]`."""
    interval = st.binomtest(found, of).proportion_ci()
    return f"{100 * found / of:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def line(*cells: object) -> None:
    """Print a row of a Markdown table at once."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*cells: str) -> None:
    """Print the head of a Markdown table."""
    line(*cells)
    line(*("---" for _ in cells))


def false_changes(series: int, seed: int) -> None:
    """Series without a change that are told one on any of the first 100 mornings."""
    head("Noise, no change", "Series", "Any change told in mornings 1 to 100")
    for kind in KINDS:
        line(kind, f"{series:,}", share(int((told(drawn(kind, series, MORNINGS, seed)) > 0).sum()), series))


def later_changes(series: int, seed: int) -> None:
    """The same, on the 100 mornings after those, among the series that were told none before."""
    head("Noise, no change", "Series", "First told in mornings 101 to 200")
    for kind in ("independent, CoV 1 %", "AR(1) 0.5", "AR(1) 0.7"):
        first = told(drawn(kind, series, 2 * MORNINGS, seed))
        late, quiet = int((first > MORNINGS).sum()), int(((first == 0) | (first > MORNINGS)).sum())
        line(kind, f"{quiet:,}", share(late, quiet))


def moved(figures: Figures, at: int, change: float, nights: int = 1) -> Figures:
    """The series with a change after `at` nights, in one step or over so many nights."""
    part = np.clip((np.arange(figures.shape[1]) - at + 1) / nights, 0, 1)
    return figures * (1 + change * part)


def step_nights(series: int, seed: int) -> None:
    """Nights from a step until it is told, without the series that were told a change before."""
    head("Noise", "Nights before", "Step 1 %", "Step 2 %", "Step 5 %", "2 % told within 7 nights")
    for kind in (
        "independent, CoV 1 %",
        "AR(1) 0.5",
        "heavy tails (t, 3 df)",
        "1 night in 10 is 10 % slower",
    ):
        for before in (10, 20, 30, 50, 80):
            cells: list[str] = []
            for change in (-0.01, -0.02, -0.05):
                first = told(moved(drawn(kind, series, before + 40, seed), before, change))
                after = np.where(first == 0, 999, first - before)
                after = after[after > 0]
                median = int(np.median(after))
                cells.append(f"{median}" if median < 999 else "more than 40")
                if change == -0.02:
                    soon = share(int((after <= 7).sum()), len(after))
            line(kind, before, *cells, soon)


def names(series: int, seed: int) -> None:
    """Changes by their names, in series that end so many nights after the change began."""
    head(
        "Change, CoV 1 %, 30 nights before", "Nights after", "Told", "One slide", "One step", "More than one"
    )
    for label, change, length in (
        ("slide of 0.3 % a night, going on", -0.003, 0),
        ("slide of 0.1 % a night, going on", -0.001, 0),
        ("slide of 0.3 % a night for 15 nights", -0.045, 15),
        ("step of 2 %", -0.02, 1),
        ("step of 5 %", -0.05, 1),
    ):
        for after in (10, 20, 30):
            figures = drawn("independent, CoV 1 %", series, 30 + after, seed)
            figures = moved(figures, 30, change if length else change * after, length or after)
            found = [change_points(one) for one in figures]
            slides = sum(len(one) == 1 and one[0].kind == "slide" for one in found)
            steps = sum(len(one) == 1 and one[0].kind == "step" for one in found)
            some = sum(bool(one) for one in found)
            cells = (share(count, series) for count in (some, slides, steps, some - slides - steps))
            line(label, after, *cells)


def promised(series: int, seed: int) -> None:
    """Steps of the minimum detectable size that are found within WITHIN nights; 80 % are promised."""
    head(
        "Noise", "Nights", "Median of the minimum step", "No step is enough", f"Found within {WITHIN} nights"
    )
    for kind in ("independent, CoV 1 %", "AR(1) 0.5", "heavy tails (t, 3 df)"):
        for nights in (10, 20, 40, 80):
            figures = drawn(kind, series, nights + WITHIN, seed)
            smallest = np.array([sight(one[:nights]).smallest for one in figures])
            steps = np.where(np.isfinite(smallest), smallest, 0)
            part = np.arange(nights + WITHIN) >= nights
            first = told(figures / (1 + steps[:, None] * part))
            able = np.isfinite(smallest) & ((first == 0) | (first > nights))
            found = int(((first > nights) & able).sum())
            size = f"{100 * np.median(smallest):.1f} %" if np.isfinite(np.median(smallest)) else "-"
            none = share(int(np.isinf(smallest).sum()), series)
            line(kind, nights, size, none, share(found, int(able.sum())) if able.any() else "-")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Count how often `bench history` is right.")
    parser.add_argument("--series", type=int, default=1000, help="series without a change, of each kind")
    parser.add_argument("--few", type=int, default=200, help="series with a change, of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parts = {
        "false": lambda: false_changes(given.series, given.seed),
        "later": lambda: later_changes(given.few, given.seed),
        "steps": lambda: step_nights(given.few, given.seed),
        "slides": lambda: names(given.few, given.seed),
        "sight": lambda: promised(given.few, given.seed),
    }
    parser.add_argument("--part", nargs="*", choices=parts, default=list(parts))
    given = parser.parse_args()
    for part in given.part:
        parts[part]()
        print()


if __name__ == "__main__":
    main()
