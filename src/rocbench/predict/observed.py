"""Measured rows as levels for a calibration fit, and fits as a calibration."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rocbench.columns import PREDICTED_FIGURES
from rocbench.plan.expand import Group, Plan
from rocbench.predict import predicting
from rocbench.predict.calibrating import Fit, Observation
from rocbench.sim.calibration import Accuracy, Calibration, Factor, When
from rocbench.tables.row import Row, figures

FIGURES = ("output_throughput", "median_tpot_ms", "median_ttft_ms")
"""Figures that a level is matched by: rate and TPOT describe decoding, TTFT describes prompts."""
CHECKED = tuple(name for name in PREDICTED_FIGURES if name not in FIGURES)
"""Further figures whose errors are measured for prediction intervals."""


def servers(
    plan: Plan, rows: Sequence[Row], cal: Calibration
) -> Iterator[tuple[Group, When, list[Observation]]]:
    """Yield each server of a run with its measured levels; repeats are combined.

    Raises:
        ConfigError: vLLM of that version would not start such a server, or it cannot be predicted.
    """
    for group in plan.groups:
        runs = {
            run.cell.cell_id: run
            for launch in plan.launches
            if launch.group is group
            for run in launch.runs
            if run.repeat == 1 and not run.discarded
        }
        levels = {cell_id: figures for cell_id in runs if (figures := _figures(cell_id, rows, FIGURES))}
        if not levels or group.profile is None or group.hardware is None:
            continue
        node = predicting.node_of(group, plan.sweep, cal)
        yield (
            group,
            predicting.when(group),
            [
                Observation(
                    runs[cell_id].cell.key,
                    node,
                    group.profile,
                    group.hardware,
                    predicting.load_of(plan.sweep, runs[cell_id]),
                    figures,
                    _figures(cell_id, rows, CHECKED),
                )
                for cell_id, figures in levels.items()
            ],
        )


def _figures(cell_id: str, rows: Sequence[Row], names: Sequence[str]) -> dict[str, float]:
    """Return the mean over repeats of each present figure."""
    cell_rows = [row for row in rows if row.get("cell_id") == cell_id]
    means = {}
    for name in names:
        values = figures(cell_rows, name)
        if values and statistics.fmean(values) > 0:
            means[name] = statistics.fmean(values)
    return means


def calibration(
    name: str,
    note: str,
    base: Calibration,
    fits: Sequence[tuple[When, Fit, str]],
    accuracy: Sequence[Accuracy] = (),
) -> Calibration:
    """Return a calibration from fits; for other facts it is equal to `base`.

    Args:
        fits: for each fit its conditions, the fit, and its observations.
        accuracy: the errors of the fits' leave-outs. Other models keep those of `base`.
    """
    factors = tuple(Factor(when=facts, why=why, fitted=fit.efficiency) for facts, fit, why in fits)
    errors = {str(facts.model): round(fit.median_error(), 4) for facts, fit, _ in fits}
    models = {each.when.model for each in accuracy}
    others = (each for each in base.accuracy if each.when.model not in models)
    return Calibration(
        name=name,
        what="fitted",
        note=note,
        base=base.base,
        factors=(*base.factors, *factors),
        errors=errors,
        accuracy=(*others, *accuracy),
    )
