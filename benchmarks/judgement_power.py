"""Count what the plan promises and what looking costs: coverage after an early end, false verdicts of "until it is told",
and the share of real verdicts that find the change that a promise names.

    python benchmarks/judgement_power.py [width] [told] [promise] [--runs 200] [--seed 1]

Repeats are normal logarithms unless stated. Every table has the number of cases, and shares with their standard error.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rocbench.conduct.remaining import Goal
from rocbench.judgement import looks, power, until
from rocbench.judgement.ablate import ablate
from rocbench.judgement.compare import compare, split
from rocbench.judgement.promise import Design, Spread, detectable, needed
from rocbench.judgement.verdicts import Settings
from rocbench.settings.goals import Until
from rocbench.tables.row import Row

Array = npt.NDArray[np.float64]
SPREADS = (0.005, 0.01, 0.02, 0.03, 0.05)


def noise(kind: str, spread: float, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Relative noise with mean 0 and this spread; cells are the second to last axis."""
    z = rng.standard_normal(shape)
    match kind:
        case "unequal":
            return spread * np.geomspace(0.3, 3, shape[-2])[:, None] * z
        case "heavy tails":
            return spread * rng.standard_t(3, shape) / math.sqrt(3)
        case "skewed":
            return spread * (rng.exponential(1, shape) - 1)
        case "1 in 10 is 10 % slower":
            return spread * z - 0.1 * (rng.random(shape) < 0.1) + 0.01
        case "two states, 3 %":
            return spread * z + 0.03 * (rng.random(shape) < 0.5) - 0.015
        case _:
            return spread * z


# --- an early end by width


def ended(figures: Array, goal: float) -> tuple[float, float, float]:
    """(Share of cells whose interval holds 1, mean repeats, mean half width) of one run that ends as a sweep does."""
    count, going = np.full(len(figures), looks.FIRST), np.ones(len(figures), bool)
    for look in looks.schedule(looks.FIRST, figures.shape[1]):
        count[going] = look
        found = until.intervals([list(row[:n]) for row, n in zip(figures, count, strict=True)])
        going &= [each.relative_half_width > goal for each in found]
    covered = [each.low <= 1 <= each.high for each in found]
    return (
        float(np.mean(covered)),
        float(count.mean()),
        float(np.mean([x.relative_half_width for x in found])),
    )


def width(runs: int, seed: int) -> None:
    """Print the coverage after an early end at +-2 %, up to 12 repeats."""
    print("| Noise | Cells | Spread | Covered | Mean repeats | Who knows the spread | Half width |")
    print("|---|---|---|---|---|---|---|")
    for kind in (
        "independent",
        "unequal",
        "heavy tails",
        "skewed",
        "1 in 10 is 10 % slower",
        "two states, 3 %",
    ):
        for cells in (12, 1):
            for spread in SPREADS:
                if kind == "unequal" and cells == 1:
                    continue
                rng = np.random.default_rng(seed)
                found = [
                    ended(1 + noise(kind, spread, (cells, 12), rng), 0.02)
                    for _ in range(runs * (1 if cells > 1 else 8))
                ]
                covered, repeats, half = np.mean(found, axis=0)
                known = np.clip(np.ceil((1.96 * spread / 0.02) ** 2), 3, 12)
                knows = "-" if kind == "unequal" else f"{known:.0f}"
                print(
                    f"| {kind} | {cells} | {spread:.1%} | {covered:.1%} of {cells * len(found)} | {repeats:.1f} | {knows} | {half:.2%} |",
                    flush=True,
                )


# --- rows for real verdicts


def frame(logs: Array, metrics: tuple[str, ...]) -> pd.DataFrame:
    """Rows of interleaved arms: logs of shape (metrics, arms, levels, repeats)."""
    _, arms, levels, repeats = logs.shape
    lines: list[dict[str, Any]] = []
    for repeat in range(repeats):
        for arm in range(arms) if repeat % 2 == 0 else reversed(range(arms)):
            for level in range(levels):
                at = len(lines)
                lines.append(
                    {
                        "run_id": "r",
                        "cell_id": f"{arm}-{level}",
                        "key": f"m/w/c{level}@aiter={arm}",
                        "model": "m",
                        "workload": "w",
                        "load_shape": "closed",
                        "concurrency": level,
                        "repeat": repeat + 1,
                        "valid": True,
                        "discarded": False,
                        "simulated": False,
                        "node": "n1",
                        "restart": "per_repeat",
                        "server_id": f"{arm}-{repeat}",
                        "started_at": f"2026-01-01T{at // 3600 % 24:02d}:{at // 60 % 60:02d}:{at % 60:02d}.000+00:00",
                        "axes": json.dumps({"aiter": str(arm)}),
                    }
                    | {name: 100 * math.exp(logs[i, arm, level, repeat]) for i, name in enumerate(metrics)}
                )
    return pd.DataFrame(lines)


METRICS = ("output_throughput", "request_throughput", "output_throughput_per_gpu", "goodput")


# --- until it is told


def told(runs: int, seed: int) -> None:
    """Print the error of a family of 2 arms at 6 levels in 2 metrics that is repeated until all is told."""
    print("| Effect | Spread | Most repeats (looks) | Any false verdict | All told | Mean repeats |")
    print("|---|---|---|---|---|---|")
    for effect, spread, most in (
        (0.0, 0.01, 12),
        (0.0, 0.02, 12),
        (0.0, 0.03, 30),
        (0.0, 0.05, 100),
        (0.05, 0.01, 12),
        (0.03, 0.02, 30),
    ):
        rng, false, whole, used = np.random.default_rng(seed), 0, 0, []
        schedule = looks.schedule(looks.FIRST, most)
        for _ in range(runs):
            logs = spread * rng.standard_normal((2, 2, 6, most))
            logs[:, 1] += math.log1p(effect)
            rows = [Row(dict(line)) for line in frame(logs, METRICS[:2]).to_dict("records")]
            together = {
                f"{arm}-{level}": frozenset({f"0-{level}", f"1-{level}"})
                for arm in (0, 1)
                for level in range(6)
            }
            goal = Goal(1, Until(told=0.02, max=most, metrics=METRICS[:2]), together, {"aiter": ["0", "1"]})
            kept: list[Row] = []
            going = set(together)
            for before, look in zip((0, *schedule), schedule, strict=False):
                kept += [r for r in rows if before < r["repeat"] <= look and r["cell_id"] in going]
                going = set(together) - goal.ended(kept)
                if not going:
                    break
            settings = Settings(metrics=METRICS[:2], min_effect=0.02, looks=len(schedule))
            verdicts = ablate(pd.DataFrame([dict(r) for r in kept]), {"aiter": ["0", "1"]}, settings).table[
                "verdict"
            ]
            false += bool(((verdicts == "worse") | ((verdicts == "better") & (effect == 0))).any())
            whole += bool((verdicts != "cannot tell").all())
            used.append(len(kept) / 12)
        print(
            f"| {effect:.0%} | {spread:.0%} | {most} ({len(schedule)}) | {false / runs:.1%} of {runs} | {whole / runs:.0%} | {np.mean(used):.1f} |",
            flush=True,
        )


# --- a promise


def verdicts_of(logs: Array, *, paired: bool, metrics: tuple[str, ...]) -> pd.Series[str]:
    """Verdicts of the ablation or of the comparison of two arms."""
    table, settings = frame(logs, metrics), Settings(metrics=metrics)
    if paired:
        return ablate(table, {"aiter": ["0", "1"]}, settings).table["verdict"]
    table["aiter"] = [json.loads(axes)["aiter"] for axes in table["axes"]]
    return compare(*split(table.drop(columns="axes"), "aiter", "0", "1"), settings).table["verdict"]


def promise(runs: int, seed: int) -> None:
    """Print the share of verdicts that find the promised change, planned from an earlier run of 12 cells, 4 metrics."""
    print(
        "| Verdicts of | Noise | Repeats | Change in | Promised change | Found | Needed for 3 % | Found with it |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for paired in (False, True):
        for kind in ("independent", "unequal", "heavy tails"):
            for repeats in (3, 5):
                for changed in (3, 12):
                    row = _kept(paired, kind, repeats, runs, seed, changed)
                    name = "ablate" if paired else "compare"
                    print(f"| {name} | {kind} | {repeats} | {changed} of 12 cells | {row} |", flush=True)


def _kept(paired: bool, kind: str, repeats: int, runs: int, seed: int, changed: int) -> str:
    """One row of the table: an earlier run of 3 repeats, then the planned one, with changes in some random cells."""
    rng, found, found_n, changes, ns = np.random.default_rng(seed), [], [], [], []
    for _ in range(runs):
        before = noise(kind, 0.01, (1, 12, 3), rng)[0]
        rows = [
            Row(
                {
                    "key": f"m/w/c{cell}",
                    "cell_id": cell,
                    "run_id": "e",
                    "valid": True,
                    "output_throughput": math.exp(x),
                }
            )
            for cell in range(12)
            for x in before[cell]
        ]
        spread = Spread.of(rows, "output_throughput")
        assert spread is not None
        design = Design(repeats, 24, 12, 48, paired=paired)
        each = np.array(detectable(design, spread))
        cells = rng.permutation(12)[:changed]
        for change, n, into in (
            (each, repeats, found),
            (np.full(12, 0.03), needed(design, spread, 0.03) or 0, found_n),
        ):
            if n < 2 or n > 60:
                continue
            logs = noise(kind, 0.01, (4, 2, 12, n), rng)
            logs[0, 1, cells] += np.log1p(change)[cells, None]
            table = np.array(verdicts_of(logs, paired=paired, metrics=METRICS)).reshape(12, 4)[:, 0]
            into += list(table[cells] == "better")
        changes.append(np.median(each))
        ns.append(needed(design, spread, 0.03) or math.inf)
    return f"{np.median(changes):.1%} | {np.mean(found):.0%} of {len(found)} | {np.median(ns):g} | {np.mean(found_n):.0%} of {len(found_n)}"


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", choices=["width", "told", "promise", []], default=[])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    assert power.POWER == 0.8
    for name, table in (("width", width), ("told", told), ("promise", promise)):
        if name in (given.tables or ("width", "told", "promise")):
            print(f"\n{(table.__doc__ or '').strip()}\n")
            table(given.runs, given.seed)


if __name__ == "__main__":
    main()
