#!/usr/bin/env python3
"""How often the judgement is right, on noise whose truth is known (benchmarks/noise.py).

    .venv/bin/python benchmarks/judgement.py [--part kinds|mixtures|power|needed|gate|spread] [--families 1000] [--seed 1] [--design D]

A family is one comparison: 12 cells x 4 metrics, 48 verdicts. Each design is judged as `bench compare` and `bench ablate`
do, from the arrays that they make of rows; tests/unit/judgement/test_error_rates.py checks that rows give the same.
The figures are in docs/statistics.md; a small sample is in the tests.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from rocbench import stats
from rocbench.judgement import power, sides
from rocbench.judgement.ablate import ablate
from rocbench.judgement.design import Design
from rocbench.judgement.gate import gate_outcome
from rocbench.judgement.gaterules import RelativeRule
from rocbench.judgement.verdicts import RESERVE, Settings, decide

sys.path.insert(0, str(Path(__file__).parent))
import noise
from noise import CELLS, METRICS, Campaign, Floats, Kind

METRIC = "output_throughput"
MIN_EFFECT, ALPHA = 0.02, 0.05
SPREAD_WORDS = frozenset({"more variable", "less variable"})
STEP_S = 180.0
"""Seconds between measurements."""


@dataclass(frozen=True)
class Judged:
    """A family's figures: relative effects, ends of intervals, p-values after Holm. Shape (48,)."""

    effect: Floats
    low: Floats
    high: Floats
    p: Floats
    unit_sd: Floats
    unit_df: Floats
    pooling: Floats

    def words(self, min_effect: float = MIN_EFFECT) -> list[str]:
        """The verdicts."""
        return [
            decide(stats.Effect(e, low, high, p), p, "higher", min_effect, ALPHA)
            for e, low, high, p in zip(self.effect, self.low, self.high, self.p, strict=True)
        ]


def judge(campaign: Campaign, y: Floats) -> Judged:
    """One family, y of shape (measurements, metrics), as `bench compare` judges it."""
    paired = bool((campaign.run[campaign.side == 0][0] == campaign.run[campaign.side == 1]).all()) and (
        len(set(campaign.start[campaign.side == 0])) > 1
    )
    unit = campaign.repeat if paired else campaign.run
    figures = {}
    for metric in range(METRICS):
        by_side, times, past = [], [], []
        for side in (0, 1):
            here = campaign.side == side
            units = list(dict.fromkeys(unit[here].tolist()))
            by_side.append([_array(campaign, y[:, metric], here & (unit == u)) for u in units])
            times.append([_array(campaign, campaign.place * STEP_S, here & (unit == u)) for u in units])
        here = campaign.side == 2
        past = [
            _array(campaign, y[:, metric], here & (campaign.run == r))
            for r in dict.fromkeys(campaign.run[here])
        ]
        figures[f"m{metric}"] = sides.Figures(
            (by_side[0], by_side[1]), ([past] if past else [], []), (times[0], times[1]), (False,) * CELLS
        )
    n = [len(each) for each in figures["m0"].sides]
    in_one_night = not paired and campaign.run[campaign.side == 0][0] == campaign.run[campaign.side == 1][0]
    kind = "pair of server starts" if paired else "run" if in_one_night else "night"
    how = Design(
        kind,
        paired,
        (tuple(range(n[0])), tuple(range(n[1]))),
        lambda _row, _side: 0,
        in_sequence=in_one_night,
    )
    found = sides.of_one_server(figures, how)
    effects = [
        (sides.Found.effect(_at(each, c), 1 - ALPHA), _at(each, c))
        for c in range(CELLS)
        for each in found.values()
    ]
    p = np.array(stats.holm([effect.p for effect, _ in effects]))
    return Judged(
        np.array([effect.estimate for effect, _ in effects]),
        np.array([effect.low for effect, _ in effects]),
        np.array([effect.high for effect, _ in effects]),
        p,
        np.array([each.unit_sd for _, each in effects]),
        np.array([each.unit_df for _, each in effects]),
        np.array([each.pooling for _, each in effects]),
    )


def _at(found: sides.Found, cell: int) -> sides.Found:
    from dataclasses import replace

    return replace(found, cell=cell)


def _array(campaign: Campaign, values: Floats, where: np.ndarray) -> Floats:
    repeats = campaign.repeat[where]
    array = np.full((len(set(repeats.tolist())), CELLS), np.nan)
    places = {repeat: i for i, repeat in enumerate(sorted(set(repeats.tolist())))}
    array[[places[r] for r in repeats.tolist()], campaign.cell[where]] = values[where]
    return array


def welch(campaign: Campaign, y: Floats) -> Judged:
    """One family as Welch's test on the logarithms of each cell judges it, as bench did before."""
    effects = []
    for cell, metric in itertools.product(range(CELLS), range(METRICS)):
        a, b = (y[(campaign.side == s) & (campaign.cell == cell), metric] for s in (0, 1))
        effects.append(stats.welch(a, b).relative())
    p = np.array(stats.holm([effect.p for effect in effects]))
    estimate, low, high = (
        np.array([getattr(e, name) for e in effects]) for name in ("estimate", "low", "high")
    )
    nothing = np.full(len(effects), np.nan)
    return Judged(estimate, low, high, p, nothing, nothing, nothing)


@dataclass
class Rates:
    """Counts over families."""

    families: int = 0
    wrong: int = 0
    """Families with any better or worse."""
    told: int = 0
    covered: int = 0
    known: int = 0
    verdicts: int = 0
    unknown: int = 0
    widths: list[float] = field(default_factory=list)
    estimates: list[Floats] = field(default_factory=list)

    def line(self) -> str:
        """Family error, coverage, width, width of one who knows the noise, share of "cannot tell"."""
        oracle = 1.96 * float(np.sqrt(np.mean(np.var(np.array(self.estimates), axis=0))))
        cover = f"{100 * self.covered / self.known:.1f}" if self.known else "-"
        width = f"{100 * float(np.mean(self.widths)):.1f}" if self.widths else "-"
        return (
            f"{100 * self.wrong / self.families:.1f} | {cover} | {width} | {100 * oracle:.1f}"
            f" | {100 * self.unknown / self.verdicts:.0f}"
        )


def rates(
    campaign: Campaign,
    kind: Kind,
    families: int,
    seed: int,
    *,
    effect: float = 0.0,
    cov: float = noise.COV,
    method: Callable[[Campaign, Floats], Judged] = judge,
) -> Rates:
    """Count over families with a true relative effect of the other side in every cell and metric."""
    found, rng = Rates(), np.random.default_rng((seed, families))
    for y in draws(campaign, kind, rng, families, cov):
        judged = method(campaign, y + np.log1p(effect) * (campaign.side == 1)[:, None])
        words = judged.words()
        told = sum(word in {"better", "worse"} for word in words)
        known = ~np.isnan(judged.low)
        found.families += 1
        found.wrong += told > 0
        found.told += told
        found.verdicts += len(words)
        found.unknown += words.count("cannot tell")
        found.known += int(known.sum())
        found.covered += int(np.sum(known & (judged.low <= effect) & (effect <= judged.high)))
        found.widths += ((judged.high - judged.low) / 2)[known].tolist()
        found.estimates.append(judged.effect)
    return found


def draws(
    campaign: Campaign, kind: Kind, rng: np.random.Generator, families: int, cov: float
) -> Iterator[Floats]:
    """Noise of each family; shape (measurements, metrics)."""
    for done in range(0, families, 20):
        yield from kind(campaign, rng, min(20, families - done), cov)


# --- tables

DESIGNS: dict[str, Campaign] = {
    "one run, n=3": noise.interleaved(3),
    "one run, n=5": noise.interleaved(5),
    "one run, n=10": noise.interleaved(10),
    "night against night, 7 past, n=3": noise.nights(7, 3),
    "one night, A then B, 7 past, n=3": noise.one_after_the_other(7, 3),
}
HEAD = "| Noise | Design | Any false verdict, % | Interval covers, % | +-, % | +- of one who knows, % | Cannot tell, % |"


def kinds(families: int, seed: int) -> None:
    """Every kind of noise in every design."""
    print(HEAD + "\n|---|---|---|---|---|---|---|")
    for (design, campaign), (name, kind) in itertools.product(DESIGNS.items(), noise.KINDS.items()):
        print(f"| {name} | {design} | {rates(campaign, kind, families, seed).line()} |", flush=True)


def mixtures(families: int, seed: int) -> None:
    """Every mixture of two kinds, in two designs."""
    print(HEAD + "\n|---|---|---|---|---|---|---|")
    for design in ("one run, n=3", "night against night, 7 past, n=3"):
        for one, other in itertools.combinations(noise.KINDS, 2):
            kind = noise.mixture(noise.KINDS[one], noise.KINDS[other])
            found = rates(DESIGNS[design], kind, families, seed)
            print(f"| {one} + {other} | {design} | {found.line()} |", flush=True)


def told(families: int, seed: int) -> None:
    """Power on independent noise beside Welch's test of each cell alone."""
    print("| Effect | Design | Told, % | Told by Welch alone, % |\n|---|---|---|---|")
    for effect in (0.03, 0.05, 0.10):
        for design, campaign in DESIGNS.items():
            shares = []
            for method in (judge, welch):
                found = rates(campaign, noise.independent, families, seed, effect=effect, method=method)
                shares.append(f"{100 * found.told / found.verdicts:.0f}")
            print(f"| {effect:.0%} | {design} | {' | '.join(shares)} |", flush=True)


def needed(families: int, seed: int) -> None:
    """What the number of pairs that is said to be needed delivers, where 80 % is promised.

    The promise holds for the only cell that changes. If all change, Holm's correction becomes milder with each that is told.
    """
    print(
        "| CoV | First n | Effect | Pairs needed, median | Told if one cell changes, % | Told if all change, % |"
    )
    print("|---|---|---|---|---|---|")
    rng = np.random.default_rng(seed)
    for cov, first, effect in ((0.01, 3, 0.03), (0.015, 3, 0.03), (0.03, 3, 0.05), (0.03, 5, 0.05)):
        counts, alone, together = [], [], []
        for y in draws(noise.interleaved(first), noise.independent, rng, families, cov):
            pilot = judge(noise.interleaved(first), y)
            sd, df, pooling = (float(np.median(x)) for x in (pilot.unit_sd, pilot.unit_df, pilot.pooling))
            test: power.Test = {"paired": True, "tests": CELLS * METRICS, "cells": max(round(pooling), 1)}
            n = power.needed(sd, df, effect, min_effect=MIN_EFFECT, alpha=ALPHA * RESERVE, **test)
            if n is None or n > 60:
                continue
            campaign = noise.interleaved(n)
            real = next(draws(campaign, noise.independent, rng, 1, cov))
            side = campaign.side == 1
            for shares, changed in ((alone, side & (campaign.cell == 0)), (together, side)):
                words = judge(campaign, real + np.log1p(effect) * changed[:, None]).words()
                shares.append(
                    np.mean([word == "better" for word in words[: METRICS if shares is alone else None]])
                )
            counts.append(n)
        shown = f"{np.median(counts):.0f} | {100 * np.mean(alone):.0f} | {100 * np.mean(together):.0f}"
        print(f"| {cov:.1%} | {first} | {effect:.0%} | {shown} |", flush=True)


def gates(families: int, seed: int) -> None:
    """False regressions of a gate of 5 % at a CoV of 3 %, and what else it says of an unchanged night."""
    print(
        "| Noise | Design | False regression, % | Passes (each verdict), % | Cannot tell, % |\n|---|---|---|---|---|"
    )
    rule = RelativeRule(metric=METRIC, worse_by=0.05)
    for (name, kind), design in itertools.product(
        noise.KINDS.items(), ("one run, n=5", "night against night, 7 past, n=3")
    ):
        campaign, counts, wrong = DESIGNS[design], dict.fromkeys(("pass", "regression", "cannot tell"), 0), 0
        rng = np.random.default_rng((seed, families))
        for y in draws(campaign, kind, rng, families, 0.03):
            found = judge(campaign, y)
            words = [
                gate_outcome(stats.Effect(*each), each[3], rule, ALPHA)
                for each in zip(found.effect, found.low, found.high, found.p, strict=True)
            ]
            wrong += "regression" in words
            for word in words:
                counts[word] += 1
        total = sum(counts.values())
        print(
            f"| {name} | {design} | {100 * wrong / families:.1f} | {100 * counts['pass'] / total:.0f}"
            f" | {100 * counts['cannot tell'] / total:.0f} |",
            flush=True,
        )


def spread(families: int, seed: int) -> None:
    """Verdicts on variability."""
    print("| Ratio of standard deviations | n | Variability differs, % |\n|---|---|---|")
    for ratio, n in ((1, 5), (1, 20), (3, 5), (3, 20)):
        rng = np.random.default_rng((seed, n))
        found = sum(
            ablated(rng.lognormal(0, 0.01, n), rng.lognormal(0, 0.01 * ratio, n))["spread"] in SPREAD_WORDS
            for _ in range(families)
        )
        print(f"| {ratio} | {n} | {100 * found / families:.1f} |", flush=True)


def ablated(off: Sequence[float], on: Sequence[float]) -> pd.Series:
    """The one row of an interleaved two-arm ablation of one cell."""
    frames = [
        pd.DataFrame(
            {
                "cell_id": arm,
                "model": "m",
                "workload": "w",
                "concurrency": 1,
                "valid": True,
                "axes": json.dumps({"arm": arm}),
                "repeat": range(1, len(values) + 1),
                METRIC: values,
            }
        )
        for arm, values in (("off", off), ("on", on))
    ]
    frame = pd.concat(frames, ignore_index=True)
    return ablate(frame, {"arm": ["off", "on"]}, Settings(metrics=(METRIC,))).table.iloc[0]


PARTS: dict[str, Callable[[int, int], None]] = {
    "kinds": kinds,
    "mixtures": mixtures,
    "power": told,
    "needed": needed,
    "gate": gates,
    "spread": spread,
}


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=[*PARTS], action="append", help="default: all")
    parser.add_argument("--families", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--design", choices=[*DESIGNS], action="append", help="of kinds; default: all")
    asked = parser.parse_args()
    for design in [name for name in DESIGNS if asked.design and name not in asked.design]:
        del DESIGNS[design]
    for part in asked.part or PARTS:
        began = time.monotonic()
        print(f"\n## {part}: {PARTS[part].__doc__}\n")
        PARTS[part](asked.families, asked.seed)
        print(f"\n{asked.families} families, seed {asked.seed}, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
