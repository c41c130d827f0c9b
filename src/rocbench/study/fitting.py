"""Fit a study's calibration to its published tables, without the held-out tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rocbench.plan.expand import Plan
from rocbench.predict import observed, predicting
from rocbench.predict.calibrating import Fit, Observation, fit
from rocbench.predict.leaveout import accuracy
from rocbench.sim.calibration import Accuracy, Calibration, Efficiency, Factor, When
from rocbench.sim.node import Node
from rocbench.study.agreement import places
from rocbench.study.schema import Answers, PublishedCurve, Tables

FREE = ("bandwidth", "step_overhead_ms", "sequence_overhead_us")
"""Fitted parameters. Tables of total throughput and p99 E2EL with cached prompts do not show the speed of prompts or
links: `compute` and `communication` keep their assumed values.
"""
NEVER_ENDS = 1e9
"""Median length, in tokens, of answers that end only at the limit."""


@dataclass(frozen=True, slots=True)
class ModelFit:
    """One model's fit."""

    model: str
    when: When
    fit: Fit
    levels: int
    accuracy: Accuracy | None = None
    """None if no levels were left out."""


def observations(
    curves: Iterable[PublishedCurve], plans: Mapping[str, Plan], cal: Calibration
) -> list[Observation]:
    """Return each published level as an observation: total tokens/s, and p99 E2EL where published."""
    levels = []
    for curve in curves:
        plan = plans[curve.sweep]
        runs = {run.cell.cell_id: run for launch in plan.launches for run in launch.runs if run.repeat == 1}
        nodes: dict[str, Node] = {}
        for place, (users, total, _, p99_s) in zip(places(curve, plan), curve.rows, strict=True):
            group = place.group
            assert group.profile is not None
            assert group.hardware is not None
            if group.server_id not in nodes:
                nodes[group.server_id] = predicting.node_of(group, plan.sweep, cal)
            figures = {"total_token_throughput": total}
            if p99_s is not None:
                figures["p99_e2el_ms"] = p99_s * 1e3
            arm = f"/aiter={curve.aiter}" if curve.aiter else ""
            name = f"{curve.sweep}/{curve.workload}{arm}/n{curve.requests}/c{users}"
            spec = predicting.load_of(plan.sweep, runs[place.cell.cell_id])
            levels.append(
                Observation(name, nodes[group.server_id], group.profile, group.hardware, spec, figures)
            )
    return levels


def fit_tables(
    tables: Tables, plans: Mapping[str, Plan], cal: Calibration, *, leave_out: bool = False
) -> Iterator[ModelFit]:
    """Yield one fit for each model, to the curves that are not held out; each starts at the values of `cal`.

    Args:
        tables: the published tables.
        plans: sweep name to plan.
        cal: the calibration to start from.
        leave_out: measure each fit's errors out of sample too, which takes as long as the fit.
    """
    for model in dict.fromkeys(curve.model for curve in tables.curves):
        curves = [curve for curve in tables.curves if curve.model == model and not curve.held_out]
        if not curves:
            continue
        levels = observations(curves, plans, cal)
        start = with_answers(levels[0].node.efficiency, tables.answers.get(model))
        when, found = _when(curves, plans), fit(levels, start, FREE)
        errors = accuracy(levels, found, start, FREE, when) if leave_out else None
        yield ModelFit(model, when, found, len(levels), errors)


def _when(curves: list[PublishedCurve], plans: Mapping[str, Plan]) -> When:
    """The conditions of a model's fit: its GPU, and AITER as in its tables; None if they have several values."""
    facts = [
        place.group.resolution.facts
        for curve in curves
        for place in places(curve, plans[curve.sweep])
        if place.group.resolution
    ]
    aiter, gpu = {each.aiter for each in facts}, {each.gpu for each in facts}
    return When(
        model=curves[0].model,
        aiter=aiter.pop() if len(aiter) == 1 else None,
        gpu=gpu.pop() if len(gpu) == 1 else None,
    )


def with_answers(efficiency: Efficiency, answers: Answers | None) -> Efficiency:
    """Return an efficiency with these answer lengths; without them, answers end only at the limit."""
    if answers is None:
        return efficiency.model_copy(update={"answer_median": NEVER_ENDS, "answer_sigma": 0.0})
    return efficiency.model_copy(update={"answer_median": answers.median, "answer_sigma": answers.sigma})


def calibration(
    name: str, title: str, fits: Iterable[ModelFit], tables: Tables, base: Calibration
) -> Calibration:
    """Return the study's calibration: its fits, and the variation between runs that its tables imply."""
    fits = list(fits)
    note = (
        f"Fitted to published tables ({title}) by predicting them with the study's own method, without measured rows."
        " This is not a measurement of hardware: the efficiencies include everything that made the study's steps"
        " longer, including its client and harness. Tables marked held_out were not used. Other models and GPUs have the"
        f" values of `{base.name}`; all TP sizes and vLLM versions have the same values."
    )
    fitted = observed.calibration(
        name,
        note,
        base,
        [(each.when, each.fit, f"fitted to {each.levels} published levels") for each in fits],
        [each.accuracy for each in fits if each.accuracy],
    )
    variation = _variation(tables, {each.when.model: each.when.gpu for each in fits})
    return fitted.model_copy(update={"factors": (*fitted.factors, *variation)})


def _variation(tables: Tables, gpus: Mapping[str | None, str | None]) -> Iterator[Factor]:
    for name, run_cv in tables.run_cv.items():
        model, _, arm = name.partition("@aiter=")
        facts = When(model=model, aiter={"on": True, "off": False}.get(arm), gpu=gpus.get(model))
        yield Factor(when=facts, why="variation between the study's five runs", run_cv=run_cv)
