#!/usr/bin/env python3
"""How often the intervals from within one window cover the truth, on noise whose truth is known.

    .venv/bin/python benchmarks/judgement_window.py [--windows 1000] [--requests 1000 4000] [--seconds 60 300] [--seed 1]

p99: windows of request latencies. Output tokens/s: windows of whole seconds. Each window is cut from one stationary
process, so the truth is the process's own p99 or mean. "Known" is the width of one who knows the noise: 2 x 1.96
standard deviations of the estimate over the windows. The figures are in docs/statistics.md; a small seeded version is
in the tests.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import stats as st
from scipy.signal import lfilter

from rocbench.sim.costs import AffineTimes, Noise
from rocbench.sim.engine import Engine, EngineConfig
from rocbench.sim.engine import Sequence as EngineSequence
from rocbench.tables import within

Floats = npt.NDArray[np.float64]
Windows = tuple[Floats, float]
"""Values (windows, n), and the truth."""
Draw = Callable[[np.random.Generator, int, int], Windows]

LARGE = 1_000_000
"""Draws from which a truth without a formula is taken."""


# --- request latencies


def autoregressive(rng: np.random.Generator, windows: int, n: int, length: float) -> Floats:
    """Standard normal values whose correlation falls by e over `length` values; 0 for independent ones."""
    rho = math.exp(-1 / length) if length else 0.0
    steps = rng.normal(size=(windows, n)) * math.sqrt(1 - rho**2)
    steps[:, 0] = rng.normal(size=windows)
    return np.asarray(lfilter([1], [1, -rho], steps, axis=1))


def lognormal(length: float, slow_share: float = 1.0, sigma: float = 0.4) -> Draw:
    """Lognormal latencies; `slow_share` of their variance is autoregressive, the rest independent."""

    def draw(rng: np.random.Generator, windows: int, n: int) -> Windows:
        slow = math.sqrt(slow_share) * autoregressive(rng, windows, n, length)
        fast = math.sqrt(1 - slow_share) * rng.normal(size=(windows, n))
        return np.exp(sigma * (slow + fast)), math.exp(sigma * float(st.norm.ppf(0.99)))

    return draw


def heavy(rng: np.random.Generator, windows: int, n: int) -> Windows:
    """Independent latencies with Pareto tails: the variance is infinite."""
    return 1 + rng.pareto(1.8, (windows, n)), 0.01 ** (-1 / 1.8)


def states(quiet: float, slow: float, factor: float) -> Draw:
    """Two states with exponential dwells of `quiet` and `slow` requests; the second is `factor` slower."""

    def draw(rng: np.random.Generator, windows: int, n: int) -> Windows:
        share = slow / (quiet + slow)
        state = np.empty((windows, n), dtype=bool)
        now = rng.random(windows) < share
        for i in range(n):
            state[:, i] = now
            now ^= rng.random(windows) < np.where(now, 1 / slow, 1 / quiet)
        noise = np.exp(0.1 * rng.normal(size=(windows, n)))
        truth = np.exp(0.1 * rng.normal(size=LARGE)) * np.where(rng.random(LARGE) < share, factor, 1.0)
        return noise * np.where(state, factor, 1.0), float(np.quantile(truth, 0.99))

    return draw


def queue(load: float) -> Draw:
    """Times in an M/M/1 queue in equilibrium, in mean service times."""

    def draw(rng: np.random.Generator, windows: int, n: int) -> Windows:
        times = np.empty((windows, n))
        wait = np.where(rng.random(windows) < load, rng.exponential(1 / (1 - load), windows), 0.0)
        for i in range(n):
            times[:, i] = wait + rng.exponential(1, windows)
            wait = np.maximum(0.0, times[:, i] - rng.exponential(1 / load, windows))
        return times, -math.log(0.01) / (1 - load)

    return draw


def drifting(rng: np.random.Generator, windows: int, n: int) -> Windows:
    """Lognormal latencies that grow by a fifth over the window; the truth is that of the whole window."""
    growth = np.linspace(0.9, 1.1, n)
    many = np.exp(0.1 * rng.normal(size=LARGE)) * rng.uniform(0.9, 1.1, LARGE)
    return np.exp(0.1 * rng.normal(size=(windows, n))) * growth, float(np.quantile(many, 0.99))


def engine(latency: str, *, users: int = 0, load: float = 0.0, random_lengths: bool = True) -> Draw:
    """TTFT or E2EL of the simulated engine in virtual time: closed loop with users, or Poisson arrivals.

    Windows are neighbouring pieces of one long run; the truth is the p99 of the whole run.
    """

    def draw(rng: np.random.Generator, windows: int, n: int) -> Windows:
        total = min(windows * n, ENGINE_REQUESTS)
        seconds = np.array(list(_engine(rng, total, latency, users, load, random_lengths)))
        return seconds[: len(seconds) // n * n].reshape(-1, n), float(np.quantile(seconds, 0.99))

    return draw


ENGINE_REQUESTS = 150_000
"""Requests of one run of the engine."""
_ISL, _OSL, _SEATS = 64, 16, 32


def _engine(
    rng: np.random.Generator, total: int, latency: str, users: int, load: float, random_lengths: bool
) -> Iterator[float]:
    """Latencies in seconds, in the order of the sends."""
    times = AffineTimes(0.010, 10e-6, 20e-6, 1e-9)
    server = Engine(
        EngineConfig(_SEATS, 8192, 4096, 16, 20_000), times, Noise(0.05, 0.0, int(rng.integers(1 << 30)))
    )
    osl = 1 + rng.poisson(_OSL - 1, total) if random_lengths else np.full(total, _OSL)
    capacity = _SEATS / (_OSL * 0.0112)  # requests/s with every seat taken
    arrivals = np.cumsum(rng.exponential(1 / (load * capacity), total)) if load else np.zeros(users)
    sent, found = np.zeros(total), np.zeros(total)
    now, added, ended = 0.0, 0, 0
    while ended < total:
        while added < total and (arrivals[added] <= now if load else added < users + ended):
            sent[added] = arrivals[added] if load else now
            server.add(EngineSequence(added, _ISL, int(osl[added])), sent[added])
            added += 1
        outcome = server.step(now, until=arrivals[added] if load and added < total else now + 60)
        if outcome is None:
            now = float(arrivals[added])
            continue
        now = outcome.ends_s
        for sequence in outcome.prefilled if latency == "ttft" else outcome.finished:
            found[sequence.id] = now - sent[sequence.id]
        ended += len(outcome.finished)
    yield from found[5 * (users or _SEATS) :].tolist()


LATENCIES: dict[str, Draw] = {
    "independent, lognormal": lognormal(0),
    "independent, infinite variance": heavy,
    "AR, 3 requests": lognormal(3),
    "AR, 10 requests": lognormal(10),
    "AR, 100 requests": lognormal(100),
    "AR, 30 requests, in 30 % of the variance": lognormal(30, 0.3),
    "two states, 30 requests each, 1.5x": states(30, 30, 1.5),
    "two states, 300 requests each, 1.2x": states(300, 300, 1.2),
    "bursts of 10 in 100 requests, 2x": states(90, 10, 2.0),
    "bursts of 20 in 400 requests, 3x": states(380, 20, 3.0),
    "queue at 50 %": queue(0.5),
    "queue at 80 %": queue(0.8),
    "drift of 20 %": drifting,
    "engine, TTFT, 24 users": engine("ttft", users=24),
    "engine, TTFT, 64 users for 32 seats": engine("ttft", users=64),
    "engine, E2EL, 64 users, one length": engine("e2el", users=64, random_lengths=False),
    "engine, TTFT, rate of 70 %": engine("ttft", load=0.7),
    "engine, TTFT, rate of 90 %": engine("ttft", load=0.9),
}


def p99_line(draw: Draw, rng: np.random.Generator, windows: int, n: int) -> list[str]:
    """The columns of one line of the table of p99."""
    values, truth = draw(rng, windows, n)
    ends = [within.p99(window) for window in values]
    low = np.array([-math.inf if low is None else low for low, _ in ends])
    high = np.array([math.inf if high is None else high for _, high in ends])
    closed, covers = np.isfinite(high), (low <= truth) & (truth <= high)
    estimates = np.quantile(values, 0.99, axis=1)
    known = 2 * 1.96 * float(estimates.std()) / truth
    width = float(np.median((high - low)[closed])) / truth if closed.any() else math.nan
    inflation = float(np.median([within.inflation(window) for window in values[:100]]))
    both = f"{100 * covers[closed].mean():.1f}" if closed.any() else "-"
    return [
        str(len(values)),
        f"{inflation:.1f}",
        f"{100 * covers.mean():.1f}",
        f"{100 * closed.mean():.0f}",
        both,
        f"{100 * width:.0f}" if closed.any() else "-",
        f"{100 * known:.0f}",
    ]


# --- output tokens per second


def second_by_second(kind: str, length: float = 0.0, slow_share: float = 1.0) -> Draw:
    """Tokens in whole seconds around 1,000 with a CoV of 5 %."""

    def draw(rng: np.random.Generator, windows: int, n: int) -> Windows:
        match kind:
            case "ar":
                slow = math.sqrt(slow_share) * autoregressive(rng, windows, n, length)
                noise = slow + math.sqrt(1 - slow_share) * rng.normal(size=(windows, n))
            case "t":
                noise = rng.standard_t(3, (windows, n)) / math.sqrt(3)
            case "regular":
                white = rng.normal(size=(windows, n + 1))
                noise = white[:, 1:] - 0.8 * white[:, :-1]
            case "waves":
                phase = rng.random((windows, 1))
                noise = np.sin(2 * np.pi * (np.arange(n) / length + phase)) + 0.3 * rng.normal(
                    size=(windows, n)
                )
            case _:
                now, noise = rng.random(windows) < 0.5, np.empty((windows, n))
                for i in range(n):
                    noise[:, i] = np.where(now, 1.0, -1.0)
                    now ^= rng.random(windows) < 1 / length
                noise += 0.2 * rng.normal(size=(windows, n))
        return 1000 * (1 + 0.05 * noise), 1000.0

    return draw


THROUGHPUT: dict[str, Draw] = {
    "independent": second_by_second("ar"),
    "heavy tails": second_by_second("t"),
    "anti-correlated": second_by_second("regular"),
    "AR, 2 s": second_by_second("ar", 2),
    "AR, 8 s": second_by_second("ar", 8),
    "AR, 30 s": second_by_second("ar", 30),
    "AR, 15 s, in 10 % of the variance": second_by_second("ar", 15, 0.1),
    "two states, 3 s each": second_by_second("states", 3),
    "two states, 30 s each": second_by_second("states", 30),
    "waves of 12 s": second_by_second("waves", 12),
}


def throughput_line(draw: Draw, rng: np.random.Generator, windows: int, n: int) -> list[str]:
    """The columns of one line of the table of throughput."""
    values, truth = draw(rng, windows, n)
    means = values.mean(axis=1)
    errors = np.array([math.nan if (e := within.relative_error(w)) is None else e for w in values])
    shown, covers = np.isfinite(errors), np.abs(means - truth) <= errors * means
    known = 2 * 1.96 * float(means.std()) / truth
    return [
        str(windows),
        f"{100 * shown.mean():.0f}",
        f"{100 * covers[shown].mean():.1f}" if shown.any() else "-",
        f"{100 * (shown & ~covers).mean():.1f}",
        f"{200 * np.median(errors[shown]):.2f}" if shown.any() else "-",
        f"{100 * known:.2f}",
    ]


def main() -> None:
    """Draw everything and print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=1000, help="windows of each kind")
    parser.add_argument("--requests", type=int, nargs="+", default=[1000, 4000], help="requests of a window")
    parser.add_argument(
        "--seconds", type=int, nargs="+", default=[60, 300], help="lengths of a window, in seconds"
    )
    parser.add_argument("--only", default="", help="only kinds whose name has this text")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    print(
        "| Latencies | Requests | Windows | Inflation | Covers, % | Upper end, % | With upper end: covers, % | Width, % "
        "| Known, % |\n|---|---|---|---|---|---|---|---|---|"
    )
    for index, (name, draw) in enumerate(LATENCIES.items()):
        for n in asked.requests if asked.only in name else ():
            line = p99_line(draw, np.random.default_rng((asked.seed, index, n)), asked.windows, n)
            print(f"| {name} | {n:,} | {' | '.join(line)} |", flush=True)
    print(
        "\n| Tokens/s | Window, s | Windows | Shown, % | Covers, % | Shown and wrong, % | Width, % | Known, % |"
        "\n|---|---|---|---|---|---|---|---|"
    )
    for index, (name, draw) in enumerate(THROUGHPUT.items()):
        for n in asked.seconds if asked.only in name else ():
            line = throughput_line(draw, np.random.default_rng((asked.seed, index, n)), asked.windows, n)
            print(f"| {name} | {n} | {' | '.join(line)} |", flush=True)
    print(f"\nseed {asked.seed}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
