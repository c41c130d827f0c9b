"""How often do prediction intervals hold the truth? Fits to some published levels, asked about the others.

    python benchmarks/prediction_intervals.py                      # the splits that the design was chosen with
    python benchmarks/prediction_intervals.py --splits held-out    # run after it was frozen, then used to mend gaps
    python benchmarks/prediction_intervals.py --splits "in_flight <= 25" --models llama-3.1-405b
    python benchmarks/prediction_intervals.py --refits             # the errors of leave-outs against complete fits

A split is a name below, or a Python expression of `in_flight`, `users`, `requests`, `prompt`, `output`, `images`,
`aiter` and `n` (the condition's number): levels for which it is true are fitted, the others are asked. A level is
covered if its published figure lies within the 95 % interval of its prediction.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rocbench.commands import planning
from rocbench.plan.expand import Overrides, Plan
from rocbench.predict import calibrating, intervals, leaveout, points, predicting
from rocbench.predict.calibrating import Observation
from rocbench.predict.points import Point
from rocbench.settings.schema import Sweep
from rocbench.sim import calibration
from rocbench.sim.calibration import Accuracy, Calibration, Efficiency, Factor, When
from rocbench.study import fitting, folder

STUDY = "mi325x-2603.10031"
GPU = "AMD Instinct MI325X"
CHOSEN = {
    "low loads -> high": "in_flight <= 50",
    "high loads -> low": "in_flight > 50",
    "odd conditions -> even": "n % 2 == 1",
    "one kind of request -> others": "not images and prompt > 1000 and prompt < 2000",
    "as documented": "fitted",
    "other models -> this one": "False",
}
HELD_OUT = {
    "outside -> middle": "in_flight < 20 or in_flight > 110",
    "middle -> outside": "10 <= in_flight <= 100",
    "short requests -> long": "prompt < 2000 and output <= 300",
    "few requests a level -> many": "requests <= 100",
    "AITER off -> on": "aiter is not True",
    "the lowest loads -> all others": "in_flight <= 16",
    "random half (1)": "draw(1) < 0.5",
    "random half (2)": "draw(2) < 0.5",
}
LEAST = 2
"""Minimum levels of a fit."""


@dataclass(frozen=True)
class Level:
    """One published level."""

    observation: Observation
    facts: Mapping[str, Any]
    """Names of a split's expression."""
    output: float | None
    """Published output tokens/s: never fitted."""


@dataclass(frozen=True)
class Asked:
    """One figure of one level that was asked."""

    split: str
    model: str
    figure: str
    error: float
    """log(measured / predicted)."""
    interval: tuple[float, float] | None
    """Logarithms of its ends over the prediction; None without one."""
    extrapolated: bool

    @property
    def covered(self) -> bool:
        """True if the interval holds the measured value."""
        return self.interval is not None and self.interval[0] <= self.error <= self.interval[1]

    @property
    def factor(self) -> float:
        """Ratio of the interval's ends."""
        return math.exp(self.interval[1] - self.interval[0]) if self.interval else math.nan


def study_levels(base: Calibration) -> dict[str, tuple[list[Level], Efficiency]]:
    """Return each model's published levels, and the start of its fit."""
    source = folder.read(STUDY)
    assert source.tables is not None
    names = {curve.sweep for curve in source.tables.curves}
    plans = {name: _plan(sweep) for name, sweep in source.sweeps.items() if name in names}
    found = {}
    for model in dict.fromkeys(curve.model for curve in source.tables.curves):
        curves = [curve for curve in source.tables.curves if curve.model == model and not curve.peak]
        observations = fitting.observations(curves, plans, base)
        start = fitting.with_answers(observations[0].node.efficiency, source.tables.answers.get(model))
        rows = [(curve, row) for curve in curves for row in curve.rows]
        seen = [calibrating.level(each, start)[1] for each in observations]
        numbers = points.conditions(
            [
                replace(each, in_flight=float(min(row[0], curve.requests)))
                for each, (curve, row) in zip(seen, rows, strict=True)
            ]
        )
        levels = [
            Level(each, _facts(curve, row[0], at, number), row[2])
            for each, at, number, (curve, row) in zip(observations, seen, numbers, rows, strict=True)
        ]
        found[model] = (levels, start)
    return found


def _plan(sweep: Sweep) -> Plan:
    return predicting.plan(sweep, planning.sources(sweep, Overrides()))


def _facts(curve: Any, users: int, at: Point, number: int) -> dict[str, Any]:
    return {
        "in_flight": min(users, curve.requests),
        "users": users,
        "requests": curve.requests,
        "prompt": at.prompt_tokens,
        "output": at.output_tokens,
        "images": at.images,
        "aiter": None if curve.aiter is None else curve.aiter == "on",
        "fitted": not curve.held_out,
        "n": number,
        "draw": lambda seed: float(np.random.default_rng((seed, number)).random()),
    }


def ask(
    split: str,
    model: str,
    fitted: Sequence[Level],
    asked: Sequence[Level],
    start: Efficiency,
    base: Calibration,
) -> Iterator[Asked]:
    """Fit to some levels and yield each figure of the others with its interval."""
    when = When(model=model, gpu=GPU)
    observations = [each.observation for each in fitted]
    if len(observations) >= LEAST:
        fit = calibrating.fit(observations, start, fitting.FREE)
        accuracy = leaveout.accuracy(observations, fit, start, fitting.FREE, when)
        efficiency = fit.efficiency
        factors: tuple[Factor, ...] = (Factor(when=when, why=split, fitted=fit.efficiency),)
        known: tuple[Accuracy, ...] = (accuracy,)
    else:
        efficiency, factors = start, ()
        known = tuple(each for each in base.accuracy if each.when.model != model)
    trial = Calibration(name=split, what="fitted", note="", base=base.base, factors=factors, accuracy=known)
    for each in asked:
        observation = each.observation
        if each.output is not None:
            observation = replace(observation, checked={"output_throughput": each.output})
        predicted, at = calibrating.level(observation, efficiency)
        for figure, measured in observation.measured.items():
            found = intervals.interval(trial, when, at, figure, predicted[figure])
            ends = None
            if isinstance(found, intervals.Interval):
                ends = math.log(found.low / predicted[figure]), math.log(found.high / predicted[figure])
            yield Asked(
                split,
                model,
                figure,
                math.log(measured / predicted[figure]),
                ends,
                ends is not None and bool(found.extrapolated),
            )


def table(found: Sequence[Asked], splits: Sequence[str]) -> None:
    """Print coverage and width by split and figure."""
    print(
        "| Fitted -> asked | Figure | Asked | Covered | Share | Extrapolated | Median high / low | Median error | Largest |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for split in (*splits, "all"):
        mine = [each for each in found if split in (each.split, "all")]
        for figure in dict.fromkeys(each.figure for each in mine):
            some = [each for each in mine if each.figure == figure]
            _line(split, figure, some)
        if mine:
            _line(split, "all", mine)


def _line(split: str, figure: str, some: Sequence[Asked]) -> None:
    having = [each for each in some if each.interval is not None]
    covered = sum(each.covered for each in having)
    width = statistics.median(each.factor for each in having) if having else math.nan
    errors = [abs(math.expm1(-each.error)) for each in some]
    share = covered / len(having) if having else math.nan
    print(
        f"| {split} | {figure} | {len(having)} of {len(some)} | {covered} | {share:.1%} |"
        f" {sum(each.extrapolated for each in having)} | {width:.2f} |"
        f" {statistics.median(errors):.1%} | {max(errors):.0%} |",
        flush=True,
    )


def refits(levels: Mapping[str, tuple[list[Level], Efficiency]]) -> None:
    """Print the errors of leave-outs against those of complete fits."""
    print("| Model | Left out | Levels | Figure | Refit | Complete fit |\n|---|---|---|---|---|---|")
    for model, (mine, start) in levels.items():
        observations = [each.observation for each in mine]
        fit = calibrating.fit(observations, start, fitting.FREE)
        quick = leaveout.accuracy(observations, fit, start, fitting.FREE, When(model=model))
        at = [calibrating.level(each, fit.efficiency)[1] for each in observations]
        for fold, line in zip(leaveout.folds(at), quick.left_out, strict=True):
            if fold.side.startswith("condition"):
                continue
            kept = [each for i, each in enumerate(observations) if i not in fold.held]
            full = calibrating.fit(kept, start, fitting.FREE)
            errors = leaveout.log_errors([observations[i] for i in sorted(fold.held)], full.efficiency)
            for figure, values in errors.items():
                print(
                    f"| {model} | {fold.what} | {len(fold.held)} | {figure} | {line.errors[figure]:.3f} |"
                    f" {points.rms(values):.3f} |",
                    flush=True,
                )


def main() -> None:
    """Ask every split of every model."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--splits", nargs="*", default=["chosen"], help="chosen, held-out, names or expressions"
    )
    options.add_argument("--models", nargs="*", help="of the study; default: all")
    options.add_argument("--refits", action="store_true")
    given = options.parse_args()
    base = calibration.read_calibration("default")
    calibrating.level = _remembered(calibrating.level)  # type: ignore[assignment]
    calibrating.figures = lambda level, efficiency: calibrating.level(level, efficiency)[0]
    levels = {m: each for m, each in study_levels(base).items() if m in (given.models or [m])}
    if given.refits:
        refits(levels)
        return
    named = CHOSEN | HELD_OUT
    splits: dict[str, str] = {}
    for name in given.splits:
        splits |= (
            CHOSEN if name == "chosen" else HELD_OUT if name == "held-out" else {name: named.get(name, name)}
        )
    found: list[Asked] = []
    for split, expression in splits.items():
        for model, (mine, start) in levels.items():
            began = time.perf_counter()
            chosen = [bool(eval(expression, {}, dict(each.facts))) for each in mine]
            fitted = [each for each, yes in zip(mine, chosen, strict=True) if yes]
            asked = [each for each, yes in zip(mine, chosen, strict=True) if not yes]
            if not asked or (0 < len(fitted) < LEAST) or (not fitted and expression != "False"):
                continue
            found += ask(split, model, fitted, asked, start, base)
            print(
                f"{split}: {model}: {len(fitted)} fitted, {len(asked)} asked, {time.perf_counter() - began:.0f} s",
                flush=True,
            )
        table([each for each in found if each.split == split], [split])
    table(found, list(splits))


def _remembered(level: Any) -> Any:
    """Return `calibrating.level` with a memory, which splits share.

    Levels that differ only in users beyond their number of requests are one prediction (0.3 % apart at most).
    """
    known: dict[tuple[str, str], Any] = {}

    def remembered(observation: Observation, efficiency: Efficiency) -> Any:
        name, _, users = observation.name.rpartition("/c")
        in_flight = min(int(users), int(name.rpartition("/n")[2]))
        key = (f"{name}/c{in_flight} {sorted(observation.measured)}", efficiency.model_dump_json())
        if key not in known:
            known[key] = level(observation, efficiency)
        return known[key]

    return remembered


if __name__ == "__main__":
    main()
